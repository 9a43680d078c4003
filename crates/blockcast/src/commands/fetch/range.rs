// SPDX-License-Identifier: Apache-2.0
//! From which block to which.

use std::str::FromStr;

use block_api::{BlockNumber, Start, Stop};

use crate::commands::fetch::error::FetchError;

/// The first block, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Oldest,
    Newest,
    At(BlockNumber),
}

/// The last block, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Newest,
    At(BlockNumber),
}

/// A text that names no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no block: write {expected}")]
pub(super) struct NoBlock {
    text: String,
    expected: &'static str,
}

impl First {
    pub(super) fn start(self) -> Start {
        match self {
            Self::Oldest => Start::Oldest,
            Self::Newest => Start::Newest,
            Self::At(number) => Start::At(number),
        }
    }

    /// The number of the block, when that is known before it comes.
    pub(super) fn number(self) -> Option<BlockNumber> {
        match self {
            Self::At(number) => Some(number),
            Self::Oldest | Self::Newest => None,
        }
    }
}

impl Last {
    pub(super) fn stop(self) -> Stop {
        match self {
            Self::Newest => Stop::Newest,
            Self::At(number) => Stop::At(number),
        }
    }

    pub(super) fn number(self) -> Option<BlockNumber> {
        match self {
            Self::At(number) => Some(number),
            Self::Newest => None,
        }
    }
}

impl FromStr for First {
    type Err = NoBlock;

    fn from_str(text: &str) -> Result<Self, NoBlock> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            number => parse(number, "a number, oldest or newest").map(Self::At),
        }
    }
}

impl FromStr for Last {
    type Err = NoBlock;

    fn from_str(text: &str) -> Result<Self, NoBlock> {
        match text {
            "newest" => Ok(Self::Newest),
            number => parse(number, "a number or newest").map(Self::At),
        }
    }
}

/// Refuses ranges that no orderer can serve.
pub(super) fn check(first: First, last: Last) -> Result<(), FetchError> {
    match (first, last) {
        (First::At(from), Last::At(to)) if from > to => Err(FetchError::Backwards { from, to }),
        _ => Ok(()),
    }
}

/// How many blocks there are in a range, when that is known before they come.
pub(super) fn count(first: First, last: Last) -> Option<u64> {
    let (from, to) = (first.number()?.get(), last.number()?.get());
    to.checked_sub(from)?.checked_add(1)
}

fn parse(text: &str, expected: &'static str) -> Result<BlockNumber, NoBlock> {
    // The largest number stands for "for ever" in a request, and no block has it.
    match text.parse() {
        Ok(number) if number != u64::MAX => Ok(BlockNumber::new(number)),
        _ => Err(NoBlock {
            text: text.to_owned(),
            expected,
        }),
    }
}
