// SPDX-License-Identifier: Apache-2.0
//! On whose word each node is known, and who makes room for whom where there is none left.

use std::collections::BTreeMap;

use libp2p::PeerId;

use super::{
    Directory,
    known::{Known, State},
};

/// How many nodes are known at most.
pub(super) const MAX_KNOWN: usize = 1024;

/// How many of them on the word of one peer, itself not counted.
pub(super) const MAX_TOLD: usize = 256;

/// So many that claim to be of the own organisation have others make room for them.
const MAX_MATES: usize = MAX_KNOWN / 2;

impl Directory {
    /// How many nodes are known on the word of a peer, itself not counted.
    fn told_by(&self, teller: &PeerId) -> usize {
        let told = |(node, known): &(&PeerId, &Known)| known.teller == *teller && *node != teller;
        self.nodes.iter().filter(told).count()
    }

    /// One more tells of a node: it is known on the word of who tells of fewer, so that nobody hides
    /// it among many, and of itself best of all. What failed on the word of the one is tried on that
    /// of another who tells of as many.
    pub(super) fn retell(&mut self, node: &PeerId, teller: PeerId) {
        let Some(known) = self.nodes.get(node) else {
            return;
        };
        let (before, failed) = (known.teller, known.attempts > 0);
        if before == teller {
            return;
        }
        let (new, old) = (self.told_by(&teller), self.told_by(&before));
        let fewer = new < old || (failed && new == old);
        if (*node == teller || (*node != before && fewer))
            && let Some(known) = self.nodes.get_mut(node)
        {
            known.teller = teller;
        }
    }

    /// Makes room for a node that was not known, if there can be any. Where all places are taken, one
    /// of a node that is not connected is given up, of the peer on whose word most are known: any for
    /// a node that tells of itself or is told of by a peer who has fewer, and otherwise one that was
    /// dialled in vain. A node that claims to be of the own organisation takes the place of one that
    /// does not, as long as these claims do not take half of all places.
    pub(super) fn make_room(&mut self, node: &PeerId, teller: PeerId, is_mate: bool) -> bool {
        let own = self.told_by(&teller);
        let before_others =
            is_mate && self.nodes.values().filter(|known| known.is_mate()).count() < MAX_MATES;
        if *node != teller && own >= MAX_TOLD {
            return (before_others && self.give_up(teller, 0, Known::is_other))
                || self.give_up(teller, 1, |_| true);
        }
        if self.nodes.len() < MAX_KNOWN {
            return true;
        }
        if before_others
            && let Some((greatest, _)) = self.greatest(Known::is_other)
            && self.give_up(greatest, 0, Known::is_other)
        {
            return true;
        }
        let Some((greatest, most)) = self.greatest(|_| true) else {
            return false;
        };
        let has_fewer = *node == teller || own + 1 < most;
        self.give_up(greatest, u32::from(!has_fewer), |_| true)
    }

    /// On whose word most nodes of a kind are known that are not connected, and how many.
    fn greatest(&self, kind: impl Fn(&Known) -> bool) -> Option<(PeerId, usize)> {
        let mut absent: BTreeMap<PeerId, usize> = BTreeMap::new();
        for known in self.nodes.values() {
            if known.is_absent() && kind(known) {
                *absent.entry(known.teller).or_default() += 1;
            }
        }
        absent.into_iter().max_by_key(|(_, count)| *count)
    }

    /// Forgets the node of a kind that failed most often, and so many times at least, of those that are known
    /// on the word of a peer and are not connected.
    fn give_up(&mut self, teller: PeerId, failures: u32, kind: impl Fn(&Known) -> bool) -> bool {
        let worst = self
            .nodes
            .iter()
            .filter(|(_, known)| {
                known.teller == teller
                    && known.is_absent()
                    && known.attempts >= failures
                    && kind(known)
            })
            .max_by_key(|(_, known)| (known.state == State::Hopeless, known.attempts))
            .map(|(node, _)| *node);
        worst.is_some_and(|node| self.nodes.remove(&node).is_some())
    }
}
