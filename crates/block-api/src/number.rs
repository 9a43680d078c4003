// SPDX-License-Identifier: Apache-2.0
//! Block numbers and chain heights.

use std::fmt;

/// The number of a block; the genesis block has 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockNumber(u64);

/// The height of a chain: how many blocks lead to its tip, which is the number of the next block.
///
/// A chain of genesis block alone has height 1. A height and a number are never compared by
/// accident: [`Height::next_block`] and [`BlockNumber::height`] lead from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Height(u64);

impl BlockNumber {
    /// The genesis block.
    pub const GENESIS: Self = Self(0);

    /// The block with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one; `None` past 2^64 − 1.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The number before this one; `None` for the genesis block.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// The height of a chain whose tip is this block. Saturates at 2^64 − 1, a number that
    /// Fabric reserves to say "for ever".
    pub fn height(self) -> Height {
        Height(self.0.saturating_add(1))
    }
}

impl Height {
    /// The height of a chain without any block.
    pub const ZERO: Self = Self(0);

    /// A chain of so many blocks.
    pub const fn new(height: u64) -> Self {
        Self(height)
    }

    /// The height as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the block that comes next.
    pub fn next_block(self) -> BlockNumber {
        BlockNumber(self.0)
    }

    /// The number of the newest block; `None` for an empty chain.
    pub fn tip(self) -> Option<BlockNumber> {
        self.next_block().previous()
    }
}

impl From<u64> for BlockNumber {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<BlockNumber> for u64 {
    fn from(number: BlockNumber) -> Self {
        number.0
    }
}

impl fmt::Display for BlockNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_heights_meet_at_the_next_block() {
        assert_eq!(BlockNumber::GENESIS.height(), Height::new(1));
        assert_eq!(Height::ZERO.tip(), None);
        assert_eq!(Height::new(66).tip(), Some(BlockNumber::new(65)));
        assert_eq!(Height::new(66).next_block(), BlockNumber::new(66));
        assert_eq!(BlockNumber::new(u64::MAX).next(), None);
        assert_eq!(BlockNumber::new(u64::MAX).height(), Height::new(u64::MAX));
    }
}
