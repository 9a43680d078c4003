// SPDX-License-Identifier: Apache-2.0
//! The one thread that writes a store.
//!
//! It is a thread of its own rather than a blocking task per batch, so that appends keep their
//! order and never queue up behind reads when the runtime's blocking threads are all taken.

mod active;
mod reopen;
mod retain;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_api::{AppendError, BlockNumber, ChainInfo, VerifiedBlock};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use self::active::Active;
use crate::{
    catalog::{Growth, Segment, Shared},
    config::{SyncPolicy, ValidConfig},
    dir,
    error::{OpenError, StorageError},
    file::Files,
    head::HeadFile,
    index::SegmentIndex,
    lock::DirLock,
    preamble::{Identity, Kind, Preamble, SyncBytes},
    record::RecordHeader,
};

/// After so many intervals of a segment's index, what is known of the segment is written down while
/// it grows, so that the next opening need not walk over it.
const NOTED_INTERVALS: u64 = 16;

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
    files: Arc<dyn Files>,
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
    pub(crate) files: Arc<dyn Files>,
    pub(crate) lock: DirLock,
}

/// Why the writer takes no more blocks.
#[derive(Debug, Clone)]
struct Poison {
    action: &'static str,
    path: PathBuf,
    reason: String,
    /// Whether there was no room: the store is opened anew by itself.
    is_full: bool,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Result<Self, OpenError> {
        let active = reopen::active(&parts.shared, &*parts.files)?;
        Ok(Self {
            dir: parts.dir,
            config: parts.config,
            identity: parts.identity,
            head: parts.head,
            active,
            info: parts.info,
            shared: parts.shared,
            files: parts.files,
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
        self.reopen_when_full()
            .map_err(|source| self.append_error(first.number(), source))?;
        // What a full disk kept from being dropped may make the room for these blocks.
        self.drop_superfluous();
        let grown = self.check(blocks)?;
        self.store(first, blocks)
            .map_err(|source| self.append_error(first.number(), source))?;
        self.identity = self.identity_with(first);
        self.info = grown;
        self.note_head();
        self.shared.publish(grown);
        self.drop_superfluous();
        Ok(self.info)
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
        if let Some(poison) = self.poisoned.clone() {
            return Err(poison.error());
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
        self.note_index();
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
        let begun = dir::write_whole(&*self.files, &self.dir, &path, &preamble.encode());
        let file = match begun {
            Ok(file) => file,
            Err(error) => {
                if error.is_in_doubt {
                    self.poison(error.action(), &path, error.source());
                }
                return Err(error.storing(&path));
            }
        };
        let interval = self.config.get().index_interval_bytes.get() as u64;
        let index = SegmentIndex::new(&preamble, interval);
        let segment = Segment {
            path: path.into(),
            preamble,
            index,
        };
        if has_records {
            // The one that is full: what its index lacks would be read at every opening.
            self.write_index();
        }
        self.active = Some(Active::new(&segment, file));
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

    /// Writes down what is known of the segment that grows, from time to time. All of it was
    /// acknowledged.
    fn note_index(&mut self) {
        let interval = self.config.get().index_interval_bytes.get() as u64;
        let is_due =
            |active: &Active| active.end - active.noted >= NOTED_INTERVALS.saturating_mul(interval);
        if self.active.as_ref().is_some_and(is_due) {
            self.write_index();
        }
    }

    /// Writes the index of the segment that grows. Without it the next open reads the segment.
    fn write_index(&mut self) {
        let segment = self.shared.catalog().last().cloned();
        let (Some(active), Some(segment)) = (self.active.as_mut(), segment) else {
            return;
        };
        if let Err(err) = active.note(&*self.files, &self.dir, &segment) {
            warn!(%err, "the index of a segment was not written");
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
        let poison = Poison::new(action, path, source);
        if !poison.is_full {
            self.shared.end_growth(Growth::Stopped);
        }
        self.poisoned = Some(poison);
    }

    /// What a storage error means for whoever appends: to try again, or not.
    fn append_error(&self, number: BlockNumber, source: StorageError) -> AppendError {
        let source = source.into();
        if self.poisoned.as_ref().is_some_and(|poison| !poison.is_full) {
            AppendError::Unusable { number, source }
        } else {
            AppendError::Storage { number, source }
        }
    }
}

impl Drop for Writer {
    /// Whoever waits is told, also when the writer ends by a panic.
    fn drop(&mut self) {
        self.shared.end_growth(Growth::Closed);
    }
}
