// SPDX-License-Identifier: Apache-2.0
//! Reads a store as it stands, without its lock and without changing anything, while another
//! process may be writing it.
//!
//! The order of the steps is what makes that safe. The head file is read first: what it says was
//! durable before it was written, and records below it are never written again. The segments are
//! listed after it, so every block below the head is in one of them; what they hold above it is
//! not looked at, because it may be half of a batch.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use block_api::{
    BlockNumber, BlockReader, ChainInfo, ChannelId, HeaderHash, Height, ReadError, ReadLimits,
};
use bytes::Bytes;
use tokio::task;

use crate::{
    catalog::{Catalog, Segment, Shared},
    codec::FormatError,
    dir,
    error::{DamagedRecord, OpenError, RecordFault},
    head::Head,
    index::SegmentIndex,
    preamble::Identity,
    read::read_range,
    report::HeadState,
    scan::Headers,
    segment_file::SegmentFile,
};

/// For how many bytes of a segment one entry is kept in memory.
const INDEX_INTERVAL: u64 = 256 * 1024;

/// Segment files that are held open.
const OPEN_FILES: usize = 16;

/// How often the head file is read when it shows no state. It is written without being locked out,
/// so that both slots may be caught half written when the reader is slow.
const HEAD_READS: usize = 16;

/// The chain of a store as it stood when it was opened, for reading alone. Clones are handles of
/// the same snapshot.
///
/// It takes no lock, writes nothing and repairs nothing, so a node may have the store open and
/// grow it meanwhile. It has the blocks that were acknowledged when it was opened, and never more:
/// [`BlockReader::wait_for`] says that it is closed for heights above.
#[derive(Clone)]
pub struct StoreSnapshot {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    channel: ChannelId,
    shared: Shared,
}

impl StoreSnapshot {
    /// Looks at the store in a directory. This blocks, for about as long as it takes to read the
    /// headers of the blocks in the newest segment.
    ///
    /// # Errors
    ///
    /// When there is no store, when its head file cannot be read (it is made anew when
    /// [`SegmentStore::open`](crate::SegmentStore::open) is called), when blocks that were
    /// acknowledged are missing or damaged, or when the operating system refuses something.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let (identity, info) = acknowledged(dir)?;
        let catalog = catalog(dir, &identity, &info)?;
        Ok(Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                channel: identity.channel,
                shared: Shared::new(catalog, info, OPEN_FILES),
            }),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.inner.channel
    }
}

#[async_trait]
impl BlockReader for StoreSnapshot {
    fn info(&self) -> ChainInfo {
        self.inner.shared.info()
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let info = self.info();
        if from >= info.height.next_block() {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.inner);
        let read = task::spawn_blocking(move || read_range(&inner.shared, info, from, limits));
        match read.await {
            Ok(blocks) => blocks,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ReadError::Closed),
        }
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        let info = self.info();
        if info.height >= height {
            Ok(info)
        } else {
            Err(ReadError::Closed)
        }
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.inner.shared.catalog().config_at(number)
    }
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSnapshot")
            .field("dir", &self.inner.dir)
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}

/// What the head file says: whose chain it is, and what of it was acknowledged.
fn acknowledged(dir: &Path) -> Result<(Identity, ChainInfo), OpenError> {
    let mut state = HeadState::Missing;
    for _ in 0..HEAD_READS {
        let (found, head) = Head::load(dir, false)?;
        if let Some(head) = head
            && let Some(info) = head.info
        {
            return Ok((head.identity, info));
        }
        state = found;
        if state == HeadState::Missing {
            break;
        }
    }
    let dir_owned = || dir.to_owned();
    if state != HeadState::Missing {
        return Err(OpenError::NoHead {
            dir: dir_owned(),
            reason: "is damaged",
        });
    }
    match dir::list(dir)?.segments.is_empty() {
        true => Err(OpenError::NoStore { dir: dir_owned() }),
        false => Err(OpenError::NoHead {
            dir: dir_owned(),
            reason: "is not there",
        }),
    }
}

/// The segments as far as what is in them was acknowledged.
fn catalog(dir: &Path, identity: &Identity, info: &ChainInfo) -> Result<Catalog, OpenError> {
    let height = info.height.next_block();
    let listing = dir::list(dir)?;
    let mut firsts = listing
        .segments
        .into_iter()
        .filter(|first| *first < height)
        .peekable();
    let mut segments: Vec<Segment> = Vec::new();
    while let Some(first) = firsts.next() {
        let opened = SegmentFile::open(dir, first, identity)?;
        let before = segments.last().map(|segment| &segment.index);
        check_place(dir, identity, info, &opened, before)?;
        let until = firsts.peek().copied().unwrap_or(height);
        segments.push(Segment {
            index: index(dir, &opened, until)?,
            path: opened.path.into(),
            preamble: opened.preamble,
        });
    }
    match segments.last() {
        Some(last) if last.index.last_hash != info.tip_hash => Err(OpenError::OtherTip {
            path: last.path.to_path_buf(),
            number: info.height.tip().unwrap_or(BlockNumber::GENESIS),
        }),
        None if info.first != height => Err(OpenError::Lost {
            dir: dir.to_owned(),
            acknowledged: info.height,
            found: Height::new(info.first.get()),
        }),
        Some(_) | None => Ok(Catalog::new(segments)),
    }
}

/// Checks that a segment goes on where the one before it ends, or has the oldest block.
fn check_place(
    dir: &Path,
    identity: &Identity,
    info: &ChainInfo,
    opened: &SegmentFile,
    before: Option<&SegmentIndex>,
) -> Result<(), OpenError> {
    let first = opened.preamble.first;
    let expected = before.map_or(info.first, |before| before.next);
    if first > expected {
        return Err(OpenError::MissingSegment {
            dir: dir.to_owned(),
            missing: expected,
            next: opened.path.clone(),
        });
    }
    let previous: Option<Option<HeaderHash>> = match before {
        Some(before) => Some(before.last_hash),
        None => (first == identity.start).then_some(identity.start_previous),
    };
    if previous.is_some_and(|previous| previous != opened.preamble.previous) {
        return Err(OpenError::Unlinked {
            path: opened.path.clone(),
            before: first.previous(),
        });
    }
    Ok(())
}

/// The index of a segment up to this block, which it does not reach: from its file where that is
/// all of it, else from the headers of the records.
fn index(dir: &Path, opened: &SegmentFile, until: BlockNumber) -> Result<SegmentIndex, OpenError> {
    let path = dir::index_path(dir, opened.preamble.first);
    match fs::read(&path) {
        Ok(bytes) => {
            let decoded =
                SegmentIndex::decode(&bytes, &opened.preamble, opened.length, INDEX_INTERVAL);
            match decoded {
                Ok(index) if index.next == until => return Ok(index),
                Err(FormatError::Version(version)) => {
                    return Err(OpenError::UnknownVersion { path, version });
                }
                Ok(_)
                | Err(
                    FormatError::Magic
                    | FormatError::Checksum
                    | FormatError::Truncated
                    | FormatError::Content(_),
                ) => {}
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("read the index", &path)(error)),
    }
    let mut index = SegmentIndex::new(&opened.preamble, INDEX_INTERVAL);
    let mut headers = Headers::new(&opened.file, opened.preamble.sync);
    while index.next < until {
        let (offset, number) = (index.end, index.next);
        let rest = opened.length.saturating_sub(offset);
        let read = headers
            .read(offset, number)
            .map_err(OpenError::io("read the segment", &opened.path))?;
        let fault = match read {
            Ok(header) if header.record_len() <= rest => {
                index.push(&header);
                continue;
            }
            Ok(_) => RecordFault::Incomplete,
            Err(fault) => fault,
        };
        return Err(OpenError::Damaged {
            damage: DamagedRecord {
                segment: opened.path.clone(),
                offset,
                block: number,
                fault,
            },
        });
    }
    Ok(index)
}
