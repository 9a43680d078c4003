// SPDX-License-Identifier: Apache-2.0
//! Brings the segment that grows into a state in which it can be appended to.

use crate::{error::OpenError, file::Files, scan::Scan, segment_file::SegmentFile};

/// How much is rewritten at once.
const CHUNK: usize = 1 << 20;

/// Cuts a segment behind its last good record, and makes those durable of which nothing says that
/// they are. They are written once more before the sync: when an earlier sync of theirs failed, the
/// kernel may hold them in memory, believe that the disk has them, and have nothing to sync.
pub(crate) fn settle(
    files: &dyn Files,
    segment: &SegmentFile,
    found: &Scan,
) -> Result<(), OpenError> {
    let (path, reader) = (&segment.path, &segment.file);
    if found.stop.is_none() && found.unproven_offset.is_none() {
        return Ok(());
    }
    let mut file = files
        .edit(path)
        .map_err(OpenError::io("open the segment", path))?;
    let end = found.index.end;
    if found.stop.is_some() {
        file.set_len(end)
            .map_err(OpenError::io("cut the torn tail of the segment", path))?;
    }
    let mut at = found.unproven_offset.unwrap_or(end);
    let mut buffer = Vec::new();
    while at < end {
        buffer.resize(usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK), 0);
        let read = reader
            .read_full_at(&mut buffer, at)
            .map_err(OpenError::io("read the segment", path))?;
        buffer.truncate(read);
        if buffer.is_empty() {
            break;
        }
        file.write_all_at(&buffer, at)
            .map_err(OpenError::io("rewrite the tail of the segment", path))?;
        at += read as u64;
    }
    file.sync_all()
        .map_err(OpenError::io("sync the segment", path))
}
