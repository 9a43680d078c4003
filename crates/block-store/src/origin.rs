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
    start::StartConfig,
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

/// The config blocks from before the oldest block that is kept. A chain that does not begin with
/// block 0 has one from the start: it is put aside when the store is made, before the store has
/// anything else, and never changes.
pub(crate) fn configs_aside(
    files: &dyn Files,
    dir: &Path,
    identity: &Identity,
    start: Option<&StartConfig>,
    is_empty: bool,
) -> Result<Option<Archive>, OpenError> {
    if is_empty {
        return put_start_aside(files, dir, identity, start);
    }
    let archive = Archive::load(files, dir, identity)?;
    let Some(start) = start else {
        return Ok(archive);
    };
    let path = dir::archive_path(dir);
    let Some(kept) = &archive else {
        return Err(OpenError::DamagedConfigs {
            path,
            reason: "is missing, though the chain began behind a config block",
        });
    };
    let bytes = kept.read(start.number).transpose();
    let bytes = bytes.map_err(|_| OpenError::DamagedConfigs {
        path: path.clone(),
        reason: "is damaged: the checksum of a block does not match",
    })?;
    let first = kept.numbers().next();
    if first == Some(start.number) && bytes.as_ref() == Some(&start.bytes) {
        return Ok(archive);
    }
    Err(OpenError::OtherStartConfig {
        path,
        kept: first,
        asked: start.number,
    })
}

/// A store without a block has nothing that another beginning could contradict: what was put aside
/// for one is replaced.
fn put_start_aside(
    files: &dyn Files,
    dir: &Path,
    identity: &Identity,
    start: Option<&StartConfig>,
) -> Result<Option<Archive>, OpenError> {
    let Some(start) = start else {
        let path = dir::archive_path(dir);
        remove_if_there(files, &path).map_err(OpenError::io(
            "remove the config blocks of an empty store",
            &path,
        ))?;
        return Ok(None);
    };
    let blocks = [(start.number, start.bytes.clone())];
    let previous = identity.start_previous;
    Archive::write(
        files,
        dir,
        identity.clone(),
        identity.start,
        previous,
        &blocks,
    )
    .map(Some)
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
