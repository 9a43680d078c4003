// SPDX-License-Identifier: Apache-2.0
//! Joining channels, and starting and stopping their pull loops.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use block_api::{
    BlockReader, BlockSource, BlockStore, BlockVerifier, ChainInfo, ChannelId, ChannelStatus,
    Gossip, HeaderHash, Height, JoinRequest, NodeId, OwnOrganisation, Readers, Signer,
};
use blocks_provider::{PullReport, PullState, PullStats};
use futures::future::join_all;
use tokio::sync::RwLock;

use crate::{
    ChannelStats, Config, ConfigError, Equivocation, Health, JoinError, Leadership, Missing,
    StartError, StopError, StorageFailure, Task, buffer::Budget, channel::Channel,
    failing::Failing, restore::restore_config,
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
    budget: Arc<Budget>,
    /// Of all channels, so that a node does not get more by being in more of them.
    failing: Arc<Failing>,
    gossip: Arc<dyn Gossip>,
    /// Never held while something is waited for: no channel waits for another.
    channels: Mutex<Channels>,
    /// Shared by the joins that are under way, which the end of the service waits for.
    joining: RwLock<()>,
}

#[derive(Debug, Default)]
struct Channels {
    joined: BTreeMap<ChannelId, Arc<Channel>>,
    joining: BTreeSet<ChannelId>,
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
    /// Which other nodes belong to the organisation of this one, and may pull.
    pub organisation: Arc<dyn OwnOrganisation>,
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
    /// The same at length: who fails and why, what is suspected, counts. `None` when it was not
    /// started.
    pub pull_report: Option<PullReport>,
    /// The place of this node among those that may pull; `None` where nobody is elected.
    pub leadership: Option<Leadership>,
    /// What came in by which way.
    pub stats: ChannelStats,
    /// What the other nodes say of themselves.
    pub peers: BTreeMap<NodeId, ChannelStatus>,
    /// Bytes of blocks that wait to be stored.
    pub buffered_bytes: usize,
    /// Blocks of one number of which orderers signed two, the first ones that were found since the
    /// channel was joined. Anything in it is an alarm.
    pub evidence: Vec<Equivocation>,
    /// Why nothing is stored at the moment; `None` while the store works.
    pub storage_failure: Option<StorageFailure>,
    /// How well it does.
    pub health: Health,
    /// The blocks that are proven to be there and not stored; `None` when there are none.
    pub missing: Option<Missing>,
    /// The counts of all pull loops since the channel was joined.
    pub pull_stats: PullStats,
    /// How often tasks of the channel have died and were started again; those that ever did.
    pub deaths: BTreeMap<Task, u64>,
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
                budget: Budget::new(config.total_buffer_bytes.get()),
                failing: Arc::default(),
                config,
                gossip,
                channels: Mutex::default(),
                joining: RwLock::default(),
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
        let channel = parts.channel.clone();
        let _joining = self.inner.joining.read().await;
        {
            let mut channels = self.channels();
            if channels.stopped {
                return Err(JoinError::Stopping { channel });
            }
            if channels.joined.contains_key(&channel) || !channels.joining.insert(channel.clone()) {
                return Err(JoinError::AlreadyJoined { channel });
            }
        }
        let joined = self.start_channel(parts).await;
        let joined = {
            let mut channels = self.channels();
            channels.joining.remove(&channel);
            let joined = Arc::new(joined?);
            if !channels.stopped {
                channels.joined.insert(channel, joined);
                return Ok(());
            }
            joined
        };
        // The service was stopped meanwhile, and did not know of this channel.
        joined.stop().await;
        Err(JoinError::Stopping { channel })
    }

    async fn start_channel(&self, parts: ChannelParts) -> Result<Channel, JoinError> {
        let channel = parts.channel.clone();
        let mut in_force = Height::ZERO;
        restore_config(&channel, &*parts.store, &*parts.verifier, &mut in_force).await?;
        let membership = self
            .inner
            .gossip
            .join(JoinRequest {
                channel,
                genesis: parts.genesis,
                reader: parts.store.clone(),
                readers: parts.readers.clone(),
            })
            .await?;
        let node = self.inner.gossip.node_id();
        let Inner {
            config,
            budget,
            failing,
            ..
        } = &*self.inner;
        Ok(Channel::start(
            config, node, budget, failing, parts, membership,
        ))
    }

    /// Leaves a channel: its pull loop and its intake end, what is due and waits is stored. Where the
    /// store does not return from an append, this waits for it; no other channel does.
    ///
    /// # Errors
    ///
    /// [`StopError::NotRunning`] when it was not joined.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn leave_channel(&self, channel: &ChannelId) -> Result<(), StopError> {
        let Some(joined) = self.joined(channel) else {
            return Err(StopError::NotRunning {
                channel: channel.clone(),
            });
        };
        // It stays in the map until it has ended, so that nobody opens a second intake on its store.
        joined.stop().await;
        let mut channels = self.channels();
        if channels
            .joined
            .get(channel)
            .is_some_and(|current| Arc::ptr_eq(current, &joined))
        {
            channels.joined.remove(channel);
        }
        Ok(())
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
        let joined = self.startable(channel)?;
        let election = joined.election.lock().await;
        let mut pull = joined.pull.lock().await;
        joined.check_idle(election.is_some() || pull.is_some())?;
        *pull = Some(joined.pull(ledger));
        Ok(())
    }

    /// Has the nodes of the own organisation agree who pulls, instead of saying it: this one pulls from
    /// the height of `ledger` on while its place among those that are there asks for it. All of them
    /// rank the nodes alike, by their proven identities; this one always counts itself in.
    /// [`stop_deliver_for_channel`](Self::stop_deliver_for_channel) ends it.
    ///
    /// # Errors
    ///
    /// [`StartError`], as for [`start_deliver_for_channel`](Self::start_deliver_for_channel).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn elect_for_channel(
        &self,
        channel: &ChannelId,
        ledger: Arc<dyn BlockReader>,
    ) -> Result<(), StartError> {
        let joined = self.startable(channel)?;
        let mut election = joined.election.lock().await;
        let pull = joined.pull.lock().await;
        joined.check_idle(election.is_some() || pull.is_some())?;
        *election = Some(joined.elect(ledger));
        Ok(())
    }

    /// Stops pulling, and the election of who does. On return the pull loop has ended and handed
    /// nothing off half-way. The intake goes on.
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
            let channels = self.channels();
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
    /// All channels at once, so that none waits for another. The gossip network stays, without these
    /// channels. Safe to repeat (SVC-10).
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn stop(&self) {
        let joined: Vec<_> = {
            let mut channels = self.channels();
            channels.stopped = true;
            channels.joined.values().cloned().collect()
        };
        // Whoever calls while another call is under way waits for the same ends.
        join_all(joined.iter().map(|channel| channel.stop())).await;
        // Joins that are under way undo themselves.
        drop(self.inner.joining.write().await);
        self.channels().joined.clear();
    }

    /// Waits until a channel has this height: its blocks are stored and counted, and their
    /// configuration is in force. `false` when the channel was not joined, or ended before.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for_height(&self, channel: &ChannelId, height: Height) -> bool {
        let Some(joined) = self.joined(channel) else {
            return false;
        };
        joined.intake.wait_until_applied(height).await.is_ok()
    }

    /// Waits until so many nodes of a channel said how they stand. `false` when the channel was not
    /// joined, or ended before.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for_peers(&self, channel: &ChannelId, count: usize) -> bool {
        match self.joined(channel) {
            Some(joined) => joined.meets(count).await,
            None => false,
        }
    }

    /// How a channel stands, without waiting for anything; `None` when it was not joined.
    pub fn state(&self, channel: &ChannelId) -> Option<ChannelState> {
        Some(self.joined(channel)?.state())
    }

    /// How every channel stands, in the order of their ids.
    pub fn states(&self) -> Vec<(ChannelId, ChannelState)> {
        let joined = self.channels().joined.clone();
        joined
            .into_iter()
            .map(|(channel, joined)| (channel, joined.state()))
            .collect()
    }

    /// The channel, if something may be started in it.
    fn startable(&self, channel: &ChannelId) -> Result<Arc<Channel>, StartError> {
        let channels = self.channels();
        let channel = || channel.clone();
        if channels.stopped {
            return Err(StartError::Stopping { channel: channel() });
        }
        let joined = channels.joined.get(&channel()).cloned();
        joined.ok_or_else(|| StartError::NotJoined { channel: channel() })
    }

    pub(crate) fn joined(&self, channel: &ChannelId) -> Option<Arc<Channel>> {
        self.channels().joined.get(channel).cloned()
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        // Every state of it is a good one.
        self.inner
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
