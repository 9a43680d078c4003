// SPDX-License-Identifier: Apache-2.0
//! Ranges as a producer: closes holes, and brings a node that is behind to the tip, from several peers
//! at one time, and from the ordering service where no peer has what is due.

mod orderers;
mod plan;
mod range;

use std::{
    cmp::max,
    collections::BTreeMap,
    ops::RangeInclusive,
    panic::resume_unwind,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use block_api::{
    BlockNumber, BlockSource, DeliverStatus, Endpoint, Fault, GossipChannel, Kinship, NodeId,
    OwnOrganisation,
};
use tokio::{
    task::{AbortHandle, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{Instrument, debug, info};

use self::{
    orderers::{Orderers, proof},
    plan::{Flight, Known, Plan, View, after},
    range::{Progress, Range, RangeError},
};
use crate::{
    buffer::Giver,
    intake::{Intake, JudgeError},
    peers::Peers,
};

/// So many ranges for each peer that is asked at one time, holes are looked for above what is due.
const AHEAD: u64 = 4;
/// A block that came on the topic and found no room is awaited for this part of the patience: it may
/// come from an orderer still, or from the body of its announcement.
const MISSED: u32 = 8;
/// How long to sleep where only news can change anything.
const LONG: Duration = Duration::from_secs(3600);
/// The shortest sleep, so that a moment that has just passed makes no busy loop.
const SHORT: Duration = Duration::from_millis(1);

/// Where ranges come from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) gossip: Arc<dyn GossipChannel>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) orderers: Arc<dyn BlockSource>,
    /// Who is of the own organisation.
    pub(crate) organisation: Arc<dyn OwnOrganisation>,
    /// Another number on every node.
    pub(crate) seed: u64,
}

/// What runs, and what it was for.
#[derive(Debug)]
struct CatchUp<'a> {
    intake: &'a Arc<Intake>,
    sources: &'a Sources,
    plan: Plan,
    orderers: Orderers,
    tasks: JoinSet<(u64, Result<(), RangeError>)>,
    running: BTreeMap<u64, (AbortHandle, Arc<Progress>)>,
    next_id: u64,
    due: BlockNumber,
    /// Since when this has been due, or since when somebody is ahead if that is later.
    still_since: Instant,
    /// Whether ranges are fetched until everything is there that somebody has.
    fetching: bool,
}

/// Fetches ranges whenever somebody is ahead and nothing else brings the chain forward.
pub(crate) async fn run(intake: &Arc<Intake>, sources: &Sources) {
    let mut catch_up = CatchUp::new(intake, sources);
    let mut applied = intake.applied.subscribe();
    loop {
        let wake = catch_up.step(Instant::now());
        tokio::select! {
            biased;
            () = intake.cancel.cancelled() => break,
            () = intake.ended.cancelled() => break,
            Some(done) = catch_up.tasks.join_next(), if !catch_up.tasks.is_empty() => {
                catch_up.ended(done);
            }
            () = intake.blamed.told() => catch_up.blame(),
            () = intake.dropped.notified() => {}
            () = sources.peers.changed() => {}
            _ = applied.changed() => {}
            () = sleep_until(max(wake, Instant::now() + SHORT)) => {}
        }
    }
    catch_up.tasks.shutdown().await;
}

impl<'a> CatchUp<'a> {
    fn new(intake: &'a Arc<Intake>, sources: &'a Sources) -> Self {
        Self {
            due: intake.buffer.next(),
            intake,
            plan: Plan::new(sources.seed),
            orderers: Orderers::new(sources.seed),
            sources,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            next_id: 0,
            still_since: Instant::now(),
            fetching: false,
        }
    }

    /// Asks for what may be asked for, and says when to look again if nothing happens before.
    fn step(&mut self, now: Instant) -> Instant {
        let due = self.intake.buffer.next();
        if due != self.due {
            (self.due, self.still_since) = (due, now);
        }
        self.overtaken(now);
        let peers = self.known();
        self.plan.settle(due, now, &peers);
        let proven = proof(due, &self.intake.shown.borrow(), &peers);
        let claimed = peers.values().filter_map(|known| known.height.tip()).max();
        let upto = max(claimed, proven.map(|(number, _)| number));
        let Some(upto) = upto.filter(|upto| *upto >= due) else {
            (self.still_since, self.fetching) = (now, false);
            return now + LONG;
        };
        let config = self.intake.config.clone();
        let ahead = AHEAD * (config.catch_up_peers.get() * config.range_blocks.get()) as u64;
        let holes = self.intake.buffer.holes(upto.min(after(due, ahead)));
        if holes.is_empty() {
            self.fetching &= !self.plan.flights.is_empty();
            return now + LONG;
        }
        // The topic or the orderer's stream may bring the block any moment, if it was not missed.
        let patience = match self.intake.missed.has(due) {
            true => config.catch_up_patience / MISSED,
            false => config.catch_up_patience,
        };
        let patient = self.still_since + patience;
        if !self.fetching && now < patient {
            return patient;
        }
        self.fetching = true;
        loop {
            let view = self.view(now, &holes, &peers);
            let Some(order) = self.plan.next(&view, &config) else {
                break;
            };
            match self.sources.gossip.source(&order.peer) {
                Some(source) => {
                    if let Some(id) = order.instead_of {
                        self.give_up(id, now);
                    }
                    let endpoint = Endpoint::of_node(&order.peer);
                    let giver = Giver::Peer(order.peer);
                    self.start(giver, (source, endpoint), order.first..=order.last);
                }
                None => self.plan.failed(&order.peer, now + config.peer_rest),
            }
        }
        let view = self.view(now, &holes, &peers);
        let wake = self.plan.wake(&view, &config);
        let asked = proven.and_then(|proven| self.ask_orderers(now, proven, &holes, &peers));
        wake.into_iter().chain(asked).min().unwrap_or(now + LONG)
    }

    /// Asks the ordering service for what is due, if no peer gives it and it exists. Otherwise says
    /// when that may be.
    fn ask_orderers(
        &mut self,
        now: Instant,
        (upto, proof): (BlockNumber, orderers::Proof),
        holes: &[RangeInclusive<BlockNumber>],
        peers: &BTreeMap<NodeId, Known>,
    ) -> Option<Instant> {
        let config = &self.intake.config;
        let hole = holes.first().filter(|hole| *hole.start() == self.due)?;
        let asked = self
            .plan
            .flights
            .values()
            .any(|flight| flight.giver == Giver::Orderers);
        if asked || self.intake.pulls.load(Ordering::Relaxed) {
            return None;
        }
        if self.orderers.gives && self.plan.anyone_has(self.due, peers) {
            self.orderers.gives = false;
        }
        let at = self.orderers.may_ask_at(self.still_since, proof, config);
        if now < at {
            return Some(at);
        }
        let endpoint = self.orderers.endpoint(self.sources.orderers.endpoints())?;
        let most = after(self.due, config.range_blocks.get() as u64 - 1);
        let range = self.due..=upto.min(*hole.end()).min(most);
        info!(channel = %self.intake.channel, %endpoint, first = %self.due, "no peer gives what is due; asking the ordering service");
        self.start(
            Giver::Orderers,
            (self.sources.orderers.clone(), endpoint),
            range,
        );
        None
    }

    fn start(
        &mut self,
        giver: Giver,
        (source, endpoint): (Arc<dyn BlockSource>, Endpoint),
        range: RangeInclusive<BlockNumber>,
    ) {
        let (first, last) = range.into_inner();
        debug!(channel = %self.intake.channel, ?giver, %first, %last, "fetching a range");
        let (id, progress) = (self.next_id, Arc::<Progress>::default());
        self.next_id += 1;
        let range = Range {
            giver: giver.clone(),
            source,
            endpoint,
            first,
            last,
            progress: progress.clone(),
        };
        let intake = self.intake.clone();
        let task = async move { (id, range.fetch(&intake).await) };
        let abort = self.tasks.spawn(task.in_current_span());
        self.running.insert(id, (abort, progress));
        let flight = Flight {
            giver,
            first,
            last,
            since: Instant::now(),
        };
        self.plan.flights.insert(id, flight);
    }

    fn ended(&mut self, done: Result<(u64, Result<(), RangeError>), JoinError>) {
        let (id, result) = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        let (Some(flight), Some((_, progress))) =
            (self.plan.flights.remove(&id), self.running.remove(&id))
        else {
            return;
        };
        let now = Instant::now();
        let (blocks, bytes) = progress.get();
        let result = match result {
            // It has pruned or has not yet what it was thought to have, and gave the rest.
            Err(RangeError::Status(DeliverStatus::NotFound)) if blocks > 0 => Ok(()),
            result => result,
        };
        if flight.giver == Giver::Orderers {
            let brought = blocks > 0 && result.is_ok();
            self.orderers.ended(brought, now);
            if !brought && self.orderers.is_a_look(now, &self.intake.config) {
                self.intake.asked_in_vain.send_replace(Some(now));
            }
        }
        let until = now + self.intake.config.peer_rest;
        match (result, flight.giver.node()) {
            (Ok(()), _) => {
                let took = now - flight.since;
                self.plan
                    .gave(&flight.giver, flight.last, blocks, bytes, took);
            }
            (Err(RangeError::Judge(JudgeError::Closed)), _) => {}
            (Err(error), peer) => {
                info!(channel = %self.intake.channel, giver = ?flight.giver, %error, "a range failed");
                if let (Some(fault), Some(peer)) = (error.fault(), peer) {
                    self.sources.gossip.blame(peer, fault);
                }
                match (error, peer) {
                    (RangeError::Parked(_), Some(peer)) => self.plan.rests(peer, until),
                    (_, Some(peer)) => self.plan.failed(peer, until),
                    (_, None) => {}
                }
            }
        }
    }

    /// Ends ranges that others were quicker to bring. Who brought nothing of one has failed.
    fn overtaken(&mut self, now: Instant) {
        let due = self.due;
        let overtaken = self
            .plan
            .flights
            .extract_if(.., |_, flight| flight.last < due);
        for (id, flight) in overtaken.collect::<Vec<_>>() {
            self.end(id, &flight, now);
        }
    }

    /// Ends a range that keeps another peer from being asked for what is due.
    fn give_up(&mut self, id: u64, now: Instant) {
        let Some(flight) = self.plan.flights.remove(&id) else {
            return;
        };
        info!(channel = %self.intake.channel, giver = ?flight.giver, first = %flight.first, "a range brings nothing more; another node is asked");
        let brought = self.end(id, &flight, now);
        if let (Some(peer), true) = (flight.giver.node(), brought) {
            self.plan.failed(peer, now + self.intake.config.peer_rest);
        }
    }

    /// Ends a range that is not waited for any more, and says whether it brought anything.
    fn end(&mut self, id: u64, flight: &Flight, now: Instant) -> bool {
        let Some((abort, progress)) = self.running.remove(&id) else {
            return false;
        };
        abort.abort();
        let brought = progress.get().0 > 0;
        if flight.giver == Giver::Orderers {
            self.orderers.ended(brought, now);
        }
        if let (Some(peer), false) = (flight.giver.node(), brought) {
            let waited = now.saturating_duration_since(flight.since);
            if waited >= self.intake.config.range_patience {
                self.sources.gossip.blame(peer, Fault::Stalled);
                self.plan.failed(peer, now + self.intake.config.peer_rest);
            }
        }
        brought
    }

    /// Leaves those alone of whose ranges a block was not of this chain.
    fn blame(&mut self) {
        let until = Instant::now() + self.intake.config.peer_rest;
        for peer in self.intake.blamed.take() {
            info!(channel = %self.intake.channel, %peer, "a range had a block that is not of this chain");
            self.plan.failed(&peer, until);
            let giver = Giver::Peer(peer);
            let theirs = self
                .plan
                .flights
                .extract_if(.., |_, flight| flight.giver == giver);
            for (id, _) in theirs.collect::<Vec<_>>() {
                if let Some((abort, _)) = self.running.remove(&id) {
                    abort.abort();
                }
            }
        }
    }

    fn view<'b>(
        &self,
        now: Instant,
        holes: &'b [RangeInclusive<BlockNumber>],
        peers: &'b BTreeMap<NodeId, Known>,
    ) -> View<'b> {
        View {
            now,
            due: self.due,
            still_since: self.still_since,
            holes,
            peers,
            room: self.intake.buffer.room_for_ranges(),
        }
    }

    fn known(&self) -> BTreeMap<NodeId, Known> {
        let is_own =
            |identity: &[u8]| self.sources.organisation.kinship(identity) != Kinship::Stranger;
        let claims = self.sources.peers.claims().into_iter();
        claims
            .map(|(node, claim)| {
                let known = Known {
                    first: claim.first,
                    height: claim.height,
                    own: claim.identity.is_some_and(|identity| is_own(&identity)),
                    unjudged: claim.unjudged,
                };
                (node, known)
            })
            .collect()
    }
}
