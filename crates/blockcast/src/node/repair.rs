// SPDX-License-Identifier: Apache-2.0
//! Repairs the store of a channel: what is damaged is replaced by blocks from elsewhere, judged by
//! the rules of the channel.

use std::{fmt, sync::Arc, time::Duration};

use block_api::{
    Block, BlockNumber, BlockSource as _, BlockVerifier as _, BoxError, ChannelId, Content,
    DeliverStatus, Delivery, Endpoint, Standing, Start, Stop, StreamRequest, SystemClock,
    VerifiedBlock, VerifyError, WhenMissing,
};
use block_store::{
    Damage, OpenError,
    repair::{CheckReport, RepairError, Replacement, StoreRepair},
};
use channel_config::{ChannelConfig, ChannelVerifier};
use futures::StreamExt as _;
use orderer_client::OrdererClient;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    StartError,
    channel::{Identity, orderer_client},
    stored::{StoredBlockError, parse},
    trust::Trust,
};
use crate::config::{ChannelSection, NodeConfig};

/// An orderer that sends nothing for so long is left for the next one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The store of a channel of a node, locked, with what is damaged in it.
pub struct ChannelRepair {
    config: NodeConfig,
    section: ChannelSection,
    verifier: ChannelVerifier,
    /// `None` only while blocking work has it.
    store: Option<StoreRepair>,
}

/// Where blocks come from that replace damaged ones.
pub enum RepairSource {
    /// The orderers of the channel, asked with the node's identity.
    Orderers,
    /// Whatever gives a block by its number.
    Supply(Box<dyn FnMut(BlockNumber) -> Result<Block, BoxError> + Send>),
}

/// A damaged segment that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// What was damaged.
    pub damage: Damage,
    /// The orderers that gave blocks, in the order in which they were asked.
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
    /// No orderer gave the blocks.
    #[error("no orderer gave the blocks from {next} to {last}{}", told(failures))]
    NotFetched {
        /// The first block that is missing.
        next: BlockNumber,
        /// The last one.
        last: BlockNumber,
        /// What came of asking each orderer.
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

/// A segment that is being made, with who judges its blocks.
struct Rebuild {
    verifier: ChannelVerifier,
    /// `None` only while blocking work has it.
    replacement: Option<Replacement>,
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
            verifier,
            store: Some(store),
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
        let mut rebuild = Rebuild {
            verifier: self.verifier.clone(),
            replacement: Some(self.store().begin()?),
        };
        let sources = match source {
            RepairSource::Orderers => self.fetch(&mut rebuild).await?,
            RepairSource::Supply(supply) => {
                while let Some(number) = rebuild.next() {
                    let block = supply(number)
                        .map_err(|source| RepairStoreError::Supply { number, source })?;
                    rebuild.take(block).await?;
                }
                Vec::new()
            }
        };
        let replacement = rebuild.replacement.take();
        let replacement = replacement.expect("invariant: it is given back after each block");
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

    /// Fetches what is missing, from one orderer after the other.
    async fn fetch(&self, rebuild: &mut Rebuild) -> Result<Vec<Endpoint>, RepairStoreError> {
        let client = self.client()?;
        let (mut sources, mut failures) = (Vec::new(), Vec::new());
        for endpoint in client.endpoints() {
            let Some(next) = rebuild.next() else { break };
            let failure = self.fetch_from(&client, &endpoint, rebuild).await?;
            if rebuild.next() != Some(next) {
                sources.push(endpoint);
            }
            failures.extend(failure);
        }
        match rebuild.next() {
            None => Ok(sources),
            Some(next) => Err(RepairStoreError::NotFetched {
                next,
                last: rebuild.last(),
                failures,
            }),
        }
    }

    /// Fetches what is missing from one orderer, as far as it gives it, and says what went wrong.
    async fn fetch_from(
        &self,
        client: &OrdererClient,
        endpoint: &Endpoint,
        rebuild: &mut Rebuild,
    ) -> Result<Option<String>, RepairStoreError> {
        let Some(next) = rebuild.next() else {
            return Ok(None);
        };
        let request = StreamRequest {
            channel: self.section.id.clone(),
            start: Start::At(next),
            stop: Stop::At(rebuild.last()),
            content: Content::Blocks,
            when_missing: WhenMissing::Fail,
        };
        let mut stream = match client.open(endpoint, &request).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Some(error.to_string())),
        };
        while rebuild.next().is_some() {
            let block = match timeout(PATIENCE, stream.next()).await {
                Ok(Some(Ok(Delivery::Block(block)))) => block,
                Ok(Some(Ok(Delivery::Status(DeliverStatus::Success)))) | Ok(None) => {
                    return Ok(Some(format!("{endpoint} ended before the last block")));
                }
                Ok(Some(Ok(Delivery::Status(status)))) => {
                    return Ok(Some(format!("{endpoint} ended the request: {status}")));
                }
                Ok(Some(Err(error))) => return Ok(Some(error.to_string())),
                Err(_) => {
                    let seconds = PATIENCE.as_secs();
                    return Ok(Some(format!("{endpoint} sent nothing for {seconds} s")));
                }
            };
            match rebuild.take(block).await {
                Ok(()) => {}
                Err(RefusedBlock::Place(error @ RepairError::Storage(_))) => {
                    return Err(error.into());
                }
                Err(refused) => return Ok(Some(format!("{endpoint}: {refused}"))),
            }
        }
        Ok(None)
    }

    /// A client of the orderers that the newest configuration in the store names, and of those of the
    /// one that is in force at the damage.
    fn client(&self) -> Result<OrdererClient, RepairStoreError> {
        let signer = match &self.config.identity {
            Some(identity) => signer::load_msp_folder(&identity.msp_dir, &identity.msp_id)
                .map_err(|error| Box::new(StartError::from(error)))?,
            None => return Err(Box::new(StartError::NoIdentity).into()),
        };
        let identity = Identity {
            signer,
            clock: Arc::new(SystemClock),
        };
        let in_force = self.verifier.config();
        let newest = self.newest_config();
        let named_by: Vec<&ChannelConfig> = newest.iter().chain([&*in_force]).collect();
        let client = orderer_client(&self.config, &self.section, &named_by, &identity);
        Ok(client.map_err(Box::new)?)
    }

    /// The newest configuration in the store, which tells where orderers are, and judges nothing here.
    fn newest_config(&self) -> Option<ChannelConfig> {
        let above = self.report().height.next_block();
        let configs = self.store().configs_below(above).ok()?;
        let block = Block::parse(configs.into_iter().next_back()?).ok()?;
        ChannelConfig::from_block(&block).ok()
    }
}

impl Rebuild {
    fn replacement(&self) -> &Replacement {
        let replacement = self.replacement.as_ref();
        replacement.expect("invariant: it is given back after each block")
    }

    /// The number of the block that comes next; `None` when all have come.
    fn next(&self) -> Option<BlockNumber> {
        self.replacement().next()
    }

    fn last(&self) -> BlockNumber {
        self.replacement().last()
    }

    /// Judges a block and takes it. A block that is refused does no harm.
    async fn take(&mut self, block: Block) -> Result<(), RefusedBlock> {
        let taken = self.replacement.take();
        let mut replacement = taken.expect("invariant: it is given back after each block");
        let verifier = self.verifier.clone();
        let (replacement, taken) = blocking(move || {
            let taken = push(&mut replacement, &verifier, block);
            (replacement, taken)
        })
        .await;
        self.replacement = Some(replacement);
        taken
    }
}

fn push(
    replacement: &mut Replacement,
    verifier: &ChannelVerifier,
    block: Block,
) -> Result<(), RefusedBlock> {
    let verified = VerifiedBlock::new(block, verifier, Standing::Linked)?;
    replacement.push(&verified)?;
    // A config block whose configuration cannot be taken into force judges nothing behind it.
    let applied = verifier.apply_config(&verified);
    Ok(applied.map_err(VerifyError::from)?)
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
        [] => ": the channel's configuration names none, nor does [[channel.orderers]]".to_owned(),
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
            Self::Orderers => "Orderers",
            Self::Supply(_) => "Supply",
        })
    }
}
