// SPDX-License-Identifier: Apache-2.0
//! Drops segments that need not be kept any longer.
//!
//! First their config blocks are put aside, in a file that is durable before anything is dropped and
//! says which block is the oldest from then on; then readers are told; then the files are removed. A
//! crash may leave any of these files: the next opening removes the rest.

use block_api::{BlockNumber, ReadError, ReadLimits};
use bytes::Bytes;
use tracing::{debug, warn};

use super::Writer;
use crate::{
    archive::Archive,
    catalog::Segment,
    dir,
    error::{OpenError, StorageError},
    file::remove_if_there,
    read::read_range,
};

/// Why a segment was not dropped.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Archived(#[from] StorageError),
    #[error("config block {0} is not found")]
    Missing(BlockNumber),
    #[error(transparent)]
    Write(#[from] OpenError),
}

impl Writer {
    /// Drops what is superfluous. That it cannot be dropped is no reason to refuse blocks: it is
    /// tried again with the next ones.
    pub(super) fn drop_superfluous(&mut self) {
        let retention = self.config.get().retention;
        let oldest = self.shared.catalog().oldest_kept(retention);
        let Some(first) = oldest.filter(|_| self.poisoned.is_none()) else {
            return;
        };
        let archive = match self.put_configs_aside(first) {
            Ok(archive) => archive,
            Err(err) => {
                warn!(%err, block = %first, "blocks that need not be kept were not dropped");
                return;
            }
        };
        self.shared.catalog_mut().keep_configs(archive);
        self.info.first = first;
        self.note_head();
        self.shared.publish(self.info);
        let dropped = self.shared.drop_below(first);
        debug!(segments = dropped.len(), oldest = %first, "segments dropped");
        dropped.iter().for_each(|segment| self.remove(segment));
    }

    /// Writes the config blocks below a block into a file of their own.
    fn put_configs_aside(&self, first: BlockNumber) -> Result<Archive, KeepError> {
        let (archive, below) = {
            let catalog = self.shared.catalog();
            (catalog.archive().cloned(), catalog.below(first).to_vec())
        };
        let mut blocks: Vec<(BlockNumber, Bytes)> = Vec::new();
        if let Some(archive) = &archive {
            for number in archive.numbers() {
                let block = archive.read(number).ok_or(KeepError::Missing(number))??;
                blocks.push((number, block));
            }
        }
        let mut previous = None;
        for segment in &below {
            for &number in segment.index.configs() {
                let read = read_range(&self.shared, self.info, number, ReadLimits::one())?;
                let block = read.into_iter().next().ok_or(KeepError::Missing(number))?;
                blocks.push((number, block));
            }
            previous = segment.index.last_hash;
        }
        let identity = self.identity.clone();
        let archive = Archive::write(&*self.files, &self.dir, identity, first, previous, &blocks)?;
        Ok(archive)
    }

    fn remove(&self, segment: &Segment) {
        let first = segment.preamble.first;
        for path in [
            dir::index_path(&self.dir, first),
            segment.path.to_path_buf(),
        ] {
            if let Err(err) = remove_if_there(&*self.files, &path) {
                warn!(%err, path = %path.display(), "a file that need not be kept was not removed");
            }
        }
    }
}
