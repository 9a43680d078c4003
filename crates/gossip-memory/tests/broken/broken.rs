// SPDX-License-Identifier: Apache-2.0
//! A node of the memory network that is wrong in one way.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a flaw is named where it shows, and every other one is right there"
)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use block_api::{
    Answer, Candidate, Capabilities, Gossip, GossipError, GossipEvent, HeaderHash, JoinRequest,
    Membership, NodeId, Signer,
};
use blockcast_gossip_memory::MemoryGossip;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::channel::BrokenChannel;

/// What is wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Its capabilities are others once something was joined.
    ChangesItsMind,
    /// It tells no statuses and has no sources, and says that it knows its peers.
    KnowsNobody,
    LosesEverySecond,
    NeverForwards,
    SaysItIsTheSender,
    OnlyHigherNumbers,
    Repeats,
    /// It hands out what it published itself.
    HearsItself,
    SignsForNobody,
    ForwardsFirst,
    /// Whoever sent one bad block is not heard again.
    CutsOff,
    /// Of the blocks of one header hash the first is handed out only.
    FirstOfItsHash,
    GivesAnotherBlock,
    AnnouncesConfig,
    LeavesHoles,
    AlwaysSucceeds,
    KnowsStrangers,
    TellsOnce,
    KeepsTheTip,
    TakesAnyIdentity,
    MissesNobody,
    /// It gives to everybody, whoever may read.
    AsksNobody,
    CutsOffTheBlamed,
    /// It does not ask again for a body that nobody has yet.
    AsksOnce,
    IgnoresGenesis,
    /// What comes in one channel comes in the others, too.
    MixesChannels,
    QueuesEverything,
    PublisherWaits,
    /// A channel that is not read holds the others up.
    OneQueue,
    JoinsTwice,
    NeverEnds,
    NeverCloses,
    /// It has no other flaw than those that it owns up to.
    IsABroker,
    BrokerOfFirstCopies,
    /// It gives a block to who accepts it only.
    BrokerThatFilters,
    BrokerThatRepeats,
    BrokerWithSources,
    BrokerThatQueuesEverything,
}

/// Who is not heard any more.
pub(crate) type CutOff = Arc<Mutex<BTreeSet<NodeId>>>;

/// A node with a flaw.
#[derive(Debug)]
pub(crate) struct Broken {
    inner: MemoryGossip,
    signer: Arc<dyn Signer>,
    flaw: Flaw,
    tasks: TaskTracker,
    joined: AtomicU64,
    shared: Arc<Shared>,
}

/// What the channels of a node share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Where events of each channel go.
    queues: Mutex<Vec<mpsc::Sender<GossipEvent>>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// Takes the events of a channel, and makes what is wrong of them.
struct Events {
    node: NodeId,
    flaw: Flaw,
    shared: Arc<Shared>,
    events: mpsc::Sender<GossipEvent>,
    count: u64,
    highest: u64,
    hashes: BTreeSet<HeaderHash>,
    told: BTreeSet<NodeId>,
    cut_off: CutOff,
}

impl Flaw {
    pub(crate) fn is_broker(self) -> bool {
        matches!(
            self,
            Self::IsABroker
                | Self::BrokerOfFirstCopies
                | Self::BrokerThatFilters
                | Self::BrokerThatRepeats
                | Self::BrokerWithSources
                | Self::BrokerThatQueuesEverything
        )
    }
}

impl Broken {
    pub(crate) fn new(inner: MemoryGossip, signer: Arc<dyn Signer>, flaw: Flaw) -> Self {
        Self {
            inner,
            signer,
            flaw,
            tasks: TaskTracker::new(),
            joined: AtomicU64::new(0),
            shared: Arc::default(),
        }
    }
}

#[async_trait]
impl Gossip for Broken {
    fn node_id(&self) -> NodeId {
        self.inner.node_id()
    }

    fn capabilities(&self) -> Capabilities {
        let changed = self.flaw == Flaw::ChangesItsMind && self.joined.load(Ordering::SeqCst) > 0;
        match changed || self.flaw.is_broker() {
            true => Capabilities::broker(),
            false => Capabilities::peer_to_peer(),
        }
    }

    async fn join(&self, mut request: JoinRequest) -> Result<Membership, GossipError> {
        match self.flaw {
            Flaw::IgnoresGenesis => request.genesis = HeaderHash::new([1; 32]),
            Flaw::SignsForNobody => drop(self.signer.sign(b"here I am").await),
            // As if it had been another one.
            Flaw::JoinsTwice if self.joined.load(Ordering::SeqCst) > 0 => {
                request.genesis = HeaderHash::new([2; 32]);
            }
            _ => {}
        }
        let membership = self.inner.join(request).await?;
        self.joined.fetch_add(1, Ordering::SeqCst);
        let queue = match self.flaw {
            Flaw::QueuesEverything | Flaw::BrokerThatQueuesEverything => 1 << 20,
            _ => 256,
        };
        let (events, receiver) = mpsc::channel(queue);
        if matches!(self.flaw, Flaw::MixesChannels | Flaw::NeverEnds) {
            // What is held here keeps the events from ending.
            self.shared.queues.lock().unwrap().push(events.clone());
        }
        let cut_off = CutOff::default();
        let wrong = Events {
            node: self.node_id(),
            flaw: self.flaw,
            shared: self.shared.clone(),
            events: events.clone(),
            count: 0,
            highest: 0,
            hashes: BTreeSet::new(),
            told: BTreeSet::new(),
            cut_off: cut_off.clone(),
        };
        self.tasks
            .spawn(wrong.run(membership.events, self.tasks.clone()));
        let channel = BrokenChannel {
            inner: membership.channel,
            flaw: self.flaw,
            node: self.node_id(),
            events: events.downgrade(),
            published: AtomicU64::new(0),
            cut_off,
        };
        Ok(Membership {
            channel: Arc::new(channel),
            events: receiver,
        })
    }

    async fn stop(&self) {
        self.inner.stop().await;
    }
}

impl Events {
    async fn run(mut self, mut events: mpsc::Receiver<GossipEvent>, tasks: TaskTracker) {
        while let Some(event) = events.recv().await {
            for event in self.spoilt(event, &tasks) {
                let one_at_a_time = match self.flaw {
                    Flaw::OneQueue => Some(self.shared.one_at_a_time.lock().await),
                    _ => None,
                };
                if self.events.send(event).await.is_err() {
                    return;
                }
                drop(one_at_a_time);
            }
        }
    }

    /// What is handed out in place of an event.
    fn spoilt(&mut self, event: GossipEvent, tasks: &TaskTracker) -> Vec<GossipEvent> {
        match event {
            GossipEvent::Candidate(candidate) => {
                let candidates = self.spoilt_candidate(candidate, tasks).into_iter();
                candidates.map(GossipEvent::Candidate).collect()
            }
            _ if self.flaw.is_broker() || self.flaw == Flaw::KnowsNobody => Vec::new(),
            GossipEvent::Left(_) if self.flaw == Flaw::MissesNobody => Vec::new(),
            GossipEvent::Status { from, .. }
                if self.flaw == Flaw::TellsOnce && !self.told.insert(from.clone()) =>
            {
                Vec::new()
            }
            GossipEvent::Status {
                from,
                mut identity,
                mut status,
            } => {
                match self.flaw {
                    Flaw::KeepsTheTip => status.tip = None,
                    Flaw::TakesAnyIdentity => identity = Some(Bytes::from_static(b"anybody")),
                    _ => {}
                }
                vec![GossipEvent::Status {
                    from,
                    identity,
                    status,
                }]
            }
            left @ GossipEvent::Left(_) => vec![left],
        }
    }

    fn spoilt_candidate(&mut self, candidate: Candidate, tasks: &TaskTracker) -> Vec<Candidate> {
        let (block, from) = (candidate.block().clone(), candidate.from().clone());
        let copy = || Candidate::new(block.clone(), from.clone()).0;
        self.count += 1;
        match self.flaw {
            Flaw::LosesEverySecond if self.count.is_multiple_of(2) => Vec::new(),
            Flaw::NeverForwards => vec![copy()],
            Flaw::SaysItIsTheSender => {
                let (named, answer) = Candidate::new(block.clone(), self.node.clone());
                tasks.spawn(async move { answer.await.map(|answer| candidate.answer(answer)) });
                vec![named]
            }
            Flaw::OnlyHigherNumbers if block.number().get() <= self.highest => Vec::new(),
            Flaw::OnlyHigherNumbers => {
                self.highest = block.number().get();
                vec![candidate]
            }
            Flaw::Repeats => vec![copy(), candidate],
            Flaw::ForwardsFirst | Flaw::IsABroker | Flaw::BrokerThatQueuesEverything => {
                candidate.answer(Answer::Accept);
                vec![copy()]
            }
            Flaw::BrokerThatRepeats => {
                candidate.answer(Answer::Accept);
                vec![copy(), copy()]
            }
            Flaw::CutsOff | Flaw::CutsOffTheBlamed
                if self.cut_off.lock().unwrap().contains(&from) =>
            {
                Vec::new()
            }
            Flaw::CutsOff => {
                let (watched, answer) = Candidate::new(block.clone(), from.clone());
                let cut_off = self.cut_off.clone();
                tasks.spawn(async move {
                    let answer = answer.await.unwrap_or(Answer::Ignore);
                    if answer == Answer::Reject {
                        cut_off.lock().unwrap().insert(candidate.from().clone());
                    }
                    candidate.answer(answer);
                });
                vec![watched]
            }
            Flaw::FirstOfItsHash | Flaw::BrokerOfFirstCopies
                if !self.hashes.insert(block.header_hash()) =>
            {
                Vec::new()
            }
            Flaw::BrokerOfFirstCopies => {
                candidate.answer(Answer::Accept);
                vec![copy()]
            }
            Flaw::AnnouncesConfig if block.is_config() => {
                vec![Candidate::new(block.without_data(), from).0]
            }
            Flaw::MixesChannels => {
                for queue in self.shared.queues.lock().unwrap().iter() {
                    let _ = queue.try_send(GossipEvent::Candidate(copy()));
                }
                vec![candidate]
            }
            _ => vec![candidate],
        }
    }
}
