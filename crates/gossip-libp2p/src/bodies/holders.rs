// SPDX-License-Identifier: Apache-2.0
//! Who may have the body of an announced block.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use block_api::{Block, BlockNumber, HeaderHash, Height};
use libp2p::PeerId;
use tokio::sync::{Notify, futures::Notified};

/// Of how many blocks of a channel it is remembered that one node announced them.
const ANNOUNCED: usize = 256;

/// An announced block.
type Announced = (BlockNumber, HeaderHash);

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
    announced: BTreeMap<Announced, Vec<PeerId>>,
    /// What each node announced, the oldest first: what one makes up displaces nothing of others.
    by_node: BTreeMap<PeerId, VecDeque<Announced>>,
    /// How high each node says it is.
    heights: BTreeMap<PeerId, Height>,
}

impl Holders {
    /// A node sent an announcement.
    pub(crate) fn announced(&self, block: &Block, peer: PeerId) {
        let mut known = self.known();
        let key = (block.number(), block.header_hash());
        let announcers = known.announced.entry(key).or_default();
        if announcers.contains(&peer) {
            return;
        }
        announcers.push(peer);
        let of_node = known.by_node.entry(peer).or_default();
        of_node.push_back(key);
        if of_node.len() > ANNOUNCED
            && let Some(oldest) = of_node.pop_front()
        {
            known.forget(&oldest, &peer);
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
        let mut known = self.known();
        known.heights.remove(peer);
        for announced in known.by_node.remove(peer).unwrap_or_default() {
            known.forget(&announced, peer);
        }
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

impl Known {
    fn forget(&mut self, announced: &Announced, peer: &PeerId) {
        if let Some(announcers) = self.announced.get_mut(announced) {
            announcers.retain(|announcer| announcer != peer);
            if announcers.is_empty() {
                self.announced.remove(announced);
            }
        }
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
    fn of_each_node_so_many_announcements_are_remembered_whatever_others_make_up() {
        let (_, blocks) = TestChain::of_blocks("ch", 2, 10);
        let [a, b, liar] = [1, 2, 3].map(|n| Keypair::from_seed([n; 32]).peer_id());
        let all: BTreeSet<PeerId> = [a, b, liar].into();
        let holders = Holders::default();
        let made_up = |n: u64| {
            let number = BlockNumber::new(u64::MAX - n);
            Block::assemble(number, &[], &[b"made up"], &[b""]).without_data()
        };
        holders.announced(&blocks[0], b);
        for n in 0..2 * ANNOUNCED as u64 {
            holders.announced(&made_up(n), liar);
        }
        holders.announced(&blocks[1], b);
        for block in &blocks {
            assert_eq!(holders.of(block, &all)[0], b);
        }
        assert_eq!(holders.known().announced.len(), ANNOUNCED + 2);
        // The newest ones of it are known.
        let newest = made_up(2 * ANNOUNCED as u64 - 1);
        assert_eq!(holders.of(&newest, &all)[0], liar);
        holders.left(&liar);
        assert_eq!(holders.known().announced.len(), 2);
        assert_eq!(holders.known().by_node.len(), 1);
    }
}
