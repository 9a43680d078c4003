// SPDX-License-Identifier: Apache-2.0
//! The transactions of a block, as far as their headers tell. What is in them may be anything.

use block_api::Block;
use prost::DecodeError;
use protos::{
    common::{ChannelHeader, Envelope, HeaderType, Payload, SignatureHeader},
    decode_as_go,
};
use serde::Serialize;

use super::time;
use crate::commands::{identity::Claimed, printable};

/// So many transactions are listed.
const MAX_LISTED: usize = 10_000;

/// What is told of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct TransactionReport {
    pub(super) index: usize,
    pub(super) bytes: usize,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) channel: Option<String>,
    pub(super) tx_id: Option<String>,
    /// UTC, as in RFC 3339.
    pub(super) timestamp: Option<String>,
    pub(super) creator: Option<Creator>,
    pub(super) problem: Option<String>,
}

/// Who made a transaction, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Creator {
    pub(super) msp_id: String,
    pub(super) subject: Option<String>,
}

/// Why a transaction is not told in full.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the {0} does not parse: {1}")]
    Malformed(&'static str, DecodeError),
    #[error("the payload has no header")]
    NoHeader,
    #[error("the creator does not parse")]
    Creator,
}

/// The first transactions of a block.
pub(super) fn of(block: &Block) -> Vec<TransactionReport> {
    let entries = block.data().take(MAX_LISTED).enumerate();
    entries
        .map(|(index, entry)| TransactionReport::new(index, entry, block))
        .collect()
}

impl TransactionReport {
    fn new(index: usize, entry: &[u8], block: &Block) -> Self {
        let mut report = Self {
            index,
            bytes: entry.len(),
            kind: None,
            channel: None,
            tx_id: None,
            timestamp: None,
            creator: None,
            problem: None,
        };
        // A slice of the block's own bytes decodes without a copy.
        let read = report.read(block.raw().slice_ref(entry));
        report.problem = read
            .err()
            .map(|problem| printable::name(&problem.to_string()));
        report
    }

    /// Reads as much as there is.
    fn read(&mut self, entry: bytes::Bytes) -> Result<(), Problem> {
        let malformed = |part| move |error| Problem::Malformed(part, error);
        let envelope = decode_as_go::<Envelope>(entry).map_err(malformed("envelope"))?;
        let payload = decode_as_go::<Payload>(envelope.payload).map_err(malformed("payload"))?;
        let header = payload.header.ok_or(Problem::NoHeader)?;
        let channel_header = decode_as_go::<ChannelHeader>(header.channel_header)
            .map_err(malformed("channel header"))?;
        let kind = HeaderType::try_from(channel_header.r#type);
        self.kind = Some(match kind {
            Ok(kind) => kind.as_str_name().to_owned(),
            Err(_) => format!("type {}", channel_header.r#type),
        });
        let named = |text: &str| (!text.is_empty()).then(|| printable::name(text));
        self.channel = named(&channel_header.channel_id);
        self.tx_id = named(&channel_header.tx_id);
        self.timestamp = channel_header
            .timestamp
            .and_then(|stamp| time::rfc3339(stamp.seconds, stamp.nanos));
        let signature_header = decode_as_go::<SignatureHeader>(header.signature_header)
            .map_err(malformed("signature header"))?;
        if signature_header.creator.is_empty() {
            // As in the transaction of a genesis block, which nobody sent.
            return Ok(());
        }
        let creator = Claimed::parse(&signature_header.creator).ok_or(Problem::Creator)?;
        self.creator = Some(Creator {
            msp_id: creator.msp_id,
            subject: creator.subject,
        });
        Ok(())
    }
}
