// SPDX-License-Identifier: Apache-2.0
//! A segment that is made to stand in the place of a damaged one.

use std::{
    fmt,
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_api::{AppendError, BlockNumber, ChainInfo, HeaderHash, VerifiedBlock};
use tracing::warn;

use super::RepairError;
use crate::{
    catalog::Segment,
    dir,
    error::StorageError,
    file::{Files, WriteFile, write_all_vectored},
    index::SegmentIndex,
    preamble::{Identity, Kind, Preamble, SyncBytes},
    record::RecordHeader,
};

/// What belongs in the place of a damaged segment.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    /// The chain below it.
    pub(super) chain: ChainInfo,
    /// The newest config block below it.
    pub(super) in_force: Option<BlockNumber>,
    pub(super) identity: Identity,
    /// The header hash of its last block, where what comes behind tells it.
    pub(super) end_hash: Option<HeaderHash>,
    /// Whether there is a segment behind it.
    pub(super) is_sealed: bool,
}

/// A segment that is being made. Dropping it leaves the store as it is.
pub struct Replacement {
    files: Arc<dyn Files>,
    dir: PathBuf,
    gap: Gap,
    preamble: Preamble,
    index: SegmentIndex,
    file: Box<dyn WriteFile>,
    /// Its name until it is finished; `None` when it is.
    temporary: Option<PathBuf>,
}

impl Replacement {
    pub(super) fn create(
        files: Arc<dyn Files>,
        dir: &Path,
        gap: Gap,
        interval: u64,
    ) -> Result<Self, RepairError> {
        let preamble = Preamble {
            kind: Kind::Segment,
            sync: SyncBytes::random(),
            first: gap.first,
            previous: gap.chain.tip_hash,
            identity: gap.identity.clone(),
        };
        let path = dir::segment_path(dir, gap.first);
        let temporary = dir::temporary_path(&path);
        let file =
            dir::create_new(&*files, &temporary).map_err(|error| error.storing(&temporary))?;
        let mut replacement = Self {
            index: SegmentIndex::new(&preamble, interval),
            files,
            dir: dir.to_owned(),
            gap,
            preamble,
            file,
            temporary: Some(temporary),
        };
        let preamble = replacement.preamble.encode();
        replacement.write(&mut [IoSlice::new(&preamble)])?;
        Ok(replacement)
    }

    /// The number of the block that comes next; `None` when all have come.
    pub fn next(&self) -> Option<BlockNumber> {
        Some(self.index.next).filter(|next| *next <= self.gap.last)
    }

    /// The last block that is wanted.
    pub fn last(&self) -> BlockNumber {
        self.gap.last
    }

    /// Takes the next block.
    ///
    /// # Errors
    ///
    /// When it is not the next one, does not link to the one before it, was judged by another
    /// configuration than that of the newest config block below it, or is past the last one: nothing
    /// was taken then, and another block may be pushed. When the operating system refuses something,
    /// the replacement is of no more use.
    pub fn push(&mut self, block: &VerifiedBlock) -> Result<(), RepairError> {
        let number = block.number();
        if number > self.gap.last {
            return Err(RepairError::PastTheEnd {
                number,
                last: self.gap.last,
            });
        }
        let grown = self
            .gap
            .chain
            .check_batch(self.gap.in_force, std::slice::from_ref(block))
            .map_err(RepairError::Block)?;
        let genesis = self.gap.identity.genesis;
        if number == BlockNumber::GENESIS && genesis.is_some_and(|hash| hash != block.header_hash())
        {
            return Err(RepairError::Block(AppendError::DoesNotLink {
                number,
                height: self.gap.chain.height,
                reason: "it is not the genesis block that the store was made for",
            }));
        }
        if number == self.gap.last
            && self
                .gap
                .end_hash
                .is_some_and(|end| end != block.header_hash())
        {
            return Err(RepairError::OtherEnd { number });
        }
        let raw = block.block().raw();
        // All of it is durable before any of it is seen, so each block may count as a batch.
        let header =
            RecordHeader::of(block, number).ok_or(StorageError::TooLarge { bytes: raw.len() })?;
        let encoded = header.encode(&self.preamble.sync);
        self.write(&mut [IoSlice::new(&encoded), IoSlice::new(raw)])?;
        self.index.push(&header);
        self.gap.chain = grown;
        if block.is_config() {
            self.gap.in_force = Some(number);
        }
        Ok(())
    }

    /// Makes the segment durable, and gives it the name of the damaged one.
    pub(super) fn put_in_place(mut self) -> Result<Segment, RepairError> {
        if let Some(next) = self.next() {
            return Err(RepairError::Incomplete {
                next,
                last: self.gap.last,
            });
        }
        let path = dir::segment_path(&self.dir, self.gap.first);
        if let Some(temporary) = &self.temporary {
            self.file
                .sync_all()
                .map_err(StorageError::io("sync the segment", temporary))?;
            dir::put_in_place(&*self.files, &self.dir, temporary, &path)
                .map_err(|error| error.storing(&path))?;
        }
        self.temporary = None;
        if self.gap.is_sealed {
            let index = dir::index_path(&self.dir, self.gap.first);
            let content = self.index.encode(&self.preamble);
            // Without it the next open reads the segment.
            if let Err(error) = dir::write_whole(&*self.files, &self.dir, &index, &content) {
                let err = error.storing(&index);
                warn!(%err, "the index of a repaired segment was not written");
            }
        }
        Ok(Segment {
            path: path.into(),
            preamble: self.preamble.clone(),
            index: self.index.clone(),
        })
    }

    fn write(&mut self, buffers: &mut [IoSlice<'_>]) -> Result<(), RepairError> {
        let path = self.temporary.as_deref().unwrap_or(&self.dir);
        let written = write_all_vectored(&mut *self.file, buffers);
        Ok(written.map_err(StorageError::io("write to the segment", path))?)
    }
}

impl Drop for Replacement {
    /// What cannot be removed here is removed when the store is opened.
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = self.files.remove(temporary);
        }
    }
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement")
            .field("dir", &self.dir)
            .field("next", &self.next())
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}
