// SPDX-License-Identifier: Apache-2.0
//! Repairs the store of a channel: what is damaged is replaced by blocks from elsewhere, judged by
//! the rules of the channel.

mod fetch;
mod peers;
mod rebuild;

use std::fmt;

use block_api::{
    Block, BlockNumber, BlockVerifier as _, BoxError, ChannelId, Endpoint, HeaderHash, Standing,
    VerifiedBlock, VerifyError,
};
use block_store::{
    Damage, OpenError,
    repair::{CheckReport, RepairError, StoreRepair},
};
use channel_config::ChannelVerifier;
use tokio::task::spawn_blocking;

use self::{peers::Peers, rebuild::Rebuild};
use super::{
    StartError,
    stored::{StoredBlockError, parse},
    trust::Trust,
};
use crate::config::{ChannelSection, NodeConfig};

/// The store of a channel of a node, locked, with what is damaged in it.
pub struct ChannelRepair {
    config: NodeConfig,
    section: ChannelSection,
    genesis: HeaderHash,
    verifier: ChannelVerifier,
    /// `None` only while blocking work has it.
    store: Option<StoreRepair>,
    /// The nodes of the configuration, from when they are first asked on.
    peers: Option<Peers>,
}

/// Where blocks come from that replace damaged ones.
pub enum RepairSource {
    /// The nodes of `gossip.peers`, and for what none of them gives the orderers of the channel. All
    /// are asked with the node's identity.
    Network,
    /// Whatever gives a block by its number.
    Supply(Box<dyn FnMut(BlockNumber) -> Result<Block, BoxError> + Send>),
}

/// A damaged segment that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// What was damaged.
    pub damage: Damage,
    /// The nodes and orderers that gave blocks, in the order in which they were asked.
    pub sources: Vec<Endpoint>,
}

/// The store of a channel was not repaired, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairStoreError {
    /// The configuration has no such channel.
    #[error("the configuration has no channel {channel}")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// What a node needs to start is needed here too.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    /// The store cannot be looked at.
    #[error("the store of channel {channel}: {source}")]
    Store {
        /// The channel.
        channel: ChannelId,
        /// What is wrong with it.
        source: Box<OpenError>,
    },
    /// A config block that is kept does not serve to judge the missing blocks by.
    #[error("the rules of the channel before the damage: {0}")]
    Rules(#[source] StoredBlockError),
    /// A segment was not replaced.
    #[error(transparent)]
    Segment(#[from] RepairError),
    /// A block did not come from where it was to come.
    #[error("block {number} did not come: {source}")]
    Supply {
        /// The block.
        number: BlockNumber,
        /// The reason.
        source: BoxError,
    },
    /// A block does not belong in the store.
    #[error("{0}")]
    Refused(#[from] RefusedBlock),
    /// No node and no orderer gave the blocks.
    #[error(
        "no peer and no orderer gave the blocks from {next} to {last}{}",
        told(failures)
    )]
    NotFetched {
        /// The first block that is missing.
        next: BlockNumber,
        /// The last one.
        last: BlockNumber,
        /// What came of asking each node and each orderer.
        failures: Vec<String>,
    },
}

/// A block does not belong in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedBlock {
    /// It breaks a rule of the channel.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It is another block than the one that belongs there.
    #[error(transparent)]
    Place(#[from] RepairError),
}

impl ChannelRepair {
    /// Locks the store of a channel and reads every byte of it.
    ///
    /// # Errors
    ///
    /// When the configuration has no such channel, its genesis block does not serve, or the store
    /// cannot be opened: a node that runs has it.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the store stays locked until it was read.
    pub async fn open(config: &NodeConfig, channel: &ChannelId) -> Result<Self, RepairStoreError> {
        let unknown = || RepairStoreError::UnknownChannel {
            channel: channel.clone(),
        };
        let section = config
            .channels
            .iter()
            .find(|section| section.id == *channel);
        let section = section.ok_or_else(unknown)?.clone();
        let (trust, verifier) = Trust::read(&section).map_err(Box::new)?;
        let store_config = trust.store_config(config).map_err(Box::new)?;
        let dir = config.channel_dir(channel);
        let opened = blocking(move || StoreRepair::open(dir, store_config)).await;
        let store = opened.map_err(|source| RepairStoreError::Store {
            channel: channel.clone(),
            source: Box::new(source),
        })?;
        Ok(Self {
            config: config.clone(),
            section,
            genesis: trust.genesis(),
            verifier,
            store: Some(store),
            peers: None,
        })
    }

    /// What was found, and what is left of it.
    pub fn report(&self) -> CheckReport {
        self.store().report()
    }

    /// Replaces the oldest damaged segment, and says which; `None` when nothing is damaged. Every
    /// block is judged by the configuration at its place, and must link to the blocks on both sides.
    ///
    /// # Errors
    ///
    /// When the blocks do not come, or are not the right ones. The store is as before.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the segment is replaced or not, in full, and this is of no more
    /// use.
    pub async fn repair_next(
        &mut self,
        source: &mut RepairSource,
    ) -> Result<Option<Repaired>, RepairStoreError> {
        let Some(damage) = self.store().next_damage() else {
            return Ok(None);
        };
        self.take_rules(damage.from)?;
        let mut rebuild = Rebuild::new(self.verifier.clone(), self.store().begin()?);
        let sources = match source {
            RepairSource::Network => Box::pin(self.fetch(&mut rebuild)).await?,
            RepairSource::Supply(supply) => {
                while let Some(number) = rebuild.next() {
                    let block = supply(number)
                        .map_err(|source| RepairStoreError::Supply { number, source })?;
                    rebuild.take(block).await?;
                }
                Vec::new()
            }
        };
        let replacement = rebuild.into_replacement();
        let mut store = self.store.take().expect("invariant: it is given back");
        let (store, finished) = blocking(move || {
            let finished = store.finish(replacement);
            (store, finished)
        })
        .await;
        self.store = Some(store);
        finished?;
        Ok(Some(Repaired { damage, sources }))
    }

    /// Leaves the network among nodes, if it was joined, and frees the store. One that is only dropped
    /// leaves no later than the runtime ends.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, it is as if this had been dropped.
    pub async fn close(self) {
        if let Some(peers) = self.peers {
            peers.leave().await;
        }
    }

    fn store(&self) -> &StoreRepair {
        self.store.as_ref().expect("invariant: it is given back")
    }

    /// Takes the configurations from before a block into force.
    fn take_rules(&self, before: BlockNumber) -> Result<(), RepairStoreError> {
        let configs = self.store().configs_below(before);
        let configs = configs.map_err(|error| RepairStoreError::Rules(error.into()))?;
        let take = |bytes| {
            let block = parse(bytes, before)?;
            if block.number() <= self.verifier.config_number() {
                return Ok(());
            }
            let verified = VerifiedBlock::new(block, &self.verifier, Standing::Linked)?;
            Ok::<_, StoredBlockError>(self.verifier.apply_config(&verified)?)
        };
        configs
            .into_iter()
            .try_for_each(take)
            .map_err(RepairStoreError::Rules)
    }
}

/// Runs what blocks beside the runtime, and carries its panic on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn told(failures: &[String]) -> String {
    match failures {
        [] => ": gossip.peers names no node, and neither the channel's configuration nor [[channel.orderers]] an \
               orderer"
            .to_owned(),
        failures => format!(": {}", failures.join("; ")),
    }
}

impl fmt::Debug for ChannelRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRepair")
            .field("channel", &self.section.id)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RepairSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Supply(_) => "Supply",
        })
    }
}
