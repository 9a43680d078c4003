// SPDX-License-Identifier: Apache-2.0
//! From where to where a request goes (semantics §6.3).

use block_api::ChainInfo;
use protos::{
    common::Status,
    orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position::Type},
};

/// From where to where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The number of the first block.
    pub(crate) first: u64,
    /// The request ends after the block with just this number, which need not come: a stop at
    /// `next_commit` is block 0, and one at `newest` of a stream that starts past the tip is a block
    /// before the first. Such a stream never ends, as in Fabric (H19).
    pub(crate) last: u64,
}

impl Span {
    /// Resolves a request on a chain as it is now.
    pub(crate) fn resolve(seek: &SeekInfo, chain: &ChainInfo) -> Result<Self, Status> {
        let (Some(start), Some(stop)) = (&seek.start, &seek.stop) else {
            return Err(Status::BadRequest);
        };
        let height = chain.height.get();
        let oldest = chain.first.get();
        let first = match start.r#type {
            // A chain that begins with a later block has no oldest block to speak of (FLG-05).
            Some(Type::Oldest(_)) if oldest == 0 => 0,
            Some(Type::Newest(_)) => match height.checked_sub(1) {
                Some(tip) if tip >= oldest => tip,
                _ => height,
            },
            Some(Type::Specified(SeekSpecified { number }))
                if (oldest..=height).contains(&number) =>
            {
                number
            }
            Some(Type::NextCommit(_)) => height,
            Some(Type::Oldest(_) | Type::Specified(_)) | None => return Err(Status::NotFound),
        };
        let last = match stop.r#type {
            Some(Type::Oldest(_)) => first,
            Some(Type::Newest(_)) if is_newest(start) => first,
            Some(Type::Newest(_)) => height.wrapping_sub(1),
            Some(Type::Specified(SeekSpecified { number })) if number < first => {
                return Err(Status::BadRequest);
            }
            Some(Type::Specified(SeekSpecified { number })) => number,
            Some(Type::NextCommit(_)) | None => 0,
        };
        Ok(Self { first, last })
    }

    /// How many blocks are wanted from `next` on, as far as that is known.
    pub(crate) fn remaining(&self, next: u64) -> usize {
        let remaining = self
            .last
            .checked_sub(next)
            .map_or(u64::MAX, |after| after.saturating_add(1));
        usize::try_from(remaining).unwrap_or(usize::MAX)
    }
}

/// Whether a position is the newest block.
pub(crate) fn is_newest(position: &SeekPosition) -> bool {
    matches!(position.r#type, Some(Type::Newest(_)))
}
