// SPDX-License-Identifier: Apache-2.0
//! A segment file whose preamble was read, and whether it is part of a chain.

use std::{
    io,
    path::{Path, PathBuf},
};

use block_api::BlockNumber;

use crate::{
    codec::FormatError,
    dir,
    error::{Damage, OpenError, SegmentFault},
    file::{Files, ReadFile, read_whole},
    index::SegmentIndex,
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble},
};

/// A segment file whose preamble was read.
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn ReadFile>,
    /// Its length when it was opened.
    pub(crate) length: u64,
    pub(crate) preamble: Preamble,
}

impl SegmentFile {
    /// Opens the segment that is named after its first block, if it is one of this chain. Its last
    /// block is for the message alone.
    pub(crate) fn open(
        files: &dyn Files,
        dir: &Path,
        first: BlockNumber,
        last: Option<BlockNumber>,
        chain: &Identity,
    ) -> Result<Self, OpenError> {
        let path = dir::segment_path(dir, first);
        let file = files
            .open(&path)
            .map_err(OpenError::io("open the segment", &path))?;
        let length = file
            .length()
            .map_err(OpenError::io("read the size of the segment", &path))?;
        let mut bytes = [0; PREAMBLE_LEN];
        let read = file
            .read_full_at(&mut bytes, 0)
            .map_err(OpenError::io("read the segment", &path))?;
        let damaged = |reason| OpenError::DamagedSegment {
            damage: Damage {
                segment: path.clone(),
                from: first,
                to: last,
                fault: SegmentFault::Preamble { reason },
            },
        };
        let preamble = Preamble::decode(Kind::Segment, bytes.get(..read).unwrap_or(&bytes));
        let preamble = preamble.map_err(|error| match error {
            FormatError::Version(version) => OpenError::UnknownVersion {
                path: path.clone(),
                version,
            },
            FormatError::Magic => damaged("its first bytes are not those of a segment"),
            FormatError::Checksum => damaged("the checksum of its beginning does not match"),
            FormatError::Truncated => damaged("it ends inside its beginning"),
            FormatError::Content(reason) => damaged(reason),
        })?;
        check_identity(&path, &preamble.identity, chain)?;
        if preamble.first != first {
            return Err(damaged("it is not the segment that its name says"));
        }
        Ok(Self {
            path,
            file,
            length,
            preamble,
        })
    }

    /// What the index file says of the segment: of all of it, or of its beginning. `None` when there
    /// is no such file, or a damaged one, or that of another segment.
    pub(crate) fn load_index(
        &self,
        files: &dyn Files,
        dir: &Path,
        interval: u64,
    ) -> Result<Option<SegmentIndex>, OpenError> {
        let path = dir::index_path(dir, self.preamble.first);
        let bytes = match read_whole(files, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("read the index", &path)(error)),
        };
        match SegmentIndex::decode(&bytes, &self.preamble, interval) {
            Ok(index) => Ok(Some(index).filter(|index| index.end <= self.length)),
            Err(FormatError::Version(version)) => Err(OpenError::UnknownVersion { path, version }),
            Err(
                FormatError::Magic
                | FormatError::Checksum
                | FormatError::Truncated
                | FormatError::Content(_),
            ) => Ok(None),
        }
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
