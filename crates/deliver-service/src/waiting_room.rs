// SPDX-License-Identifier: Apache-2.0
//! Places for candidates that cannot be judged yet, and what found none.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use block_api::{BlockNumber, NodeId};
use tokio_util::sync::CancellationToken;

/// Of how many blocks it is remembered that they were missed: of the lowest ones.
const MISSED: usize = 1024;

/// The places for candidates that wait for a configuration or for their turn.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    taken: Mutex<Taken>,
    places: usize,
}

/// The places that are taken, by whose candidates: what ends the waiting of each.
#[derive(Debug, Default)]
struct Taken {
    by: BTreeMap<NodeId, BTreeMap<u64, CancellationToken>>,
    next: u64,
}

/// A place in a waiting room, which is given back on drop.
pub(crate) struct Place<'a> {
    room: &'a WaitingRoom,
    node: NodeId,
    id: u64,
    /// Ends when the place is needed for another node.
    pub(crate) needed: CancellationToken,
}

/// Blocks that came on the topic, where they come once, and found no room.
#[derive(Debug, Default)]
pub(crate) struct Missed(Mutex<BTreeSet<BlockNumber>>);

impl WaitingRoom {
    /// A room with half as many places as candidates are worked on.
    pub(crate) fn new(candidates: NonZeroUsize) -> Self {
        Self {
            taken: Mutex::default(),
            places: (candidates.get() / 2).max(1),
        }
    }

    /// A place for a candidate of a node. A single node may have them all, as the one does that pulls
    /// while the chain grows fast; once they are taken, whoever has most gives its last one to another
    /// node, so that who sends what nobody can judge keeps nobody out.
    pub(crate) fn enter(&self, node: &NodeId) -> Option<Place<'_>> {
        let mut taken = self.taken();
        if taken.by.values().map(BTreeMap::len).sum::<usize>() >= self.places {
            let own = taken.by.get(node).map_or(0, BTreeMap::len);
            let most = taken.by.values_mut().max_by_key(|held| held.len())?;
            if most.len() <= own + 1 {
                return None;
            }
            let (_, needed) = most.pop_last()?;
            needed.cancel();
        }
        let (id, needed) = (taken.next, CancellationToken::new());
        taken.next += 1;
        let own = taken.by.entry(node.clone()).or_default();
        own.insert(id, needed.clone());
        Some(Place {
            room: self,
            node: node.clone(),
            id,
            needed,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whatever a panic left behind is a list of places, and a place that is given back while its
        // holder unwinds must not panic again.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        if let Some(own) = taken.by.get_mut(&self.node) {
            own.remove(&self.id);
            if own.is_empty() {
                taken.by.remove(&self.node);
            }
        }
    }
}

impl Missed {
    pub(crate) fn note(&self, number: BlockNumber) {
        let mut missed = self.missed();
        missed.insert(number);
        if missed.len() > MISSED {
            missed.pop_last();
        }
    }

    /// Whether the block that is due was missed. What is below it is forgotten.
    pub(crate) fn has(&self, due: BlockNumber) -> bool {
        let mut missed = self.missed();
        *missed = missed.split_off(&due);
        missed.first() == Some(&due)
    }

    fn missed(&self) -> MutexGuard<'_, BTreeSet<BlockNumber>> {
        // Whatever a panic left behind is a set of numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_may_have_all_places_until_another_one_needs_some() {
        let room = WaitingRoom::new(NonZeroUsize::new(64).unwrap());
        let [one, other, third] = ["one", "other", "third"].map(NodeId::new);
        let held: Vec<Place<'_>> = (0..32).map(|_| room.enter(&one).unwrap()).collect();
        assert!(room.enter(&one).is_none());
        let needed = || {
            held.iter()
                .filter(|place| place.needed.is_cancelled())
                .count()
        };
        let others: Vec<Place<'_>> = std::iter::from_fn(|| room.enter(&other)).collect();
        assert_eq!((others.len(), needed()), (16, 16));
        let kept = held.iter().position(|place| place.needed.is_cancelled());
        assert_eq!(kept, Some(16), "those that waited longest stay");
        assert!(room.enter(&one).is_none() && room.enter(&third).is_some());
        drop((held, others));
        assert!(room.taken().by.is_empty(), "each is given back once");
    }

    #[test]
    fn what_was_missed_is_known_until_it_was_due() {
        let (missed, number) = (Missed::default(), BlockNumber::new);
        for more in (0..2 * MISSED as u64).rev() {
            missed.note(number(10 + more));
        }
        assert_eq!(missed.missed().len(), MISSED);
        assert!(!missed.has(number(9)) && missed.has(number(10)) && missed.has(number(12)));
        assert!(!missed.has(number(11)));
        assert!(!missed.has(number(10 + MISSED as u64)));
    }
}
