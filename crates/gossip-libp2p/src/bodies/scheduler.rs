// SPDX-License-Identifier: Apache-2.0
//! Whom to ask for what of one body, and when to ask somebody else. It does nothing by itself: it
//! is told what came and what time it is, and says what to do.

mod turns;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::bodies::{Bits, hedges::Hedges, hints::HintsId};

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

/// After how long without a byte one turns to another node, if there is any.
const SLOW: Duration = Duration::from_secs(1);

/// So many bytes of a body without manifest are something; fewer in that time are as none.
const ENOUGH: usize = 64 * 1024;

/// How long one that offers waits for those that come first.
const COMES_FIRST: Duration = Duration::from_millis(500);

/// After how long without a byte that was promised a node is given up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// How many false hints of one node are enough.
const MISLED: u32 = 2;

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
    /// It does not have it yet, or the stream broke.
    Later,
    /// It, or this node, has no room for the request.
    Busy,
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
}

/// A node that may have the body.
#[derive(Debug)]
struct Node {
    /// The lower, the likelier it has it.
    rank: usize,
    state: State,
    rest: Duration,
    /// How often it kept this node waiting; others come first then.
    slowness: u32,
    /// How often it told hints that proved false.
    misled: u32,
    /// When it was asked last.
    asked: Option<Instant>,
    /// Whether it ever told its hints.
    offered: bool,
    /// How long it may be silent while there are others. It doubles each time, so that a network of
    /// slow nodes comes to its end too.
    patience: Duration,
}

#[derive(Debug)]
enum State {
    Resting {
        until: Instant,
    },
    Asked {
        since: Instant,
        eager: bool,
        /// Whether it could hear the question: until then it is not the one who is slow.
        opened: bool,
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
    /// When enough came last, or it was first asked for something after a while.
    heard: Instant,
    /// What came since then of a body without manifest.
    lately: usize,
    /// When it told its hints.
    since: Instant,
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
        }
    }

    /// These nodes may have the body, the likeliest first; others are not there any more.
    pub(crate) fn nodes(&mut self, order: &[PeerId], now: Instant) {
        for (rank, peer) in order.iter().enumerate() {
            let node = self.nodes.entry(*peer).or_insert(Node {
                rank,
                state: State::Resting { until: now },
                rest: SHORTEST_REST,
                slowness: 0,
                misled: 0,
                asked: None,
                offered: false,
                patience: SLOW,
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

    /// The stream to a node is open: from here on it is waited for.
    pub(crate) fn opened(&mut self, peer: &PeerId, now: Instant) {
        if let Some(State::Asked { since, opened, .. }) =
            self.nodes.get_mut(peer).map(|node| &mut node.state)
        {
            *since = now;
            *opened = true;
        }
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
        node.offered = true;
        node.state = State::Ready(Ready {
            hints,
            has_manifest,
            have,
            eager,
            in_flight: sent.into_iter().map(|chunk| (chunk, now)).collect(),
            heard: now,
            lately: 0,
            since: now,
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
    pub(crate) fn came(&mut self, peer: &PeerId, chunk: u32, bytes: usize, now: Instant) {
        let has_chunks = self.source().is_none();
        let mut is_enough = true;
        if let Some(node) = self.nodes.get_mut(peer)
            && let State::Ready(ready) = &mut node.state
        {
            ready.in_flight.remove(&chunk);
            ready.lately += bytes;
            // A chunk is as long as it is; how short a piece is its sender chooses.
            is_enough = has_chunks || ready.lately >= ENOUGH;
            if is_enough {
                ready.heard = now;
                ready.lately = 0;
                node.slowness = 0;
            }
        }
        if let Some(body) = &mut self.body {
            if is_enough {
                body.progress = now;
            }
            if body.whole_from.is_none() {
                body.done.insert(chunk);
            }
        }
    }

    /// A chunk came that nothing was done with, as other hints are followed, or none: it is to be
    /// asked for again when it is wanted. `false` when it is not known what else is to be dropped.
    pub(crate) fn dropped(&mut self, peer: &PeerId, chunk: u32, now: Instant) -> bool {
        let node = self.nodes.get_mut(peer);
        let Some(State::Ready(ready)) = node.map(|node| &mut node.state) else {
            return false;
        };
        ready.heard = now;
        ready.eager = false;
        ready.has_manifest && ready.in_flight.remove(&chunk).is_some()
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
            Ended::Busy => {
                // To ask again at once would make it busier.
                if let Some(node) = self.nodes.get_mut(peer) {
                    node.rest = LONGEST_REST;
                }
                self.rest(peer, now);
            }
            Ended::ForGood => {
                if let Some(node) = self.nodes.get_mut(peer) {
                    node.state = State::Out;
                }
            }
        }
        actions
    }

    /// What came by these hints is not the body. The nodes that told them may not have known, once.
    pub(crate) fn disproved(&mut self, now: Instant) -> Vec<Action> {
        let actions = self.unfollow(now);
        for action in &actions {
            if let Action::Close { peer } = action
                && let Some(node) = self.nodes.get_mut(peer)
            {
                node.misled += 1;
                if node.misled >= MISLED {
                    node.state = State::Out;
                }
            }
        }
        actions
    }

    /// Whether a node is not asked again.
    pub(crate) fn is_out(&self, peer: &PeerId) -> bool {
        let node = self.nodes.get(peer);
        node.is_some_and(|node| matches!(node.state, State::Out))
    }

    /// All that came by the hints of the body is void, and others come before those that told them.
    fn unfollow(&mut self, now: Instant) -> Vec<Action> {
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
            if let Some(node) = self.nodes.get_mut(&peer) {
                node.slowness += 1;
            }
            actions.push(Action::Close { peer });
        }
        actions
    }

    /// Nobody was heard for a while, for a reason of this node's own: all are asked anew, and nothing
    /// of it is held against them.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.began = now;
        self.body = None;
        for node in self.nodes.values_mut() {
            if !matches!(node.state, State::Out) {
                node.state = State::Resting { until: now };
            }
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

#[cfg(test)]
mod tests;
