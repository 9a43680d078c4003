// SPDX-License-Identifier: Apache-2.0
//! Whom to ask for what of one body, and when to ask somebody else. It does nothing by itself: it
//! is told what came and what time it is, and says what to do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::bodies::{
    Bits,
    hedges::Hedges,
    hints::{CHUNK, HintsId},
};

/// How many nodes give at a time.
pub(crate) const GIVERS: usize = 4;

/// How many chunks may be on their way from one node, so that none waits for the next request.
pub(crate) const WINDOW: usize = 3;

/// After how long without an answer one more node is asked for the hints.
const STAGGER: Duration = Duration::from_millis(250);

/// How long the hints may take: a node without them has to say so within a second.
const HINTS_WITHIN: Duration = Duration::from_secs(3);

/// After how long a chunk is asked of another node as well, if that may cost so much.
const HEDGE_AFTER: Duration = Duration::from_millis(500);

/// After how long without a byte one turns to another node, if there is any. It doubles each time.
const SLOW: Duration = Duration::from_secs(1);

/// After how long without a byte that was promised a node is given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// How long a node is left alone that has nothing yet; it doubles each time.
const SHORTEST_REST: Duration = Duration::from_millis(10);
/// What the rest never exceeds.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Open a stream; whoever is asked first sends at once, the others only say what they have.
    Open { peer: PeerId, eager: bool },
    /// Ask for chunks.
    Want { peer: PeerId, chunks: Vec<u32> },
    /// Ask for all of a body without manifest.
    WantAll { peer: PeerId },
    /// Begin the body by the hints of this node.
    Begin { peer: PeerId },
    /// Throw away what came.
    Abandon,
    /// Close the stream.
    Close { peer: PeerId },
    /// The node promised and did not deliver.
    Stalled { peer: PeerId },
}

/// Why a node gives nothing more on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It does not have it yet, or has no room for the request, or the stream broke.
    Later,
    /// It gave what is false, or does not speak the protocol.
    ForGood,
}

/// The state of one body.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// With which chunk this node begins.
    first: u32,
    hedges: Arc<Hedges>,
    began: Instant,
    nodes: BTreeMap<PeerId, Node>,
    body: Option<Body>,
    /// How long the source of a body without manifest may be silent.
    slow: Duration,
}

/// A node that may have the body.
#[derive(Debug)]
struct Node {
    /// The lower, the likelier it has it.
    rank: usize,
    state: State,
    rest: Duration,
}

#[derive(Debug)]
enum State {
    Resting {
        until: Instant,
    },
    Asked {
        since: Instant,
        eager: bool,
    },
    Ready(Ready),
    /// It is not asked again.
    Out,
}

/// A node whose hints are known.
#[derive(Debug)]
struct Ready {
    hints: HintsId,
    has_manifest: bool,
    have: Bits,
    eager: bool,
    /// What it was asked for, and when that was to be expected.
    in_flight: BTreeMap<u32, Instant>,
    /// When something came last, or it was first asked for something after a while.
    heard: Instant,
}

#[derive(Debug)]
struct Body {
    hints: HintsId,
    /// Who gives it, where it has no manifest.
    whole_from: Option<PeerId>,
    done: Bits,
    /// When something came last.
    progress: Instant,
}

impl Scheduler {
    /// A body of which nothing is known. Different nodes begin with different chunks, to have
    /// something for each other.
    pub(crate) fn new(first: u32, hedges: Arc<Hedges>, now: Instant) -> Self {
        Self {
            first,
            hedges,
            began: now,
            nodes: BTreeMap::new(),
            body: None,
            slow: SLOW,
        }
    }

    /// These nodes may have the body, the likeliest first; others are not there any more.
    pub(crate) fn nodes(&mut self, order: &[PeerId], now: Instant) {
        for (rank, peer) in order.iter().enumerate() {
            let node = self.nodes.entry(*peer).or_insert(Node {
                rank,
                state: State::Resting { until: now },
                rest: SHORTEST_REST,
            });
            node.rank = rank;
        }
        self.nodes.retain(|peer, _| order.contains(peer));
    }

    /// Whether nobody is left that might be asked.
    pub(crate) fn is_hopeless(&self) -> bool {
        let is_out = |node: &Node| matches!(node.state, State::Out);
        !self.nodes.is_empty() && self.nodes.values().all(is_out)
    }

    /// A node told its hints, and what it has.
    pub(crate) fn offered(
        &mut self,
        peer: &PeerId,
        hints: HintsId,
        has_manifest: bool,
        have: Bits,
        now: Instant,
    ) {
        let Some(node) = self.nodes.get_mut(peer) else {
            return;
        };
        let State::Asked { eager, .. } = node.state else {
            return;
        };
        // What was asked for with the question: so many chunks of those that are there.
        let sent = match eager && has_manifest {
            true => eager_chunks(self.first, &have).collect(),
            false => Vec::new(),
        };
        node.rest = SHORTEST_REST;
        node.state = State::Ready(Ready {
            hints,
            has_manifest,
            have,
            eager,
            in_flight: sent.into_iter().map(|chunk| (chunk, now)).collect(),
            heard: now,
        });
    }

    /// More chunks came to a node.
    pub(crate) fn has(&mut self, peer: &PeerId, chunks: &[u32]) {
        if let Some(State::Ready(ready)) = self.nodes.get_mut(peer).map(|node| &mut node.state) {
            for chunk in chunks {
                ready.have.insert(*chunk);
            }
        }
    }

    /// A true chunk came, or a piece of a body without manifest, from the node that gives it.
    pub(crate) fn came(&mut self, peer: &PeerId, chunk: u32, now: Instant) {
        if let Some(State::Ready(ready)) = self.nodes.get_mut(peer).map(|node| &mut node.state) {
            ready.heard = now;
            ready.in_flight.remove(&chunk);
        }
        if let Some(body) = &mut self.body {
            body.progress = now;
            if body.whole_from.is_none() {
                body.done.insert(chunk);
            }
        }
    }

    /// The stream of a node ended.
    pub(crate) fn ended(&mut self, peer: &PeerId, why: Ended, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_source(peer) {
            self.body = None;
            actions.push(Action::Abandon);
        }
        match why {
            Ended::Later => self.rest(peer, now),
            Ended::ForGood => {
                if let Some(node) = self.nodes.get_mut(peer) {
                    node.state = State::Out;
                }
            }
        }
        actions
    }

    /// These hints were false, so that all that came by them is void. The nodes that told them may
    /// not have known.
    pub(crate) fn false_hints(&mut self, now: Instant) -> Vec<Action> {
        let Some(body) = self.body.take() else {
            return Vec::new();
        };
        let told =
            |node: &Node| matches!(&node.state, State::Ready(ready) if ready.hints == body.hints);
        let tellers: Vec<PeerId> = self
            .nodes
            .iter()
            .filter_map(|(peer, node)| told(node).then_some(*peer))
            .collect();
        let mut actions = vec![Action::Abandon];
        for peer in tellers {
            self.rest(&peer, now);
            actions.push(Action::Close { peer });
        }
        actions
    }

    /// Nobody was heard for a while, for a reason of this node's own.
    pub(crate) fn waited(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            if let State::Ready(ready) = &mut node.state {
                ready.heard = now;
                ready.in_flight.values_mut().for_each(|since| *since = now);
            }
        }
        if let Some(body) = &mut self.body {
            body.progress = now;
        }
    }

    /// Who gives a body without manifest.
    pub(crate) fn source(&self) -> Option<PeerId> {
        self.body.as_ref().and_then(|body| body.whole_from)
    }

    /// What is to be done now.
    pub(crate) fn next(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.give_up(now, &mut actions);
        self.begin(now, &mut actions);
        self.open(now, &mut actions);
        self.assign(now, &mut actions);
        self.hedge(now, &mut actions);
        actions
    }

    /// When to look again, if nothing comes until then.
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        let rests = self.nodes.values().filter_map(|node| match &node.state {
            State::Resting { until } => Some(*until),
            State::Asked { since, .. } => Some(*since + HINTS_WITHIN),
            State::Ready(_) | State::Out => None,
        });
        // Beside what is due by itself, the clock of what is on its way is looked at this often.
        let soon = now + STAGGER / 2;
        let due = rests.filter(|at| *at > now).min();
        due.map_or(soon, |due| due.min(soon))
    }

    /// Nodes that do not answer, or do not give what they promised.
    fn give_up(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let spare = self.nodes.iter().any(|(peer, node)| {
            !self.is_source(peer)
                && match &node.state {
                    State::Resting { until } => *until <= now,
                    State::Ready(_) => true,
                    State::Asked { .. } | State::Out => false,
                }
        });
        let mut silent = Vec::new();
        for (peer, node) in &self.nodes {
            match &node.state {
                State::Asked { since, .. } if now >= *since + HINTS_WITHIN => {
                    silent.push((*peer, true, false));
                }
                State::Ready(ready) => {
                    let (source, quiet) = (self.is_source(peer), now - ready.heard);
                    let promised = source || !ready.in_flight.is_empty();
                    let slow = source && spare && quiet >= self.slow;
                    let late = !source && promised && quiet >= self.slow * 2 && spare;
                    if promised && quiet >= GIVE_UP.max(self.slow * 4) {
                        silent.push((*peer, true, true));
                    } else if slow || late || self.is_useless(ready, now) {
                        silent.push((*peer, false, slow || late));
                    }
                }
                State::Resting { .. } | State::Asked { .. } | State::Out => {}
            }
        }
        for (peer, stalled, was_slow) in silent {
            if was_slow {
                self.slow *= 2;
            }
            actions.extend(self.ended(&peer, Ended::Later, now));
            actions.push(Action::Close { peer });
            if stalled {
                actions.push(Action::Stalled { peer });
            }
        }
        // Nobody gives anything by these hints, and there are others.
        let is_stuck = self.body.as_ref().is_some_and(|body| {
            let other = |node: &Node| matches!(&node.state, State::Ready(ready) if ready.hints != body.hints);
            now - body.progress >= SLOW * 3 && self.nodes.values().any(other)
        });
        if is_stuck {
            actions.extend(self.false_hints(now));
        }
    }

    /// The first hints that are there are followed.
    fn begin(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.body.is_some() {
            return;
        }
        let ready = self
            .nodes
            .iter_mut()
            .filter_map(|(peer, node)| match &mut node.state {
                State::Ready(ready) => Some((node.rank, *peer, ready)),
                State::Resting { .. } | State::Asked { .. } | State::Out => None,
            });
        // Whoever sends already is not to do so in vain.
        let Some((_, peer, ready)) = ready.min_by_key(|(rank, _, ready)| (!ready.eager, *rank))
        else {
            return;
        };
        actions.push(Action::Begin { peer });
        ready.heard = now;
        self.body = Some(Body {
            hints: ready.hints,
            whole_from: (!ready.has_manifest).then_some(peer),
            done: Bits::none(ready.have.count()),
            progress: now,
        });
        if ready.has_manifest {
            return;
        }
        if !ready.eager {
            actions.push(Action::WantAll { peer });
        }
        // One node gives it all; of the others none is to begin.
        ready.eager = false;
        let others: Vec<PeerId> = self
            .nodes
            .iter()
            .filter(|(other, node)| {
                **other != peer && matches!(node.state, State::Asked { .. } | State::Ready(_))
            })
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.rest(&other, now);
            actions.push(Action::Close { peer: other });
        }
    }

    /// More nodes are asked: one by one while there are no hints, and then as many as may give.
    fn open(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_open = |node: &Node| matches!(node.state, State::Asked { .. } | State::Ready(_));
        let open = self.nodes.values().filter(|node| is_open(node)).count();
        let wanted = match &self.body {
            None => {
                let staggered = (now - self.began).as_millis() / STAGGER.as_millis();
                usize::try_from(staggered).map_or(GIVERS, |more| GIVERS.min(more + 1))
            }
            Some(Body {
                whole_from: Some(_),
                ..
            }) => return,
            Some(body) if self.unassigned(body).next().is_none() => return,
            // Those that follow other hints are kept, and do not count.
            Some(body) => {
                let others = |node: &&Node| matches!(&node.state, State::Ready(ready) if ready.hints != body.hints);
                GIVERS + self.nodes.values().filter(others).count().min(GIVERS)
            }
        };
        let mut eager = self.body.is_none()
            && !self
                .nodes
                .values()
                .any(|node| matches!(node.state, State::Asked { eager: true, .. }));
        let mut rested: Vec<(usize, PeerId)> = self
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node.state, State::Resting { until } if until <= now))
            .map(|(peer, node)| (node.rank, *peer))
            .collect();
        rested.sort_unstable();
        for (_, peer) in rested.into_iter().take(wanted.saturating_sub(open)) {
            actions.push(Action::Open { peer, eager });
            if let Some(node) = self.nodes.get_mut(&peer) {
                node.state = State::Asked { since: now, eager };
            }
            eager = false;
        }
    }

    /// Chunks that nobody was asked for, one by one to each node in turn.
    fn assign(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(body) = self.body.as_ref().filter(|body| body.whole_from.is_none()) else {
            return;
        };
        let mut free: Vec<u32> = self.unassigned(body).collect();
        let mut wants: BTreeMap<PeerId, Vec<u32>> = BTreeMap::new();
        let hints = body.hints;
        loop {
            let mut given = false;
            for (peer, node) in &mut self.nodes {
                let State::Ready(ready) = &mut node.state else {
                    continue;
                };
                if ready.hints != hints || ready.in_flight.len() >= WINDOW {
                    continue;
                }
                let Some(place) = free.iter().position(|chunk| ready.have.contains(*chunk)) else {
                    continue;
                };
                let chunk = free.remove(place);
                if ready.in_flight.is_empty() {
                    ready.heard = now;
                }
                ready.in_flight.insert(chunk, now);
                wants.entry(*peer).or_default().push(chunk);
                given = true;
            }
            if !given {
                break;
            }
        }
        let wants = wants.into_iter();
        actions.extend(wants.map(|(peer, chunks)| Action::Want { peer, chunks }));
    }

    /// What one node has not given for long is asked of another that has nothing to do.
    fn hedge(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(body) = self.body.as_ref().filter(|body| body.whole_from.is_none()) else {
            return;
        };
        let mut late: BTreeMap<u32, (Instant, usize)> = BTreeMap::new();
        for ready in self.ready(body) {
            for (chunk, since) in &ready.in_flight {
                let entry = late.entry(*chunk).or_insert((*since, 0));
                entry.1 += 1;
            }
        }
        late.retain(|chunk, (since, askers)| {
            *askers == 1 && now - *since >= HEDGE_AFTER && !body.done.contains(*chunk)
        });
        let hints = body.hints;
        for (chunk, _) in late {
            let idle = self
                .nodes
                .iter_mut()
                .find_map(|(peer, node)| match &mut node.state {
                    State::Ready(ready)
                        if ready.hints == hints
                            && ready.in_flight.is_empty()
                            && ready.have.contains(chunk) =>
                    {
                        Some((*peer, ready))
                    }
                    _ => None,
                });
            if let Some((peer, ready)) = idle
                && self.hedges.take(CHUNK)
            {
                ready.in_flight.insert(chunk, now);
                ready.heard = now;
                let chunks = vec![chunk];
                actions.push(Action::Want { peer, chunks });
            }
        }
    }

    /// The chunks that nobody was asked for, in the order in which this node wants them.
    fn unassigned(&self, body: &Body) -> impl Iterator<Item = u32> {
        let mut taken = body.done.clone();
        for ready in self.ready(body) {
            for chunk in ready.in_flight.keys() {
                taken.insert(*chunk);
            }
        }
        in_turn(self.first, taken.count()).filter(move |chunk| !taken.contains(*chunk))
    }

    /// The nodes that follow the hints of the body.
    fn ready<'a>(&'a self, body: &'a Body) -> impl Iterator<Item = &'a Ready> {
        self.nodes.values().filter_map(|node| match &node.state {
            State::Ready(ready) if ready.hints == body.hints => Some(ready),
            State::Ready(_) | State::Resting { .. } | State::Asked { .. } | State::Out => None,
        })
    }

    /// Whether a node has had nothing for a while that is wanted, and keeps others out.
    fn is_useless(&self, ready: &Ready, now: Instant) -> bool {
        self.body.as_ref().is_some_and(|body| {
            body.hints == ready.hints
                && body.whole_from.is_none()
                && ready.in_flight.is_empty()
                && now - ready.heard >= SLOW * 2
                && ready.have.beyond(&body.done).next().is_none()
        })
    }

    fn is_source(&self, peer: &PeerId) -> bool {
        self.source() == Some(*peer)
    }

    fn rest(&mut self, peer: &PeerId, now: Instant) {
        if let Some(node) = self.nodes.get_mut(peer) {
            let until = now + node.rest;
            node.state = State::Resting { until };
            node.rest = (node.rest * 2).min(LONGEST_REST);
        }
    }
}

/// The chunks of a body from one of them on, and then from the beginning.
pub(crate) fn in_turn(first: u32, count: u32) -> impl Iterator<Item = u32> {
    let first = first.checked_rem(count).unwrap_or_default();
    (first..count).chain(0..first)
}

/// What a node sends with its hints: both sides come to the same.
pub(crate) fn eager_chunks(first: u32, have: &Bits) -> impl Iterator<Item = u32> + '_ {
    in_turn(first, have.count())
        .filter(|chunk| have.contains(*chunk))
        .take(WINDOW)
}
