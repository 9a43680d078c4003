// SPDX-License-Identifier: Apache-2.0
//! The segment that grows.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use block_api::VerifiedBlock;

use crate::{
    catalog::Segment,
    config::SyncPolicy,
    dir,
    error::StorageError,
    file::{Files, WriteFile, write_all_vectored},
    preamble::{PREAMBLE_LEN, SyncBytes},
    record::RecordHeader,
};

/// The segment that grows.
pub(super) struct Active {
    file: Box<dyn WriteFile>,
    pub(super) path: Arc<Path>,
    sync: SyncBytes,
    /// Where the last durable record ends.
    pub(super) end: u64,
    /// Up to where the index file tells of it, by what this writer knows.
    pub(super) noted: u64,
    /// Whether this writer made the index file.
    has_note: bool,
}

/// A write that failed.
pub(super) struct WriteFailure {
    pub(super) action: &'static str,
    pub(super) source: io::Error,
    /// Whether what the file holds is not known any more.
    pub(super) poisons: bool,
}

impl Active {
    pub(super) fn new(segment: &Segment, file: Box<dyn WriteFile>) -> Self {
        Self {
            file,
            path: Arc::clone(&segment.path),
            sync: segment.preamble.sync,
            end: segment.index.end,
            noted: PREAMBLE_LEN as u64,
            has_note: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end <= PREAMBLE_LEN as u64
    }

    /// Writes down what is known of the segment. Nobody waits for the disk: when the note is lost or
    /// damaged, the next open reads the segment.
    pub(super) fn note(
        &mut self,
        files: &dyn Files,
        dir: &Path,
        segment: &Segment,
    ) -> Result<(), StorageError> {
        self.noted = self.end;
        let path = dir::index_path(dir, segment.preamble.first);
        let content = segment.index.encode(&segment.preamble);
        // What this writer noted before is the shorter part of what it notes here. What another one
        // left may be anything.
        let written = match self.has_note {
            true => dir::rewrite_hint(files, &path, &content),
            false => dir::write_hint(files, &path, &content),
        };
        self.has_note = written.is_ok();
        written.map_err(|error| error.storing(&path))
    }

    /// Writes records behind the last one. After an error the file ends there again, or the failure
    /// poisons.
    pub(super) fn write(
        &mut self,
        headers: &[RecordHeader],
        blocks: &[VerifiedBlock],
        sync: SyncPolicy,
    ) -> Result<(), WriteFailure> {
        let encoded: Vec<_> = headers
            .iter()
            .map(|header| header.encode(&self.sync))
            .collect();
        let mut buffers: Vec<_> = encoded
            .iter()
            .zip(blocks)
            .flat_map(|(header, block)| [IoSlice::new(header), IoSlice::new(block.block().raw())])
            .collect();
        if let Err(source) = write_all_vectored(&mut *self.file, &mut buffers) {
            return Err(self.undo("write to the segment", source, false));
        }
        if sync == SyncPolicy::EveryBatch
            && let Err(source) = self.file.sync_data()
        {
            // The kernel drops what it could not write and reports it once: another sync would
            // succeed although the disk does not have the data.
            return Err(self.undo("sync the segment", source, true));
        }
        self.end += headers.iter().map(RecordHeader::record_len).sum::<u64>();
        Ok(())
    }

    /// Cuts off what a failed write left.
    fn undo(&mut self, action: &'static str, source: io::Error, poisons: bool) -> WriteFailure {
        match self.file.set_len(self.end) {
            Ok(()) => WriteFailure {
                action,
                source,
                poisons,
            },
            Err(source) => WriteFailure {
                action: "cut a failed write off the segment",
                source,
                poisons: true,
            },
        }
    }
}
