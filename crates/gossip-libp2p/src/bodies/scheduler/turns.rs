// SPDX-License-Identifier: Apache-2.0
//! The decisions that are taken at each turn.

use std::collections::{BTreeMap, VecDeque};

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    Action, Body, COMES_FIRST, Ended, GIVE_UP, GIVERS, HEDGE_AFTER, HINTS_WITHIN, Node, Ready,
    SLOW, STAGGER, Scheduler, State, WINDOW, in_turn,
};
use crate::bodies::{Bits, hints::CHUNK};

impl Scheduler {
    /// Nodes that do not answer, or do not give what they promised.
    pub(super) fn give_up(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let could = |node: &Node| match &node.state {
            State::Resting { until } => *until <= now,
            State::Ready(_) => true,
            State::Asked { .. } | State::Out => false,
        };
        let able: Vec<PeerId> = self
            .nodes
            .iter()
            .filter_map(|(peer, node)| could(node).then_some(*peer))
            .collect();
        let mut silent = Vec::new();
        for (peer, node) in &self.nodes {
            match &node.state {
                State::Asked { since, opened, .. } if now >= *since + HINTS_WITHIN => {
                    silent.push((*peer, *opened, false));
                }
                State::Ready(ready) => {
                    let spare = able.iter().any(|other| other != peer);
                    let (source, quiet) = (self.is_source(peer), now - ready.heard);
                    let promised = source || !ready.in_flight.is_empty();
                    let slow = source && spare && quiet >= node.patience;
                    let late = !source && promised && quiet >= node.patience * 2 && spare;
                    if promised && quiet >= GIVE_UP.max(node.patience * 2) {
                        silent.push((*peer, true, true));
                    } else if slow || late || self.is_useless(ready, now) {
                        silent.push((*peer, false, slow || late));
                    }
                }
                State::Resting { .. } | State::Asked { .. } | State::Out => {}
            }
        }
        for (peer, stalled, was_slow) in silent {
            if let Some(node) = self.nodes.get_mut(&peer) {
                node.slowness += 1;
                if was_slow {
                    node.patience *= 2;
                }
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
            // Nothing of it came, and nobody is left that would give it: its room is for others.
            let is_left = body.done.is_empty() && self.ready(body).next().is_none();
            now - body.progress >= SLOW * 3
                && (is_left || self.nodes.values().any(other))
        });
        if is_stuck {
            actions.extend(self.unfollow(now));
        }
    }

    /// The first hints that are there are followed.
    pub(super) fn begin(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.body.is_some() {
            return;
        }
        // One who kept this node waiting waits for those who have not been asked as often.
        let others = self.nodes.values().filter(|node| match &node.state {
            State::Asked { .. } => true,
            State::Resting { until } => *until <= now,
            State::Ready(_) | State::Out => false,
        });
        let quicker = others.map(|node| node.slowness).min();
        let ready = self
            .nodes
            .iter_mut()
            .filter_map(|(peer, node)| match &mut node.state {
                State::Ready(ready) => Some((node.slowness, node.rank, *peer, ready)),
                State::Resting { .. } | State::Asked { .. } | State::Out => None,
            })
            // They may have nothing, however often they are asked.
            .filter(|(slowness, _, _, ready)| {
                quicker.is_none_or(|least| *slowness <= least) || now - ready.since >= COMES_FIRST
            });
        // Whoever sends already is not to do so in vain.
        let first = ready.min_by_key(|(slowness, rank, _, ready)| (*slowness, !ready.eager, *rank));
        let Some((.., peer, ready)) = first else {
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
    pub(super) fn open(&mut self, now: Instant, actions: &mut Vec<Action>) {
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
            Some(body) if !self.needs_more(body, now) => return,
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
        // Those that were not asked for the longest time come first, so that each has its turn.
        let mut rested: Vec<(u32, Option<Instant>, usize, PeerId)> = self
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node.state, State::Resting { until } if until <= now))
            .map(|(peer, node)| (node.slowness, node.asked, node.rank, *peer))
            .collect();
        rested.sort_unstable();
        let mut rested: VecDeque<PeerId> = rested.into_iter().map(|(.., peer)| peer).collect();
        let mut places = wanted.saturating_sub(open);
        // There is a place for one that had it before, however many have nothing yet.
        let had_it = |node: &Node| node.offered && node.misled == 0;
        if !self
            .nodes
            .values()
            .any(|node| had_it(node) && is_open(node))
            && let Some(place) = rested
                .iter()
                .position(|peer| self.nodes.get(peer).is_some_and(had_it))
            && let Some(peer) = rested.remove(place)
        {
            rested.push_front(peer);
            places = places.max(1);
        }
        for peer in rested.into_iter().take(places) {
            let Some(node) = self.nodes.get_mut(&peer) else {
                continue;
            };
            // What one sends whom others come before would come in vain.
            let sends = eager && node.slowness == 0;
            actions.push(Action::Open { peer, eager: sends });
            node.state = State::Asked {
                since: now,
                eager: sends,
                opened: false,
            };
            node.asked = Some(now);
            eager &= !sends;
        }
    }

    /// Whether there is something to ask of one more node.
    fn needs_more(&self, body: &Body, now: Instant) -> bool {
        let is_late = |since: &Instant| now - *since >= HEDGE_AFTER;
        let mut ready = self.ready(body);
        self.unassigned(body).next().is_some()
            || ready.any(|ready| ready.in_flight.values().any(is_late))
    }

    /// Chunks that nobody was asked for, one by one to each node in turn.
    pub(super) fn assign(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(body) = self.body.as_ref().filter(|body| body.whole_from.is_none()) else {
            return;
        };
        let mut free: Vec<u32> = self.unassigned(body).collect();
        let mut wants: BTreeMap<PeerId, Vec<u32>> = BTreeMap::new();
        let hints = body.hints;
        // Those that keep this node waiting are the last, and prove themselves with one chunk.
        let mut turns: Vec<(u32, usize, &PeerId, &mut Ready)> = Vec::new();
        for (peer, node) in &mut self.nodes {
            match &mut node.state {
                State::Ready(ready) if ready.hints == hints => {
                    turns.push((node.slowness, node.rank, peer, ready));
                }
                State::Ready(_) | State::Resting { .. } | State::Asked { .. } | State::Out => {}
            }
        }
        turns.sort_unstable_by_key(|(slowness, rank, ..)| (*slowness, *rank));
        loop {
            let mut given = false;
            for (slowness, _, peer, ready) in &mut turns {
                let window = if *slowness == 0 { WINDOW } else { 1 };
                if ready.in_flight.len() >= window {
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
                wants.entry(**peer).or_default().push(chunk);
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
    pub(super) fn hedge(&mut self, now: Instant, actions: &mut Vec<Action>) {
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
                .filter_map(|(peer, node)| match &mut node.state {
                    State::Ready(ready)
                        if ready.hints == hints
                            && ready.in_flight.is_empty()
                            && ready.have.contains(chunk) =>
                    {
                        Some((node.slowness, *peer, ready))
                    }
                    State::Ready(_) | State::Resting { .. } | State::Asked { .. } | State::Out => {
                        None
                    }
                });
            let idle = idle.min_by_key(|(slowness, ..)| *slowness);
            if let Some((_, peer, ready)) = idle
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
}
