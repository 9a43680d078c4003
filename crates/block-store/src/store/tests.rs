// SPDX-License-Identifier: Apache-2.0
//! Tests of the store on a disk that fails when it is told to.

use std::{
    error::Error,
    fs::File,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
};

use block_api::testing::{TestChain, within};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{StorageError, file::WriteEnd, fuzz_segment};

/// What goes wrong, shared with the file that the writer has.
#[derive(Debug, Default)]
struct Faults {
    /// After so many more bytes the disk is full.
    room: Option<usize>,
    /// The next sync fails.
    sync: bool,
    /// Cutting fails.
    cut: bool,
    /// At most so many bytes are taken by one call.
    portion: Option<usize>,
    syncs: usize,
}

#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<Faults>>);

struct FaultyFile {
    file: File,
    disk: Disk,
}

impl Disk {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap()
    }

    fn open(&self, dir: &TempDir, config: Config) -> SegmentStore {
        let disk = self.clone();
        let wrap = move |file| {
            Box::new(FaultyFile {
                file,
                disk: disk.clone(),
            }) as Box<dyn WriteEnd>
        };
        SegmentStore::open_with(dir.path(), config, Box::new(wrap))
            .unwrap()
            .0
    }
}

impl WriteEnd for FaultyFile {
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut faults = self.disk.faults();
        let all: Vec<u8> = buffers
            .iter()
            .flat_map(|buffer| buffer.iter().copied())
            .collect();
        let portion = faults.portion.unwrap_or(usize::MAX);
        let taken = all
            .len()
            .min(portion)
            .min(faults.room.unwrap_or(usize::MAX));
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        faults.room = faults.room.map(|room| room - taken);
        io::Write::write_all(&mut self.file, &all[..taken])?;
        Ok(taken)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut faults = self.disk.faults();
        faults.syncs += 1;
        if std::mem::take(&mut faults.sync) {
            return Err(io::Error::other("the disk lost it"));
        }
        self.file.sync_data()
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        if self.disk.faults().cut {
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.set_len(length)
    }
}

fn verified(blocks: &[block_api::Block]) -> Vec<VerifiedBlock> {
    blocks.iter().map(TestChain::verified).collect()
}

async fn raw_blocks(store: &SegmentStore) -> Vec<Bytes> {
    let limits = ReadLimits::new(usize::MAX, usize::MAX);
    store.read(BlockNumber::GENESIS, limits).await.unwrap()
}

fn cause(error: AppendError) -> StorageError {
    let (AppendError::Storage { source, .. } | AppendError::Unusable { source, .. }) = error else {
        panic!("not an error of the storage: {error}")
    };
    *source.downcast().unwrap()
}

#[tokio::test]
async fn a_batch_takes_one_sync_whatever_its_size() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 1500, 10);
    let store = disk.open(&dir, Config::new(chain.channel()));
    store.append(verified(&blocks)).await.unwrap();
    assert_eq!(disk.faults().syncs, 1);
    assert_eq!(raw_blocks(&store).await.len(), 1500);
}

#[tokio::test]
async fn without_syncs_none_is_done() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 3, 10);
    let store = disk.open(
        &dir,
        Config {
            sync: crate::SyncPolicy::Never,
            ..Config::new(chain.channel())
        },
    );
    store.append(verified(&blocks)).await.unwrap();
    assert_eq!(disk.faults().syncs, 0);
}

#[tokio::test]
async fn portioned_writes_are_put_together() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.faults().portion = Some(7);
    let (chain, blocks) = TestChain::of_blocks("ch", 5, 100);
    let store = disk.open(&dir, Config::new(chain.channel()));
    store.append(verified(&blocks)).await.unwrap();
    let expected: Vec<_> = blocks.iter().map(|block| block.raw().clone()).collect();
    assert_eq!(raw_blocks(&store).await, expected);
}

#[tokio::test]
async fn a_full_disk_leaves_the_chain_as_it_was() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 6, 200);
    let store = disk.open(&dir, Config::new(chain.channel()));
    let before = store.append(verified(&blocks[..2])).await.unwrap();
    for room in [0, 1, 79, 80, 81, 500, 900] {
        disk.faults().room = Some(room);
        let error = store.append(verified(&blocks[2..])).await.unwrap_err();
        assert!(error.is_retryable());
        let message = error.to_string();
        assert!(
            message.starts_with("block 2 was not stored: cannot write to the segment /"),
            "{message}"
        );
        assert!(message.ends_with("; make room on the disk"), "{message}");
        assert_eq!(store.info(), before);
        assert_eq!(raw_blocks(&store).await.len(), 2);
    }
    disk.faults().room = None;
    store.append(verified(&blocks[2..])).await.unwrap();
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), Config::new(chain.channel())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(raw_blocks(&store).await.len(), 6);
}

#[tokio::test]
async fn a_genesis_block_that_was_not_stored_binds_nobody() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (_, blocks) = TestChain::of_blocks("ch", 1, 200);
    let mut other = TestChain::new("ch");
    let other = other.data(10);
    let store = disk.open(&dir, Config::new("ch".parse().unwrap()));
    disk.faults().room = Some(20);
    assert!(
        store
            .append(verified(&blocks))
            .await
            .unwrap_err()
            .is_retryable()
    );
    disk.faults().room = None;
    store
        .append(vec![TestChain::verified(&other)])
        .await
        .unwrap();
    store.close().await;
    let genesis = Some(other.header_hash());
    let (store, report) = SegmentStore::open(
        dir.path(),
        Config {
            genesis,
            ..Config::new("ch".parse().unwrap())
        },
    )
    .unwrap();
    assert!(report.is_clean());
    assert_eq!(raw_blocks(&store).await, [other.raw().clone()]);
}

#[tokio::test]
async fn a_failed_sync_ends_appending_until_the_store_is_opened_anew() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 4, 200);
    let store = disk.open(&dir, Config::new(chain.channel()));
    let before = store.append(verified(&blocks[..2])).await.unwrap();
    disk.faults().sync = true;
    let (waited, appended) = within("the end of a wait", async {
        tokio::join!(
            store.wait_for(Height::new(3)),
            store.append(verified(&blocks[2..]))
        )
    })
    .await;
    assert!(matches!(waited, Err(ReadError::Closed)));
    assert!(matches!(
        cause(appended.unwrap_err()),
        StorageError::Io {
            action: "sync the segment",
            ..
        }
    ));
    for _ in 0..2 {
        let error = store.append(verified(&blocks[2..])).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        let error = cause(error);
        assert!(
            matches!(
                error,
                StorageError::Poisoned {
                    action: "sync the segment",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.source().is_none());
        assert!(error.to_string().contains("the disk lost it"), "{error}");
    }
    assert_eq!(store.info(), before);
    assert_eq!(store.wait_for(Height::new(2)).await.unwrap(), before);
    assert_eq!(raw_blocks(&store).await.len(), 2);
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), Config::new(chain.channel())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    store.append(verified(&blocks[2..])).await.unwrap();
}

#[tokio::test]
async fn a_write_that_cannot_be_undone_ends_appending() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 4, 200);
    let store = disk.open(&dir, Config::new(chain.channel()));
    store.append(verified(&blocks[..2])).await.unwrap();
    *disk.faults() = Faults {
        room: Some(100),
        cut: true,
        ..Faults::default()
    };
    let action = "cut a failed write off the segment";
    let error = cause(store.append(verified(&blocks[2..])).await.unwrap_err());
    assert!(
        matches!(error, StorageError::Io { action: found, .. } if found == action),
        "{error}"
    );
    *disk.faults() = Faults::default();
    let error = cause(store.append(verified(&blocks[2..])).await.unwrap_err());
    assert!(
        matches!(error, StorageError::Poisoned { action: found, .. } if found == action),
        "{error}"
    );
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), Config::new(chain.channel())).unwrap();
    let torn = report.torn_tail.unwrap();
    assert_eq!((torn.bytes, torn.from_block), (100, BlockNumber::new(2)));
    assert!(torn.certainly_unacknowledged);
    assert_eq!(store.info().height, Height::new(2));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_harm_as_a_segment(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        fuzz_segment(&data);
    }
}

#[test]
fn a_mutated_segment_is_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, blocks) = TestChain::of_blocks("ch", 4, 60);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (store, _) = SegmentStore::open(dir.path(), Config::new(chain.channel())).unwrap();
        for block in &blocks {
            store
                .append(verified(std::slice::from_ref(block)))
                .await
                .unwrap();
        }
        store.close().await;
    });
    let segment = std::fs::read(dir::segment_path(dir.path(), BlockNumber::GENESIS)).unwrap();
    fuzz_segment(&segment);
    for at in 0..segment.len() {
        let mut mutated = segment.clone();
        mutated[at] ^= 0x55;
        fuzz_segment(&mutated);
        fuzz_segment(&segment[..at]);
    }
}
