// SPDX-License-Identifier: Apache-2.0
//! Bringing the body of one announced block from whoever has it.

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use block_api::{Block, DeliverStatus, FetchError};
use futures::{
    AsyncRead, AsyncWrite, FutureExt as _, StreamExt as _, future::BoxFuture,
    stream::FuturesUnordered,
};
use libp2p::PeerId;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use crate::{
    bodies::{
        BodyId, Hints,
        assembly::Assembly,
        link::{Answers, Heard, talk},
        scheduler::{Action, Ended, Scheduler, WINDOW},
        shelf::{Begun, Bodies, Guard},
    },
    channels::Shared,
    config::Config,
    error::OpenError,
    score::Offence,
    stats::Counters,
    streams::BODIES,
    wire::{Ask, Want},
};

/// How many answers may wait to be looked at; while it is full, nothing more is read.
const ANSWERS: usize = 4;

/// How many questions may wait to be written to one node.
const WANTS: usize = 8;

/// How others are reached, and what is held against them.
pub(crate) trait Network: Clone + Send + Sync + 'static {
    /// A stream for bodies.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens a stream to a peer.
    fn open(&self, peer: PeerId) -> impl Future<Output = Result<Self::Stream, OpenError>> + Send;

    /// Holds something against a peer.
    fn blame(&self, peer: PeerId, offence: Offence);
}

/// What fetching in a channel needs.
pub(crate) struct Fetcher<'a, N> {
    pub(crate) bodies: &'a Arc<Bodies>,
    pub(crate) shared: &'a Shared,
    pub(crate) network: N,
    pub(crate) config: &'a Config,
    pub(crate) counters: &'a Counters,
}

/// One body that is being fetched.
struct Fetch<'a, N> {
    fetcher: &'a Fetcher<'a, N>,
    announcement: &'a Block,
    id: BodyId,
    guard: Guard,
    scheduler: Scheduler,
    first: u32,
    links: BTreeMap<PeerId, Link>,
    /// Tells a link from an earlier one to the same node.
    serial: u64,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    answers: mpsc::Sender<(PeerId, u64, Heard)>,
    room: Option<OwnedSemaphorePermit>,
    /// Room for so many bytes, for which nothing was begun yet.
    reserved: Option<(usize, OwnedSemaphorePermit)>,
    /// What is being followed, and all that came until now is to fit to.
    following: Option<Hints>,
    /// Makers of manifests that proved false.
    liars: BTreeSet<PeerId>,
    too_large: Option<u64>,
}

/// The stream to one node.
struct Link {
    serial: u64,
    wants: mpsc::Sender<Want>,
    hints: Option<Hints>,
    /// It said with its hints that it has all of it, and so knows whether they are true.
    has_all: bool,
}

impl<N: Network> Fetcher<'_, N> {
    /// Brings the block of an announcement.
    pub(crate) async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        let id = BodyId {
            topic: self.shared.topic,
            number: announcement.number(),
            hash: announcement.header_hash(),
        };
        let fetched = async {
            let mut changes = self.bodies.changes();
            loop {
                changes.borrow_and_update();
                match self.bodies.begin(id) {
                    Begun::Held(held) => match held.block_of(announcement) {
                        Some(block) => return Ok(block),
                        None => return Err(self.failed(announcement, "it does not parse")),
                    },
                    Begun::Mine(guard) => {
                        return Fetch::new(self, announcement, id, guard).run().await;
                    }
                    Begun::Others => {
                        // The sender lives as long as the bodies do.
                        let _ = changes.changed().await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.shared.left.cancelled() => Err(FetchError::Closed),
            fetched = fetched => fetched,
        }
    }

    fn failed(&self, announcement: &Block, reason: &'static str) -> FetchError {
        FetchError::Backend {
            number: announcement.number(),
            source: reason.into(),
        }
    }
}

impl<'a, N: Network> Fetch<'a, N> {
    fn new(fetcher: &'a Fetcher<'a, N>, announcement: &'a Block, id: BodyId, guard: Guard) -> Self {
        let own = fetcher.config.identity.peer_id();
        let first = first_chunk(&own, &id);
        let hedges = fetcher.bodies.hedges.clone();
        // Replaced by the one that is read when it runs.
        let (answers, _) = mpsc::channel(1);
        Self {
            fetcher,
            announcement,
            id,
            guard,
            scheduler: Scheduler::new(first, hedges, Instant::now()),
            first,
            links: BTreeMap::new(),
            serial: 0,
            running: FuturesUnordered::new(),
            answers,
            room: None,
            reserved: None,
            following: None,
            liars: BTreeSet::new(),
            too_large: None,
        }
    }

    async fn run(mut self) -> Result<Block, FetchError> {
        let (answers, mut heard) = mpsc::channel(ANSWERS);
        self.answers = answers;
        let holders = self.fetcher.shared.holders.clone();
        let mut members = self.fetcher.shared.members.clone();
        loop {
            let changed = holders.changed();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let order = holders.of(self.announcement, &members.borrow_and_update());
            let now = Instant::now();
            let left: Vec<PeerId> = self
                .links
                .keys()
                .filter(|peer| !order.contains(peer))
                .copied()
                .collect();
            for peer in left {
                self.ended(&peer, Ended::Later, None);
            }
            self.scheduler.nodes(&order, now);
            let actions = self.scheduler.next(now);
            self.act(actions).await;
            if let Some(done) = self.finish_if_whole() {
                return Ok(done);
            }
            if let Some(size) = self.too_large
                && self.scheduler.is_hopeless()
            {
                return Err(FetchError::TooLarge {
                    number: self.id.number,
                    size,
                    limit: self.max_size(),
                });
            }
            let wake = self.scheduler.wake_at(now);
            tokio::select! {
                Some((peer, serial, answer)) = heard.recv() => {
                    if self.links.get(&peer).is_some_and(|link| link.serial == serial) {
                        self.heard(peer, answer);
                    }
                }
                Some(()) = self.running.next(), if !self.running.is_empty() => {}
                () = &mut changed => {}
                Ok(()) = members.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open { peer, eager } => self.open(peer, eager),
                Action::Want { peer, chunks } => {
                    let all = false;
                    self.want(&peer, Want { chunks, all });
                }
                Action::WantAll { peer } => {
                    let chunks = Vec::new();
                    self.want(&peer, Want { chunks, all: true });
                }
                Action::Begin { peer } => {
                    if !self.begin(&peer).await {
                        // What else was to be done was for the streams that are closed by now.
                        return;
                    }
                }
                Action::Abandon => self.abandon(),
                Action::Close { peer } => {
                    self.links.remove(&peer);
                }
                Action::Stalled { peer } => {
                    debug!(%peer, block.number = %self.id.number, "peer does not give what it promised");
                    self.fetcher.network.blame(peer, Offence::Stalled);
                }
            }
        }
        if self.following.is_none() {
            let silent = self.links.iter().filter(|(_, link)| link.hints.is_none());
            let asked = silent.map(|(peer, _)| *peer).collect();
            self.guard.making().ask(asked);
        }
    }

    fn open(&mut self, peer: PeerId, eager: bool) {
        self.serial += 1;
        let serial = self.serial;
        let (wants, wanted) = mpsc::channel(WANTS);
        let hints = None;
        let link = Link {
            serial,
            wants,
            hints,
            has_all: false,
        };
        self.links.insert(peer, link);
        let ask = Ask {
            id: self.id,
            max_size: self.max_size(),
            first: self.first,
            count: if eager { WINDOW as u32 } else { 0 },
        };
        let (network, answers) = (self.fetcher.network.clone(), self.answers.clone());
        let (patience, making) = (
            self.fetcher.config.idle_timeout,
            self.guard.making().clone(),
        );
        let permit = self.fetcher.bodies.link(peer);
        let talked = async move {
            let answers = Answers {
                peer,
                serial,
                to: answers,
            };
            // It is held until nothing more is said on the stream.
            let Some(_permit) = permit else {
                return answers.tell(Heard::End(DeliverStatus::Unavailable)).await;
            };
            match network.open(peer).await {
                Ok(stream) => {
                    answers.tell(Heard::Opened).await;
                    talk(stream, ask, wanted, &making, patience, &answers).await;
                }
                Err(error) => answers.tell(not_opened(error)).await,
            }
        };
        self.running.push(talked.boxed());
    }

    fn want(&mut self, peer: &PeerId, want: Want) {
        if let Some(link) = self.links.get(peer)
            && link.wants.try_send(want).is_err()
        {
            // It is about to be noticed that nothing moves there.
            debug!(%peer, "questions to peer do not get through");
        }
    }

    /// Begins by the hints of a node; `false` when it had to wait for room, after which all are to be
    /// asked anew.
    async fn begin(&mut self, peer: &PeerId) -> bool {
        let link = self.links.get(peer);
        let Some((giver, hints)) = link.and_then(|link| Some((link.serial, link.hints.clone()?)))
        else {
            return true;
        };
        let size = hints.size as usize;
        let reserved = self.reserved.take().filter(|(bytes, _)| *bytes >= size);
        let reserved = reserved.map(|(_, room)| room);
        let Some(room) = reserved.or_else(|| self.guard.try_room(size)) else {
            // Nobody is to send meanwhile what is not taken, nor to answer for this node's wait.
            self.links.clear();
            self.running.clear();
            self.abandon();
            let room = self.guard.room(size).await;
            self.reserved = room.map(|room| (size, room));
            self.scheduler.start_over(Instant::now());
            return false;
        };
        self.room = Some(room);
        let hashing = self.fetcher.bodies.hashing(&self.id.topic);
        let assembly = Assembly::new(self.announcement, hints.clone(), giver, hashing);
        self.guard.making().assemble(assembly);
        self.following = Some(hints);
        true
    }

    fn abandon(&mut self) {
        self.following = None;
        self.room = None;
        self.guard.making().ask(BTreeSet::new());
    }

    fn max_size(&self) -> u64 {
        self.fetcher.config.max_block.get() as u64
    }
}

/// With which chunk a node begins: another one for each node and block.
fn first_chunk(own: &PeerId, id: &BodyId) -> u32 {
    let hash = Sha256::new()
        .chain_update(own.to_bytes())
        .chain_update(id.hash)
        .finalize();
    hash.first_chunk()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn not_opened(error: OpenError) -> Heard {
    match error {
        // It may be of an older release.
        OpenError::Unsupported => {
            info!(protocol = %BODIES, "peer does not speak the protocol for bodies");
            Heard::End(DeliverStatus::NotFound)
        }
        OpenError::NotConnected
        | OpenError::Busy
        | OpenError::TimedOut
        | OpenError::Closed
        | OpenError::Io(_) => Heard::NotYet,
    }
}
