// SPDX-License-Identifier: Apache-2.0
//! How a node stands in a channel, as it tells others: a version byte, then protobuf fields.
//!
//! ```text
//! 1 topic (32 bytes) | 2 first block | 3 height | 4 pulling | 5 tip: common.Block without data
//! 6 and 7 are skipped: a proof of identity, which the connection has had already
//! ```

use block_api::{
    Block, BlockNumber, ChannelStatus, Height, ParseBlockError,
    wire::{Fields, Value, WireError, put_bytes, put_uint},
};
use bytes::Bytes;

use crate::{topic::TopicId, wire::VERSION};

/// A status and the channel it is about.
#[derive(Debug, Clone)]
pub(crate) struct StatusMessage {
    pub(crate) topic: TopicId,
    pub(crate) status: ChannelStatus,
}

/// Why a status is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadableStatus {
    #[error("the status has version {0}, and this node understands {VERSION}")]
    Version(u8),
    #[error("the status is empty")]
    Empty,
    #[error("the status does not parse: {0}")]
    Wire(#[from] WireError),
    #[error("the status names no channel")]
    NoTopic,
    #[error("the first block of the status is above its height")]
    Range,
    #[error("the tip of the status is not the newest block, or has data")]
    Tip,
    #[error("the tip of the status does not parse: {0}")]
    Block(#[from] ParseBlockError),
}

impl StatusMessage {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { topic, status } = self;
        let mut out = vec![VERSION];
        put_bytes(&mut out, 1, topic.as_bytes());
        put_uint(&mut out, 2, status.first.get());
        put_uint(&mut out, 3, status.height.get());
        put_uint(&mut out, 4, u64::from(status.pulling));
        if let Some(tip) = &status.tip {
            put_bytes(&mut out, 5, tip.raw());
        }
        out
    }

    pub(crate) fn parse(message: &Bytes) -> Result<Self, UnreadableStatus> {
        let (version, fields) = message.split_first().ok_or(UnreadableStatus::Empty)?;
        if *version != VERSION {
            return Err(UnreadableStatus::Version(*version));
        }
        let (mut topic, mut first, mut height, mut pulling, mut tip) = (None, 0, 0, false, None);
        // The fields stand behind the version byte.
        for field in Fields::nested(fields, 1) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => topic = bytes.try_into().ok().map(TopicId::new),
                (2, Value::Varint(number)) => first = number,
                (3, Value::Varint(number)) => height = number,
                (4, Value::Varint(flag)) => pulling = flag != 0,
                (5, Value::Bytes(block, at)) => {
                    tip = Some(Block::parse(message.slice(at..at + block.len()))?)
                }
                _ => {}
            }
        }
        let (first, height) = (BlockNumber::new(first), Height::new(height));
        if first.get() > height.get() {
            return Err(UnreadableStatus::Range);
        }
        if tip
            .as_ref()
            .is_some_and(|tip| tip.has_data() || height.tip() != Some(tip.number()))
        {
            return Err(UnreadableStatus::Tip);
        }
        let tip = tip.map(|tip| tip.with_signatures_slot_only());
        let status = ChannelStatus {
            first,
            height,
            tip,
            pulling,
        };
        Ok(Self {
            topic: topic.ok_or(UnreadableStatus::NoTopic)?,
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestChain;

    use super::*;

    fn status(tip: Option<Block>, height: u64) -> StatusMessage {
        let status = ChannelStatus {
            first: BlockNumber::new(1),
            height: Height::new(height),
            tip,
            pulling: true,
        };
        StatusMessage {
            topic: TopicId::new([3; 32]),
            status,
        }
    }

    #[test]
    fn a_status_comes_back() {
        let (_, blocks) = TestChain::of_blocks("ch", 3, 50);
        for tip in [
            None,
            Some(blocks[2].without_data().with_signatures_slot_only()),
        ] {
            let told = status(tip.clone(), 3);
            let heard = StatusMessage::parse(&told.encode().into()).unwrap();
            assert_eq!(heard.topic, told.topic);
            assert_eq!(
                (heard.status.first, heard.status.height),
                (BlockNumber::new(1), Height::new(3))
            );
            assert!(heard.status.pulling);
            assert_eq!(
                heard.status.tip.map(|tip| tip.raw().clone()),
                tip.map(|tip| tip.raw().clone())
            );
        }
    }

    #[test]
    fn a_field_of_another_release_is_skipped() {
        let mut bytes = status(None, 1).encode();
        put_bytes(&mut bytes, 6, b"an identity");
        put_bytes(&mut bytes, 7, b"a signature");
        put_bytes(&mut bytes, 77, b"new");
        assert!(StatusMessage::parse(&bytes.into()).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (_, blocks) = TestChain::of_blocks("ch", 3, 50);
        let attestation = blocks[2].without_data();
        let mut no_topic = vec![VERSION];
        put_uint(&mut no_topic, 3, 1);
        let mut broken_tip = status(None, 3).encode();
        put_bytes(&mut broken_tip, 5, b"");
        let rows = [
            (vec![], UnreadableStatus::Empty),
            (vec![9, 8], UnreadableStatus::Version(9)),
            (
                vec![VERSION, 8],
                UnreadableStatus::Wire(WireError::Truncated { at: 1 }),
            ),
            (no_topic, UnreadableStatus::NoTopic),
            (status(None, 0).encode(), UnreadableStatus::Range),
            (
                status(Some(blocks[2].clone()), 3).encode(),
                UnreadableStatus::Tip,
            ),
            (status(Some(attestation), 4).encode(), UnreadableStatus::Tip),
            (
                broken_tip,
                UnreadableStatus::Block(ParseBlockError::NoHeader),
            ),
        ];
        for (bytes, error) in rows {
            assert_eq!(StatusMessage::parse(&bytes.into()).unwrap_err(), error);
        }
    }
}
