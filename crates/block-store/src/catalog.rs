// SPDX-License-Identifier: Apache-2.0
//! The segments of an open store, by what is known of them in memory.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use block_api::{BlockNumber, ChainInfo};
use tokio::sync::watch;

use crate::{
    archive::Archive,
    config::Retention,
    file::{Files, ReadFile},
    index::{Entry, SegmentIndex},
    preamble::{Preamble, SyncBytes},
    record::RecordHeader,
};

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    catalog: RwLock<Catalog>,
    files: Arc<dyn Files>,
    open: OpenFiles,
    published: watch::Sender<Published>,
}

/// What readers are told of the chain. It is replaced after the catalog has the blocks, so what is
/// below its height can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) info: ChainInfo,
    pub(crate) growth: Growth,
}

/// Whether the chain may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    Open,
    /// The writer takes no more blocks; what is there can be read.
    Stopped,
    Closed,
}

/// The segments, ascending.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    segments: Vec<Segment>,
    /// The config blocks from before the first segment.
    archive: Option<Archive>,
}

/// A segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) path: Arc<Path>,
    pub(crate) preamble: Preamble,
    pub(crate) index: SegmentIndex,
}

/// Where to look for a block.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: Arc<Path>,
    /// The first block of the segment, which is its name.
    pub(crate) segment: BlockNumber,
    pub(crate) sync: SyncBytes,
    /// A record at or before the block.
    pub(crate) entry: Entry,
    /// The number of the block after the last one of the segment.
    pub(crate) next: BlockNumber,
    /// Where the last record of the segment ends.
    pub(crate) end: u64,
    /// A place that the records of all wanted blocks end before, soon behind the last of them.
    pub(crate) ahead: u64,
}

/// Segment files that are open for reading, the one that was used last in front.
#[derive(Debug)]
struct OpenFiles {
    files: Mutex<VecDeque<(BlockNumber, Arc<dyn ReadFile>)>>,
    capacity: usize,
}

impl Shared {
    pub(crate) fn new(
        catalog: Catalog,
        info: ChainInfo,
        open_files: usize,
        files: Arc<dyn Files>,
    ) -> Self {
        let published = Published {
            info,
            growth: Growth::Open,
        };
        Self {
            catalog: RwLock::new(catalog),
            files,
            open: OpenFiles {
                files: Mutex::default(),
                capacity: open_files,
            },
            published: watch::Sender::new(published),
        }
    }

    /// The catalog for reading. Whoever holds it does no I/O.
    pub(crate) fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog for the writer, which alone changes it.
    pub(crate) fn catalog_mut(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn info(&self) -> ChainInfo {
        self.published.borrow().info
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    pub(crate) fn publish(&self, info: ChainInfo) {
        self.published
            .send_modify(|published| published.info = info);
    }

    /// Puts another catalog in the place of this one, whose files may be other ones.
    pub(crate) fn replace(&self, catalog: Catalog) {
        *self.catalog_mut() = catalog;
        self.open.lock().clear();
    }

    pub(crate) fn end_growth(&self, growth: Growth) {
        self.published
            .send_modify(|published| published.growth = growth);
    }

    /// The file of a segment, open for reading.
    pub(crate) fn file(&self, place: &Place) -> io::Result<Arc<dyn ReadFile>> {
        self.open.get(&*self.files, place.segment, &place.path)
    }

    /// Lets go of the segments below a block, and gives them. Whoever reads one goes on.
    pub(crate) fn drop_below(&self, first: BlockNumber) -> Vec<Segment> {
        let dropped = self.catalog_mut().drop_below(first);
        let mut open = self.open.lock();
        open.retain(|(segment, _)| *segment >= first);
        dropped
    }
}

impl Catalog {
    pub(crate) fn new(segments: Vec<Segment>, archive: Option<Archive>) -> Self {
        Self { segments, archive }
    }

    /// The config blocks from before the first segment.
    pub(crate) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Replaces the config blocks from before the first segment.
    pub(crate) fn keep_configs(&mut self, archive: Archive) {
        self.archive = Some(archive);
    }

    /// The segments below a block.
    pub(crate) fn below(&self, first: BlockNumber) -> &[Segment] {
        let below = self
            .segments
            .partition_point(|segment| segment.index.next <= first);
        self.segments.get(..below).unwrap_or_default()
    }

    fn drop_below(&mut self, first: BlockNumber) -> Vec<Segment> {
        let below = self.below(first).len();
        self.segments.drain(..below).collect()
    }

    /// The oldest block that has to be kept, if a segment before it is superfluous. The segment that
    /// grows never is.
    pub(crate) fn oldest_kept(&self, retention: Retention) -> Option<BlockNumber> {
        let (last, sealed) = self.segments.split_last()?;
        let superfluous = match retention {
            Retention::All => 0,
            Retention::Blocks(blocks) => {
                let kept = last.index.next.get().saturating_sub(blocks.get());
                sealed.partition_point(|segment| segment.index.next.get() <= kept)
            }
            Retention::Bytes(bytes) => {
                let mut behind = last.index.end;
                let kept = sealed.iter().rev().take_while(|segment| {
                    let is_kept = behind < bytes.get();
                    behind = behind.saturating_add(segment.index.end);
                    is_kept
                });
                sealed.len() - kept.count()
            }
        };
        Some(sealed.get(superfluous.checked_sub(1)?)?.index.next)
    }

    /// Adds the segment that grows from now on. It replaces one that begins with the same block.
    pub(crate) fn begin(&mut self, segment: Segment) {
        self.segments
            .retain(|other| other.preamble.first != segment.preamble.first);
        self.segments.push(segment);
    }

    /// The segment that grows.
    pub(crate) fn last(&self) -> Option<&Segment> {
        self.segments.last()
    }

    /// Adds records to the segment that grows.
    pub(crate) fn grow<'a>(&mut self, headers: impl IntoIterator<Item = &'a RecordHeader>) {
        if let Some(segment) = self.segments.last_mut() {
            for header in headers {
                segment.index.push(header);
            }
        }
    }

    /// How many bytes the segments have.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.index.end).sum()
    }

    /// Where to look for a block that is there, and for those behind it up to another one, which
    /// is not wanted.
    pub(crate) fn locate(&self, number: BlockNumber, upto: BlockNumber) -> Option<Place> {
        let segment = self.segments.get(self.behind(number).checked_sub(1)?)?;
        Some(Place {
            path: Arc::clone(&segment.path),
            segment: segment.preamble.first,
            sync: segment.preamble.sync,
            entry: segment.index.locate(number)?,
            next: segment.index.next,
            end: segment.index.end,
            ahead: segment.index.behind(upto),
        })
    }

    /// The newest config block that is not behind this block.
    pub(crate) fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        let segments = self.segments.get(..self.behind(number))?;
        let kept = segments
            .iter()
            .rev()
            .find_map(|segment| segment.index.config_at(number));
        kept.or_else(|| self.archive.as_ref()?.config_at(number))
    }

    /// How many segments begin at this block or before.
    fn behind(&self, number: BlockNumber) -> usize {
        self.segments
            .partition_point(|segment| segment.preamble.first <= number)
    }
}

impl OpenFiles {
    fn get(
        &self,
        files: &dyn Files,
        segment: BlockNumber,
        path: &Path,
    ) -> io::Result<Arc<dyn ReadFile>> {
        if let Some(file) = self.take_front(segment) {
            return Ok(file);
        }
        // Opened without the lock: two readers may both open the file, one of the two is kept.
        let file: Arc<dyn ReadFile> = files.open(path)?.into();
        let mut open = self.lock();
        if open.iter().all(|(number, _)| *number != segment) {
            open.push_front((segment, Arc::clone(&file)));
            open.truncate(self.capacity);
        }
        Ok(file)
    }

    fn take_front(&self, segment: BlockNumber) -> Option<Arc<dyn ReadFile>> {
        let mut files = self.lock();
        let at = files.iter().position(|(number, _)| *number == segment)?;
        let found = files.remove(at)?;
        let file = Arc::clone(&found.1);
        files.push_front(found);
        Some(file)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(BlockNumber, Arc<dyn ReadFile>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
