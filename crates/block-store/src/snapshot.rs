// SPDX-License-Identifier: Apache-2.0
//! Reads a store as it stands, without its lock and without changing anything, while another
//! process may be writing it.
//!
//! The order of the steps is what makes that safe. The head file is read first: what it says was
//! durable before it was written, and records below it are never written again. The segments are
//! listed after it, so every block below the head is in one of them; what they hold above it is
//! not looked at, because it may be half of a batch.

use std::{
    fmt,
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
    archive::Archive,
    catalog::{Catalog, Segment, Shared},
    dir,
    error::{Damage, DamagedRecord, OpenError, RecordFault, SegmentFault},
    file::SystemFiles,
    head::Head,
    index::SegmentIndex,
    origin::{Origin, dropped},
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

/// How often a directory is looked at whose segments are dropped meanwhile.
const LOOKS: usize = 4;

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
    identity: Identity,
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
        let mut looks = 1;
        let (identity, catalog, info) = loop {
            let (identity, info) = acknowledged(dir)?;
            let archive = Archive::load(&SystemFiles, dir, &identity)?;
            let origin = Origin::new(&identity, archive.as_ref());
            match segments(dir, &identity, &info, origin) {
                Ok(segments) => {
                    let info = ChainInfo {
                        first: segments
                            .first()
                            .map_or(info.first, |first| first.preamble.first),
                        ..info
                    };
                    break (identity, Catalog::new(segments, archive), info);
                }
                // A segment may have been dropped since it was listed.
                Err(_) if looks < LOOKS && oldest(dir, &identity)? != origin.first => looks += 1,
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                channel: identity.channel.clone(),
                shared: Shared::new(catalog, info, OPEN_FILES, Arc::new(SystemFiles)),
                identity,
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
        let read = task::spawn_blocking(move || {
            let read = read_range(&inner.shared, info, from, limits);
            match read {
                Err(ReadError::Storage { number, source }) => {
                    match oldest(&inner.dir, &inner.identity) {
                        // Whoever writes the store has dropped it meanwhile.
                        Ok(first) if number < first => Err(ReadError::Gone { number, first }),
                        Ok(_) | Err(_) => Err(ReadError::Storage { number, source }),
                    }
                }
                read => read,
            }
        });
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
        let (found, head) = Head::load(&SystemFiles, dir, false)?;
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

/// The oldest block that is kept.
fn oldest(dir: &Path, identity: &Identity) -> Result<BlockNumber, OpenError> {
    let archive = Archive::load(&SystemFiles, dir, identity)?;
    Ok(Origin::new(identity, archive.as_ref()).first)
}

/// The segments as far as what is in them was acknowledged.
fn segments(
    dir: &Path,
    identity: &Identity,
    info: &ChainInfo,
    origin: Origin,
) -> Result<Vec<Segment>, OpenError> {
    let height = info.height.next_block();
    let listing = dir::list(dir)?;
    let dropped = dropped(&listing.segments, origin.first);
    let mut firsts = listing
        .segments
        .into_iter()
        .skip(dropped)
        .filter(|first| *first < height)
        .peekable();
    let mut segments: Vec<Segment> = Vec::new();
    while let Some(first) = firsts.next() {
        let until = firsts.peek().copied().unwrap_or(height);
        let opened = SegmentFile::open(&SystemFiles, dir, first, until.previous(), identity)?;
        let before = segments.last().map(|segment| &segment.index);
        check_place(dir, origin, &opened, before)?;
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
        None if origin.first != height => Err(OpenError::Lost {
            dir: dir.to_owned(),
            acknowledged: info.height,
            found: Height::new(origin.first.get()),
        }),
        Some(_) | None => Ok(segments),
    }
}

/// Checks that a segment goes on where the one before it ends, or has the oldest block.
fn check_place(
    dir: &Path,
    origin: Origin,
    opened: &SegmentFile,
    before: Option<&SegmentIndex>,
) -> Result<(), OpenError> {
    let first = opened.preamble.first;
    let expected = before.map_or(origin.first, |before| before.next);
    if first > expected {
        return Err(OpenError::DamagedSegment {
            damage: Damage {
                segment: dir::segment_path(dir, expected),
                from: expected,
                to: first.previous(),
                fault: SegmentFault::Missing,
            },
        });
    }
    let previous: Option<Option<HeaderHash>> = match before {
        Some(before) => Some(before.last_hash),
        None => (first == origin.first).then_some(origin.previous),
    };
    if previous.is_some_and(|previous| previous != opened.preamble.previous) {
        return Err(OpenError::Unlinked {
            path: opened.path.clone(),
            before: first.previous(),
        });
    }
    Ok(())
}

/// The index of a segment up to this block, which it does not reach: from its file as far as that
/// goes, and from the headers of the records behind.
fn index(dir: &Path, opened: &SegmentFile, until: BlockNumber) -> Result<SegmentIndex, OpenError> {
    let known = opened.load_index(&SystemFiles, dir, INDEX_INTERVAL)?;
    let mut index = known
        .filter(|index| index.next <= until)
        .unwrap_or_else(|| SegmentIndex::new(&opened.preamble, INDEX_INTERVAL));
    let mut headers = Headers::new(&*opened.file, opened.preamble.sync);
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
        return Err(OpenError::DamagedSegment {
            damage: Damage {
                segment: opened.path.clone(),
                from: opened.preamble.first,
                to: until.previous(),
                fault: SegmentFault::Record(DamagedRecord {
                    segment: opened.path.clone(),
                    offset,
                    block: number,
                    fault,
                }),
            },
        });
    }
    Ok(index)
}
