// SPDX-License-Identifier: Apache-2.0
//! A channel that was joined: the tasks of its intake, and its pull loop.

use std::{
    panic::resume_unwind,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use block_api::{
    Block, BlockNumber, BlockReader, BlockSource, GossipChannel, HeaderHash, Membership, NodeId,
    OwnOrganisation, ReadLimits, Standing, VerifiedBlock,
};
use blocks_provider::{BlocksProvider, ProviderHandle, PullState};
use bytes::Bytes;
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::{
    ChannelParts, Config, JoinError, StartError,
    buffer::{Budget, Buffer},
    catch_up,
    evidence::{self, Evidence},
    heads,
    intake::{Applied, Intake, WaitingRoom},
    leadership::{self, Candidates, Election, Leadership},
    orderer::OrdererIntake,
    publisher,
    stats::Counters,
    topic::{self, Peers},
    writer,
};

/// The part of the takeover time that a stream is open before the others are told.
const SETTLING: u32 = 4;

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) intake: Arc<Intake>,
    gossip: Arc<dyn GossipChannel>,
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) peers: Arc<Peers>,
    organisation: Arc<dyn OwnOrganisation>,
    /// The identity of this node, and the genesis block: what its place in the order comes from.
    own: (NodeId, Bytes, HeaderHash),
    tasks: Mutex<JoinSet<()>>,
    /// Held while an election is begun or ended, and before [`pull`](Self::pull) is.
    pub(crate) election: Mutex<Option<Election>>,
    /// Held while a pull loop is started or stopped, so that an old one has finished its hand-off
    /// before a new one begins.
    pub(crate) pull: Mutex<Option<Pull>>,
}

#[derive(Debug)]
pub(crate) struct Pull {
    cancel: CancellationToken,
    pub(crate) handle: ProviderHandle,
    tasks: JoinSet<()>,
}

impl Channel {
    pub(crate) fn start(
        config: &Config,
        node: NodeId,
        budget: &Arc<Budget>,
        parts: ChannelParts,
        membership: Membership,
    ) -> Self {
        let applied = Applied::of_store(&*parts.store);
        let height = applied.height;
        let (evidence, suspects) = Evidence::new();
        if let (Some(tip), Some(hash)) = (height.tip(), parts.store.info().tip_hash) {
            evidence.stored(tip, hash);
        }
        let intake = Arc::new(Intake {
            channel: parts.channel,
            config: config.clone(),
            store: parts.store,
            verifier: parts.verifier,
            buffer: Buffer::new(config, budget, height.next_block()),
            counters: Counters::default(),
            applied: watch::Sender::new(applied),
            storage_failure: watch::Sender::new(None),
            awaiting: WaitingRoom::new(config.candidates_at_work),
            evidence,
            shown: watch::Sender::new(None),
            reopen_stream: Notify::new(),
            stream_at: AtomicU64::new(0),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let peers = Arc::new(Peers::default());
        let gossip = membership.channel;
        let (publish, queue) = mpsc::channel(config.publish_queue.get());
        let span = info_span!("channel", id = %intake.channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(writer::run(intake.clone(), publish).instrument(span.clone()));
        tasks.spawn(evidence::run(intake.clone(), suspects).instrument(span.clone()));
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
            organisation: parts.organisation,
            own: (node, parts.signer.identity(), parts.genesis),
            tasks: Mutex::new(tasks),
            election: Mutex::default(),
            pull: Mutex::default(),
        }
    }

    /// Has this node pull as long as its place among those of its organisation asks for it.
    pub(crate) fn elect(self: &Arc<Self>, ledger: Arc<dyn BlockReader>) -> Election {
        let (node, identity, genesis) = self.own.clone();
        let candidates = Candidates {
            channel: self.intake.channel.clone(),
            genesis,
            organisation: self.organisation.clone(),
            node,
            identity,
        };
        let cancel = CancellationToken::new();
        let (teller, leadership) = watch::channel(Leadership::BEGINNING);
        let task = leadership::run(
            Arc::downgrade(self),
            (self.intake.clone(), self.peers.clone()),
            ledger,
            candidates,
            teller,
            cancel.clone(),
        );
        let span = info_span!("election", channel = %self.intake.channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(task.instrument(span));
        Election {
            cancel,
            tasks,
            leadership,
        }
    }

    /// Starts or ends the pull loop, unless it is as it should be.
    pub(crate) async fn pull_or_not(&self, pulls: bool, ledger: &Arc<dyn BlockReader>) {
        let mut slot = self.pull.lock().await;
        match (pulls, slot.is_some()) {
            (true, false) => *slot = Some(self.pull(ledger.clone())),
            (false, true) => drop(self.end_pull(&mut slot).await),
            (true, true) | (false, false) => {}
        }
    }

    pub(crate) fn pull(&self, ledger: Arc<dyn BlockReader>) -> Pull {
        let intake = self.intake.clone();
        let handler = Arc::new(OrdererIntake::new(intake.clone(), ledger));
        let config = intake.config.provider.clone();
        let provider =
            BlocksProvider::new(intake.channel.clone(), self.source.clone(), handler, config);
        let (handle, cancel) = (provider.handle(), CancellationToken::new());
        let span = info_span!("pull", channel = %intake.channel);
        let mut tasks = JoinSet::new();
        let settled = intake.config.takeover / SETTLING;
        let told = tell_pulling(handle.clone(), self.gossip.clone(), settled);
        tasks.spawn(told.instrument(span.clone()));
        let tell = heads::tell(intake.clone(), handle.clone(), cancel.clone());
        tasks.spawn(tell.instrument(span.clone()));
        let fork = leave_forks(intake, handle.clone(), cancel.clone());
        tasks.spawn(fork.instrument(span.clone()));
        tasks.spawn(provider.run(cancel.clone()).instrument(span));
        Pull {
            cancel,
            handle,
            tasks,
        }
    }

    /// Whether a pull loop or an election may begin.
    pub(crate) fn check_idle(&self, is_running: bool) -> Result<(), StartError> {
        let channel = || self.intake.channel.clone();
        if self.intake.cancel.is_cancelled() {
            return Err(StartError::Stopping { channel: channel() });
        }
        match is_running {
            true => Err(StartError::AlreadyRunning { channel: channel() }),
            false => Ok(()),
        }
    }

    /// Ends the election and stops the pull loop; `false` when there is neither.
    pub(crate) async fn stop_pulling(&self) -> bool {
        let mut election = self.election.lock().await;
        let elected = end_election(&mut election).await;
        let pulled = self.end_pull(&mut *self.pull.lock().await).await;
        elected || pulled
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

    pub(crate) async fn stop(&self) {
        let mut election = self.election.lock().await;
        end_election(&mut election).await;
        let mut slot = self.pull.lock().await;
        self.end_pull(&mut slot).await;
        // With the locks in hand: a start that comes in between would not be stopped by anyone.
        self.intake.cancel.cancel();
        drop((slot, election));
        let mut tasks = self.tasks.lock().await;
        join_all(&mut tasks).await;
        self.gossip.leave().await;
    }
}

/// Ends an election; what pulls goes on. `false` when there is none.
async fn end_election(slot: &mut Option<Election>) -> bool {
    let Some(election) = slot.as_mut() else {
        return false;
    };
    election.cancel.cancel();
    join_all(&mut election.tasks).await;
    *slot = None;
    true
}

/// Tells the others whether a Deliver stream is open: for a while already, because whoever hears it
/// gives up a stream for this one, and an orderer may refuse one that was opened.
async fn tell_pulling(
    mut handle: ProviderHandle,
    gossip: Arc<dyn GossipChannel>,
    settled: Duration,
) {
    let mut state = handle.state();
    loop {
        let streams = matches!(state, PullState::Streaming(_));
        if !streams {
            gossip.set_pulling(false);
        }
        let changed = tokio::select! {
            biased;
            changed = handle.changed() => changed,
            () = sleep(settled), if streams => {
                gossip.set_pulling(true);
                handle.changed().await
            }
        };
        match changed {
            Some(changed) => state = changed,
            None => break,
        }
    }
    // The loop has ended, and with it the hand-off of its last block (hazard H26).
    gossip.set_pulling(false);
}

/// Has the pull loop leave its stream when a block of it did not link to the chain that is stored:
/// nothing after it would.
async fn leave_forks(intake: Arc<Intake>, handle: ProviderHandle, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = intake.reopen_stream.notified() => handle.change_source(),
        }
    }
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
pub(crate) async fn restore_config(parts: &ChannelParts) -> Result<(), JoinError> {
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
            VerifiedBlock::new(block, &*parts.verifier, Standing::Linked).map_err(|source| {
                JoinError::Verify {
                    channel: channel(),
                    source,
                }
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
