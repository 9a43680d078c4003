// SPDX-License-Identifier: Apache-2.0
//! The one thread that writes a store.
//!
//! It is a thread of its own rather than a blocking task per batch, so that appends keep their
//! order and never queue up behind reads when the runtime's blocking threads are all taken.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use block_api::{AppendError, BlockNumber, ChainInfo, VerifiedBlock};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::{
    catalog::{Growth, Segment, Shared},
    config::{SyncPolicy, ValidConfig},
    dir,
    error::{OpenError, StorageError},
    file::{Wrap, WriteEnd, write_all_vectored},
    head::HeadFile,
    index::SegmentIndex,
    lock::DirLock,
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble, SyncBytes},
    record::RecordHeader,
};

/// What the writer is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    Append(
        Vec<VerifiedBlock>,
        oneshot::Sender<Result<ChainInfo, AppendError>>,
    ),
    Close,
}

/// The writer of a store.
pub(crate) struct Writer {
    dir: PathBuf,
    config: ValidConfig,
    identity: Identity,
    head: HeadFile,
    active: Option<Active>,
    info: ChainInfo,
    shared: Arc<Shared>,
    wrap: Wrap,
    poisoned: Option<Poison>,
    _lock: DirLock,
}

/// What a writer is made of.
pub(crate) struct Parts {
    pub(crate) dir: PathBuf,
    pub(crate) config: ValidConfig,
    pub(crate) identity: Identity,
    pub(crate) head: HeadFile,
    pub(crate) info: ChainInfo,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wrap: Wrap,
    pub(crate) lock: DirLock,
}

/// The segment that grows.
struct Active {
    file: Box<dyn WriteEnd>,
    path: Arc<Path>,
    sync: SyncBytes,
    /// Where the last durable record ends.
    end: u64,
}

/// Why the writer takes no more blocks.
#[derive(Debug, Clone)]
struct Poison {
    action: &'static str,
    path: PathBuf,
    reason: String,
}

/// A write that failed.
struct WriteFailure {
    action: &'static str,
    source: io::Error,
    /// Whether what the file holds is not known any more.
    poisons: bool,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Result<Self, OpenError> {
        let active = parts.shared.catalog().last().cloned();
        let active = active
            .map(|segment| {
                let file = OpenOptions::new()
                    .append(true)
                    .open(&segment.path)
                    .map_err(OpenError::io("open the segment", &segment.path))?;
                Ok::<_, OpenError>(Active::new(&segment, (parts.wrap)(file)))
            })
            .transpose()?;
        Ok(Self {
            dir: parts.dir,
            config: parts.config,
            identity: parts.identity,
            head: parts.head,
            active,
            info: parts.info,
            shared: parts.shared,
            wrap: parts.wrap,
            poisoned: None,
            _lock: parts.lock,
        })
    }

    /// Does what it is told until it is told to close, or nobody is left to tell it anything.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Append(blocks, answer) => {
                    // Who dropped the future does not wait for the answer.
                    let _ = answer.send(self.append(&blocks));
                }
                Command::Close => break,
            }
        }
        self.sync_head();
    }

    fn append(&mut self, blocks: &[VerifiedBlock]) -> Result<ChainInfo, AppendError> {
        let Some(first) = blocks.first() else {
            return Ok(self.info);
        };
        let grown = self.check(blocks)?;
        self.store(first, blocks)
            .map_err(|source| append_error(first.number(), source))?;
        self.identity = self.identity_with(first);
        self.info = grown;
        self.note_head();
        self.shared.publish(grown);
        Ok(grown)
    }

    /// What the chain says of itself with all of these blocks on top.
    fn check(&self, blocks: &[VerifiedBlock]) -> Result<ChainInfo, AppendError> {
        let tip = self.info.height.tip();
        let in_force = tip.and_then(|tip| self.shared.catalog().config_at(tip));
        let grown = self.info.check_batch(in_force, blocks)?;
        let other_genesis = blocks.first().filter(|first| {
            first.number() == BlockNumber::GENESIS
                && self
                    .identity
                    .genesis
                    .is_some_and(|genesis| genesis != first.header_hash())
        });
        match other_genesis {
            Some(block) => Err(AppendError::DoesNotLink {
                number: block.number(),
                height: self.info.height,
                reason: "it is not the genesis block that the store was made for",
            }),
            None => Ok(grown),
        }
    }

    fn store(
        &mut self,
        first: &VerifiedBlock,
        blocks: &[VerifiedBlock],
    ) -> Result<(), StorageError> {
        if let Some(Poison {
            action,
            path,
            reason,
        }) = self.poisoned.clone()
        {
            return Err(StorageError::Poisoned {
                action,
                path,
                reason,
            });
        }
        let headers = blocks
            .iter()
            .map(|block| {
                RecordHeader::of(block, first.number()).ok_or_else(|| StorageError::TooLarge {
                    bytes: block.block().raw().len(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let limit = self.config.get().segment_bytes.get() as u64;
        let is_full = |active: &Active| !active.is_empty() && active.end >= limit;
        // A segment that was begun for a block 0 that was never stored names the hash of that one.
        let is_unbound = self.info.height.next_block() == self.identity.start;
        if is_unbound || self.active.as_ref().is_none_or(is_full) {
            self.begin_segment(first)?;
        }
        let sync = self.config.get().sync;
        let active = self
            .active
            .as_mut()
            .expect("invariant: a segment was begun");
        match active.write(&headers, blocks, sync) {
            Ok(()) => {
                self.shared.catalog_mut().grow(&headers);
                Ok(())
            }
            Err(failure) => {
                let path = active.path.to_path_buf();
                if failure.poisons {
                    self.poison(failure.action, &path, &failure.source);
                }
                Err(StorageError::io(failure.action, &path)(failure.source))
            }
        }
    }

    /// Begins the segment of this block, and seals the one before. One without a record is replaced.
    fn begin_segment(&mut self, first: &VerifiedBlock) -> Result<(), StorageError> {
        let has_records = self
            .active
            .as_ref()
            .is_some_and(|active| !active.is_empty());
        if has_records {
            // From here on the head file lags behind by one segment at most.
            self.sync_head();
        }
        let preamble = Preamble {
            kind: Kind::Segment,
            sync: SyncBytes::random(),
            first: first.number(),
            previous: self.info.tip_hash,
            identity: self.identity_with(first),
        };
        let path = dir::segment_path(&self.dir, first.number());
        let file = dir::write_whole(&self.dir, &path, &preamble.encode())
            .map_err(StorageError::io("begin the segment", &path))?;
        let interval = self.config.get().index_interval_bytes.get() as u64;
        let index = SegmentIndex::new(&preamble, interval);
        let segment = Segment {
            path: path.into(),
            preamble,
            index,
        };
        if has_records {
            self.seal();
        }
        self.active = Some(Active::new(&segment, (self.wrap)(file)));
        self.shared.catalog_mut().begin(segment);
        Ok(())
    }

    /// The identity of the chain, with the genesis hash if this is the genesis block.
    fn identity_with(&self, block: &VerifiedBlock) -> Identity {
        let mut identity = self.identity.clone();
        if block.number() == BlockNumber::GENESIS {
            identity.genesis = Some(block.header_hash());
        }
        identity
    }

    /// Writes the index of the segment that is full. Without it the next open reads the segment.
    fn seal(&self) {
        let sealed = self.shared.catalog().last().cloned();
        if let Some(sealed) = sealed {
            let path = dir::index_path(&self.dir, sealed.preamble.first);
            if let Err(err) =
                dir::write_whole(&self.dir, &path, &sealed.index.encode(&sealed.preamble))
            {
                warn!(%err, path = %path.display(), "the index of a sealed segment was not written");
            }
        }
    }

    /// Notes what is about to be acknowledged. That it cannot be noted is no reason to refuse what
    /// is durable: the head file then says less than it might, which is safe.
    fn note_head(&mut self) {
        if let Err(err) = self.head.write(&self.info) {
            warn!(%err, path = %self.head.path().display(), "the acknowledged height was not noted");
        }
    }

    fn sync_head(&self) {
        if self.config.get().sync == SyncPolicy::EveryBatch
            && let Err(err) = self.head.sync()
        {
            warn!(%err, path = %self.head.path().display(), "the acknowledged height was not synced");
        }
    }

    fn poison(&mut self, action: &'static str, path: &Path, source: &io::Error) {
        self.poisoned = Some(Poison {
            action,
            path: path.to_owned(),
            reason: source.to_string(),
        });
        self.shared.end_growth(Growth::Stopped);
    }
}

impl Drop for Writer {
    /// Whoever waits is told, also when the writer ends by a panic.
    fn drop(&mut self) {
        self.shared.end_growth(Growth::Closed);
    }
}

impl Active {
    fn new(segment: &Segment, file: Box<dyn WriteEnd>) -> Self {
        Self {
            file,
            path: Arc::clone(&segment.path),
            sync: segment.preamble.sync,
            end: segment.index.end,
        }
    }

    fn is_empty(&self) -> bool {
        self.end <= PREAMBLE_LEN as u64
    }

    /// Writes records behind the last one. After an error the file ends there again, or the failure
    /// poisons.
    fn write(
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

/// The segment as it is written outside of tests.
pub(crate) fn plain_file(file: File) -> Box<dyn WriteEnd> {
    Box::new(file)
}

/// What a storage error means for whoever appends: to try again, or not.
fn append_error(number: BlockNumber, source: StorageError) -> AppendError {
    let unusable = matches!(source, StorageError::Poisoned { .. });
    let source = source.into();
    if unusable {
        AppendError::Unusable { number, source }
    } else {
        AppendError::Storage { number, source }
    }
}
