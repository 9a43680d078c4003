// SPDX-License-Identifier: Apache-2.0
//! The config block with which a chain begins that does not begin with block 0.

use std::fmt;

use block_api::{BlockNumber, HeaderHash, VerifiedBlock};
use bytes::Bytes;

use crate::config::ConfigError;

/// The config block in force where a chain begins that does not begin with block 0: without it
/// nobody could judge the first block. A store keeps it as it keeps the config blocks of segments
/// that were dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct StartConfig {
    pub(crate) number: BlockNumber,
    pub(crate) hash: HeaderHash,
    pub(crate) bytes: Bytes,
}

impl StartConfig {
    /// Takes a config block that was judged: as a rule it is the one that an operator trusts.
    ///
    /// # Errors
    ///
    /// When it is no config block.
    pub fn new(block: &VerifiedBlock) -> Result<Self, ConfigError> {
        if !block.is_config() {
            return Err(ConfigError::NoConfigBlock {
                number: block.number(),
            });
        }
        Ok(Self {
            number: block.number(),
            hash: block.header_hash(),
            bytes: block.block().raw().clone(),
        })
    }

    /// Its number.
    pub fn number(&self) -> BlockNumber {
        self.number
    }

    /// Its header hash.
    pub fn header_hash(&self) -> HeaderHash {
        self.hash
    }
}

impl fmt::Debug for StartConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartConfig")
            .field("number", &self.number)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}
