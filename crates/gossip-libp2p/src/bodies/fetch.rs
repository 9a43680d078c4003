// SPDX-License-Identifier: Apache-2.0
//! Bringing the body of one announced block from whoever has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use block_api::{Block, DeliverStatus, FetchError};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
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
        assembly::{Assembly, False, check_chunk},
        hints::CHUNK,
        link::{Answers, Heard, talk},
        scheduler::{Action, Ended, Scheduler, WINDOW},
        shelf::{Begun, Bodies, Guard},
    },
    channels::Shared,
    config::Config,
    error::OpenError,
    frames::FrameError,
    handle::Opener,
    score::Offence,
    stats::Counters,
    streams::BODIES,
    wire::{Ask, Want, parse_piece},
};

/// How many answers may wait to be looked at; while it is full, nothing more is read.
const ANSWERS: usize = 4;

/// How many questions may wait to be written to one node.
const WANTS: usize = 8;

/// What fetching in a channel needs.
pub(crate) struct Fetcher<'a> {
    pub(crate) bodies: &'a Arc<Bodies>,
    pub(crate) shared: &'a Shared,
    pub(crate) opener: &'a Opener,
    pub(crate) config: &'a Config,
    pub(crate) counters: &'a Counters,
}

/// One body that is being fetched.
struct Fetch<'a> {
    fetcher: &'a Fetcher<'a>,
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
}

impl Fetcher<'_> {
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

impl<'a> Fetch<'a> {
    fn new(fetcher: &'a Fetcher<'a>, announcement: &'a Block, id: BodyId, guard: Guard) -> Self {
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
                Action::Begin { peer } => self.begin(&peer).await,
                Action::Abandon => self.abandon(),
                Action::Close { peer } => {
                    self.links.remove(&peer);
                }
                Action::Stalled { peer } => {
                    debug!(%peer, block.number = %self.id.number, "peer does not give what it promised");
                    self.fetcher.opener.blame(peer, Offence::Stalled);
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
        };
        self.links.insert(peer, link);
        let ask = Ask {
            id: self.id,
            max_size: self.max_size(),
            first: self.first,
            count: if eager { WINDOW as u32 } else { 0 },
        };
        let (opener, answers) = (self.fetcher.opener.clone(), self.answers.clone());
        let patience = self.fetcher.config.idle_timeout;
        let talked = async move {
            let answers = Answers {
                peer,
                serial,
                to: answers,
            };
            match opener.open(peer, BODIES).await {
                Ok(stream) => talk(stream, ask, wanted, patience, &answers).await,
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

    async fn begin(&mut self, peer: &PeerId) {
        let Some(hints) = self.links.get(peer).and_then(|link| link.hints.clone()) else {
            return;
        };
        let size = hints.size as usize;
        self.room = self.guard.room(size).await;
        self.scheduler.waited(Instant::now());
        let hashing = self.fetcher.bodies.hashing(&self.id.topic);
        let assembly = Assembly::new(self.announcement, hints.clone(), hashing);
        self.guard.making().assemble(assembly);
        self.following = Some(hints);
    }

    fn abandon(&mut self) {
        self.following = None;
        self.room = None;
        self.guard.making().ask(BTreeSet::new());
    }

    fn heard(&mut self, peer: PeerId, answer: Heard) {
        let now = Instant::now();
        match answer {
            Heard::Offer(offer) => {
                let hints = offer.hints;
                let maker = hints.manifest.as_ref().map(|manifest| manifest.maker);
                if let Err(error) = hints.check(&self.id) {
                    info!(%peer, %error, "hints of a peer refused");
                    return self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody));
                }
                if u64::from(hints.size) > self.max_size() {
                    self.too_large = Some(hints.size.into());
                    return self.ended(&peer, Ended::ForGood, None);
                }
                if maker.is_some_and(|maker| self.liars.contains(&maker)) {
                    return self.ended(&peer, Ended::Later, None);
                }
                let (id, has_manifest) = (hints.id(), hints.manifest.is_some());
                self.scheduler
                    .offered(&peer, id, has_manifest, offer.have, now);
                if let Some(link) = self.links.get_mut(&peer) {
                    link.hints = Some(hints);
                }
            }
            Heard::Have(chunks) => self.scheduler.has(&peer, &chunks),
            Heard::Piece(payload) => {
                if let Err(error) = self.piece(&peer, &payload) {
                    info!(%peer, block.number = %self.id.number, %error, "a false piece of a body");
                    self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody));
                }
            }
            Heard::NotYet => self.ended(&peer, Ended::Later, None),
            Heard::End(status) => {
                // All of it, says who did not give as much as it said before.
                let is_false =
                    status == DeliverStatus::Success && self.scheduler.source() == Some(peer);
                let why = match status {
                    DeliverStatus::Success if is_false => Ended::ForGood,
                    DeliverStatus::NotFound | DeliverStatus::Forbidden => Ended::ForGood,
                    DeliverStatus::TooLarge => {
                        self.too_large = self.too_large.or(Some(self.max_size() + 1));
                        Ended::ForGood
                    }
                    _ => Ended::Later,
                };
                self.ended(&peer, why, is_false.then_some(Offence::WrongBody));
            }
            Heard::Nonsense => self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody)),
            Heard::Broke(FrameError::Unsupported) => {
                self.heard(peer, not_opened(OpenError::Unsupported));
            }
            Heard::Broke(error) => {
                debug!(%peer, %error, "stream for a body broke off");
                self.ended(&peer, Ended::Later, None);
            }
        }
    }

    /// Takes a piece.
    ///
    /// # Errors
    ///
    /// When its sender is to blame.
    fn piece(&mut self, peer: &PeerId, payload: &[u8]) -> Result<(), False> {
        let (at, bytes) = parse_piece(payload).map_err(|_| False::Place)?;
        let (at, now) = (at as usize, Instant::now());
        let sent_by = self.links.get(peer).and_then(|link| link.hints.as_ref());
        let sent_by = sent_by.ok_or(False::Place)?;
        self.fetcher.bodies.hedges.came(bytes.len());
        self.fetcher.counters.body_bytes_came.add(bytes.len());
        let Some(following) = self.following.as_ref() else {
            // It was sent before anything was begun, by one who is not followed.
            return Ok(());
        };
        if following.manifest.is_none() {
            if sent_by != following {
                return Ok(());
            }
            let put = self.guard.making().with(|body| body.put_next(at, bytes));
            put.unwrap_or(Ok(()))?;
            self.scheduler.came(peer, 0, now);
            return Ok(());
        }
        let chunk = (at / CHUNK) as u32;
        if at % CHUNK != 0 {
            return Err(False::Place);
        }
        check_chunk(sent_by, chunk, bytes)?;
        if sent_by.id() != following.id() {
            return Ok(());
        }
        let put = self
            .guard
            .making()
            .with(|body| body.put_chunk(chunk, bytes));
        self.scheduler.came(peer, chunk, now);
        if let Some(Err(error)) = put {
            self.disprove(error);
        }
        Ok(())
    }

    /// The chunks are those of the manifest, and are not the body.
    fn disprove(&mut self, error: False) {
        let maker = self
            .following
            .as_ref()
            .and_then(|hints| hints.manifest.as_ref())
            .map(|manifest| manifest.maker);
        if let Some(maker) = maker {
            info!(%maker, block.number = %self.id.number, %error, "a false manifest");
            self.liars.insert(maker);
            self.fetcher.opener.blame(maker, Offence::WrongBody);
        }
        for action in self.scheduler.false_hints(Instant::now()) {
            if let Action::Close { peer } = action {
                self.links.remove(&peer);
            }
        }
        self.abandon();
    }

    fn ended(&mut self, peer: &PeerId, why: Ended, fault: Option<Offence>) {
        self.links.remove(peer);
        if let Some(fault) = fault {
            self.fetcher.opener.blame(*peer, fault);
        }
        let actions = self.scheduler.ended(peer, why, Instant::now());
        if actions.contains(&Action::Abandon) {
            self.abandon();
        }
    }

    /// The block, when all of it is there and true.
    fn finish_if_whole(&mut self) -> Option<Block> {
        if !self.guard.making().is_whole() {
            return None;
        }
        let hints = self.following.clone()?;
        match self.guard.finish(hints.clone(), self.room.take())? {
            Ok(block) => {
                self.fetcher.counters.bodies_fetched.increment();
                Some(block)
            }
            Err(error) if hints.manifest.is_some() => {
                self.disprove(error);
                None
            }
            Err(error) => {
                if let Some(peer) = self.scheduler.source() {
                    info!(%peer, block.number = %self.id.number, %error, "a false body");
                    self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody));
                }
                self.abandon();
                None
            }
        }
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
