// SPDX-License-Identifier: Apache-2.0
//! Every point at which a machine can stop. What a store does to its disk is recorded; for each
//! operation, the disk is made as it may be when the machine stops there, and the store is opened.

use std::{
    collections::BTreeMap,
    fs,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use block_api::Block;

use super::{
    recorder::{Fate, Log, Op, Recorder},
    *,
};
use crate::{
    Retention, SegmentFault, Start, StartConfig,
    repair::{self, StoreRepair},
};

/// The least that the retention of these tests keeps.
const KEPT: u64 = 5;

pub(super) fn memory_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A directory with these files.
pub(super) fn made(files: &BTreeMap<PathBuf, Vec<u8>>) -> TempDir {
    let dir = memory_dir();
    for (path, content) in files {
        fs::write(dir.path().join(path.file_name().unwrap()), content).unwrap();
    }
    dir
}

fn config() -> Config {
    let bytes = |bytes| NonZeroUsize::new(bytes).unwrap();
    Config {
        segment_bytes: bytes(1500),
        index_interval_bytes: bytes(40),
        retention: Retention::Blocks(NonZeroU64::new(KEPT).unwrap()),
        ..Config::new("ch".parse().unwrap())
    }
}

fn chain() -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    (0..24)
        .map(|number| match number {
            0 | 4 | 11 => chain.config(),
            _ => chain.data(30 + 7 * (number % 3)),
        })
        .collect()
}

/// The configuration of a chain that begins behind block 5, by the rules of config block 4.
fn joined(blocks: &[Block]) -> Config {
    Config {
        start: Start::After {
            number: blocks[5].number(),
            hash: blocks[5].header_hash(),
        },
        start_config: Some(StartConfig::new(&TestChain::verified(&blocks[4])).unwrap()),
        ..config()
    }
}

/// A life of a store: batches, segments that are sealed and dropped, and an end and a beginning
/// between.
async fn life(blocks: &[Block]) -> (TempDir, Log) {
    let batches = [&[1, 2, 1, 3, 2][..], &[1, 1, 3, 2], &[2, 1]];
    life_of(blocks, config(), &batches).await
}

async fn life_of(blocks: &[Block], config: Config, lives: &[&[usize]]) -> (TempDir, Log) {
    let dir = memory_dir();
    let recorder = Recorder::default();
    let mut height = match config.start {
        Start::Genesis => 0,
        Start::After { number, .. } => number.get() as usize + 1,
    };
    for &batches in lives {
        let store = recorder.open(dir.path(), config.clone());
        for batch in batches {
            let next = height + batch;
            recorder.note(Op::Submit(next as u64));
            let info = store.append(verified(&blocks[height..next])).await.unwrap();
            recorder.note(Op::Acknowledge(info.height.get()));
            height = next;
        }
        store.close().await;
    }
    (dir, recorder.take())
}

/// Opens what a crash left, and checks that it is a chain with everything that was acknowledged,
/// which goes on.
async fn check(files: &BTreeMap<PathBuf, Vec<u8>>, blocks: &[Block], facts: (u64, u64)) {
    check_of(files, blocks, facts, &config()).await;
}

async fn check_of(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    blocks: &[Block],
    facts: (u64, u64),
    config: &Config,
) {
    let began = match config.start {
        Start::Genesis => 0,
        Start::After { number, .. } => number.get() + 1,
    };
    let oldest = config.start_config.as_ref().map(StartConfig::number);
    let oldest = oldest.unwrap_or_default().get();
    let (submitted, acknowledged) = (facts.0.max(began), facts.1.max(began));
    let dir = made(files);
    let (store, _) = SegmentStore::open(dir.path(), config.clone()).unwrap();
    let info = store.info();
    let height = info.height.get();
    assert!(
        (acknowledged..=submitted).contains(&height),
        "{acknowledged} of {submitted} were acknowledged, {height} are there"
    );
    assert!(info.first.get() <= height.saturating_sub(KEPT).max(began));
    check_content_from(&store, blocks, oldest).await;
    let next = height as usize;
    store
        .append(verified(&blocks[next..next + 2]))
        .await
        .unwrap();
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), config.clone()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.info().height.get(), height + 2);
    check_content_from(&store, blocks, oldest).await;
    store.close().await;
    assert_eq!(repair::check(dir.path()).unwrap().damages, []);
}

/// Checks that a store has the blocks of a chain from the first one on, and every config block.
pub(super) async fn check_content(store: &SegmentStore, blocks: &[Block]) {
    check_content_from(store, blocks, 0).await;
}

/// Checks the same of a store that knows the config blocks from this one on.
async fn check_content_from(store: &SegmentStore, blocks: &[Block], oldest: u64) {
    let info = store.info();
    let mut next = info.first.get() as usize;
    while next < info.height.get() as usize {
        let limits = ReadLimits::new(usize::MAX, usize::MAX);
        let read = store.read(BlockNumber::new(next as u64), limits).await;
        let read = read.unwrap();
        assert!(!read.is_empty());
        for bytes in read {
            assert_eq!(bytes, *blocks[next].raw());
            next += 1;
        }
    }
    let tip = info.height.tip();
    assert_eq!(
        info.tip_hash,
        tip.map(|tip| blocks[tip.get() as usize].header_hash())
    );
    let mut configs = Vec::new();
    let mut below = tip;
    while let Some(config) = below.and_then(|below| store.config_at(below)) {
        let read = store.read(config, ReadLimits::one()).await.unwrap();
        assert_eq!(read, [blocks[config.get() as usize].raw().clone()]);
        configs.insert(0, config.get());
        below = config.previous();
    }
    let expected = [0, 4, 11]
        .into_iter()
        .filter(|number| (oldest..info.height.get()).contains(number));
    assert_eq!(configs, expected.collect::<Vec<_>>());
}

/// The ways in which a disk may be after a crash, apart from torn writes: what was written and what
/// was named is there, or not.
fn fates() -> impl Iterator<Item = impl Fn(usize, &str) -> Fate + Copy> {
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(data, names)| {
            move |_: usize, kind: &str| match (kind, data, names) {
                ("data", true, _) | ("name", _, true) => Fate::Done,
                _ => Fate::Lost,
            }
        })
}

/// At which bytes a write is torn.
fn tears(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by((length / 40).max(1))
}

#[tokio::test]
async fn whatever_a_crash_leaves_is_a_chain_with_everything_acknowledged() {
    let blocks = chain();
    let (dir, log) = life(&blocks).await;
    // The script reaches what it is to reach.
    let dropped = log.ops.iter().filter(|op| matches!(op, Op::Remove { path } if path.extension().is_some_and(|suffix| suffix == "seg")));
    assert!(dropped.count() >= 2);
    assert!(
        log.ops
            .iter()
            .filter(|op| matches!(op, Op::Rename { to, .. } if to.ends_with("configs")))
            .count()
            >= 2
    );
    assert!(fs::read_dir(dir.path()).unwrap().count() >= 4);
    for cut in 0..=log.len() {
        let facts = log.facts(cut);
        for fate in fates() {
            check(&log.crashed(cut, fate), &blocks, facts).await;
        }
        let Some(length) = cut.checked_sub(1).and_then(|last| log.written(last)) else {
            continue;
        };
        for torn in tears(length).map(Fate::Torn).chain([Fate::Zeroed]) {
            let fate = |op, _: &str| if op == cut - 1 { torn } else { Fate::Done };
            check(&log.crashed(cut, fate), &blocks, facts).await;
        }
    }
}

/// A chain that begins with a config block that was given is there, or begins anew.
#[tokio::test]
async fn a_crash_leaves_the_config_block_that_a_chain_began_with() {
    let blocks = chain();
    let config = joined(&blocks);
    let lives = [&[1, 2][..], &[1, 3, 2], &[2, 1]];
    let (_dir, log) = life_of(&blocks, config.clone(), &lives).await;
    for cut in 0..=log.len() {
        let facts = log.facts(cut);
        for fate in fates() {
            check_of(&log.crashed(cut, fate), &blocks, facts, &config).await;
        }
        let Some(length) = cut.checked_sub(1).and_then(|last| log.written(last)) else {
            continue;
        };
        for torn in tears(length).map(Fate::Torn).chain([Fate::Zeroed]) {
            let fate = |op, _: &str| if op == cut - 1 { torn } else { Fate::Done };
            check_of(&log.crashed(cut, fate), &blocks, facts, &config).await;
        }
    }
}

/// What puts a store in order after a crash may be cut off as well.
#[tokio::test]
async fn a_crash_while_a_crash_is_dealt_with_loses_nothing() {
    let blocks = chain();
    let (_dir, log) = life(&blocks).await;
    for cut in 1..=log.len() {
        let half = |op, _: &str| match log.written(op) {
            Some(length) if op == cut - 1 => Fate::Torn(length / 2),
            _ => Fate::Done,
        };
        let lost = |op, kind: &str| match (kind, log.written(op)) {
            ("data", Some(length)) => Fate::Torn(length - length / 3),
            ("data", None) => Fate::Done,
            _ => Fate::Lost,
        };
        for files in [log.crashed(cut, half), log.crashed(cut, lost)] {
            let dir = made(&files);
            let recorder = Recorder::of(dir.path());
            recorder.open(dir.path(), config()).close().await;
            let again = recorder.take();
            for cut_again in 0..again.len() {
                for fate in fates() {
                    check(&again.crashed(cut_again, fate), &blocks, log.facts(cut)).await;
                }
            }
        }
    }
}

/// A damaged segment is there until the one that replaces it is durable.
#[tokio::test]
async fn a_crash_while_a_segment_is_replaced_leaves_the_damage_or_the_repair() {
    let blocks = chain();
    let (dir, _) = life(&blocks).await;
    for newest in [false, true] {
        let segments = dir::list(dir.path()).unwrap().segments;
        let at = if newest { segments.len() - 1 } else { 1 };
        let damaged = made(&contents(dir.path()));
        let path = dir::segment_path(damaged.path(), segments[at]);
        let mut bytes = fs::read(&path).unwrap();
        // In the first block, so that the store can be opened all the same.
        bytes[512 + 80 + 3] ^= 1;
        fs::write(&path, bytes).unwrap();
        let recorder = Recorder::of(damaged.path());
        let files = Arc::new(recorder.clone());
        replace(
            StoreRepair::open_with(damaged.path(), config(), files).unwrap(),
            &blocks,
        );
        let log = recorder.take();
        let mut repaired = 0;
        for cut in 0..=log.len() {
            let torn = |op, _: &str| match log.written(op) {
                Some(length) => Fate::Torn(length / 2),
                None => Fate::Done,
            };
            let states = fates().map(|fate| log.crashed(cut, fate));
            for files in states.chain([log.crashed(cut, torn)]) {
                let dir = made(&files);
                let report = repair::check(dir.path()).unwrap();
                match &report.damages[..] {
                    [] => repaired += 1,
                    [damage] => {
                        assert_eq!(damage.from, segments[at]);
                        assert!(matches!(damage.fault, SegmentFault::Record(_)), "{damage}");
                        let repair = StoreRepair::open(dir.path(), config()).unwrap();
                        replace(repair, &blocks);
                    }
                    _ => panic!("{report:?}"),
                }
                let (store, _) = SegmentStore::open(dir.path(), config()).unwrap();
                check_content(&store, &blocks).await;
                store.close().await;
                let listing = dir::list(dir.path()).unwrap();
                assert_eq!(
                    (listing.segments, listing.temporary),
                    (segments.clone(), Vec::new())
                );
            }
        }
        assert!(repaired > 0);
    }
}

fn replace(mut repair: StoreRepair, blocks: &[Block]) {
    let damage = repair.next_damage().unwrap();
    let (from, to) = (
        damage.from.get() as usize,
        damage.to.unwrap().get() as usize,
    );
    repair.replace(verified(&blocks[from..=to])).unwrap();
    assert_eq!(repair.next_damage(), None);
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Of what was not synced, any part may be there.
    #[test]
    fn any_part_of_what_was_not_synced_may_be_there(
        cut in any::<prop::sample::Index>(),
        fates in proptest::collection::vec((0..4u8, any::<prop::sample::Index>()), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let blocks = chain();
            let (_dir, log) = life(&blocks).await;
            let cut = cut.index(log.len() + 1);
            let mut fates = fates.iter().cycle();
            let fate = |op, kind: &str| {
                let (fate, torn) = fates.next().unwrap();
                match (kind, fate, log.written(op)) {
                    (_, 0, _) => Fate::Lost,
                    ("data", 1, Some(length)) => Fate::Torn(torn.index(length + 1)),
                    ("data", 2, Some(_)) => Fate::Zeroed,
                    _ => Fate::Done,
                }
            };
            check(&log.crashed(cut, fate), &blocks, log.facts(cut)).await;
        });
    }
}
