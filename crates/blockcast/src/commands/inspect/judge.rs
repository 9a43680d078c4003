// SPDX-License-Identifier: Apache-2.0
//! Whoever judges the signers of a block: the configuration in a config block.

use std::path::{Path, PathBuf};

use block_api::{Block, ChannelId};
use channel_config::{ChannelVerifier, ConfigError, SignerInfo};

use crate::commands::printable::{self, printable};

/// A configuration, and where it came from.
#[derive(Debug)]
pub(super) struct Judge {
    verifier: ChannelVerifier,
    /// For people.
    name: String,
}

/// A block that cannot judge the other one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum JudgeError {
    #[error("--genesis: {}: {}", path.display(), printable(&reason.to_string(), printable::REASON))]
    Config { path: PathBuf, reason: ConfigError },
    #[error("--genesis: {} is of channel {judge}, the block is of channel {}", path.display(), printable::name(block))]
    OtherChannel {
        path: PathBuf,
        judge: ChannelId,
        block: String,
    },
}

impl Judge {
    /// The configuration in a block that the user names.
    pub(super) fn given(config: &Block, path: &Path, block: &Block) -> Result<Self, JudgeError> {
        let verifier =
            ChannelVerifier::from_trusted(config).map_err(|reason| JudgeError::Config {
                path: path.to_owned(),
                reason,
            })?;
        let channel = block
            .channel_of_first_entry()
            .filter(|channel| !channel.is_empty());
        match channel {
            Some(other) if other != verifier.channel().as_str() => Err(JudgeError::OtherChannel {
                path: path.to_owned(),
                judge: verifier.channel().clone(),
                block: other,
            }),
            _ => Ok(Self {
                verifier,
                name: format!("the configuration of block {}", config.number()),
            }),
        }
    }

    /// The configuration in the block itself, if it has one that can be used.
    pub(super) fn itself(block: &Block) -> Option<Self> {
        let verifier = block
            .is_config()
            .then(|| ChannelVerifier::from_trusted(block))?
            .ok()?;
        Some(Self {
            verifier,
            name: "the configuration in the block itself".to_owned(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Who signed a block, in the order of the signatures.
    pub(super) fn signers(&self, block: &Block) -> Result<Vec<SignerInfo>, String> {
        self.verifier
            .signers(block)
            .map_err(|error| printable(&error.to_string(), printable::REASON))
    }
}
