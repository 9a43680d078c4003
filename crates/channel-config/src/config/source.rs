// SPDX-License-Identifier: Apache-2.0
//! The way from a block to the configuration in it.

use block_api::{Block, BlockNumber};
use bytes::Bytes;
use prost::Message;
use protos::{
    common::{ChannelHeader, Config, ConfigEnvelope, Envelope, HeaderType, Payload},
    decode_as_go,
    described::Described,
};

use crate::config::ConfigError;

/// A configuration, and the channel that its envelope names.
#[derive(Debug)]
pub(super) struct ConfigSource {
    pub(super) channel: String,
    pub(super) config: Config,
}

impl ConfigSource {
    /// Finds the configuration in a block. That of the genesis block is found whatever the type of
    /// the transaction (semantics §2.3).
    pub(super) fn of(block: &Block) -> Result<Self, ConfigError> {
        let number = block.number();
        if !block.has_data() {
            return Err(ConfigError::NoData { number });
        }
        let mut entries = block.data();
        let (Some(entry), None) = (entries.next(), entries.next()) else {
            return Err(ConfigError::EntryCount {
                number,
                count: block.entry_count(),
            });
        };
        // Slices of the block's own bytes, so that decoding copies nothing.
        let envelope: Envelope = decode(number, "envelope", block.raw().slice_ref(entry))?;
        let payload: Payload = decode(number, "payload", envelope.payload)?;
        let absent = |part| ConfigError::Absent { number, part };
        let header = payload.header.ok_or_else(|| absent("header"))?;
        let channel_header: ChannelHeader =
            decode(number, "channel header", header.channel_header)?;
        if number != BlockNumber::GENESIS && channel_header.r#type != HeaderType::Config as i32 {
            return Err(ConfigError::NotConfig {
                number,
                kind: channel_header.r#type,
            });
        }
        let envelope: ConfigEnvelope = decode(number, "config envelope", payload.data)?;
        let config = envelope.config.ok_or_else(|| absent("configuration"))?;
        Ok(Self {
            channel: channel_header.channel_id,
            config,
        })
    }
}

fn decode<M: Described + Message + Default>(
    number: BlockNumber,
    part: &'static str,
    bytes: Bytes,
) -> Result<M, ConfigError> {
    decode_as_go(bytes).map_err(|error| ConfigError::Malformed {
        number,
        part,
        reason: error.to_string(),
    })
}
