// SPDX-License-Identifier: Apache-2.0
//! What an operator trusts of a channel: its genesis block, or a later config block.

use block_api::{Block, ChannelId, DataHashing, HeaderHash, Standing, VerifiedBlock};
use block_store::{Config as StoreConfig, Start, StartConfig};
use channel_config::{ChannelVerifier, ConfigError};

use super::{StartError, channel::read_file};
use crate::config::{ChannelSection, Joining, NodeConfig, StartAfter};

/// The block that says whose blocks are believed.
#[derive(Debug)]
pub(super) struct Trust {
    channel: ChannelId,
    block: Block,
    genesis: HeaderHash,
    hashing: DataHashing,
    /// Behind which block the chain starts; `None` where it starts with the genesis block.
    start: Option<StartAfter>,
}

impl Trust {
    /// Reads the block that a channel is joined with, and makes the verifier that trusts it.
    pub(super) fn read(section: &ChannelSection) -> Result<(Self, ChannelVerifier), StartError> {
        let joining = section.joining()?;
        let (key, path) = match joining {
            Joining::Genesis(path) => ("channel.genesis", path),
            Joining::Config { block, .. } => ("channel.config_block", block),
        };
        let bytes = read_file(key, path)?;
        let block = Block::parse(bytes.into()).map_err(|source| StartError::NoBlock {
            channel: section.id.clone(),
            key,
            path: path.to_owned(),
            source,
        })?;
        let hash = block.header_hash();
        let (genesis, start) = match joining {
            Joining::Genesis(_) => (hash, None),
            Joining::Config {
                genesis,
                start_after,
                ..
            } => {
                let number = block.number();
                let start = start_after.unwrap_or(StartAfter { number, hash });
                (genesis, Some(start))
            }
        };
        let trust = Self {
            channel: section.id.clone(),
            block,
            genesis,
            hashing: section.data_hash.hashing(),
            start,
        };
        let verifier = trust.try_verifier();
        let verifier = verifier.map_err(|source| StartError::TrustedBlock {
            channel: section.id.clone(),
            key,
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        if *verifier.channel() != section.id {
            return Err(StartError::OtherChannel {
                channel: section.id.clone(),
                key,
                path: path.to_owned(),
                found: verifier.channel().clone(),
            });
        }
        if trust.block.number().previous().is_none() && hash != genesis {
            return Err(StartError::OtherGenesisHash {
                channel: section.id.clone(),
                path: path.to_owned(),
                found: hash,
                given: genesis,
            });
        }
        Ok((trust, verifier))
    }

    /// The header hash of the genesis block, by which the nodes of a channel know each other.
    pub(super) fn genesis(&self) -> HeaderHash {
        self.genesis
    }

    /// A verifier that knows nothing but this block.
    pub(super) fn verifier(&self) -> ChannelVerifier {
        self.try_verifier()
            .expect("invariant: a verifier was made of this block when it was read")
    }

    fn try_verifier(&self) -> Result<ChannelVerifier, ConfigError> {
        match self.start {
            None => ChannelVerifier::from_genesis_hashing(&self.block, self.hashing),
            Some(start) => {
                ChannelVerifier::from_config_block(&self.block, start.number, self.hashing)
            }
        }
    }

    /// The block, judged by itself.
    pub(super) fn verified(&self) -> Result<VerifiedBlock, StartError> {
        let verified = VerifiedBlock::new(self.block.clone(), &self.verifier(), Standing::Linked);
        verified.map_err(|source| StartError::NotAccepted {
            channel: self.channel.clone(),
            source,
        })
    }

    /// What the store of the channel is told.
    pub(super) fn store_config(&self, config: &NodeConfig) -> Result<StoreConfig, StartError> {
        let config = config.block_store(&self.channel, self.genesis)?;
        let Some(StartAfter { number, hash }) = self.start else {
            return Ok(config);
        };
        let wrong = |source| StartError::StartAfter {
            channel: self.channel.clone(),
            source,
        };
        let trusted = StartConfig::new(&self.verified()?).map_err(wrong)?;
        let config = StoreConfig {
            start: Start::After { number, hash },
            start_config: Some(trusted),
            ..config
        };
        config.clone().validate().map_err(wrong)?;
        Ok(config)
    }
}
