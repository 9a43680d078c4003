// SPDX-License-Identifier: Apache-2.0
//! With what a channel is joined: its genesis block, or a later config block.

use std::path::Path;

use block_api::{BlockNumber, HeaderHash};
use serde::{Deserialize, Deserializer};

use super::{ChannelSection, InvalidConfig, text};

/// `start_after` of a `[[channel]]`: a block that is known and not fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartAfter {
    /// Its number.
    #[serde(deserialize_with = "number")]
    pub number: BlockNumber,
    /// Its header hash, to which the next block must link.
    #[serde(deserialize_with = "text::parse")]
    pub hash: HeaderHash,
}

/// With what a channel is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joining<'a> {
    /// With the file of its genesis block.
    Genesis(&'a Path),
    /// With the file of a config block that is trusted.
    Config {
        genesis: HeaderHash,
        block: &'a Path,
        /// Without, the chain starts after the config block.
        start_after: Option<StartAfter>,
    },
}

impl ChannelSection {
    /// With what the channel is joined: one of the two forms, and all of it.
    pub(crate) fn joining(&self) -> Result<Joining<'_>, InvalidConfig> {
        let later = [
            ("channel.genesis_hash", self.genesis_hash.is_some()),
            ("channel.config_block", self.config_block.is_some()),
            ("channel.start_after", self.start_after.is_some()),
        ];
        let given = later.iter().find(|(_, is_there)| *is_there);
        if let Some(genesis) = &self.genesis {
            return match given {
                None => Ok(Joining::Genesis(genesis)),
                Some((key, _)) => Err(InvalidConfig::NoEffect {
                    key,
                    because: "the channel is joined with channel.genesis; leave one of the two out",
                }),
            };
        }
        let missing = |key, because| Err(InvalidConfig::Missing { key, because });
        match (self.genesis_hash, &self.config_block) {
            (Some(genesis), Some(block)) => Ok(Joining::Config {
                genesis,
                block,
                start_after: self.start_after,
            }),
            _ if given.is_none() => missing(
                "channel.genesis",
                "each channel needs it: name the file with its genesis block, or give channel.genesis_hash and \
                 channel.config_block to join it at a later config block",
            ),
            (None, _) => missing(
                "channel.genesis_hash",
                "a channel that is joined at a config block needs it: write the header hash of the genesis block, by \
                 which its nodes know each other",
            ),
            (Some(_), None) => missing(
                "channel.config_block",
                "a channel that is joined without its genesis block needs it: name the file with a config block that \
                 you trust",
            ),
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockNumber, D::Error> {
    u64::deserialize(deserializer).map(BlockNumber::new)
}
