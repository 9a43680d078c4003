// SPDX-License-Identifier: Apache-2.0
//! How many verifications that fail each node may cause: what is beyond that is not verified.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use block_api::{NodeId, Rejection};
use tokio::time::Instant;

/// How many a node may cause at once.
const IN_HAND: u32 = 10;
/// After how long it may cause one more.
const EACH: Duration = Duration::from_millis(500);
/// Of how many nodes it is remembered. Nodes that caused none take no place, and there are no more
/// at one time than are connected.
const NODES: usize = 1024;

/// What the nodes have used up, in all channels together. A node whose blocks are good never notices it: only a
/// refusal costs anything.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// When each node has all in hand again.
    whole_at: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Failing {
    /// Whether anything of a node may be verified.
    pub(crate) fn may(&self, node: &NodeId, now: Instant) -> bool {
        let whole_at = self.whole_at();
        let owes = whole_at
            .get(node)
            .map(|whole_at| whole_at.saturating_duration_since(now));
        owes.is_none_or(|owes| owes <= EACH * (IN_HAND - 1))
    }

    /// Something of a node was refused. Of several that were verified at one time each one counts.
    pub(crate) fn refused(&self, node: &NodeId, now: Instant) {
        let mut all = self.whole_at();
        let whole_at = all.get(node).copied().unwrap_or(now).max(now);
        all.insert(node.clone(), whole_at + EACH);
        if all.len() > NODES {
            all.retain(|_, whole_at| *whole_at > now);
        }
        if all.len() > NODES {
            let least = all.iter().min_by_key(|(_, whole_at)| **whole_at);
            if let Some(least) = least.map(|(node, _)| node.clone()) {
                all.remove(&least);
            }
        }
    }

    /// The same, but for what it may have passed on in good faith: that costs it nothing.
    pub(crate) fn rejected(&self, node: &NodeId, rejection: &Rejection, now: Instant) {
        if !rejection.may_be_in_good_faith() {
            self.refused(node, now);
        }
    }

    fn whole_at(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        // Whatever a panic left behind is a moment.
        self.whole_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_may_fail_at_once_and_one_more_after_each_pause() {
        let (failing, now) = (Failing::default(), Instant::now());
        let (bad, good) = (NodeId::new("bad"), NodeId::new("good"));
        for _ in 0..IN_HAND {
            assert!(failing.may(&bad, now));
            failing.refused(&bad, now);
        }
        assert!(!failing.may(&bad, now) && failing.may(&good, now));
        assert!(!failing.may(&bad, now + EACH / 2));
        assert!(failing.may(&bad, now + EACH));
        failing.refused(&bad, now + EACH);
        assert!(!failing.may(&bad, now + EACH));
        // Those that were at work when the last one was refused are owed as well.
        for _ in 0..4 {
            failing.refused(&bad, now + EACH);
        }
        assert!(!failing.may(&bad, now + EACH * 5));
        assert!(failing.may(&bad, now + EACH * 6));
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_take_a_bounded_place_and_the_worst_stay() {
        let (failing, now) = (Failing::default(), Instant::now());
        let worst = NodeId::new("worst");
        for _ in 0..IN_HAND {
            failing.refused(&worst, now);
        }
        for name in 0..2 * NODES {
            failing.refused(&NodeId::new(name.to_string()), now);
        }
        assert_eq!(failing.whole_at().len(), NODES);
        assert!(!failing.may(&worst, now));
        let later = now + EACH * 100;
        failing.refused(&worst, later);
        assert_eq!(failing.whole_at().len(), NODES);
        failing.refused(&NodeId::new("one more"), later);
        assert_eq!(
            failing.whole_at().len(),
            2,
            "whoever has all in hand again is forgotten"
        );
    }
}
