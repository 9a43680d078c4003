// SPDX-License-Identifier: Apache-2.0
//! What opening a store costs, in operations: a long chain is not read again.

use super::*;
use crate::testing::{Counts, fill};

/// A store of so many blocks is made, in the default segments or in smaller ones, and opened.
async fn counts(blocks: usize, bytes: usize, segment_bytes: usize) -> (Counts, u64, usize) {
    let dir = crash::memory_dir();
    let mut config = Config::new("ch".parse().unwrap());
    config.segment_bytes = segment_bytes.try_into().unwrap();
    let mut chain = TestChain::new("ch");
    let genesis = TestChain::verified(&chain.config());
    let rest = (1..blocks).map(|_| TestChain::verified(&chain.data(bytes)));
    let made = fill(
        dir.path(),
        config.clone(),
        std::iter::once(genesis).chain(rest),
    );
    let made = made.await.unwrap();
    assert_eq!(made.height.get(), blocks as u64);
    let disk = FaultyDisk::default();
    let store = open(&disk, &dir, config);
    assert_eq!(store.info(), made);
    let opening = disk.take_counts();
    let tip = made.height.tip().unwrap();
    let read = store.read(tip, ReadLimits::one()).await.unwrap();
    assert_eq!(read.len(), 1);
    let listing = dir::list(dir.path()).unwrap();
    let kept: u64 = listing
        .segments
        .iter()
        .map(|first| {
            std::fs::metadata(dir::segment_path(dir.path(), *first))
                .unwrap()
                .len()
        })
        .sum();
    (opening, kept, listing.segments.len())
}

#[tokio::test]
async fn a_hundred_thousand_blocks_are_opened_without_reading_them() {
    // In one segment of the default size, which is the newest one, and in several.
    for (segment_bytes, at_least) in [(256 << 20, 1), (4 << 20, 5)] {
        let (opening, kept, segments) = counts(100_000, 100, segment_bytes).await;
        assert!(segments >= at_least);
        // Head, archive, and two files of each segment.
        assert!(opening.opened <= 2 + 2 * segments as u64, "{opening:?}");
        // At most what grew since the index was noted, a batch, and the indexes.
        let bound = (4 << 20) + (1 << 20) + 16 * 1024 * segments as u64;
        assert!(kept > 3 * bound, "{kept} bytes are a chain too short");
        assert!(opening.read < bound, "{opening:?} of {kept}");
    }
}

#[tokio::test]
async fn a_damaged_note_of_a_growing_segment_costs_a_walk_and_nothing_else() {
    let dir = crash::memory_dir();
    let mut config = Config::new("ch".parse().unwrap());
    config.index_interval_bytes = 100.try_into().unwrap();
    let (_, blocks) = TestChain::of_blocks("ch", 60, 100);
    let (store, _) = SegmentStore::open(dir.path(), config.clone()).unwrap();
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    let note = dir::index_path(dir.path(), BlockNumber::GENESIS);
    let good = std::fs::read(&note).unwrap();
    let mut counts = Vec::new();
    for spoil in [false, true] {
        let mut bytes = good.clone();
        if spoil {
            bytes[20] ^= 1;
        }
        std::fs::write(&note, bytes).unwrap();
        let disk = FaultyDisk::default();
        let (store, report) = SegmentStore::open_on(&disk, dir.path(), config.clone()).unwrap();
        assert!(report.is_clean(), "{report:?}");
        counts.push(disk.take_counts().read);
        assert_eq!(raw_blocks(&store).await.len(), 60);
        store.close().await;
    }
    assert!(counts[0] < counts[1], "{counts:?}");
}

#[tokio::test]
async fn a_sealed_segment_is_walked_from_where_an_older_index_ends() {
    let dir = crash::memory_dir();
    let mut config = Config::new("ch".parse().unwrap());
    config.segment_bytes = (1 << 20).try_into().unwrap();
    config.index_interval_bytes = 1000.try_into().unwrap();
    let (_, blocks) = TestChain::of_blocks("ch", 1000, 1000);
    let (before, behind) = blocks.split_at(600);
    let (store, _) = SegmentStore::open(dir.path(), config.clone()).unwrap();
    for batch in before.chunks(10) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    let path = dir::index_path(dir.path(), BlockNumber::GENESIS);
    let older = std::fs::read(&path).unwrap();
    let (store, _) = SegmentStore::open(dir.path(), config.clone()).unwrap();
    for batch in behind.chunks(10) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    assert_eq!(dir::list(dir.path()).unwrap().segments.len(), 2);
    let whole = std::fs::read(&path).unwrap();
    assert_ne!(older, whole);
    let mut counts = Vec::new();
    for left in [&whole, &older, &Vec::new()] {
        std::fs::write(&path, left).unwrap();
        let disk = FaultyDisk::default();
        let (store, report) = SegmentStore::open_on(&disk, dir.path(), config.clone()).unwrap();
        counts.push(disk.take_counts().read);
        assert_eq!(report.rebuilt_indexes.is_empty(), *left == whole);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(raw_blocks(&store).await.len(), 1000);
        store.close().await;
    }
    let [none, rest, all] = counts[..] else {
        panic!("{counts:?}")
    };
    // What is behind the older index, and all of it.
    assert!(none < rest && rest - none < (all - none) / 2, "{counts:?}");
}

#[tokio::test]
async fn a_batch_waits_for_the_disk_once_and_a_segment_twice_more() {
    let dir = crash::memory_dir();
    let disk = FaultyDisk::default();
    let config = Config {
        segment_bytes: 2000.try_into().unwrap(),
        index_interval_bytes: 40.try_into().unwrap(),
        ..Config::new("ch".parse().unwrap())
    };
    let store = open(&disk, &dir, config.clone());
    disk.take_counts();
    let (_, blocks) = TestChain::of_blocks("ch", 60, 100);
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    let segments = dir::list(dir.path()).unwrap().segments.len() as u64;
    assert!(segments > 3);
    // One for each batch; each segment when it is begun; the head file before a further one.
    assert_eq!(
        disk.take_counts().synced,
        30 + segments + (segments - 1),
        "{segments}"
    );
    store.close().await;
    // That nobody waited for the indexes does not mean that they are not there.
    let (store, report) = SegmentStore::open_on(&disk, dir.path(), config).unwrap();
    assert!(report.is_clean(), "{report:?}");
    store.close().await;
}

#[tokio::test]
async fn little_more_is_read_than_what_is_given() {
    const INTERVAL: u64 = 256 << 10;
    let dir = crash::memory_dir();
    let disk = FaultyDisk::default();
    let store = open(&disk, &dir, Config::new("ch".parse().unwrap()));
    let (_, blocks) = TestChain::of_blocks("ch", 200, 11_000);
    store.append(verified(&blocks)).await.unwrap();
    disk.take_counts();
    // The last block of an interval is found by the headers before it, not by their blocks.
    let last = BlockNumber::new(INTERVAL / 11_100);
    let read = store.read(last, ReadLimits::one()).await.unwrap();
    assert_eq!(read, [blocks[last.get() as usize].raw().clone()]);
    let counts = disk.take_counts();
    assert!(counts.read < 11_200 + 16 * 1024 + 24 * 80, "{counts:?}");
    // Several blocks come at once, with what is behind the last one in its interval.
    for (limits, given) in [
        (ReadLimits::new(50, 4 << 20), 50),
        // The first one is small.
        (ReadLimits::new(usize::MAX, 10 * 11_200), 11),
    ] {
        let read = store.read(BlockNumber::GENESIS, limits).await.unwrap();
        assert_eq!(read.len(), given);
        let bytes: usize = read.iter().map(|block| block.len() + 80).sum();
        let counts = disk.take_counts();
        assert!(
            counts.read < bytes as u64 + INTERVAL + 16 * 1024,
            "{counts:?}"
        );
    }
    store.close().await;
}
