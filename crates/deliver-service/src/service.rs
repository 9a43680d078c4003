// SPDX-License-Identifier: Apache-2.0
//! Joining channels, and starting and stopping their pull loops.

use std::{collections::BTreeMap, panic::resume_unwind, sync::Arc};

use block_api::{
    Block, BlockNumber, BlockReader, BlockSource, BlockStore, BlockVerifier, ChainInfo, ChannelId,
    ChannelStatus, Gossip, GossipChannel, HeaderHash, Height, JoinRequest, Membership, NodeId,
    ReadLimits, Readers, Signer, VerifiedBlock,
};
use blocks_provider::{BlocksProvider, ProviderHandle, PullState};
use tokio::{
    sync::{Mutex, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::{
    ChannelStats, Config, ConfigError, JoinError, StartError, StopError,
    buffer::Buffer,
    catch_up,
    intake::Intake,
    orderer::OrdererIntake,
    publisher,
    stats::Counters,
    topic::{self, Peers},
    writer,
};

/// Brings the blocks of the channels that were joined into their stores, and to gossip.
///
/// Cloning gives another handle to the same service. Call [`stop`](Self::stop) before dropping the
/// last one: the tasks of a service that is only dropped end with the runtime.
#[derive(Debug, Clone)]
pub struct DeliverService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    gossip: Arc<dyn Gossip>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    joined: BTreeMap<ChannelId, Arc<Channel>>,
    stopped: bool,
}

/// What a channel is made of.
#[derive(Debug, Clone)]
pub struct ChannelParts {
    /// The channel.
    pub channel: ChannelId,
    /// The header hash of its genesis block.
    pub genesis: HeaderHash,
    /// Where its blocks are kept. The service is the only writer.
    pub store: Arc<dyn BlockStore>,
    /// Who judges its blocks. Config blocks in the store are applied to it on joining.
    pub verifier: Arc<dyn BlockVerifier>,
    /// Who may have its blocks.
    pub readers: Arc<dyn Readers>,
    /// The identity of this node in the channel.
    pub signer: Arc<dyn Signer>,
    /// Its ordering service, for when this node pulls.
    pub source: Arc<dyn BlockSource>,
}

/// How a channel stands.
#[derive(Debug, Clone)]
pub struct ChannelState {
    /// The chain.
    pub chain: ChainInfo,
    /// What the pull loop does; `None` when it was not started.
    pub pull: Option<PullState>,
    /// What came in by which way.
    pub stats: ChannelStats,
    /// What the other nodes say of themselves.
    pub peers: BTreeMap<NodeId, ChannelStatus>,
    /// Bytes of blocks that wait to be stored.
    pub buffered_bytes: usize,
    /// Why nothing is stored at the moment; `None` while the store works.
    pub storage_failure: Option<String>,
}

#[derive(Debug)]
struct Channel {
    intake: Arc<Intake>,
    gossip: Arc<dyn GossipChannel>,
    source: Arc<dyn BlockSource>,
    peers: Arc<Peers>,
    tasks: Mutex<JoinSet<()>>,
    /// Held while a pull loop is started or stopped, so that an old one has finished its hand-off
    /// before a new one begins.
    pull: Mutex<Option<Pull>>,
}

#[derive(Debug)]
struct Pull {
    cancel: CancellationToken,
    handle: ProviderHandle,
    tasks: JoinSet<()>,
}

impl DeliverService {
    /// A service without channels.
    ///
    /// # Errors
    ///
    /// When the settings do not fit together.
    pub fn new(config: Config, gossip: Arc<dyn Gossip>) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                gossip,
                channels: Mutex::default(),
            }),
        })
    }

    /// Joins a channel: its intake runs from here on, whether this node pulls or not.
    ///
    /// # Errors
    ///
    /// When the channel was joined before, the service was stopped, the store does not fit the
    /// verifier, or the gossip network refuses.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn join_channel(&self, parts: ChannelParts) -> Result<(), JoinError> {
        let mut channels = self.inner.channels.lock().await;
        let channel = parts.channel.clone();
        if channels.stopped {
            return Err(JoinError::Stopping { channel });
        }
        if channels.joined.contains_key(&channel) {
            return Err(JoinError::AlreadyJoined { channel });
        }
        restore_config(&parts).await?;
        let membership = self
            .inner
            .gossip
            .join(JoinRequest {
                channel: channel.clone(),
                genesis: parts.genesis,
                reader: parts.store.clone(),
                readers: parts.readers.clone(),
                signer: parts.signer.clone(),
            })
            .await?;
        let joined = Channel::start(&self.inner.config, parts, membership);
        channels.joined.insert(channel, Arc::new(joined));
        Ok(())
    }

    /// Leaves a channel: its pull loop and its intake end, what is due and waits is stored.
    ///
    /// # Errors
    ///
    /// [`StopError::NotRunning`] when it was not joined.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn leave_channel(&self, channel: &ChannelId) -> Result<(), StopError> {
        let left = self.inner.channels.lock().await.joined.remove(channel);
        match left {
            Some(channel) => {
                channel.stop().await;
                Ok(())
            }
            None => Err(StopError::NotRunning {
                channel: channel.clone(),
            }),
        }
    }

    /// Starts to pull the channel's blocks from the ordering service, from the height of `ledger`
    /// on: as a rule the store of the channel. Returns before any connection is attempted.
    ///
    /// # Errors
    ///
    /// [`StartError`] (SVC-04, SVC-05), or when the channel was not joined.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn start_deliver_for_channel(
        &self,
        channel: &ChannelId,
        ledger: Arc<dyn BlockReader>,
    ) -> Result<(), StartError> {
        let joined = {
            let channels = self.inner.channels.lock().await;
            if channels.stopped {
                return Err(StartError::Stopping {
                    channel: channel.clone(),
                });
            }
            let joined = channels.joined.get(channel).cloned();
            joined.ok_or_else(|| StartError::NotJoined {
                channel: channel.clone(),
            })?
        };
        let mut pull = joined.pull.lock().await;
        if joined.intake.cancel.is_cancelled() {
            return Err(StartError::Stopping {
                channel: channel.clone(),
            });
        }
        if pull.is_some() {
            return Err(StartError::AlreadyRunning {
                channel: channel.clone(),
            });
        }
        *pull = Some(joined.pull(ledger));
        Ok(())
    }

    /// Stops pulling. On return the pull loop has ended and handed nothing off half-way. The
    /// intake goes on.
    ///
    /// # Errors
    ///
    /// [`StopError`] (SVC-08, SVC-09).
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn stop_deliver_for_channel(&self, channel: &ChannelId) -> Result<(), StopError> {
        let joined = {
            let channels = self.inner.channels.lock().await;
            if channels.stopped {
                return Err(StopError::Stopped {
                    channel: channel.clone(),
                });
            }
            let joined = channels.joined.get(channel).cloned();
            joined.ok_or_else(|| StopError::NotRunning {
                channel: channel.clone(),
            })?
        };
        match joined.stop_pulling().await {
            true => Ok(()),
            false => Err(StopError::NotRunning {
                channel: channel.clone(),
            }),
        }
    }

    /// Stops everything, for good: the pull loops, then the intakes once they stored what is due.
    /// The gossip network stays, without these channels. Safe to repeat (SVC-10).
    ///
    /// # Panics
    ///
    /// Carries the panic of a task on.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn stop(&self) {
        let joined = {
            let mut channels = self.inner.channels.lock().await;
            channels.stopped = true;
            std::mem::take(&mut channels.joined)
        };
        for channel in joined.into_values() {
            channel.stop().await;
        }
    }

    /// Waits until a channel has this height: its blocks are stored and counted, and their
    /// configuration is in force. `false` when the channel was not joined, or ended before.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for_height(&self, channel: &ChannelId, height: Height) -> bool {
        let Some(joined) = self
            .inner
            .channels
            .lock()
            .await
            .joined
            .get(channel)
            .cloned()
        else {
            return false;
        };
        joined.intake.wait_until_applied(height).await.is_ok()
    }

    /// How a channel stands; `None` when it was not joined.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn channel_state(&self, channel: &ChannelId) -> Option<ChannelState> {
        let joined = self
            .inner
            .channels
            .lock()
            .await
            .joined
            .get(channel)
            .cloned()?;
        let pull = joined
            .pull
            .lock()
            .await
            .as_ref()
            .map(|pull| pull.handle.state());
        Some(ChannelState {
            chain: joined.intake.store.info(),
            pull,
            stats: joined.intake.counters.get(),
            peers: joined.peers.all(),
            buffered_bytes: joined.intake.buffer.bytes(),
            storage_failure: joined.intake.storage_failure.borrow().clone(),
        })
    }
}

impl Channel {
    fn start(config: &Config, parts: ChannelParts, membership: Membership) -> Self {
        let height = parts.store.info().height;
        let intake = Arc::new(Intake {
            channel: parts.channel,
            config: config.clone(),
            store: parts.store,
            verifier: parts.verifier,
            buffer: Buffer::new(config, height.next_block()),
            counters: Counters::default(),
            applied: watch::Sender::new(height),
            storage_failure: watch::Sender::new(None),
            awaiting: Semaphore::new((config.candidates_at_work.get() / 2).max(1)),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let peers = Arc::new(Peers::default());
        let gossip = membership.channel;
        let (publish, queue) = mpsc::channel(config.publish_queue.get());
        let span = info_span!("channel", id = %intake.channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(writer::run(intake.clone(), publish).instrument(span.clone()));
        tasks.spawn(publisher::run(intake.clone(), gossip.clone(), queue).instrument(span.clone()));
        let topic = topic::run(
            intake.clone(),
            gossip.clone(),
            membership.events,
            peers.clone(),
        );
        tasks.spawn(topic.instrument(span.clone()));
        tasks.spawn(catch_up::run(intake.clone(), gossip.clone(), peers.clone()).instrument(span));
        info!(channel = %intake.channel, %height, "channel joined");
        Self {
            intake,
            gossip,
            source: parts.source,
            peers,
            tasks: Mutex::new(tasks),
            pull: Mutex::default(),
        }
    }

    fn pull(&self, ledger: Arc<dyn BlockReader>) -> Pull {
        let intake = self.intake.clone();
        let handler = Arc::new(OrdererIntake {
            intake: intake.clone(),
            ledger,
        });
        let config = intake.config.provider.clone();
        let provider =
            BlocksProvider::new(intake.channel.clone(), self.source.clone(), handler, config);
        let (handle, cancel) = (provider.handle(), CancellationToken::new());
        let span = info_span!("pull", channel = %intake.channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(tell_pulling(handle.clone(), self.gossip.clone()).instrument(span.clone()));
        tasks.spawn(provider.run(cancel.clone()).instrument(span));
        Pull {
            cancel,
            handle,
            tasks,
        }
    }

    /// Stops the pull loop; `false` when there is none.
    async fn stop_pulling(&self) -> bool {
        self.end_pull(&mut *self.pull.lock().await).await
    }

    async fn end_pull(&self, slot: &mut Option<Pull>) -> bool {
        // The slot is emptied only when the loop has ended: a start meanwhile waits for the lock.
        let Some(pull) = slot.as_mut() else {
            return false;
        };
        pull.cancel.cancel();
        join_all(&mut pull.tasks).await;
        *slot = None;
        info!(channel = %self.intake.channel, "stopped pulling");
        true
    }

    async fn stop(&self) {
        let mut slot = self.pull.lock().await;
        self.end_pull(&mut slot).await;
        // With the lock in hand: a start that comes in between would not be stopped by anyone.
        self.intake.cancel.cancel();
        drop(slot);
        let mut tasks = self.tasks.lock().await;
        join_all(&mut tasks).await;
        self.gossip.leave().await;
    }
}

/// Tells the others whether a Deliver stream is open.
async fn tell_pulling(mut handle: ProviderHandle, gossip: Arc<dyn GossipChannel>) {
    while let Some(state) = handle.changed().await {
        gossip.set_pulling(matches!(state, PullState::Streaming(_)));
    }
    gossip.set_pulling(false);
}

/// Waits for tasks that were told to end, and carries a panic on.
async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
    }
}

/// Takes the configurations of the stored config blocks into force, oldest first.
async fn restore_config(parts: &ChannelParts) -> Result<(), JoinError> {
    let mut numbers = Vec::new();
    let mut from = parts.store.info().height.tip();
    while let Some(number) = from.and_then(|from| parts.store.config_at(from)) {
        numbers.push(number);
        from = number.previous();
    }
    for number in numbers.into_iter().rev() {
        let block = stored_block(parts, number).await?;
        let channel = || parts.channel.clone();
        let verified =
            VerifiedBlock::new(block, &*parts.verifier).map_err(|source| JoinError::Verify {
                channel: channel(),
                source,
            })?;
        parts
            .verifier
            .apply_config(&verified)
            .map_err(|source| JoinError::Config {
                channel: channel(),
                source,
            })?;
    }
    Ok(())
}

async fn stored_block(parts: &ChannelParts, number: BlockNumber) -> Result<Block, JoinError> {
    let channel = || parts.channel.clone();
    let read = parts.store.read(number, ReadLimits::one()).await;
    let blocks = read.map_err(|source| JoinError::Read {
        channel: channel(),
        source,
    })?;
    let bytes = blocks.into_iter().next().unwrap_or_default();
    Block::parse(bytes).map_err(|source| JoinError::Parse {
        channel: channel(),
        source,
    })
}
