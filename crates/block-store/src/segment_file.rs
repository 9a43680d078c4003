// SPDX-License-Identifier: Apache-2.0
//! A segment file whose preamble was read, and whether it is part of a chain.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use block_api::BlockNumber;

use crate::{
    dir,
    error::OpenError,
    file::ReadAt,
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble},
};

/// A segment file whose preamble was read.
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Its length when it was opened.
    pub(crate) length: u64,
    pub(crate) preamble: Preamble,
}

impl SegmentFile {
    /// Opens the segment that is named after its first block, if it is one of this chain.
    pub(crate) fn open(
        dir: &Path,
        first: BlockNumber,
        chain: &Identity,
    ) -> Result<Self, OpenError> {
        let path = dir::segment_path(dir, first);
        let file = File::open(&path).map_err(OpenError::io("open the segment", &path))?;
        let length = file
            .metadata()
            .map_err(OpenError::io("read the size of the segment", &path))?
            .len();
        let mut bytes = [0; PREAMBLE_LEN];
        let read = file
            .read_full_at(&mut bytes, 0)
            .map_err(OpenError::io("read the segment", &path))?;
        let preamble = Preamble::decode(Kind::Segment, bytes.get(..read).unwrap_or(&bytes))
            .map_err(|error| OpenError::preamble(&path, error))?;
        check_identity(&path, &preamble.identity, chain)?;
        if preamble.first != first {
            return Err(OpenError::DamagedSegment {
                path,
                reason: "it is not the segment that its name says",
            });
        }
        Ok(Self {
            path,
            file,
            length,
            preamble,
        })
    }
}

/// Checks that what a file says of its chain does not contradict what is asked for.
pub(crate) fn check_identity(
    path: &Path,
    kept: &Identity,
    asked: &Identity,
) -> Result<(), OpenError> {
    let path = path.to_owned();
    if kept.channel != asked.channel {
        return Err(OpenError::OtherChannel {
            path,
            kept: kept.channel.clone(),
            asked: asked.channel.clone(),
        });
    }
    if let (Some(kept), Some(asked)) = (kept.genesis, asked.genesis)
        && kept != asked
    {
        return Err(OpenError::OtherGenesis { path, kept, asked });
    }
    if (kept.start, kept.start_previous) != (asked.start, asked.start_previous) {
        return Err(OpenError::OtherStart {
            path,
            kept: kept.start,
            kept_previous: kept.start_previous,
            asked: asked.start,
            asked_previous: asked.start_previous,
        });
    }
    Ok(())
}
