// SPDX-License-Identifier: Apache-2.0
//! The handle of a store.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use block_api::{
    AppendError, BlockNumber, BlockReader, BlockStore, ChainInfo, Height, ReadError, ReadLimits,
    VerifiedBlock,
};
use bytes::Bytes;
use tokio::{
    sync::{Mutex, Semaphore, mpsc, oneshot},
    task,
};

use crate::{
    catalog::{Growth, Shared},
    config::Config,
    dir,
    error::OpenError,
    file::{Files, SystemFiles},
    lock::DirLock,
    read::read_range,
    recover::recover,
    report::OpenReport,
    writer::{Command, Parts, Writer},
};

/// How many batches wait for the writer. A channel has one writer, which waits for the answer, so
/// there is rarely more than one; when the queue is full, `append` waits for room.
const QUEUED_BATCHES: usize = 4;

/// A chain in segment files, one directory per channel. Clones are handles of the same store.
///
/// Appends are done by one thread, reads by blocking tasks of the runtime; the two do not wait for
/// each other. When the last handle is dropped without [`close`](Self::close), what was queued is
/// still written, and the drop blocks until it is.
///
/// After an append that failed for lack of room the store is as before, and the next append works
/// once there is room; where a sync found that out, the next append opens the store anew by itself.
/// After a sync that failed otherwise, what the disk holds is not known: the store takes
/// no more blocks, and [`BlockReader::wait_for`] says that it is closed for heights that were not
/// reached; reading goes on. Opening the store anew writes and syncs what is in doubt once more.
#[derive(Clone)]
pub struct SegmentStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    /// Permits for reads; closed with the store.
    reads: Arc<Semaphore>,
    /// All the permits there are.
    permits: u32,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

impl SegmentStore {
    /// Opens the store in a directory, or makes one there. This blocks, for about as long as it
    /// takes to read the headers of the blocks in the newest segment.
    ///
    /// What a crash left of a batch that was not acknowledged is cut off; the report says so.
    ///
    /// # Errors
    ///
    /// When another process has the directory open, when it holds another chain, when blocks that
    /// were acknowledged are missing or cannot be reached, or when the operating system refuses
    /// something. The error names the path, the reason and what to do.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(dir.as_ref(), config, Arc::new(SystemFiles))
    }

    /// Opens a store whose files are these.
    pub(crate) fn open_with(
        dir: &Path,
        config: Config,
        files: Arc<dyn Files>,
    ) -> Result<(Self, OpenReport), OpenError> {
        let config = config.validate()?;
        dir::create(dir)?;
        let lock = DirLock::acquire(dir)?;
        let recovered = recover(&*files, dir, &config)?;
        let permits = u32::from(config.get().concurrent_reads.get());
        let shared = Arc::new(Shared::new(
            recovered.catalog,
            recovered.info,
            config.get().open_files.get(),
            Arc::clone(&files),
        ));
        let writer = Writer::new(Parts {
            dir: dir.to_owned(),
            config,
            identity: recovered.identity,
            head: recovered.head,
            info: recovered.info,
            shared: Arc::clone(&shared),
            files,
            lock,
        })?;
        let (commands, queue) = mpsc::channel(QUEUED_BATCHES);
        let writer = thread::Builder::new()
            .name("block-store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::io("start the writer thread for", dir))?;
        let inner = Inner {
            dir: dir.to_owned(),
            shared,
            commands: Some(commands),
            reads: Arc::new(Semaphore::new(permits as usize)),
            permits,
            writer: Mutex::new(Some(writer)),
        };
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            recovered.report,
        ))
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// How many bytes its segments have, without indexes and without the config blocks that are kept
    /// from before the first segment.
    pub fn bytes(&self) -> u64 {
        self.inner.shared.catalog().bytes()
    }

    /// Ends the store for all its handles: batches that are queued are written, reads that run are
    /// waited for, and the directory is free for another store on return. What is called on a
    /// handle afterwards gives `Closed`.
    ///
    /// # Panics
    ///
    /// When the writer panicked.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the store may be open still, or close a little later.
    pub async fn close(self) {
        if let Some(commands) = &self.inner.commands {
            // A writer that is gone cannot be told, and need not be.
            let _ = commands.send(Command::Close).await;
        }
        if let Ok(all) = self.inner.reads.acquire_many(self.inner.permits).await {
            self.inner.reads.close();
            drop(all);
        }
        let mut writer = self.inner.writer.lock().await;
        if let Some(writer) = writer.take() {
            // Where the runtime is shutting down, the writer ends by itself.
            if let Ok(Err(panic)) = task::spawn_blocking(|| writer.join()).await {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[async_trait]
impl BlockReader for SegmentStore {
    fn info(&self) -> ChainInfo {
        self.inner.shared.info()
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let reads = Arc::clone(&self.inner.reads);
        let permit = reads.acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let info = self.info();
        if from >= info.height.next_block() {
            return Ok(Vec::new());
        }
        let shared = Arc::clone(&self.inner.shared);
        let read = task::spawn_blocking(move || {
            let blocks = read_range(&shared, info, from, limits);
            // The permit goes with the reading, not with the future, which may be dropped.
            drop(permit);
            blocks
        });
        match read.await {
            Ok(blocks) => blocks,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ReadError::Closed),
        }
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        let mut published = self.inner.shared.subscribe();
        let reached = published
            .wait_for(|published| {
                published.info.height >= height || published.growth != Growth::Open
            })
            .await
            .map_err(|_| ReadError::Closed)?;
        if reached.info.height >= height && reached.growth != Growth::Closed {
            Ok(reached.info)
        } else {
            Err(ReadError::Closed)
        }
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.inner.shared.catalog().config_at(number)
    }
}

#[async_trait]
impl BlockStore for SegmentStore {
    async fn append(&self, blocks: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError> {
        let (answer, answered) = oneshot::channel();
        let commands = self.inner.commands.as_ref().ok_or(AppendError::Closed)?;
        commands
            .send(Command::Append(blocks, answer))
            .await
            .map_err(|_| AppendError::Closed)?;
        answered.await.map_err(|_| AppendError::Closed)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without a sender the writer ends when it has done what is queued.
        drop(self.commands.take());
        if let Some(writer) = self.writer.get_mut().take()
            && writer.join().is_err()
            && !thread::panicking()
        {
            tracing::error!(dir = %self.dir.display(), "the writer of the block store panicked");
        }
    }
}

impl fmt::Debug for SegmentStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentStore")
            .field("dir", &self.inner.dir)
            .field("info", &self.info())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
