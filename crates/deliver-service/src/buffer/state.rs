// SPDX-License-Identifier: Apache-2.0
//! What a buffer holds, and who makes room for whom.

use std::{collections::BTreeMap, ops::RangeInclusive};

use block_api::{BlockNumber, HeaderHash, NodeId};

use super::{
    Buffered, Waiting,
    budget::Account,
    shares::{Share, Shares, Used},
};

#[derive(Debug)]
pub(super) struct State {
    /// The number that is due next.
    pub(super) next: BlockNumber,
    pub(super) blocks: BTreeMap<BlockNumber, Vec<Buffered>>,
    /// What the writer has in hand.
    taken: BTreeMap<BlockNumber, Taken>,
    pub(super) used: Used,
    account: Account,
    pub(super) evicted: u64,
    pub(super) closed: bool,
}

/// A block that the writer has in hand.
#[derive(Debug)]
struct Taken {
    hash: HeaderHash,
    waiting: Waiting,
    /// Whether the stream of the ordering service went past it meanwhile.
    passed: bool,
}

impl State {
    pub(super) fn new(next: BlockNumber, account: Account) -> Self {
        Self {
            next,
            blocks: BTreeMap::new(),
            taken: BTreeMap::new(),
            used: Used::default(),
            account,
            evicted: 0,
            closed: false,
        }
    }

    /// Drops everything, and begins anew with this number.
    pub(super) fn restart(&mut self, next: BlockNumber) {
        self.next = next;
        self.blocks.clear();
        self.taken.clear();
        self.used = Used::default();
        self.account.give(usize::MAX);
    }

    pub(super) fn waiting(&self, number: BlockNumber, hash: &HeaderHash) -> Option<Waiting> {
        if let Some(taken) = self.taken.get(&number)
            && taken.hash == *hash
        {
            return Some(taken.waiting);
        }
        let same = self.blocks.get(&number)?;
        let found = same.iter().find(|other| other.block.header_hash() == *hash);
        found.map(Waiting::of)
    }

    pub(super) fn candidates(&self, number: BlockNumber) -> usize {
        self.blocks.get(&number).map_or(0, Vec::len)
    }

    pub(super) fn is_taken(&self, number: BlockNumber) -> bool {
        self.taken.contains_key(&number)
    }

    /// Notes that the stream went past a block. `false` when it is neither stored nor here.
    pub(super) fn pass(&mut self, number: BlockNumber, hash: &HeaderHash) -> bool {
        let mut found = number < self.next;
        let taken = self.taken.get_mut(&number);
        if let Some(taken) = taken.filter(|taken| taken.hash == *hash) {
            (taken.passed, found) = (true, true);
        }
        let same = self.blocks.get_mut(&number).into_iter().flatten();
        for copy in same.filter(|copy| copy.block.header_hash() == *hash) {
            (copy.passed, found) = (true, true);
        }
        found
    }

    pub(super) fn holes(&self, upto: BlockNumber) -> Vec<RangeInclusive<BlockNumber>> {
        let (mut holes, mut expected) = (Vec::new(), self.next);
        let taken = self.taken.keys().filter(|number| **number >= self.next);
        let mut held: Vec<_> = taken.chain(self.blocks.keys()).copied().collect();
        held.sort_unstable();
        for number in held {
            if number > upto {
                break;
            }
            if let Some(before) = number.previous().filter(|before| *before >= expected) {
                holes.push(expected..=before);
            }
            match number.next() {
                Some(next) => expected = next,
                None => return holes,
            }
        }
        if expected <= upto {
            holes.push(expected..=upto);
        }
        holes
    }

    /// Puts a block in that there is room for or that must be admitted, and evicts what gives way to
    /// it. `false` when there is no room.
    pub(super) fn admit(&mut self, shares: &Shares, block: Buffered, must: bool) -> bool {
        let Some(victims) = self.victims(shares, &block, must) else {
            return false;
        };
        for (number, hash) in victims {
            if self.remove(number, &hash).is_some() {
                self.evicted += 1;
            }
        }
        // Another channel may have taken what was there a moment ago.
        if !self.account.try_take(block.length()) {
            if !must {
                return false;
            }
            self.account.take(block.length());
        }
        self.insert(block);
        true
    }

    /// Puts a block back that was taken out just now.
    pub(super) fn restore(&mut self, block: Buffered) {
        self.account.take(block.length());
        self.insert(block);
    }

    fn insert(&mut self, block: Buffered) {
        self.used.add(Share::of(block.origin), block.length());
        self.blocks
            .entry(block.block.number())
            .or_default()
            .push(block);
    }

    /// Takes a block out, and gives its room back.
    pub(super) fn remove(&mut self, number: BlockNumber, hash: &HeaderHash) -> Option<Buffered> {
        let same = self.blocks.get_mut(&number)?;
        let at = same
            .iter()
            .position(|other| other.block.header_hash() == *hash)?;
        let block = same.remove(at);
        if same.is_empty() {
            self.blocks.remove(&number);
        }
        self.release(std::slice::from_ref(&block));
        Some(block)
    }

    /// Notes that the writer has a block in hand. Its room is not given back by that.
    pub(super) fn take(&mut self, block: &Buffered) {
        let taken = Taken {
            hash: block.block.header_hash(),
            waiting: Waiting::of(block),
            passed: block.passed,
        };
        self.taken.insert(block.block.number(), taken);
    }

    /// Gives the room of blocks back that the writer had in hand, and says whether the stream went
    /// past one of them.
    pub(super) fn put_down(&mut self, blocks: &[Buffered]) -> bool {
        let mut passed = false;
        for block in blocks {
            let taken = self.taken.remove(&block.block.number());
            passed |= taken.is_some_and(|taken| taken.passed);
        }
        self.release(blocks);
        passed
    }

    /// Gives the room of blocks back that are in the buffer no more.
    pub(super) fn release(&mut self, blocks: &[Buffered]) {
        for block in blocks {
            self.used.remove(Share::of(block.origin), block.length());
            self.account.give(block.length());
        }
    }

    pub(super) fn drop_given_by(&mut self, giver: &NodeId) {
        let mut given = Vec::new();
        self.blocks.retain(|_, same| {
            given.extend(same.extract_if(.., |block| {
                block.giver.as_ref() == Some(giver) && !block.passed
            }));
            !same.is_empty()
        });
        self.release(&given);
    }

    /// Which blocks have to go so that this one fits: the highest first, none that is as low, none
    /// that would not come again by itself. `None` when it does not fit even so and need not.
    fn victims(
        &self,
        shares: &Shares,
        block: &Buffered,
        must: bool,
    ) -> Option<Vec<(BlockNumber, HeaderHash)>> {
        let (share, length) = (Share::of(block.origin), block.length());
        let (mut used, mut given, mut victims) = (self.used, 0, Vec::new());
        let fits = |used: &Used, given| {
            let admitted = match must {
                true => shares.admit_due(used, length),
                false => shares.admit(used, share, length),
            };
            admitted && self.account.fits(length, given)
        };
        let higher = self.blocks.iter().rev();
        let higher = higher.take_while(|(number, _)| **number > block.block.number());
        for other in higher.flat_map(|(_, same)| same) {
            if fits(&used, given) {
                return Some(victims);
            }
            if other.gives_way_to(share, must) {
                used.remove(Share::of(other.origin), other.length());
                given += other.length();
                victims.push((other.block.number(), other.block.header_hash()));
            }
        }
        (fits(&used, given) || must).then_some(victims)
    }
}

impl Buffered {
    /// Whether a higher block goes to make room for a lower one. What the ordering service streamed
    /// stays, for its stream would have to be opened anew; and the topic drives nobody else out, but
    /// with the block that is due.
    fn gives_way_to(&self, share: Share, is_due: bool) -> bool {
        !self.passed && (is_due || share != Share::Topic || Share::of(self.origin) == Share::Topic)
    }
}

impl Waiting {
    fn of(block: &Buffered) -> Self {
        Self {
            judged_by: block.block.judged_by(),
            is_config: block.block.is_config(),
        }
    }
}
