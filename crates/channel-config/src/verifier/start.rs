// SPDX-License-Identifier: Apache-2.0
//! A chain that is joined behind a config block which somebody trusts.
//!
//! Whoever names that config block and a block to start after says that no other config block comes
//! between them. If that is not true, blocks would be judged by a configuration that the channel has
//! replaced, so the first blocks are held against it (VER-07, VER-08).

use block_api::{Block, BlockNumber, DataHashing};

use super::{
    ChannelVerifier,
    history::{History, InForce},
    rule::BlockError,
};
use crate::config::{ChannelConfig, ConfigError};

impl ChannelVerifier {
    /// A verifier that trusts this config block, and that it is the newest one up to block `start`.
    ///
    /// Blocks behind that are refused under the rule `last-config` while they say otherwise: when
    /// their signatures name another config block from up to `start`, or when the first config block
    /// behind it is not the successor of the trusted one. Blocks of old orderers, whose signatures
    /// name no config block, say nothing.
    ///
    /// # Errors
    ///
    /// As for [`from_trusted`](Self::from_trusted), and when `start` is below the config block.
    pub fn from_config_block(
        block: &Block,
        start: BlockNumber,
        hashing: DataHashing,
    ) -> Result<Self, ConfigError> {
        if start < block.number() {
            return Err(ConfigError::StartBelow {
                number: block.number(),
                start,
            });
        }
        let trusting = Self::from_trusted_hashing(block, hashing)?;
        Ok(Self {
            start: Some(start),
            ..trusting
        })
    }

    /// Holds what the signatures of a block name against what is said of the trusted block.
    pub(super) fn check_start(
        &self,
        number: BlockNumber,
        signed_config: Option<BlockNumber>,
        history: &History,
    ) -> Result<(), BlockError> {
        let (Some(start), Some(index)) = (self.start, signed_config) else {
            return Ok(());
        };
        let (trusted, _) = history.trusted();
        // Behind another config block, that one tells who judges.
        let is_first = history
            .before(number)
            .is_some_and(|in_force| in_force.number == trusted);
        if is_first && number > start && index <= start && index != trusted {
            return Err(BlockError::OtherStartConfig {
                index,
                trusted,
                start,
            });
        }
        Ok(())
    }

    /// Holds the first configuration behind the trusted one against what is said of it: each
    /// configuration of a channel has the sequence after the one before.
    pub(super) fn check_first_change(
        &self,
        block: &Block,
        config: &ChannelConfig,
        previous: &InForce,
    ) -> Result<(), BlockError> {
        let (trusted, _) = self.history.snapshot().trusted();
        let Some(start) = self.start.filter(|_| previous.number == trusted) else {
            return Ok(());
        };
        let (sequence, known) = (config.sequence(), previous.config.sequence());
        if block.number() > start && sequence == known.saturating_add(1) {
            return Ok(());
        }
        Err(BlockError::MissedConfig {
            sequence,
            known,
            trusted,
            start,
        })
    }
}
