// SPDX-License-Identifier: Apache-2.0
//! For tests: a disk that fails when it is told to and counts what is done, and a store that is
//! filled quickly.

use std::{
    fmt,
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use block_api::{BlockStore as _, BoxError, ChainInfo, VerifiedBlock};

use crate::{
    Config, OpenError, OpenReport, SegmentStore, SyncPolicy,
    file::{Files, ReadAt, ReadFile, SystemFiles, WriteFile},
};

/// How many blocks [`fill`] appends at once.
const FILL_BATCH: usize = 1000;

/// A disk over the one of the machine that fails when it is told to, and counts what is done.
/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// What is done to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A file is made.
    Create,
    /// Bytes are written.
    Write,
    /// The disk is waited for.
    Sync,
    /// The disk is waited for to have the names in a directory.
    SyncDir,
    /// A file is given its name.
    Rename,
    /// A file is cut.
    Cut,
    /// A file is removed.
    Remove,
    /// A file is opened for reading.
    Open,
    /// Bytes are read.
    Read,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no room: ENOSPC.
    Full,
    /// The device fails: EIO.
    Device,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Files that were opened for reading.
    pub opened: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Waits for the content of a file.
    pub synced: u64,
}

#[derive(Debug, Default)]
struct State {
    room: Option<u64>,
    portion: Option<usize>,
    /// What fails after so many more of its kind.
    faults: Vec<(Operation, usize, Fault)>,
    counts: Counts,
}

#[derive(Debug)]
struct FaultyFile<F: ?Sized> {
    disk: FaultyDisk,
    file: Box<F>,
}

impl FaultyDisk {
    /// So many bytes can be written until the disk is full; `None` when it never is.
    pub fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    /// One write takes at most so many bytes; `None` when it takes all.
    pub fn set_portion(&self, portion: Option<usize>) {
        self.state().portion = portion;
    }

    /// Of the operations of this kind, lets one fail, after so many that do not.
    pub fn fail(&self, operation: Operation, after: usize, fault: Fault) {
        self.state().faults.push((operation, after, fault));
    }

    /// Forgets every fault that has not happened, and makes room.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.room = None;
    }

    /// Whether every fault happened.
    pub fn has_failed(&self) -> bool {
        self.state().faults.is_empty()
    }

    /// What was done since the disk was made, or since the last call of this.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.state().counts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let due = state
            .faults
            .iter()
            .position(|(kind, after, _)| *kind == operation && *after == 0);
        for (_, after, _) in state
            .faults
            .iter_mut()
            .filter(|(kind, ..)| *kind == operation)
        {
            *after = after.saturating_sub(1);
        }
        match due.map(|due| state.faults.remove(due).2) {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    fn wrap<F: ?Sized>(&self, file: Box<F>) -> FaultyFile<F> {
        FaultyFile {
            disk: self.clone(),
            file,
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Full => 28,
            Self::Device => 5,
        })
    }
}

impl Files for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.attempt(Operation::Open)?;
        let file = SystemFiles.open(path)?;
        self.state().counts.opened += 1;
        Ok(Box::new(self.wrap(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.attempt(Operation::Create)?;
        Ok(Box::new(self.wrap(SystemFiles.create(path)?)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(self.wrap(SystemFiles.append(path)?)))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(self.wrap(SystemFiles.edit(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.attempt(Operation::Rename)?;
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.attempt(Operation::Remove)?;
        SystemFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.attempt(Operation::SyncDir)?;
        SystemFiles.sync_dir(dir)
    }
}

impl ReadAt for FaultyFile<dyn ReadFile> {
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.attempt(Operation::Read)?;
        let read = self.file.read_some_at(buffer, offset)?;
        self.disk.state().counts.read += read as u64;
        Ok(read)
    }
}

impl ReadFile for FaultyFile<dyn ReadFile> {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}

impl WriteFile for FaultyFile<dyn WriteFile> {
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.disk.attempt(Operation::Write)?;
        let mut state = self.disk.state();
        let all: Vec<u8> = buffers
            .iter()
            .flat_map(|buffer| buffer.iter().copied())
            .collect();
        let room = state.room.map_or(usize::MAX, |room| room as usize);
        let taken = all.len().min(state.portion.unwrap_or(usize::MAX)).min(room);
        if taken == 0 {
            return Err(Fault::Full.error());
        }
        state.room = state.room.map(|room| room - taken as u64);
        let mut taken_bytes = all.get(..taken).unwrap_or(&all);
        while !taken_bytes.is_empty() {
            let written = self.file.write_vectored(&[IoSlice::new(taken_bytes)])?;
            taken_bytes = taken_bytes.get(written..).unwrap_or_default();
        }
        Ok(taken)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.attempt(Operation::Write)?;
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.attempt(Operation::Sync)?;
        self.disk.state().counts.synced += 1;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.attempt(Operation::Sync)?;
        self.disk.state().counts.synced += 1;
        self.file.sync_all()
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.disk.attempt(Operation::Cut)?;
        self.file.set_len(length)
    }
}

impl SegmentStore {
    /// Opens a store on such a disk.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_on(
        disk: &FaultyDisk,
        dir: impl AsRef<Path>,
        config: Config,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(dir.as_ref(), config, Arc::new(disk.clone()))
    }
}

/// Appends blocks to the store in a directory, many at a time and without waiting for the disk, and
/// closes it: the quick way to a large store.
///
/// # Errors
///
/// When the store cannot be opened, or does not take the blocks.
///
/// # Cancel safety
///
/// When the future is dropped, some of the blocks are stored.
pub async fn fill(
    dir: impl AsRef<Path> + fmt::Debug,
    config: Config,
    blocks: impl IntoIterator<Item = VerifiedBlock>,
) -> Result<ChainInfo, BoxError> {
    let config = Config {
        sync: SyncPolicy::Never,
        ..config
    };
    let (store, _) = SegmentStore::open(dir, config)?;
    let mut blocks = blocks.into_iter();
    let info = loop {
        let batch: Vec<_> = blocks.by_ref().take(FILL_BATCH).collect();
        let is_last = batch.len() < FILL_BATCH;
        let info = store.append(batch).await?;
        if is_last {
            break info;
        }
    };
    store.close().await;
    Ok(info)
}
