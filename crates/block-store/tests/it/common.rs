// SPDX-License-Identifier: Apache-2.0
//! What the tests of the store share.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use block_api::{Block, BlockNumber, BlockReader, ReadLimits, VerifiedBlock, testing::TestChain};
use blockcast_block_store::{Config, OpenError, OpenReport, SegmentStore};
use bytes::Bytes;
use tempfile::TempDir;

/// A directory in memory where there is such a file system: tests that open thousands of stores
/// look at bytes, not at a disk.
pub(crate) fn memory_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

pub(crate) fn channel() -> block_api::ChannelId {
    "ch".parse().unwrap()
}

/// Small segments with a dense index.
pub(crate) fn small(segment_bytes: usize) -> Config {
    Config {
        segment_bytes: NonZeroUsize::new(segment_bytes).unwrap(),
        index_interval_bytes: NonZeroUsize::new(segment_bytes.min(600)).unwrap(),
        ..Config::new(channel())
    }
}

pub(crate) fn open(dir: &Path, config: Config) -> (SegmentStore, OpenReport) {
    SegmentStore::open(dir, config).unwrap()
}

pub(crate) fn open_error(dir: &Path, config: Config) -> OpenError {
    match SegmentStore::open(dir, config) {
        Err(error) => error,
        Ok((store, report)) => panic!("{store:?} was opened: {report:?}"),
    }
}

pub(crate) fn verified(blocks: &[Block]) -> Vec<VerifiedBlock> {
    blocks.iter().map(TestChain::verified).collect()
}

pub(crate) fn raw(blocks: &[Block]) -> Vec<Bytes> {
    blocks.iter().map(|block| block.raw().clone()).collect()
}

/// Every block from the first one on.
pub(crate) async fn read_all(store: &dyn BlockReader) -> Vec<Bytes> {
    let mut blocks = Vec::new();
    let info = store.info();
    let mut next = info.first;
    while next < info.height.next_block() {
        let read = store.read(next, ReadLimits::new(7, 1 << 20)).await.unwrap();
        assert!(!read.is_empty(), "a read below the height gives a block");
        next = BlockNumber::new(next.get() + read.len() as u64);
        blocks.extend(read);
    }
    blocks
}

/// The files of the store with this suffix, by name.
pub(crate) fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    files.sort();
    files
}

pub(crate) fn copy(from: &Path) -> TempDir {
    let to = memory_dir();
    for file in files(from, "") {
        fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

/// A byte of a file, changed.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Reports a test that this machine cannot run; where everything must run, it fails.
pub(crate) fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    let must_run = std::env::var("BLOCKCAST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!must_run, "BLOCKCAST_REQUIRE_ALL is set, but: {reason}");
}
