// SPDX-License-Identifier: Apache-2.0
//! A channel that was joined: the tasks of its intake, and its pull loop.

use std::sync::{Arc, atomic::AtomicU64};

use block_api::{BlockReader, BlockSource, GossipChannel, GossipEvent, Membership};
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::{
    ChannelParts, ChannelState, Config, Task,
    buffer::Buffer,
    catch_up,
    health::{self, Patience, Signs},
    intake::{Applied, Intake, WaitingRoom},
    lag::Lag,
    publisher,
    pull::{Pull, PullView},
    stats::Counters,
    supervision::Supervision,
    topic::{self, Peers},
    writer,
};

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) intake: Arc<Intake>,
    gossip: Arc<dyn GossipChannel>,
    source: Arc<dyn BlockSource>,
    peers: Arc<Peers>,
    tasks: Mutex<JoinSet<()>>,
    /// Held while a pull loop is started or stopped, so that an old one has finished its hand-off
    /// before a new one begins.
    pub(crate) pull: Mutex<Option<Pull>>,
    pull_view: Arc<PullView>,
}

impl Channel {
    pub(crate) fn start(config: &Config, parts: ChannelParts, membership: Membership) -> Self {
        let applied = Applied::of_store(&*parts.store);
        let height = applied.height;
        let intake = Arc::new(Intake {
            channel: parts.channel,
            config: config.clone(),
            store: parts.store,
            verifier: parts.verifier,
            buffer: Buffer::new(config, height.next_block()),
            counters: Counters::default(),
            applied: watch::Sender::new(applied),
            storage_failure: watch::Sender::new(None),
            lag: Lag::default(),
            supervision: Supervision::default(),
            awaiting: WaitingRoom::new(config.candidates_at_work),
            shown: watch::Sender::new(None),
            reopen_stream: Notify::new(),
            stream_at: AtomicU64::new(0),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let peers = Arc::new(Peers::new());
        let gossip = membership.channel;
        let tasks = spawn(&intake, &gossip, &peers, membership.events);
        info!(channel = %intake.channel, %height, "channel joined");
        Self {
            intake,
            gossip,
            source: parts.source,
            peers,
            tasks: Mutex::new(tasks),
            pull: Mutex::default(),
            pull_view: Arc::default(),
        }
    }

    pub(crate) fn pull(&self, ledger: Arc<dyn BlockReader>) -> Pull {
        Pull::start(
            self.intake.clone(),
            self.gossip.clone(),
            self.source.clone(),
            ledger,
            self.pull_view.clone(),
        )
    }

    /// How it stands, without waiting for anything.
    pub(crate) fn state(&self) -> ChannelState {
        let (intake, now) = (&self.intake, Instant::now());
        let applied = intake.applied();
        let pull_report = self.pull_view.report();
        let storage_failure = intake.storage_failure.borrow().clone();
        let missing = intake.lag.missing(applied.height.next_block());
        let signs = Signs {
            height: applied.height,
            grown_at: applied.at,
            missing,
            pull: pull_report.as_ref(),
            neighbours: self.peers.neighbours(),
            storage: storage_failure.as_ref(),
            dying: intake.supervision.dying(now),
        };
        ChannelState {
            health: health::judge(&signs, &Patience::of(&intake.config), now),
            chain: intake.store.info(),
            missing,
            pull: pull_report.as_ref().map(|report| report.state.clone()),
            pull_report,
            pull_stats: self.pull_view.stats(),
            stats: intake.counters.get(),
            deaths: intake.supervision.deaths(),
            peers: self.peers.all(),
            buffered_bytes: intake.buffer.bytes(),
            storage_failure,
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
        pull.stop().await;
        *slot = None;
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
        // Their panics were caught and counted.
        while tasks.join_next().await.is_some() {}
        self.gossip.leave().await;
    }
}

/// Starts the tasks of the intake, each under supervision.
fn spawn(
    intake: &Arc<Intake>,
    gossip: &Arc<dyn GossipChannel>,
    peers: &Arc<Peers>,
    mut events: mpsc::Receiver<GossipEvent>,
) -> JoinSet<()> {
    let (publish, mut queue) = mpsc::channel(intake.config.publish_queue.get());
    let span = info_span!("channel", id = %intake.channel);
    let mut tasks = JoinSet::new();
    let shared = || (intake.clone(), gossip.clone(), peers.clone());
    let (own, ..) = shared();
    let writer = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        let mut begun = false;
        while supervision
            .run(Task::Writer, cancel, writer::run(&own, &publish, begun))
            .await
        {
            begun = true;
        }
        own.buffer.close();
        own.ended.cancel();
    };
    tasks.spawn(writer.instrument(span.clone()));
    let (own, gossip, _) = shared();
    let publisher = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        while supervision
            .run(
                Task::Publisher,
                cancel,
                publisher::run(&own, &*gossip, &mut queue),
            )
            .await
        {}
    };
    tasks.spawn(publisher.instrument(span.clone()));
    let (own, gossip, peers) = shared();
    let topic = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        while supervision
            .run(
                Task::Topic,
                cancel,
                topic::run(&own, &gossip, &mut events, &peers),
            )
            .await
        {}
    };
    tasks.spawn(topic.instrument(span.clone()));
    let (own, gossip, peers) = shared();
    let catch_up = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        while supervision
            .run(Task::CatchUp, cancel, catch_up::run(&own, &*gossip, &peers))
            .await
        {}
    };
    tasks.spawn(catch_up.instrument(span));
    tasks
}
