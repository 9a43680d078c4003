// SPDX-License-Identifier: Apache-2.0
//! A channel that was joined: the tasks of its intake, and its pull loop.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
};

use block_api::{
    BlockReader, BlockSource, GossipChannel, GossipEvent, HeaderHash, Membership, NodeId,
    OwnOrganisation,
};
use bytes::Bytes;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use crate::{
    ChannelParts, ChannelState, Config, Leadership, StartError, Task,
    buffer::Budget,
    catch_up::{self, Sources},
    evidence::{self, Suspect},
    failing::Failing,
    health::{self, Patience, Signs},
    intake::Intake,
    leadership::{self, Candidates, Election},
    peers::Peers,
    publisher,
    pull::{Pull, PullView},
    topic, writer,
};

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) intake: Arc<Intake>,
    gossip: Arc<dyn GossipChannel>,
    pub(crate) source: Arc<dyn BlockSource>,
    peers: Arc<Peers>,
    organisation: Arc<dyn OwnOrganisation>,
    /// The identity of this node, and the genesis block: what its place in the order comes from.
    own: (NodeId, Bytes, HeaderHash),
    tasks: Mutex<JoinSet<()>>,
    /// Held while an election is begun or ended, and before [`pull`](Self::pull) is.
    pub(crate) election: Mutex<Option<Election>>,
    /// How this node stands in the election; `None` while there is none.
    leadership: Arc<watch::Sender<Option<Leadership>>>,
    /// Held while a pull loop is started or stopped, so that an old one has finished its hand-off
    /// before a new one begins.
    pub(crate) pull: Mutex<Option<Pull>>,
    pull_view: Arc<PullView>,
}

impl Channel {
    pub(crate) fn start(
        config: &Config,
        node: NodeId,
        budget: &Arc<Budget>,
        failing: &Arc<Failing>,
        parts: ChannelParts,
        membership: Membership,
    ) -> Self {
        let (intake, suspects) = Intake::new(
            config,
            budget,
            failing,
            parts.channel,
            parts.store,
            parts.verifier,
        );
        let intake = Arc::new(intake);
        let height = intake.applied().height;
        let peers = Arc::new(Peers::new());
        let gossip = membership.channel;
        let mut seed = DefaultHasher::new();
        (node.as_str(), intake.channel.as_str()).hash(&mut seed);
        let sources = Sources {
            gossip: gossip.clone(),
            peers: peers.clone(),
            orderers: parts.source.clone(),
            organisation: parts.organisation.clone(),
            seed: seed.finish(),
        };
        let tasks = spawn(&intake, sources, membership.events, suspects);
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
            leadership: Arc::default(),
            pull: Mutex::default(),
            pull_view: Arc::default(),
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
        self.leadership.send_replace(Some(Leadership::BEGINNING));
        let cancel = CancellationToken::new();
        let (channel, stop) = (Arc::downgrade(self), cancel.clone());
        let (intake, peers) = (self.intake.clone(), self.peers.clone());
        let leadership = self.leadership.clone();
        let span = info_span!("election", channel = %intake.channel);
        let supervised = async move {
            let (shared, teller) = ((&intake, &*peers), &*leadership);
            loop {
                let task = leadership::run(&channel, shared, &ledger, &candidates, teller, &stop);
                if !intake
                    .supervision
                    .run(Task::Election, &stop, Box::pin(task))
                    .await
                {
                    break;
                }
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(supervised.instrument(span));
        Election { cancel, tasks }
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
        self.intake.pulls.store(true, Ordering::Relaxed);
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
        let evidence = intake.evidence.found();
        let signs = Signs {
            height: applied.height,
            grown_at: applied.at,
            missing,
            pull: pull_report.as_ref(),
            neighbours: self.peers.neighbours(),
            storage: storage_failure.as_ref(),
            appending: *intake.appending.borrow(),
            contradicted: !evidence.is_empty(),
            dying: intake.supervision.dying(now),
        };
        ChannelState {
            health: health::judge(&signs, &Patience::of(&intake.config), now),
            leadership: *self.leadership.borrow(),
            chain: intake.store.info(),
            missing,
            pull: pull_report.as_ref().map(|report| report.state.clone()),
            pull_report,
            pull_stats: self.pull_view.stats(),
            stats: intake.counters.get(intake.buffer.evicted()),
            deaths: intake.supervision.deaths(),
            peers: self.peers.all(),
            buffered_bytes: intake.buffer.bytes(),
            evidence,
            storage_failure,
        }
    }

    /// Waits until it hears of so many nodes; `false` when it ends before.
    pub(crate) async fn meets(&self, nodes: usize) -> bool {
        tokio::select! {
            biased;
            () = self.peers.reach(nodes) => true,
            () = self.intake.cancel.cancelled() => false,
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
        let elected = self.end_election(&mut election).await;
        let pulled = self.end_pull(&mut *self.pull.lock().await).await;
        elected || pulled
    }

    /// Ends an election; what pulls goes on. `false` when there is none.
    async fn end_election(&self, slot: &mut Option<Election>) -> bool {
        let Some(election) = slot.as_mut() else {
            return false;
        };
        election.cancel.cancel();
        // Its panics were caught and counted.
        while election.tasks.join_next().await.is_some() {}
        *slot = None;
        self.leadership.send_replace(None);
        true
    }

    async fn end_pull(&self, slot: &mut Option<Pull>) -> bool {
        // The slot is emptied only when the loop has ended: a start meanwhile waits for the lock.
        let Some(pull) = slot.as_mut() else {
            return false;
        };
        pull.stop().await;
        *slot = None;
        self.intake.pulls.store(false, Ordering::Relaxed);
        info!(channel = %self.intake.channel, "stopped pulling");
        true
    }

    pub(crate) async fn stop(&self) {
        let mut election = self.election.lock().await;
        self.end_election(&mut election).await;
        let mut slot = self.pull.lock().await;
        self.end_pull(&mut slot).await;
        // With the locks in hand: a start that comes in between would not be stopped by anyone.
        self.intake.cancel.cancel();
        drop((slot, election));
        let mut tasks = self.tasks.lock().await;
        // Their panics were caught and counted.
        while tasks.join_next().await.is_some() {}
        self.intake.judges.ended().await;
        self.gossip.leave().await;
    }
}

/// Starts the tasks of the intake, each under supervision.
fn spawn(
    intake: &Arc<Intake>,
    sources: Sources,
    mut events: mpsc::Receiver<GossipEvent>,
    mut suspects: mpsc::Receiver<Suspect>,
) -> JoinSet<()> {
    let (publish, mut queue) = mpsc::channel(intake.config.publish_queue.get());
    let span = info_span!("channel", id = %intake.channel);
    let mut tasks = JoinSet::new();
    let (gossip, peers) = (sources.gossip.clone(), sources.peers.clone());
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
    let (own, ..) = shared();
    let examiner = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        while supervision
            .run(Task::Evidence, cancel, evidence::run(&own, &mut suspects))
            .await
        {}
    };
    tasks.spawn(examiner.instrument(span.clone()));
    let (own, ..) = shared();
    let catch_up = async move {
        let (supervision, cancel) = (&own.supervision, &own.cancel);
        while supervision
            .run(Task::CatchUp, cancel, catch_up::run(&own, &sources))
            .await
        {}
    };
    tasks.spawn(catch_up.instrument(span));
    tasks
}
