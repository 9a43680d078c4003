// SPDX-License-Identifier: Apache-2.0
//! A disk that is full or fails, at every operation of an append, and while blocks are read.

use std::num::{NonZeroU64, NonZeroUsize};

use block_api::Block;

use super::*;
use crate::{DamagedRecord, OpenError, Retention};

const EVERY_WRITE: [Operation; 6] = [
    Operation::Create,
    Operation::Write,
    Operation::Sync,
    Operation::Rename,
    Operation::SyncDir,
    Operation::Remove,
];

/// Small segments, so that every append begins one.
fn small() -> Config {
    let bytes = |bytes| NonZeroUsize::new(bytes).unwrap();
    Config {
        segment_bytes: bytes(700),
        index_interval_bytes: bytes(100),
        ..Config::new("ch".parse().unwrap())
    }
}

fn all(blocks: &[Block]) -> Vec<Bytes> {
    blocks.iter().map(|block| block.raw().clone()).collect()
}

/// Whatever operation fails: the error says which on what, tells truly whether the same batch can
/// be stored without opening the store anew, and nothing of it is seen before.
#[tokio::test]
async fn every_operation_of_an_append_may_fail() {
    let (_, blocks) = TestChain::of_blocks("ch", 9, 200);
    let mut retried = 0;
    let mut ended = 0;
    for operation in EVERY_WRITE {
        for fault in [Fault::Full, Fault::Device] {
            for after in 0..12 {
                let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
                let store = open(&disk, &dir, small());
                store.append(verified(&blocks[..1])).await.unwrap();
                disk.fail(operation, after, fault);
                let mut next = 1;
                let mut is_usable = true;
                for batch in blocks[1..].chunks(2) {
                    let before = store.info();
                    let Err(error) = store.append(verified(batch)).await else {
                        next += batch.len();
                        continue;
                    };
                    assert!(disk.has_failed());
                    assert_eq!(store.info(), before);
                    let (message, is_retryable) = (error.to_string(), error.is_retryable());
                    let reason = match fault {
                        Fault::Full => {
                            "No space left on device (os error 28); make room on the disk"
                        }
                        Fault::Device => "Input/output error (os error 5); check",
                    };
                    assert!(message.contains(reason), "{message}");
                    assert!(message.contains(".seg: "), "{message}");
                    assert!(matches!(cause(error), StorageError::Io { .. }));
                    assert_eq!(raw_blocks(&store).await, all(&blocks[..next]));
                    let again = store.append(verified(batch)).await;
                    if is_retryable {
                        retried += 1;
                        again.unwrap();
                        next += batch.len();
                    } else {
                        ended += 1;
                        assert_eq!(fault, Fault::Device, "room can be made");
                        assert!(message.contains("sync the"), "{message}");
                        assert!(matches!(again, Err(AppendError::Unusable { .. })));
                        is_usable = false;
                        break;
                    }
                }
                assert_eq!(raw_blocks(&store).await, all(&blocks[..next]));
                assert_eq!(is_usable, next == blocks.len());
                store.close().await;
                let (store, report) = SegmentStore::open(dir.path(), small()).unwrap();
                assert!(
                    report.torn_tail.is_none() && report.damaged.is_empty(),
                    "{report:?}"
                );
                assert_eq!(raw_blocks(&store).await, all(&blocks[..next]));
                store.append(verified(&blocks[next..])).await.unwrap();
            }
        }
    }
    assert!(retried > 20 && ended > 4, "{retried} {ended}");
}

/// A disk that says only at a sync that it is full, again when the store is opened anew, and then has
/// room; another failure in the place of the second one is for good.
#[tokio::test]
async fn a_disk_that_is_full_at_a_sync_is_outlived_too() {
    let (_, blocks) = TestChain::of_blocks("ch", 9, 200);
    for (second, is_over) in [(Fault::Full, true), (Fault::Device, false)] {
        let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
        let store = open(&disk, &dir, Config::new("ch".parse().unwrap()));
        store.append(verified(&blocks[..3])).await.unwrap();
        let waits = store.wait_for(Height::new(5));
        disk.fail(Operation::Sync, 0, Fault::Full);
        let error = store.append(verified(&blocks[3..5])).await.unwrap_err();
        assert!(error.is_retryable() && disk.has_failed(), "{error}");
        disk.fail(Operation::Sync, 0, second);
        let error = store.append(verified(&blocks[3..5])).await.unwrap_err();
        assert!(disk.has_failed());
        assert_eq!(error.is_retryable(), is_over, "{error}");
        assert_eq!(raw_blocks(&store).await, all(&blocks[..3]));
        disk.heal();
        let again = store.append(verified(&blocks[3..5])).await;
        assert_eq!((again.is_ok(), waits.await.is_ok()), (is_over, is_over));
        let stored = if is_over { 5 } else { 3 };
        assert_eq!(raw_blocks(&store).await, all(&blocks[..stored]));
        store.close().await;
        let config = Config::new("ch".parse().unwrap());
        let (store, report) = SegmentStore::open(dir.path(), config).unwrap();
        assert!(report.torn_tail.is_none(), "{report:?}");
        assert_eq!(raw_blocks(&store).await, all(&blocks[..stored]));
    }
}

/// With the room that is left growing byte by byte, the same batch is stored at last.
#[tokio::test]
async fn a_full_disk_is_outlived_without_opening_the_store_anew() {
    let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
    let (_, blocks) = TestChain::of_blocks("ch", 30, 150);
    let store = open(&disk, &dir, small());
    let mut refused = 0;
    for batch in blocks.chunks(3) {
        let mut room = 0;
        loop {
            disk.set_room(Some(room));
            match store.append(verified(batch)).await {
                Ok(_) => break,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            refused += 1;
            room += 97;
        }
    }
    assert!(refused > 60, "{refused}");
    assert_eq!(raw_blocks(&store).await, all(&blocks));
    disk.heal();
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), small()).unwrap();
    assert!(report.torn_tail.is_none(), "{report:?}");
    assert_eq!(raw_blocks(&store).await, all(&blocks));
}

#[tokio::test]
async fn what_cannot_be_dropped_stops_nobody_and_is_dropped_later() {
    let (_, blocks) = TestChain::of_blocks("ch", 30, 150);
    let config = || Config {
        retention: Retention::Blocks(NonZeroU64::new(4).unwrap()),
        ..small()
    };
    for operation in [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
        Operation::Remove,
        Operation::Open,
        Operation::Read,
    ] {
        for after in 0..14 {
            let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
            let store = open(&disk, &dir, config());
            disk.fail(operation, after, Fault::Full);
            for batch in blocks.chunks(2) {
                if let Err(error) = store.append(verified(batch)).await {
                    if !error.is_retryable() {
                        break;
                    }
                    store.append(verified(batch)).await.unwrap();
                }
            }
            let info = store.info();
            let first = info.first.get() as usize;
            let read = store.read(info.first, ReadLimits::new(99, 1 << 20)).await;
            let height = info.height.get() as usize;
            assert_eq!(read.unwrap(), all(&blocks[first..height]));
            if height > 0 {
                let genesis = store.read(BlockNumber::GENESIS, ReadLimits::one()).await;
                assert_eq!(genesis.unwrap(), all(&blocks[..1]));
            }
            assert!(
                height < blocks.len() || first > 20,
                "{operation:?} {after}: {first}"
            );
            disk.heal();
            store.close().await;
            let (store, _) = SegmentStore::open(dir.path(), config()).unwrap();
            // What was put aside without having been dropped is dropped now.
            let again = store.info();
            assert!(again.first >= info.first);
            assert_eq!(
                ChainInfo {
                    first: info.first,
                    ..again
                },
                info
            );
        }
    }
}

/// A device that does not give a byte, and one that gives another one.
#[tokio::test]
async fn what_cannot_be_read_is_named_by_segment_and_block() {
    let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
    let (_, blocks) = TestChain::of_blocks("ch", 8, 200);
    let store = open(&disk, &dir, small());
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    let sealed = dir::segment_path(dir.path(), BlockNumber::new(2));
    for operation in [Operation::Open, Operation::Read] {
        disk.fail(operation, 0, Fault::Device);
        let read = store.read(BlockNumber::new(3), ReadLimits::one()).await;
        let message = read.unwrap_err().to_string();
        assert!(
            message.starts_with("block 3 cannot be read: cannot "),
            "{message}"
        );
        assert!(message.contains(&sealed.display().to_string()), "{message}");
        let read = store.read(BlockNumber::new(3), ReadLimits::one()).await;
        assert_eq!(read.unwrap(), all(&blocks[3..4]));
    }
    let good = std::fs::read(&sealed).unwrap();
    let mut named = [0; 2];
    for at in 512..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        std::fs::write(&sealed, &bytes).unwrap();
        for block in 2..4 {
            let number = BlockNumber::new(block);
            match store.read(number, ReadLimits::one()).await {
                Ok(read) => assert_eq!(read, [blocks[block as usize].raw().clone()]),
                Err(ReadError::Storage { source, .. }) => {
                    let Some(StorageError::Damaged(DamagedRecord { segment, block, .. })) =
                        source.downcast_ref()
                    else {
                        panic!("{source}")
                    };
                    assert_eq!(*segment, sealed);
                    named[block.get() as usize - 2] += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    // A header that is damaged hides the block behind it too, and is named for both.
    assert!(named[0] + named[1] >= good.len() - 512, "{named:?}");
}

#[tokio::test]
async fn what_fails_while_a_store_is_opened_is_named() {
    let (dir, disk) = (crash::memory_dir(), FaultyDisk::default());
    let (_, blocks) = TestChain::of_blocks("ch", 8, 200);
    let store = open(&disk, &dir, small());
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    for operation in [Operation::Open, Operation::Read, Operation::Sync] {
        let mut failures = 0;
        for after in 0.. {
            disk.fail(operation, after, Fault::Device);
            match SegmentStore::open_on(&disk, dir.path(), small()) {
                Ok((store, _)) => {
                    // It may have failed when the store was closed, where nothing depends on it.
                    disk.heal();
                    assert_eq!(raw_blocks(&store).await, all(&blocks));
                    break;
                }
                Err(OpenError::Io { path, source, .. }) => {
                    assert!(path.starts_with(dir.path()));
                    assert_eq!(source.raw_os_error(), Some(5));
                    failures += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(failures > 0, "{operation:?}");
    }
}
