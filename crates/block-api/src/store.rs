// SPDX-License-Identifier: Apache-2.0
//! The seams to a chain that is kept: reading it, and growing it.

use std::{fmt, num::NonZeroUsize};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlockNumber, BoxError, HeaderHash, Height, VerifiedBlock};

/// What a chain says of itself in one atomic read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainInfo {
    /// The number of the oldest block that can be read, or of the first one to come.
    pub first: BlockNumber,
    /// The number of blocks that lead to the tip.
    pub height: Height,
    /// The header hash of the block below `height`, whether that block is kept or only known by
    /// its hash; `None` at height 0.
    pub tip_hash: Option<HeaderHash>,
}

/// How much one read gives at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// So many blocks.
    pub blocks: NonZeroUsize,
    /// So many bytes; the first block is given whatever its size.
    pub bytes: NonZeroUsize,
}

/// Reads a chain of verified blocks.
#[async_trait]
pub trait BlockReader: Send + Sync + fmt::Debug {
    /// First block, height and tip hash, all of one moment.
    fn info(&self) -> ChainInfo;

    /// The raw bytes of the blocks from `from` on, in order and without a hole: at least one, at
    /// most what `limits` allow. Empty when `from` is the height or above.
    ///
    /// # Errors
    ///
    /// [`ReadError::Gone`] below the first block; else when the bytes cannot be read or are not
    /// the ones that were written.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError>;

    /// Waits until the chain has at least this height, and says where it is then.
    ///
    /// # Errors
    ///
    /// [`ReadError::Closed`] when it will grow no more.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError>;

    /// The newest config block with this number or a lower one; `None` when none is kept.
    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber>;
}

/// A chain that grows.
///
/// There is one writer. After an error the chain is as it was before the call, or has grown by a
/// part of the batch from its beginning; [`BlockReader::info`] tells.
#[async_trait]
pub trait BlockStore: BlockReader {
    /// Appends blocks, in order. On return they are durable, and readers see them.
    ///
    /// # Errors
    ///
    /// [`AppendError::DoesNotLink`] when a block is not the next one or does not carry the hash of
    /// the one before it, [`AppendError::OtherJudge`] when it was judged by another configuration
    /// than that of the newest config block below it; nothing was appended then. Else when the
    /// storage fails.
    ///
    /// # Cancel safety
    ///
    /// A batch whose future is dropped may be appended or not, in full.
    async fn append(&self, blocks: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError>;
}

/// A chain could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The block is older than the oldest one that is kept.
    #[error("block {number} is not kept here: the oldest one is {first}")]
    Gone {
        /// The block that was asked for.
        number: BlockNumber,
        /// The oldest block.
        first: BlockNumber,
    },
    /// The storage failed, or its content is damaged.
    #[error("block {number} cannot be read: {source}")]
    Storage {
        /// The block that was asked for.
        number: BlockNumber,
        /// What the storage said.
        source: BoxError,
    },
    /// The chain was closed.
    #[error("the block store was closed")]
    Closed,
}

/// A chain did not grow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A block is not the next one, or names another predecessor.
    #[error("block {number} does not link to the chain of height {height}: {reason}")]
    DoesNotLink {
        /// The block.
        number: BlockNumber,
        /// The height of the chain (with the blocks before it in the batch).
        height: Height,
        /// What does not fit.
        reason: &'static str,
    },
    /// A block was judged ahead of its turn, and not by the configuration at its place.
    #[error(
        "block {number} was judged by config block {judged_by}, but the newest one below it is {in_force}: \
         judge it again"
    )]
    OtherJudge {
        /// The block.
        number: BlockNumber,
        /// The config block by which it was judged.
        judged_by: BlockNumber,
        /// The newest config block below it.
        in_force: BlockNumber,
    },
    /// The storage failed.
    #[error("block {number} was not stored: {source}")]
    Storage {
        /// The first block of the batch.
        number: BlockNumber,
        /// What the storage said.
        source: BoxError,
    },
    /// The storage failed in a way that leaves open what it holds: it takes nothing more until it
    /// was opened anew.
    #[error("block {number} was not stored, nor will any other be: {source}")]
    Unusable {
        /// The first block of the batch.
        number: BlockNumber,
        /// What the storage said.
        source: BoxError,
    },
    /// The chain was closed.
    #[error("the block store was closed")]
    Closed,
}

impl AppendError {
    /// Whether the same blocks may be appended later: the storage failed, not the blocks.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Storage { .. } => true,
            Self::DoesNotLink { .. }
            | Self::OtherJudge { .. }
            | Self::Unusable { .. }
            | Self::Closed => false,
        }
    }
}

impl ChainInfo {
    /// An empty chain that begins with the genesis block.
    pub const EMPTY: Self = Self {
        first: BlockNumber::GENESIS,
        height: Height::ZERO,
        tip_hash: None,
    };

    /// Checks that a block is the next one and links to the tip.
    ///
    /// # Errors
    ///
    /// [`AppendError::DoesNotLink`] when it does not.
    pub fn check_link(&self, block: &VerifiedBlock) -> Result<(), AppendError> {
        let reason = if block.number() != self.height.next_block() {
            "its number is not the next one"
        } else if self
            .tip_hash
            .is_some_and(|tip| !block.block().links_to(&tip))
        {
            "its previous hash is not the header hash of the tip"
        } else {
            return Ok(());
        };
        Err(AppendError::DoesNotLink {
            number: block.number(),
            height: self.height,
            reason,
        })
    }

    /// Checks a batch: each block is the next one, links to the one before it, and was judged by
    /// the newest config block below it, `in_force` for the first one. A chain without any config
    /// block (`None`) takes what was judged by whatever. Gives what the chain says of itself with the
    /// batch on top.
    ///
    /// # Errors
    ///
    /// [`AppendError::DoesNotLink`] and [`AppendError::OtherJudge`].
    pub fn check_batch(
        &self,
        mut in_force: Option<BlockNumber>,
        blocks: &[VerifiedBlock],
    ) -> Result<Self, AppendError> {
        let mut chain = *self;
        for block in blocks {
            chain.check_link(block)?;
            match in_force {
                Some(in_force) if in_force != block.judged_by() => {
                    return Err(AppendError::OtherJudge {
                        number: block.number(),
                        judged_by: block.judged_by(),
                        in_force,
                    });
                }
                Some(_) | None => {}
            }
            if block.is_config() {
                in_force = Some(block.number());
            }
            chain = chain.grown_by(block);
        }
        Ok(chain)
    }

    /// What the chain says of itself with this block on top.
    #[must_use]
    pub fn grown_by(&self, block: &VerifiedBlock) -> Self {
        Self {
            first: self.first,
            height: block.number().height(),
            tip_hash: Some(block.header_hash()),
        }
    }
}

impl ReadLimits {
    /// At most so many blocks and bytes; zero counts as one.
    pub fn new(blocks: usize, bytes: usize) -> Self {
        let at_least_one = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            blocks: at_least_one(blocks),
            bytes: at_least_one(bytes),
        }
    }

    /// One block.
    pub fn one() -> Self {
        Self::new(1, 1)
    }
}
