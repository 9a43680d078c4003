// SPDX-License-Identifier: Apache-2.0
//! Who may have the body of an announced block.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use block_api::{Block, BlockNumber, HeaderHash, Height};
use libp2p::PeerId;
use tokio::sync::{Notify, futures::Notified};

/// Of how many blocks of a channel it is remembered who announced them.
const ANNOUNCED: usize = 256;

/// What the event loop hears of the nodes of one channel, for those who fetch. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Who announced a block, in the order in which they did.
    announced: BTreeMap<(BlockNumber, HeaderHash), Vec<PeerId>>,
    /// How high each node says it is.
    heights: BTreeMap<PeerId, Height>,
}

impl Holders {
    /// A node sent an announcement.
    pub(crate) fn announced(&self, block: &Block, peer: PeerId) {
        let mut known = self.known();
        let key = (block.number(), block.header_hash());
        let announcers = known.announced.entry(key).or_default();
        if !announcers.contains(&peer) {
            announcers.push(peer);
        }
        if known.announced.len() > ANNOUNCED {
            // Of the lowest one, as a rule, the body is here.
            known.announced.pop_first();
        }
        drop(known);
        self.shared.changed.notify_waiters();
    }

    /// A node told its height.
    pub(crate) fn is_at(&self, peer: PeerId, height: Height) {
        self.known().heights.insert(peer, height);
        self.shared.changed.notify_waiters();
    }

    /// A node takes part no longer.
    pub(crate) fn left(&self, peer: &PeerId) {
        self.known().heights.remove(peer);
    }

    /// Waits until any of it changed.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// Which of the members may have the body of a block, the likeliest first: who announced it, who
    /// says that they are as high, then anybody.
    pub(crate) fn of(&self, block: &Block, members: &BTreeSet<PeerId>) -> Vec<PeerId> {
        let known = self.known();
        let key = (block.number(), block.header_hash());
        let announcers = known.announced.get(&key).into_iter().flatten();
        let mut holders: Vec<PeerId> = announcers
            .filter(|peer| members.contains(peer))
            .copied()
            .collect();
        let is_high = |peer: &PeerId| {
            let height = known.heights.get(peer);
            height.is_some_and(|height| height.next_block() > block.number())
        };
        let (high, others): (Vec<PeerId>, Vec<PeerId>) = members
            .iter()
            .filter(|peer| !holders.contains(peer))
            .copied()
            .partition(is_high);
        holders.extend(high);
        holders.extend(others);
        holders
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whatever a panic left behind is a hint.
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestChain;

    use super::*;
    use crate::Keypair;

    #[test]
    fn who_announced_comes_first_and_who_left_not_at_all() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|n| Keypair::from_seed([n; 32]).peer_id());
        let (_, blocks) = TestChain::of_blocks("ch", 3, 10);
        let block = blocks[2].without_data();
        let holders = Holders::default();
        holders.announced(&block, c);
        holders.announced(&block, d);
        holders.announced(&block, c);
        holders.is_at(b, Height::new(3));
        holders.is_at(a, Height::new(2));
        let all: BTreeSet<PeerId> = [a, b, c, d].into();
        assert_eq!(holders.of(&block, &all), [c, d, b, a]);
        assert_eq!(holders.of(&block, &[b, d].into()), [d, b]);
        let lower = holders.of(&blocks[1], &[a, b].into());
        assert_eq!(BTreeSet::from_iter(lower), [a, b].into());
    }

    #[test]
    fn of_blocks_without_number_only_the_highest_are_remembered() {
        let (_, blocks) = TestChain::of_blocks("ch", ANNOUNCED + 10, 10);
        let peer = Keypair::from_seed([1; 32]).peer_id();
        let holders = Holders::default();
        for block in &blocks {
            holders.announced(block, peer);
        }
        let known = holders.known();
        assert_eq!(known.announced.len(), ANNOUNCED);
        assert!(known.announced.keys().all(|(number, _)| number.get() >= 10));
    }
}
