// SPDX-License-Identifier: Apache-2.0
//! A channel that was joined: the tasks of its intake, and its pull loop.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use block_api::{
    Block, BlockNumber, BlockReader, BlockSource, GossipChannel, Membership, ReadLimits, Standing,
    VerifiedBlock,
};
use blocks_provider::{BlocksProvider, ProviderHandle, PullState};
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::{
    ChannelParts, Config, JoinError,
    buffer::{Budget, Buffer},
    catch_up::{self, Sources},
    evidence::{self, Evidence},
    heads,
    intake::{Applied, Blamed, Intake, WaitingRoom},
    orderer::OrdererIntake,
    publisher,
    stats::Counters,
    topic::{self, Peers},
    writer,
};

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) intake: Arc<Intake>,
    gossip: Arc<dyn GossipChannel>,
    source: Arc<dyn BlockSource>,
    pub(crate) peers: Arc<Peers>,
    tasks: Mutex<JoinSet<()>>,
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
            blamed: Blamed::default(),
            pulls: AtomicBool::new(false),
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
        let mut seed = DefaultHasher::new();
        (parts.signer.identity(), intake.channel.as_str()).hash(&mut seed);
        let sources = Sources {
            gossip: gossip.clone(),
            peers: peers.clone(),
            orderers: parts.source.clone(),
            organisation: None,
            seed: seed.finish(),
        };
        tasks.spawn(catch_up::run(intake.clone(), sources).instrument(span));
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

    pub(crate) fn pull(&self, ledger: Arc<dyn BlockReader>) -> Pull {
        let intake = self.intake.clone();
        intake.pulls.store(true, Ordering::Relaxed);
        let handler = Arc::new(OrdererIntake::new(intake.clone(), ledger));
        let config = intake.config.provider.clone();
        let provider =
            BlocksProvider::new(intake.channel.clone(), self.source.clone(), handler, config);
        let (handle, cancel) = (provider.handle(), CancellationToken::new());
        let span = info_span!("pull", channel = %intake.channel);
        let mut tasks = JoinSet::new();
        tasks.spawn(tell_pulling(handle.clone(), self.gossip.clone()).instrument(span.clone()));
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

    /// Stops the pull loop; `false` when there is none.
    pub(crate) async fn stop_pulling(&self) -> bool {
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
        self.intake.pulls.store(false, Ordering::Relaxed);
        info!(channel = %self.intake.channel, "stopped pulling");
        true
    }

    pub(crate) async fn stop(&self) {
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
