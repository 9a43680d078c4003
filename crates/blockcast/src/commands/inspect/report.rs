// SPDX-License-Identifier: Apache-2.0
//! What is told of a block: the JSON form, which the text is made from.
//!
//! Every text in it that came out of the block is fit to be shown.

use block_api::{Block, DataHashing};
use serde::Serialize;

use super::{
    judge::Judge,
    metadata::MetadataReport,
    signers::{self, SignerReport},
    transactions::{self, TransactionReport},
};
use crate::commands::{
    config_report::{self, ConfigReport},
    printable,
};

/// What is told of a block.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) number: u64,
    /// What the first transaction says.
    pub(super) channel: Option<String>,
    pub(super) bytes: usize,
    pub(super) config_block: bool,
    pub(super) header_hash: String,
    pub(super) previous_hash: String,
    pub(super) data_hash: String,
    /// None without data.
    pub(super) data_hash_ok: Option<bool>,
    /// The hash that the data has, where the header says another one.
    pub(super) actual_data_hash: Option<String>,
    pub(super) metadata: MetadataReport,
    pub(super) judged_by: Option<String>,
    pub(super) signers: Vec<SignerReport>,
    pub(super) signers_total: usize,
    /// Why the signers cannot be judged.
    pub(super) signers_problem: Option<String>,
    pub(super) transactions: Vec<TransactionReport>,
    pub(super) transactions_total: usize,
    pub(super) config: Option<ConfigReport>,
    /// Why the configuration of a config block cannot be shown.
    pub(super) config_problem: Option<String>,
}

impl Report {
    pub(super) fn new(block: &Block, judge: Option<&Judge>, hashing: DataHashing) -> Self {
        let header = block.header();
        let actual = block.has_data().then(|| block.data_hash_by(hashing));
        let data_hash_ok = actual.map(|actual| header.data_hash == actual.as_ref());
        let signers = signers::of(block, judge);
        let (config, config_problem) = match block.is_config().then(|| config_report::of(block)) {
            Some(Ok(config)) => (Some(config), None),
            Some(Err(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        Self {
            number: header.number.get(),
            channel: block
                .channel_of_first_entry()
                .map(|channel| printable::name(&channel)),
            bytes: block.raw().len(),
            config_block: block.is_config(),
            header_hash: block.header_hash().to_string(),
            previous_hash: printable::hex(header.previous_hash),
            data_hash: printable::hex(header.data_hash),
            data_hash_ok,
            actual_data_hash: actual
                .filter(|_| data_hash_ok == Some(false))
                .map(|actual| actual.to_string()),
            metadata: MetadataReport::new(block),
            judged_by: judge
                .filter(|_| signers.problem.is_none())
                .map(|judge| judge.name().to_owned()),
            signers: signers.listed,
            signers_total: signers.total,
            signers_problem: signers.problem,
            transactions: transactions::of(block),
            transactions_total: block.entry_count(),
            config,
            config_problem,
        }
    }
}
