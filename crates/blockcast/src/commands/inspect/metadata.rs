// SPDX-License-Identifier: Apache-2.0
//! The metadata slots of a block.

use block_api::{
    Block,
    wire::{Fields, Value},
};
use protos::{
    common::{BlockMetadataIndex, LastConfig, Metadata, OrdererBlockMetadata},
    decode_as_go, etcdraft,
};
use serde::Serialize;

use crate::commands::printable::{self, counted};

/// So many slots are listed; Fabric has five.
const MAX_LISTED: usize = 16;

/// The slot in which old orderers kept the record of the consensus.
const ORDERER: usize = BlockMetadataIndex::Orderer as usize;

/// The validation code of a valid transaction.
const VALID: u8 = 0;

/// What is told of the metadata.
#[derive(Debug, Serialize)]
pub(super) struct MetadataReport {
    /// The newest config block up to and including this one, as the orderers signed it.
    pub(super) last_config: Option<u64>,
    /// Signed with the block; in old blocks from the slot of the orderers, which nobody signs
    /// (PRB-07).
    pub(super) consenter: Option<ConsenterRecord>,
    pub(super) slots: Vec<SlotReport>,
    /// What is wrong with the slot of the signatures.
    pub(super) problem: Option<String>,
}

/// What is told of a slot.
#[derive(Debug, Serialize)]
pub(super) struct SlotReport {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) bytes: usize,
    /// For people.
    pub(super) content: String,
}

/// What the consensus wrote down for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub(super) enum ConsenterRecord {
    #[serde(rename = "etcdraft")]
    Raft { raft_index: u64 },
    #[serde(rename = "BFT")]
    Bft { view: u64, sequence: u64 },
}

impl MetadataReport {
    pub(super) fn new(block: &Block) -> Self {
        let mut report = Self {
            last_config: None,
            consenter: None,
            slots: block
                .slots()
                .take(MAX_LISTED)
                .enumerate()
                .map(|(index, slot)| SlotReport::new(index, slot))
                .collect(),
            problem: None,
        };
        let Some(slot) = block.signatures_slot() else {
            report.problem = Some("the block has no metadata".to_owned());
            return report;
        };
        let signed = decode_as_go::<Metadata>(slot)
            .and_then(|metadata| decode_as_go::<OrdererBlockMetadata>(metadata.value));
        match signed {
            Ok(signed) => {
                report.last_config = signed.last_config.map(|last_config| last_config.index);
                report.consenter = match signed.consenter_metadata.is_empty() {
                    false => ConsenterRecord::parse(&signed.consenter_metadata),
                    true => block.slots().nth(ORDERER).and_then(ConsenterRecord::parse),
                };
            }
            Err(error) => {
                report.problem = Some(printable::name(&format!(
                    "what the signatures cover does not parse: {error}"
                )));
            }
        }
        report
    }
}

impl SlotReport {
    fn new(index: usize, slot: &[u8]) -> Self {
        let known = i32::try_from(index)
            .ok()
            .and_then(|index| BlockMetadataIndex::try_from(index).ok());
        let content = match known {
            _ if slot.is_empty() => "empty".to_owned(),
            Some(kind) => content(kind, slot)
                .unwrap_or_else(|| format!("{}, not understood", bytes(slot.len()))),
            None => bytes(slot.len()),
        };
        Self {
            index,
            name: known
                .map_or("unknown", |kind| kind.as_str_name())
                .to_owned(),
            bytes: slot.len(),
            content,
        }
    }
}

impl ConsenterRecord {
    /// Raft wraps its record in a `common.Metadata`, which begins with bytes; SmartBFT writes its
    /// view as it is, which is numbers.
    fn parse(record: &[u8]) -> Option<Self> {
        let (mut view, mut sequence, mut is_view) = (0, 0, false);
        for field in Fields::new(record) {
            let field = field.ok()?;
            match (field.number, field.value) {
                (1, Value::Bytes(raft, _)) => {
                    let raft_index = decode_as_go::<etcdraft::BlockMetadata>(raft)
                        .ok()?
                        .raft_index;
                    return Some(Self::Raft { raft_index });
                }
                (1, Value::Varint(number)) => (view, is_view) = (number, true),
                (2, Value::Varint(number)) => (sequence, is_view) = (number, true),
                _ => {}
            }
        }
        is_view.then_some(Self::Bft { view, sequence })
    }

    /// The record in words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Raft { raft_index } => format!("raft index {raft_index}"),
            Self::Bft { view, sequence } => format!("BFT view {view}, sequence {sequence}"),
        }
    }
}

/// A slot in words; none when it is not what it should be.
fn content(kind: BlockMetadataIndex, slot: &[u8]) -> Option<String> {
    match kind {
        BlockMetadataIndex::Signatures => {
            let metadata = decode_as_go::<Metadata>(slot).ok()?;
            let signed = decode_as_go::<OrdererBlockMetadata>(metadata.value).ok()?;
            let mut words = vec![counted(
                metadata.signatures.len(),
                "signature",
                "signatures",
            )];
            words.extend(
                signed
                    .last_config
                    .map(|last_config| format!("last config {}", last_config.index)),
            );
            let record = ConsenterRecord::parse(&signed.consenter_metadata);
            words.extend(record.map(|record| record.text()));
            Some(words.join(", "))
        }
        BlockMetadataIndex::LastConfig => {
            let value = decode_as_go::<Metadata>(slot).ok()?.value;
            let last_config = decode_as_go::<LastConfig>(value).ok()?;
            Some(format!("last config {}", last_config.index))
        }
        BlockMetadataIndex::TransactionsFilter => {
            let valid = slot.iter().filter(|code| **code == VALID).count();
            Some(format!(
                "validated by a peer: {valid} valid, {} not",
                slot.len() - valid
            ))
        }
        BlockMetadataIndex::Orderer => {
            let record = ConsenterRecord::parse(slot)?;
            Some(record.text())
        }
        BlockMetadataIndex::CommitHash => {
            let value = decode_as_go::<Metadata>(slot).ok()?.value;
            Some(format!("commit hash {}", printable::hex(&value)))
        }
    }
}

fn bytes(count: usize) -> String {
    counted(count, "byte", "bytes")
}
