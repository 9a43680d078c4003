// SPDX-License-Identifier: Apache-2.0
//! Where the blocks that are kept begin, and what is left over from before.

use std::path::Path;

use block_api::{BlockNumber, ChainInfo, HeaderHash};

use crate::{
    archive::Archive,
    dir::{self, Listing},
    error::OpenError,
    file::{Files, remove_if_there},
    preamble::Identity,
};

/// Where the blocks that are kept begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) first: BlockNumber,
    /// The header hash of the block before it.
    pub(crate) previous: Option<HeaderHash>,
}

impl Origin {
    pub(crate) fn new(identity: &Identity, archive: Option<&Archive>) -> Self {
        match archive {
            Some(archive) => Self {
                first: archive.first(),
                previous: archive.previous(),
            },
            None => Self {
                first: identity.start,
                previous: identity.start_previous,
            },
        }
    }
}

/// Blocks are dropped after their config blocks were put aside, so who knows of one must find the
/// other.
pub(crate) fn check_archive(
    dir: &Path,
    archive: Option<&Archive>,
    acknowledged: Option<ChainInfo>,
    identity: &Identity,
) -> Result<(), OpenError> {
    let was_dropped = acknowledged.is_some_and(|info| info.first > identity.start);
    if archive.is_none() && was_dropped {
        return Err(OpenError::DamagedConfigs {
            path: dir::archive_path(dir),
            reason: "is missing, though segments were dropped",
        });
    }
    Ok(())
}

/// Removes segments that were to be dropped, of which a crash may have left any.
pub(crate) fn finish_drop(
    files: &dyn Files,
    dir: &Path,
    listing: &mut Listing,
    first: BlockNumber,
) -> Result<(), OpenError> {
    let dropped = dropped(&listing.segments, first);
    let oldest = listing.segments.get(dropped).copied().unwrap_or(first);
    let indexes = listing.indexes.iter().filter(|index| **index < oldest);
    for path in indexes.map(|index| dir::index_path(dir, *index)) {
        remove_if_there(files, &path)
            .map_err(OpenError::io("remove the superfluous index", &path))?;
    }
    for segment in listing.segments.drain(..dropped) {
        let path = dir::segment_path(dir, segment);
        remove_if_there(files, &path)
            .map_err(OpenError::io("remove the superfluous segment", &path))?;
    }
    Ok(())
}

/// How many of these segments were to be dropped: they end at the oldest block that is kept, or
/// before it.
pub(crate) fn dropped(segments: &[BlockNumber], first: BlockNumber) -> usize {
    let next = segments.iter().skip(1);
    next.take_while(|next| **next <= first).count()
}
