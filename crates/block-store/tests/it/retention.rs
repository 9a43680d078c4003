// SPDX-License-Identifier: Apache-2.0
//! Old segments are dropped, and the config blocks in them are not.

use std::{fs, num::NonZeroU64};

use block_api::{
    Block, BlockNumber, BlockReader, BlockStore, Height, ReadError, ReadLimits,
    testing::{TestChain, within},
};
use blockcast_block_store::{Config, OpenError, Retention, SegmentStore, StoreSnapshot};

use tokio::task::JoinSet;

use crate::common::{
    copy, files, flip, memory_dir, open, open_error, raw, read_all, small, verified,
};

fn keeping(retention: Retention) -> Config {
    Config {
        retention,
        ..small(900)
    }
}

fn blocks(count: u64) -> Retention {
    Retention::Blocks(NonZeroU64::new(count).unwrap())
}

fn bytes(count: u64) -> Retention {
    Retention::Bytes(NonZeroU64::new(count).unwrap())
}

/// A chain with config blocks among others.
fn chain(length: u64) -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    (0..length)
        .map(|number| match number {
            0 | 3 | 4 | 17 => chain.config(),
            _ => chain.data(60),
        })
        .collect()
}

async fn append_each(store: &SegmentStore, blocks: &[Block]) {
    for block in blocks {
        store
            .append(verified(std::slice::from_ref(block)))
            .await
            .unwrap();
    }
}

/// Checks what a reader of a store whose beginning was dropped gives.
async fn check(reader: &dyn BlockReader, chain: &[Block]) {
    let info = reader.info();
    let first = info.first.get() as usize;
    let height = info.height.get() as usize;
    assert_eq!(read_all(reader).await, raw(&chain[first..height]));
    for (number, block) in chain[..height].iter().enumerate() {
        let at = BlockNumber::new(number as u64);
        let config = [0, 3, 4, 17].into_iter().rfind(|config| *config <= number);
        assert_eq!(
            reader.config_at(at).map(|at| at.get() as usize),
            config,
            "the config block at {number}"
        );
        if number >= first {
            continue;
        }
        let read = reader.read(at, ReadLimits::new(10, 1 << 20)).await;
        if config == Some(number) {
            assert_eq!(read.unwrap(), [block.raw().clone()], "alone");
            continue;
        }
        match read {
            Err(ReadError::Gone { number, first }) => {
                assert_eq!((number, first), (at, info.first));
            }
            other => panic!("block {number} was dropped: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_last_blocks_are_kept_and_every_config_block() {
    let dir = memory_dir();
    let chain = chain(40);
    let (store, _) = open(dir.path(), keeping(blocks(10)));
    let mut firsts = vec![0];
    for block in &chain {
        let batch = verified(std::slice::from_ref(block));
        let info = store.append(batch).await.unwrap();
        let (first, height) = (info.first.get(), info.height.get());
        assert!(first <= height.saturating_sub(10), "ten blocks at least");
        assert!(height - first < 10 + 9, "a segment more at most");
        assert!(first >= firsts[firsts.len() - 1]);
        firsts.push(first);
        check(&store, &chain).await;
    }
    firsts.dedup();
    assert!(firsts.len() > 4, "{firsts:?}");
    let info = store.info();
    store.close().await;
    // Files of what was dropped are gone.
    for suffix in [".seg", ".idx"] {
        let oldest = files(dir.path(), suffix)[0].clone();
        let oldest: u64 = oldest
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(oldest, info.first.get(), "{suffix}");
    }
    for _ in 0..2 {
        let (store, report) = open(dir.path(), keeping(blocks(10)));
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(store.info(), info);
        check(&store, &chain).await;
        check(&StoreSnapshot::open(dir.path()).unwrap(), &chain).await;
        store.close().await;
    }
    // What is to be kept may change; what is gone stays gone.
    let (store, _) = open(dir.path(), keeping(Retention::All));
    check(&store, &chain).await;
    store.close().await;
}

#[tokio::test]
async fn the_last_bytes_are_kept() {
    let dir = memory_dir();
    let chain = chain(60);
    let (store, _) = open(dir.path(), keeping(bytes(2500)));
    let on_disk = || -> u64 {
        let segments = files(dir.path(), ".seg");
        let lengths = segments
            .iter()
            .map(|path| fs::metadata(path).unwrap().len());
        lengths.sum()
    };
    let mut dropped = false;
    for block in &chain {
        let before = on_disk();
        append_each(&store, std::slice::from_ref(block)).await;
        let now = on_disk();
        dropped |= now < before;
        assert!(!dropped || (2500..2500 + 1500).contains(&now), "{now}");
    }
    assert!(dropped);
    check(&store, &chain).await;
}

#[tokio::test]
async fn all_is_kept_unless_it_is_said() {
    let dir = memory_dir();
    let chain = chain(40);
    let (store, _) = open(dir.path(), small(900));
    append_each(&store, &chain).await;
    assert_eq!(store.info().first, BlockNumber::GENESIS);
    assert_eq!(read_all(&store).await, raw(&chain));
    assert!(!dir.path().join("configs").exists());
    store.close().await;
    // A limit that comes later takes effect with the next block.
    let (store, _) = open(dir.path(), keeping(blocks(1)));
    assert_eq!(store.info().first, BlockNumber::GENESIS);
    let next = {
        let mut chain = TestChain::new("ch");
        (0..41)
            .map(|number| match number {
                0 | 3 | 4 | 17 => chain.config(),
                _ => chain.data(60),
            })
            .collect::<Vec<_>>()
    };
    append_each(&store, &next[40..]).await;
    assert!(store.info().first.get() > 30);
    check(&store, &next).await;
}

/// A crash may leave any of the segments that were dropped.
#[tokio::test]
async fn what_a_crash_left_of_a_drop_is_removed() {
    let chain = chain(40);
    let whole = memory_dir();
    let (store, _) = open(whole.path(), small(900));
    append_each(&store, &chain).await;
    store.close().await;
    let kept = memory_dir();
    let (store, _) = open(kept.path(), keeping(blocks(10)));
    append_each(&store, &chain).await;
    let info = store.info();
    store.close().await;
    let left_over: Vec<_> = files(whole.path(), "")
        .into_iter()
        .filter(|path| !kept.path().join(path.file_name().unwrap()).exists())
        .collect();
    assert!(left_over.len() > 6);
    for skip in 1..6 {
        let dir = copy(kept.path());
        for path in left_over.iter().step_by(skip) {
            fs::copy(path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let snapshot = StoreSnapshot::open(dir.path()).unwrap();
        assert_eq!(snapshot.info(), info);
        check(&snapshot, &chain).await;
        let (store, report) = open(dir.path(), keeping(blocks(10)));
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(store.info(), info);
        check(&store, &chain).await;
        store.close().await;
        assert_eq!(files(dir.path(), "").len(), files(kept.path(), "").len());
    }
}

#[tokio::test]
async fn config_blocks_that_cannot_be_read_are_named() {
    let chain = chain(40);
    let original = memory_dir();
    let (store, _) = open(original.path(), keeping(blocks(10)));
    append_each(&store, &chain).await;
    store.close().await;
    let length = fs::metadata(original.path().join("configs")).unwrap().len() as usize;
    for at in (0..length).step_by(11) {
        let dir = copy(original.path());
        flip(&dir.path().join("configs"), at);
        match SegmentStore::open(dir.path(), keeping(blocks(10))) {
            Err(
                OpenError::DamagedConfigs { path, .. } | OpenError::UnknownVersion { path, .. },
            ) => {
                assert_eq!(path, dir.path().join("configs"));
            }
            Err(error) => panic!("{error}"),
            Ok((store, _)) => {
                let mut damaged = 0;
                for number in [0, 3, 4, 17] {
                    let at = BlockNumber::new(number);
                    assert_eq!(store.config_at(at), Some(at));
                    match store.read(at, ReadLimits::one()).await {
                        Ok(read) => assert_eq!(read, [chain[number as usize].raw().clone()]),
                        Err(error) => {
                            damaged += 1;
                            let message = error.to_string();
                            assert!(
                                message.starts_with(&format!("block {number} cannot be read: ")),
                                "{message}"
                            );
                            assert!(message.contains("configs is damaged at"), "{message}");
                        }
                    }
                }
                assert_eq!(damaged, 1);
                store.close().await;
            }
        }
    }
    let dir = copy(original.path());
    fs::remove_file(dir.path().join("configs")).unwrap();
    let message = open_error(dir.path(), keeping(blocks(10))).to_string();
    assert!(
        message.contains("is missing, though segments were dropped: restore the file"),
        "{message}"
    );
}

#[tokio::test]
async fn a_missing_head_file_brings_nothing_back() {
    let chain = chain(40);
    let dir = memory_dir();
    let (store, _) = open(dir.path(), keeping(blocks(10)));
    append_each(&store, &chain).await;
    let info = store.info();
    store.close().await;
    fs::remove_file(dir.path().join("head")).unwrap();
    let (store, _) = open(dir.path(), keeping(blocks(10)));
    assert_eq!(store.info(), info);
    check(&store, &chain).await;
}

/// A snapshot may have been taken before a segment was dropped.
#[tokio::test]
async fn a_snapshot_says_that_a_block_is_gone() {
    let chain = chain(40);
    let dir = memory_dir();
    let (store, _) = open(dir.path(), keeping(blocks(10)));
    append_each(&store, &chain[..6]).await;
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    let before = snapshot.info();
    assert_eq!(before.first, BlockNumber::GENESIS);
    append_each(&store, &chain[6..]).await;
    let read = snapshot.read(BlockNumber::new(1), ReadLimits::one()).await;
    let first_now = store.info().first;
    assert!(
        matches!(read, Err(ReadError::Gone { number, first }) if number == BlockNumber::new(1) && first == first_now),
        "{read:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_the_oldest_blocks_get_them_or_are_told_that_they_are_gone() {
    async fn read_oldest(store: SegmentStore, chain: Vec<Block>, until: Height) -> usize {
        let mut gone = 0;
        while store.info().height < until {
            let from = store.info().first;
            match store.read(from, ReadLimits::new(12, 1 << 20)).await {
                Ok(read) => {
                    for (bytes, number) in read.iter().zip(from.get()..) {
                        assert_eq!(*bytes, *chain[number as usize].raw());
                    }
                }
                Err(ReadError::Gone { .. }) => gone += 1,
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
        gone
    }
    let dir = memory_dir();
    let chain = chain(800);
    let config = Config {
        open_files: 2.try_into().unwrap(),
        ..keeping(blocks(3))
    };
    let (store, _) = open(dir.path(), config);
    append_each(&store, &chain[..1]).await;
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        readers.spawn(read_oldest(store.clone(), chain.clone(), Height::new(800)));
    }
    append_each(&store, &chain[1..]).await;
    within("the end of all readers", async {
        while readers.join_next().await.transpose().unwrap().is_some() {}
    })
    .await;
    check(&store, &chain).await;
}
