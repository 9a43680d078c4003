// SPDX-License-Identifier: Apache-2.0
//! Which range is asked of whom: no I/O, and told what time it is.

use std::{
    cmp::{max, min},
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    time::Duration,
};

use block_api::{BlockNumber, Height, NodeId};
use tokio::time::Instant;

use crate::{Config, buffer::Giver};

/// What a block is taken to weigh before any came: the first ranges are small.
const FIRST_GUESS: usize = 256 << 10;
/// Of so many peers what is due is awaited at one time.
const AT_ONCE: usize = 2;

/// Whom ranges were asked of, and how they did.
#[derive(Debug)]
pub(super) struct Plan {
    /// Different for each node, so that not all of them ask the same one.
    seed: u64,
    failed: BTreeMap<NodeId, Failed>,
    /// The last block of the ranges that peers gave and that are not all stored yet.
    given: BTreeMap<NodeId, BlockNumber>,
    /// How long a block took of late.
    pace: BTreeMap<NodeId, Duration>,
    pub(super) flights: BTreeMap<u64, Flight>,
    /// Bytes of a block, of late.
    mean: usize,
}

/// How a peer that failed to give a range stands.
#[derive(Debug)]
struct Failed {
    /// It is left alone until then.
    until: Instant,
    /// How often it failed since what it gave was stored.
    times: u32,
}

/// A range that was asked for.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) giver: Giver,
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    pub(super) since: Instant,
}

/// What a peer says that it has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) first: BlockNumber,
    pub(super) height: Height,
    /// Whether it is known to be of the own organisation.
    pub(super) own: bool,
    /// Whether its tip cannot be judged yet, for want of a configuration.
    pub(super) unjudged: bool,
}

/// How things stand.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) now: Instant,
    pub(super) due: BlockNumber,
    /// Since when this has been due.
    pub(super) still_since: Instant,
    /// What is neither stored nor held.
    pub(super) holes: &'a [RangeInclusive<BlockNumber>],
    pub(super) peers: &'a BTreeMap<NodeId, Known>,
    /// Bytes that may be asked for ahead of what is due.
    pub(super) room: usize,
}

/// A range to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) peer: NodeId,
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    /// The flight that is given up for it.
    pub(super) instead_of: Option<u64>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            failed: BTreeMap::new(),
            given: BTreeMap::new(),
            pace: BTreeMap::new(),
            flights: BTreeMap::new(),
            mean: FIRST_GUESS,
        }
    }

    /// The next range to ask for: what is due first, then further holes as far as there are peers,
    /// places and room for them. What is due is asked of another peer, too, when the one who was asked
    /// takes too long: whoever comes second gives what is known by then. A third one takes the place of
    /// one of the two, so that however many are silent, no more than these are ever waited for.
    pub(super) fn next(&self, view: &View<'_>, config: &Config) -> Option<Order> {
        let mut asked = 0;
        for flight in self.flights.values() {
            let blocks = flight.last.get().saturating_sub(flight.first.get()) + 1;
            asked += self.mean.saturating_mul(blocks as usize);
        }
        let room = view.room.saturating_sub(asked);
        for hole in self.open(view) {
            let (first, is_due) = (*hole.start(), *hole.start() == view.due);
            let places = self.flights.len() < config.catch_up_peers.get();
            if !is_due && (!places || room < self.mean) {
                break;
            }
            let bytes = match is_due {
                true => config.range_bytes.get(),
                false => min(room, config.range_bytes.get()),
            };
            let blocks = (bytes / self.mean).clamp(1, config.range_blocks.get()) as u64;
            let last = min(*hole.end(), after(first, blocks - 1));
            if let Some(order) = self.ask(first, last, view) {
                return Some(order);
            }
        }
        if self.late_at(view, config)? > view.now {
            return None;
        }
        let (_, holder) = self.covering(view.due).next()?;
        let order = self.ask(view.due, holder.last, view)?;
        let awaited = self.awaited(view, config);
        if awaited.len() < AT_ONCE {
            return Some(order);
        }
        // Who fails again and again keeps nobody from being asked who did so less often.
        let times = self.times(&order.peer);
        let mut given_up = awaited
            .iter()
            .filter(|(_, peer, until)| *until <= view.now || times < self.times(peer));
        given_up.next_back().map(|(id, ..)| Order {
            instead_of: Some(*id),
            ..order
        })
    }

    /// When there may be more to ask for without anything happening.
    pub(super) fn wake(&self, view: &View<'_>, config: &Config) -> Option<Instant> {
        let rests = self.failed.values().map(|failed| failed.until);
        let awaited = self.awaited(view, config).into_iter();
        rests
            .chain(self.late_at(view, config))
            .chain(awaited.map(|(_, _, until)| until))
            .filter(|at| *at > view.now)
            .min()
    }

    /// What a peer gave is stored now, or is not asked for any more; whose rest is over and who is gone
    /// is forgotten. Leaving and coming back does not shorten a rest.
    pub(super) fn settle(
        &mut self,
        due: BlockNumber,
        now: Instant,
        peers: &BTreeMap<NodeId, Known>,
    ) {
        let stored = self.given.extract_if(.., |_, last| *last < due);
        for (peer, _) in stored.collect::<Vec<_>>() {
            self.failed.remove(&peer);
        }
        self.failed
            .retain(|node, failed| failed.until > now || peers.contains_key(node));
        self.pace.retain(|node, _| peers.contains_key(node));
        self.given.retain(|node, _| peers.contains_key(node));
    }

    /// A peer gave so much.
    pub(super) fn gave(
        &mut self,
        giver: &Giver,
        last: BlockNumber,
        blocks: u64,
        bytes: u64,
        took: Duration,
    ) {
        if blocks == 0 {
            return;
        }
        let mean = usize::try_from(bytes / blocks).unwrap_or(usize::MAX);
        self.mean = (self.mean / 2).saturating_add(mean / 2).max(1);
        if let Some(peer) = giver.node() {
            self.given.insert(peer.clone(), last);
            self.pace.insert(peer.clone(), took.div_f64(blocks as f64));
        }
    }

    /// A peer did not give what it was asked for, or something else.
    pub(super) fn failed(&mut self, peer: &NodeId, until: Instant) {
        self.given.remove(peer);
        self.rests(peer, until);
        if let Some(failed) = self.failed.get_mut(peer) {
            failed.times = failed.times.saturating_add(1);
        }
    }

    /// A peer is left alone for a while, through no fault of its own.
    pub(super) fn rests(&mut self, peer: &NodeId, until: Instant) {
        let failed = self.failed.entry(peer.clone());
        failed.or_insert(Failed { until, times: 0 }).until = until;
    }

    /// Whether somebody may be asked for this block at some time.
    pub(super) fn anyone_has(&self, number: BlockNumber, peers: &BTreeMap<NodeId, Known>) -> bool {
        let mut peers = peers.iter();
        peers.any(|(node, known)| {
            known.has(number) && self.failed.get(node).is_none_or(|failed| failed.times == 0)
        })
    }

    /// The parts of the holes that nobody was asked for.
    fn open(&self, view: &View<'_>) -> Vec<RangeInclusive<BlockNumber>> {
        let mut flights: Vec<_> = self
            .flights
            .values()
            .map(|flight| (flight.first, flight.last))
            .collect();
        flights.sort_unstable();
        let mut open = Vec::new();
        for hole in view.holes {
            let mut first = Some(*hole.start());
            for (from, to) in &flights {
                let Some(start) = first.filter(|start| start <= to && from <= hole.end()) else {
                    continue;
                };
                if let Some(before) = from.previous().filter(|before| *before >= start) {
                    open.push(start..=before);
                }
                first = to.next();
            }
            if let Some(start) = first.filter(|start| start <= hole.end()) {
                open.push(start..=*hole.end());
            }
        }
        open
    }

    /// When the block that is due is asked of a further peer.
    fn late_at(&self, view: &View<'_>, config: &Config) -> Option<Instant> {
        let missing = view.holes.first().map(RangeInclusive::start) == Some(&view.due);
        let covering = self.covering(view.due).map(|(_, flight)| flight.since);
        let newest = covering.max()?;
        missing.then(|| max(newest, view.still_since) + config.range_patience)
    }

    /// The peers that were asked for what is due, first come first, each with the moment from which it
    /// makes room for another one. The first has as long as the next block of a range may take: where
    /// blocks take longer than the patience, for want of bandwidth, they come none the less. The second
    /// has the patience, so that others get their turn, and twice as long each time it failed before.
    fn awaited(&self, view: &View<'_>, config: &Config) -> Vec<(u64, &NodeId, Instant)> {
        let covering = self.covering(view.due);
        let peers = covering.filter_map(|(id, flight)| Some((id, flight.giver.node()?, flight)));
        let peers = peers.enumerate().map(|(place, (id, peer, flight))| {
            let longer = 1 << min(self.times(peer), 16);
            let patience = match place {
                0 => config.fetch_timeout,
                _ => min(
                    config.range_patience.saturating_mul(longer),
                    config.fetch_timeout,
                ),
            };
            (id, peer, max(flight.since, view.still_since) + patience)
        });
        peers.collect()
    }

    /// The flights that bring a block.
    fn covering(&self, number: BlockNumber) -> impl Iterator<Item = (u64, &Flight)> {
        let flights = self.flights.iter().map(|(id, flight)| (*id, flight));
        flights.filter(move |(_, flight)| flight.first <= number && number <= flight.last)
    }

    /// How often a peer failed of late.
    fn times(&self, peer: &NodeId) -> u32 {
        self.failed.get(peer).map_or(0, |failed| failed.times)
    }

    /// Whom to ask for these blocks, or as many of them as it has. Those who failed come last: a height
    /// is only a claim, and if it counted for more, two peers that claim the highest would be asked in
    /// turns for ever. Then the own organisation first; then who has the whole range, of those the one
    /// with the lowest height, so that the few who are at the tip are left to those who need it; then
    /// whoever was quick.
    fn ask(&self, first: BlockNumber, last: BlockNumber, view: &View<'_>) -> Option<Order> {
        let busy: BTreeSet<_> = self
            .flights
            .values()
            .filter_map(|flight| flight.giver.node())
            .collect();
        let able = view.peers.iter().filter(|(node, known)| {
            let rests = self
                .failed
                .get(*node)
                .is_some_and(|failed| failed.until > view.now);
            known.has(first) && !rests && !busy.contains(node)
        });
        let (peer, known) = able.min_by_key(|(node, known)| {
            let times = self.times(node);
            let (covers, height) = (known.has(last), known.height.get());
            let nearness = if covers { height } else { u64::MAX - height };
            let pace = self.pace.get(*node).copied().unwrap_or_default();
            let mut hasher = DefaultHasher::new();
            (self.seed, node.as_str()).hash(&mut hasher);
            (times, !known.own, !covers, nearness, pace, hasher.finish())
        })?;
        Some(Order {
            peer: peer.clone(),
            first,
            last: min(last, known.height.tip()?),
            instead_of: None,
        })
    }
}

impl Known {
    fn has(&self, number: BlockNumber) -> bool {
        self.first <= number && number < self.height.next_block()
    }
}

/// The number so many blocks after another one.
pub(super) fn after(number: BlockNumber, blocks: u64) -> BlockNumber {
    BlockNumber::new(number.get().saturating_add(blocks))
}

#[cfg(test)]
mod tests;
