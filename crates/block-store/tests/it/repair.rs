// SPDX-License-Identifier: Apache-2.0
//! Damaged segments are found, named, and replaced by blocks from elsewhere.

use std::{
    fs,
    num::NonZeroU64,
    path::{Path, PathBuf},
};

use block_api::{
    AppendError, Block, BlockNumber, BlockReader, BlockStore, Height, testing::TestChain,
};
use blockcast_block_store::{
    Config, Damage, OpenError, Retention, SegmentFault, SegmentStore,
    repair::{RepairError, StoreRepair, check},
};
use tempfile::TempDir;

use crate::common::{channel, copy, files, flip, memory_dir, open, raw, read_all, small, verified};

const LENGTH: u64 = 24;

fn chain() -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    (0..=LENGTH)
        .map(|number| match number {
            0 | 5 | 13 => chain.config(),
            _ => chain.data(60),
        })
        .collect()
}

async fn kept(config: Config) -> TempDir {
    let dir = memory_dir();
    let (store, _) = open(dir.path(), config);
    for block in &chain()[..LENGTH as usize] {
        store
            .append(verified(std::slice::from_ref(block)))
            .await
            .unwrap();
    }
    store.close().await;
    dir
}

fn first_of(segment: &Path) -> u64 {
    segment
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// The segments of a directory, each with its first and its last block.
fn spans(dir: &Path) -> Vec<(PathBuf, u64, u64)> {
    let segments = files(dir, ".seg");
    let mut nexts: Vec<u64> = segments.iter().skip(1).map(|path| first_of(path)).collect();
    nexts.push(LENGTH);
    segments
        .into_iter()
        .zip(nexts)
        .map(|(path, next)| (path.clone(), first_of(&path), next - 1))
        .collect()
}

/// Repairs what is damaged, with the blocks of the chain.
fn repair(dir: &Path, config: Config) -> Vec<Damage> {
    let chain = chain();
    let mut repaired = Vec::new();
    let mut store = StoreRepair::open(dir, config).unwrap();
    while let Some(damage) = store.next_damage() {
        let (from, to) = (damage.from.get(), damage.to.unwrap().get());
        let configs = store.configs_below(damage.from).unwrap();
        let expected = [0, 5, 13].into_iter().filter(|config| *config < from);
        let expected: Vec<_> = expected
            .map(|at| chain[at as usize].raw().clone())
            .collect();
        assert_eq!(configs, expected);
        store
            .replace(verified(&chain[from as usize..=to as usize]))
            .unwrap();
        assert!(
            repaired.len() < 5,
            "{repaired:#?} {damage} {:#?}",
            store.report()
        );
        repaired.push(damage);
    }
    assert_eq!(store.report().damages, []);
    repaired
}

/// Checks that a store is whole, and goes on.
async fn check_whole(dir: &Path, config: Config) {
    assert_eq!(check(dir).unwrap().damages, []);
    let chain = chain();
    let (store, report) = open(dir, config.clone());
    assert!(
        report.torn_tail.is_none() && report.damaged.is_empty(),
        "{report:?}"
    );
    assert_eq!(store.info().height, Height::new(LENGTH));
    let first = store.info().first.get() as usize;
    assert_eq!(read_all(&store).await, raw(&chain[first..LENGTH as usize]));
    store
        .append(verified(&chain[LENGTH as usize..]))
        .await
        .unwrap();
    store.close().await;
    let (store, report) = open(dir, config);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.info().height, Height::new(LENGTH + 1));
    store.close().await;
}

#[tokio::test]
async fn a_sound_store_has_nothing_to_repair() {
    let dir = kept(small(900)).await;
    let (store, _) = open(dir.path(), small(900));
    // Beside the one that has it open.
    let report = check(dir.path()).unwrap();
    assert_eq!(report.channel, channel());
    assert_eq!(
        (report.first, report.height),
        (BlockNumber::GENESIS, Height::new(LENGTH))
    );
    assert_eq!(
        (report.sound, report.damages),
        (spans(dir.path()).len(), Vec::new())
    );
    let error = StoreRepair::open(dir.path(), small(900)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    store.close().await;
    let mut store = StoreRepair::open(dir.path(), small(900)).unwrap();
    let error = store.replace(Vec::new()).unwrap_err();
    assert!(matches!(error, RepairError::Sound), "{error}");
    drop(store);
    check_whole(dir.path(), small(900)).await;

    let empty = memory_dir();
    assert!(matches!(
        check(empty.path()),
        Err(OpenError::NoStore { .. })
    ));
    let error = StoreRepair::open(empty.path(), small(900)).unwrap_err();
    assert!(matches!(error, OpenError::NoStore { .. }), "{error}");
    assert!(files(empty.path(), "").is_empty());
}

#[tokio::test]
async fn each_segment_may_be_lost_and_is_made_anew() {
    let original = kept(small(900)).await;
    for (path, first, last) in spans(original.path()) {
        let dir = copy(original.path());
        let segment = dir.path().join(path.file_name().unwrap());
        fs::remove_file(&segment).unwrap();
        let error = SegmentStore::open(dir.path(), small(900))
            .map(drop)
            .unwrap_err();
        let expected = Damage {
            segment,
            from: BlockNumber::new(first),
            to: Some(BlockNumber::new(last)),
            fault: SegmentFault::Missing,
        };
        match error {
            OpenError::DamagedSegment { damage } => assert_eq!(damage, expected),
            OpenError::Lost { found, .. } => assert_eq!(found, Height::new(first)),
            error => panic!("{error}"),
        }
        assert_eq!(
            check(dir.path()).unwrap().damages,
            std::slice::from_ref(&expected)
        );
        assert_eq!(repair(dir.path(), small(900)), [expected]);
        check_whole(dir.path(), small(900)).await;
    }
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_segment_is_found_and_repaired() {
    let original = kept(small(900)).await;
    for (path, first, last) in spans(original.path()) {
        let length = fs::metadata(&path).unwrap().len() as usize;
        for at in (0..length).step_by(53) {
            let dir = copy(original.path());
            let segment = dir.path().join(path.file_name().unwrap());
            flip(&segment, at);
            let report = match check(dir.path()) {
                Ok(report) => report,
                // Another version cannot be judged.
                Err(OpenError::UnknownVersion { path, .. }) => {
                    assert!(path == segment && (8..12).contains(&at));
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let [damage] = &report.damages[..] else {
                panic!("at {at}: {report:?}")
            };
            let to = Some(BlockNumber::new(last));
            assert_eq!(
                (&damage.segment, damage.from.get(), damage.to),
                (&segment, first, to)
            );
            assert_eq!(report.sound, spans(original.path()).len() - 1);
            if let SegmentFault::Record(record) = &damage.fault {
                assert!((first..=last).contains(&record.block.get()));
            }
            repair(dir.path(), small(900));
            check_whole(dir.path(), small(900)).await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_was_cut_is_repaired() {
    let original = kept(small(900)).await;
    for (path, first, _) in spans(original.path()) {
        let length = fs::metadata(&path).unwrap().len();
        for cut in [0, 300, 512, 600, length / 2, length - 1] {
            let dir = copy(original.path());
            let segment = dir.path().join(path.file_name().unwrap());
            let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
            file.set_len(cut).unwrap();
            drop(file);
            let repaired = repair(dir.path(), small(900));
            assert_eq!(repaired.len(), 1);
            assert!(repaired[0].from.get() >= first);
            check_whole(dir.path(), small(900)).await;
        }
    }
}

#[tokio::test]
async fn several_damaged_segments_are_repaired_one_after_the_other() {
    let dir = kept(small(900)).await;
    let spans = spans(dir.path());
    fs::remove_file(&spans[1].0).unwrap();
    flip(&spans[2].0, 700);
    flip(&spans[3].0, 20);
    flip(&spans[spans.len() - 1].0, 600);
    let damages = check(dir.path()).unwrap().damages;
    let found: Vec<_> = damages.iter().map(|damage| damage.from.get()).collect();
    let expected = [1, 2, 3, spans.len() - 1].map(|at| spans[at].1);
    assert_eq!(found, expected);
    assert_eq!(repair(dir.path(), small(900)), damages);
    check_whole(dir.path(), small(900)).await;
}

#[tokio::test]
async fn a_store_that_lost_everything_but_its_head_is_made_anew() {
    let dir = kept(small(900)).await;
    for path in files(dir.path(), ".seg") {
        fs::remove_file(path).unwrap();
    }
    let damages = repair(dir.path(), small(900));
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].to, Some(BlockNumber::new(LENGTH - 1)));
    check_whole(dir.path(), small(900)).await;
}

#[tokio::test]
async fn without_a_head_file_the_records_tell_what_is_damaged() {
    let original = kept(small(900)).await;
    fs::remove_file(original.path().join("head")).unwrap();
    let spans = spans(original.path());
    let (newest, first, _) = spans.last().unwrap();
    let dir = copy(original.path());
    flip(&dir.path().join(spans[1].0.file_name().unwrap()), 700);
    assert_eq!(repair(dir.path(), small(900)).len(), 1);
    check_whole(dir.path(), small(900)).await;

    let dir = copy(original.path());
    let segment = dir.path().join(newest.file_name().unwrap());
    flip(&segment, 515);
    let damages = check(dir.path()).unwrap().damages;
    assert_eq!((damages[0].from.get(), damages[0].to), (*first, None));
    let error = StoreRepair::open(dir.path(), small(900))
        .unwrap()
        .replace(Vec::new())
        .unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, RepairError::NoEnd { .. }), "{message}");
    assert!(message.contains("remove the segment"), "{message}");
}

#[tokio::test]
async fn what_was_dropped_is_not_missed_and_the_rest_is_repaired() {
    let config = || Config {
        retention: Retention::Blocks(NonZeroU64::new(9).unwrap()),
        ..small(900)
    };
    let original = kept(config()).await;
    let (path, first, _) = spans(original.path())[0].clone();
    assert!(first > 5);
    assert_eq!(
        check(original.path()).unwrap().first,
        BlockNumber::new(first)
    );
    for lost in [false, true] {
        let dir = copy(original.path());
        let segment = dir.path().join(path.file_name().unwrap());
        match lost {
            true => fs::remove_file(&segment).unwrap(),
            false => flip(&segment, 530),
        }
        let damages = repair(dir.path(), config());
        assert_eq!(damages.len(), 1);
        check_whole(dir.path(), config()).await;
    }
    let dir = copy(original.path());
    let length = fs::metadata(dir.path().join("configs")).unwrap().len() as usize;
    flip(&dir.path().join("configs"), length - 1);
    let error = check(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::DamagedConfigs { .. }), "{error}");
}

#[tokio::test]
async fn only_the_blocks_that_belong_there_are_taken() {
    let dir = kept(small(2500)).await;
    let (path, first, last) = spans(dir.path())[1].clone();
    flip(&path, 700);
    let before = fs::read(&path).unwrap();
    let chain = chain();
    let (first, last) = (first as usize, last as usize);
    let mut other = TestChain::new("ch");
    let strangers: Vec<_> = (0..LENGTH)
        .map(|number| {
            if number == 0 {
                other.config()
            } else {
                other.data(61)
            }
        })
        .collect();
    let mut store = StoreRepair::open(dir.path(), small(2500)).unwrap();
    let mut attempt = |blocks: &[Block]| store.replace(verified(blocks)).unwrap_err();

    let error = attempt(&chain[first + 1..=last]);
    assert!(
        matches!(error, RepairError::Block(AppendError::DoesNotLink { .. })),
        "{error}"
    );
    let error = attempt(&chain[first..last]);
    assert!(
        matches!(error, RepairError::Incomplete { next, .. } if next.get() == last as u64),
        "{error}"
    );
    let error = attempt(&chain[first..=last + 1]);
    assert!(matches!(error, RepairError::PastTheEnd { .. }), "{error}");
    let error = attempt(&strangers[first..=last]);
    assert!(
        matches!(error, RepairError::Block(AppendError::DoesNotLink { .. })),
        "{error}"
    );
    let error = attempt(&[]);
    assert!(matches!(error, RepairError::Incomplete { .. }), "{error}");

    // A chain that leaves this one in the segment ends elsewhere.
    let mut fork = TestChain::new("ch");
    let forked: Vec<_> = (0..LENGTH as usize)
        .map(|number| match number {
            0 | 5 | 13 => fork.config(),
            number if number == last => fork.data(61),
            _ => fork.data(60),
        })
        .collect();
    assert_eq!(forked[last - 1].raw(), chain[last - 1].raw());
    let error = attempt(&forked[first..=last]);
    assert!(
        matches!(error, RepairError::OtherEnd { number } if number.get() == last as u64),
        "{error}"
    );

    // Judged by another configuration than the one at its place.
    let mut judged = chain[first..=last].to_vec();
    let behind_config = &mut judged[1];
    *behind_config = TestChain::signed_by_others(behind_config, BlockNumber::GENESIS);
    let error = attempt(&judged);
    assert!(
        matches!(error, RepairError::Block(AppendError::OtherJudge { .. })),
        "{error}"
    );

    // Nothing of all this is left behind, and a block that was refused does no harm.
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(files(dir.path(), ".tmp").is_empty());
    let mut replacement = store.begin().unwrap();
    for block in &chain[first..=last] {
        let stranger = &strangers[block.number().get() as usize];
        assert!(
            replacement
                .push(&verified(std::slice::from_ref(stranger))[0])
                .is_err()
        );
        assert_eq!(replacement.next(), Some(block.number()));
        replacement
            .push(&verified(std::slice::from_ref(block))[0])
            .unwrap();
    }
    assert_eq!(
        (replacement.next(), replacement.last().get()),
        (None, last as u64)
    );
    store.finish(replacement).unwrap();
    drop(store);
    check_whole(dir.path(), small(2500)).await;
}

#[tokio::test]
async fn a_segment_of_another_chain_is_damage() {
    let original = kept(small(900)).await;
    let other = memory_dir();
    let mut chain = TestChain::new("ch");
    let (store, _) = open(other.path(), small(900));
    for number in 0..LENGTH {
        let block = match number {
            0 | 5 | 13 => chain.config(),
            _ if number == 1 => chain.data(59),
            _ => chain.data(60),
        };
        store.append(verified(&[block])).await.unwrap();
    }
    store.close().await;
    for (path, first, _) in spans(original.path()).into_iter().skip(1) {
        let foreign = other.path().join(path.file_name().unwrap());
        if !foreign.exists() {
            continue;
        }
        let dir = copy(original.path());
        fs::copy(foreign, dir.path().join(path.file_name().unwrap())).unwrap();
        let damages = check(dir.path()).unwrap().damages;
        assert!(
            damages
                .iter()
                .any(|damage| damage.from.get() == first && damage.fault == SegmentFault::Unlinked),
            "{damages:?}"
        );
        let repaired = repair(dir.path(), small(900));
        assert!(!repaired.is_empty());
        check_whole(dir.path(), small(900)).await;
    }
}

#[tokio::test]
async fn the_store_of_another_channel_is_not_repaired() {
    let dir = kept(small(900)).await;
    let config = Config {
        channel: "other".parse().unwrap(),
        ..small(900)
    };
    let error = StoreRepair::open(dir.path(), config).unwrap_err();
    assert!(matches!(error, OpenError::OtherChannel { .. }), "{error}");
}
