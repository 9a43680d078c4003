// SPDX-License-Identifier: Apache-2.0
//! Tests of the store on a disk that fails when it is told to.

mod crash;
mod faults;
mod recorder;
mod restart;

use std::error::Error;

use block_api::testing::{TestChain, within};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    StorageError, fuzz_segment,
    testing::{Fault, FaultyDisk, Operation},
};

fn open(disk: &FaultyDisk, dir: &TempDir, config: Config) -> SegmentStore {
    SegmentStore::open_on(disk, dir.path(), config).unwrap().0
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
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 1500, 10);
    let store = open(&disk, &dir, Config::new(chain.channel()));
    store.append(verified(&blocks[..1])).await.unwrap();
    disk.take_counts();
    store.append(verified(&blocks[1..])).await.unwrap();
    assert_eq!(disk.take_counts().synced, 1);
    assert_eq!(raw_blocks(&store).await.len(), 1500);
}

#[tokio::test]
async fn without_syncs_none_is_done() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 3, 10);
    let store = open(
        &disk,
        &dir,
        Config {
            sync: crate::SyncPolicy::Never,
            ..Config::new(chain.channel())
        },
    );
    store.append(verified(&blocks[..1])).await.unwrap();
    disk.take_counts();
    store.append(verified(&blocks[1..])).await.unwrap();
    assert_eq!(disk.take_counts().synced, 0);
}

#[tokio::test]
async fn portioned_writes_are_put_together() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    disk.set_portion(Some(7));
    let (chain, blocks) = TestChain::of_blocks("ch", 5, 100);
    let store = open(&disk, &dir, Config::new(chain.channel()));
    store.append(verified(&blocks)).await.unwrap();
    let expected: Vec<_> = blocks.iter().map(|block| block.raw().clone()).collect();
    assert_eq!(raw_blocks(&store).await, expected);
}

#[tokio::test]
async fn a_full_disk_leaves_the_chain_as_it_was() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 6, 200);
    let store = open(&disk, &dir, Config::new(chain.channel()));
    let before = store.append(verified(&blocks[..2])).await.unwrap();
    for room in [0, 1, 79, 80, 81, 500, 900] {
        disk.set_room(Some(room));
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
    disk.set_room(None);
    store.append(verified(&blocks[2..])).await.unwrap();
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), Config::new(chain.channel())).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(raw_blocks(&store).await.len(), 6);
}

#[tokio::test]
async fn a_genesis_block_that_was_not_stored_binds_nobody() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (_, blocks) = TestChain::of_blocks("ch", 1, 200);
    let mut other = TestChain::new("ch");
    let other = other.data(10);
    let store = open(&disk, &dir, Config::new("ch".parse().unwrap()));
    disk.set_room(Some(20));
    assert!(
        store
            .append(verified(&blocks))
            .await
            .unwrap_err()
            .is_retryable()
    );
    disk.set_room(None);
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
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 4, 200);
    let store = open(&disk, &dir, Config::new(chain.channel()));
    let before = store.append(verified(&blocks[..2])).await.unwrap();
    disk.fail(Operation::Sync, 0, Fault::Device);
    let (waited, appended) = within("the end of a wait", async {
        tokio::join!(
            store.wait_for(Height::new(3)),
            store.append(verified(&blocks[2..]))
        )
    })
    .await;
    assert!(matches!(waited, Err(ReadError::Closed)));
    let error = appended.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(matches!(
        cause(error),
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
        assert!(error.to_string().contains("Input/output error"), "{error}");
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
    let (dir, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let (chain, blocks) = TestChain::of_blocks("ch", 4, 200);
    let store = open(&disk, &dir, Config::new(chain.channel()));
    store.append(verified(&blocks[..2])).await.unwrap();
    disk.set_room(Some(100));
    disk.fail(Operation::Cut, 0, Fault::Device);
    let action = "cut a failed write off the segment";
    let error = cause(store.append(verified(&blocks[2..])).await.unwrap_err());
    assert!(
        matches!(error, StorageError::Io { action: found, .. } if found == action),
        "{error}"
    );
    assert!(disk.has_failed());
    disk.heal();
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
