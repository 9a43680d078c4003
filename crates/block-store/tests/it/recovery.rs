// SPDX-License-Identifier: Apache-2.0
//! What opening makes of a directory after a crash, or after damage.

use std::{fs, path::Path};

use block_api::{
    Block, BlockNumber, BlockReader, BlockStore, Height, ReadError, ReadLimits, testing::TestChain,
};
use blockcast_block_store::{
    Config, Damage, DamagedRecord, HeadState, OpenError, RecordFault, SegmentFault, SegmentStore,
    StorageError,
};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::{
    channel, copy, files, flip, memory_dir, open, open_error, raw, read_all, small, verified,
};

/// The bytes that stand before a block, and before the first record of a segment.
const RECORD_HEADER: usize = 80;
const PREAMBLE: usize = 512;

/// A store in which the last batch was written but never acknowledged, as a crash leaves it.
struct Crashed {
    dir: TempDir,
    blocks: Vec<Block>,
    acknowledged: usize,
}

impl Crashed {
    /// One segment: batches of these sizes, of which the last one is not acknowledged.
    async fn new(batches: &[usize], bytes: usize) -> Self {
        let dir = memory_dir();
        let (_, blocks) = TestChain::of_blocks("ch", batches.iter().sum(), bytes);
        let (last, rest) = batches.split_last().unwrap();
        let (store, _) = open(dir.path(), Config::new(channel()));
        let mut left = blocks.as_slice();
        for size in rest {
            let (batch, behind) = left.split_at(*size);
            store.append(verified(batch)).await.unwrap();
            left = behind;
        }
        store.close().await;
        let head = fs::read(dir.path().join("head")).unwrap();
        let (store, _) = open(dir.path(), Config::new(channel()));
        store.append(verified(left)).await.unwrap();
        store.close().await;
        fs::write(dir.path().join("head"), head).unwrap();
        let acknowledged = blocks.len() - last;
        Self {
            dir,
            blocks,
            acknowledged,
        }
    }

    fn segment(dir: &Path) -> std::path::PathBuf {
        files(dir, ".seg").pop().unwrap()
    }

    /// Where the record of a block begins, and where it ends.
    fn record(&self, number: usize) -> std::ops::Range<usize> {
        let length = |block: &Block| RECORD_HEADER + block.raw().len();
        let start = PREAMBLE + self.blocks[..number].iter().map(length).sum::<usize>();
        start..start + length(&self.blocks[number])
    }
}

fn damaged_at_open(error: OpenError) -> DamagedRecord {
    let OpenError::DamagedSegment { damage } = error else {
        panic!("no damage: {error}")
    };
    let SegmentFault::Record(record) = damage.fault else {
        panic!("no record: {damage}")
    };
    record
}

fn damaged_record(error: ReadError) -> DamagedRecord {
    let ReadError::Storage { source, .. } = error else {
        panic!("not an error of the storage: {error}")
    };
    match *source.downcast::<StorageError>().unwrap() {
        StorageError::Damaged(damage) => damage,
        other => panic!("not damage: {other}"),
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_at_whatever_byte_it_ends() {
    let crashed = Crashed::new(&[1, 2, 2], 40).await;
    let length = crashed.record(4).end;
    for cut in crashed.record(3).start..=length {
        let dir = copy(crashed.dir.path());
        let segment = Crashed::segment(dir.path());
        fs::OpenOptions::new()
            .write(true)
            .open(&segment)
            .unwrap()
            .set_len(cut as u64)
            .unwrap();
        let whole = (3..5)
            .filter(|number| crashed.record(*number).end <= cut)
            .count();
        let end = crashed.record(2 + whole).end;

        let (store, report) = open(dir.path(), Config::new(channel()));
        assert_eq!(
            store.info().height,
            Height::new(3 + whole as u64),
            "cut at {cut}"
        );
        assert_eq!(report.unacknowledged, whole as u64);
        assert_eq!(report.is_clean(), cut == end);
        if let Some(torn) = report.torn_tail {
            assert_eq!((torn.offset, torn.bytes), (end as u64, (cut - end) as u64));
            assert_eq!(
                (&torn.segment, torn.from_block),
                (&segment, BlockNumber::new(3 + whole as u64))
            );
            assert_eq!(torn.fault, RecordFault::Incomplete);
            assert!(torn.certainly_unacknowledged);
        }
        assert_eq!(read_all(&store).await, raw(&crashed.blocks[..3 + whole]));
        store
            .append(verified(&crashed.blocks[3 + whole..]))
            .await
            .unwrap();
        store.close().await;
        let (store, report) = open(dir.path(), Config::new(channel()));
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(read_all(&store).await, raw(&crashed.blocks));
    }
}

#[tokio::test]
async fn a_tail_of_anything_but_records_is_cut() {
    let crashed = Crashed::new(&[1, 2, 2], 40).await;
    let start = crashed.record(3).start;
    let tails: [Vec<u8>; 4] = [
        vec![0; 5000],
        vec![0xff; 79],
        vec![0x5a; 80],
        b"BCASTSEG".repeat(20_000),
    ];
    for tail in tails {
        let dir = copy(crashed.dir.path());
        let segment = Crashed::segment(dir.path());
        let mut bytes = fs::read(&segment).unwrap();
        bytes.truncate(start);
        bytes.extend(&tail);
        fs::write(&segment, bytes).unwrap();
        let (store, report) = open(dir.path(), Config::new(channel()));
        let torn = report.torn_tail.unwrap();
        assert_eq!((torn.offset, torn.bytes), (start as u64, tail.len() as u64));
        assert_eq!(fs::metadata(&segment).unwrap().len(), start as u64);
        assert_eq!(read_all(&store).await, raw(&crashed.blocks[..3]));
    }
}

/// The pages of a batch may reach the disk in any order.
#[tokio::test]
async fn a_batch_with_a_hole_is_cut_from_the_hole_on() {
    let crashed = Crashed::new(&[2, 4], 40).await;
    for number in 2..6 {
        for at in [
            crashed.record(number).start,
            crashed.record(number).start + RECORD_HEADER + 3,
        ] {
            let dir = copy(crashed.dir.path());
            flip(&Crashed::segment(dir.path()), at);
            let (store, report) = open(dir.path(), Config::new(channel()));
            let torn = report.torn_tail.unwrap();
            assert_eq!(torn.from_block, BlockNumber::new(number as u64));
            assert_eq!(report.unacknowledged, number as u64 - 2);
            assert_eq!(read_all(&store).await, raw(&crashed.blocks[..number]));
        }
    }
}

#[tokio::test]
async fn an_acknowledged_block_is_never_cut_off() {
    let crashed = Crashed::new(&[1, 2, 2], 40).await;
    let acknowledged = crashed.acknowledged;
    for cut in PREAMBLE..crashed.record(acknowledged - 1).end {
        let dir = copy(crashed.dir.path());
        let segment = Crashed::segment(dir.path());
        fs::OpenOptions::new()
            .write(true)
            .open(&segment)
            .unwrap()
            .set_len(cut as u64)
            .unwrap();
        match open_error(dir.path(), Config::new(channel())) {
            error @ OpenError::DamagedSegment { .. } => {
                let damage = damaged_at_open(error);
                let number = (0..3)
                    .find(|number| crashed.record(*number).end > cut)
                    .unwrap();
                assert_eq!(damage.block, BlockNumber::new(number as u64));
                assert_eq!(damage.offset, crashed.record(number).start as u64);
                assert_eq!(
                    (damage.segment, damage.fault),
                    (segment.clone(), RecordFault::Incomplete)
                );
            }
            OpenError::Lost {
                acknowledged,
                found,
                ..
            } => {
                let whole = (0..3)
                    .filter(|number| crashed.record(*number).end <= cut)
                    .count();
                assert_eq!(
                    (acknowledged, found),
                    (Height::new(3), Height::new(whole as u64))
                );
            }
            other => panic!("cut at {cut}: {other}"),
        }
        assert_eq!(
            fs::metadata(&segment).unwrap().len(),
            cut as u64,
            "the file was left as it was"
        );
    }
}

#[tokio::test]
async fn a_flipped_byte_in_the_newest_acknowledged_block_is_told_from_a_torn_tail() {
    let crashed = Crashed::new(&[1, 2, 1], 40).await;
    // The batch was acknowledged after all.
    let (store, _) = open(crashed.dir.path(), Config::new(channel()));
    store.close().await;
    for at in crashed.record(3) {
        let dir = copy(crashed.dir.path());
        let segment = Crashed::segment(dir.path());
        flip(&segment, at);
        if at < crashed.record(3).start + RECORD_HEADER {
            let error = open_error(dir.path(), Config::new(channel()));
            let message = error.to_string();
            assert!(
                message.contains("with the blocks 0..3 is damaged: block 3 at byte"),
                "{message}"
            );
            assert!(
                message.contains("were acknowledged, so the file is left as it is"),
                "{message}"
            );
            assert_eq!(damaged_at_open(error).block, BlockNumber::new(3));
            continue;
        }
        let (store, report) = open(dir.path(), Config::new(channel()));
        let expected = DamagedRecord {
            segment,
            offset: crashed.record(3).start as u64,
            block: BlockNumber::new(3),
            fault: RecordFault::Payload,
        };
        assert_eq!(report.damaged, std::slice::from_ref(&expected));
        assert!(!report.is_clean());
        assert_eq!(store.info().height, Height::new(4));
        let error = store
            .read(BlockNumber::new(3), ReadLimits::one())
            .await
            .unwrap_err();
        assert_eq!(damaged_record(error), expected);
    }
}

/// Without the head file a later batch proves that the ones before were acknowledged.
#[tokio::test]
async fn without_the_head_file_the_segments_tell_what_was_acknowledged() {
    let crashed = Crashed::new(&[1, 2, 2], 40).await;
    fs::remove_file(crashed.dir.path().join("head")).unwrap();

    let dir = copy(crashed.dir.path());
    let (store, report) = open(dir.path(), Config::new(channel()));
    assert_eq!(report.head, HeadState::Missing);
    assert_eq!(read_all(&store).await, raw(&crashed.blocks));
    store.close().await;
    let (_, report) = open(dir.path(), Config::new(channel()));
    assert!(report.is_clean(), "{report:?}");

    for number in 0..5 {
        for (at, is_header) in [
            (crashed.record(number).start + 8, true),
            (crashed.record(number).end - 1, false),
        ] {
            let dir = copy(crashed.dir.path());
            flip(&Crashed::segment(dir.path()), at);
            match (
                SegmentStore::open(dir.path(), Config::new(channel())),
                number < 3,
                is_header,
            ) {
                (Err(error), true, true) => {
                    let block = damaged_at_open(error).block;
                    assert_eq!(block, BlockNumber::new(number as u64));
                }
                (Ok((_, report)), true, false) => {
                    assert_eq!(report.damaged[0].block, BlockNumber::new(number as u64));
                }
                (Ok((_, report)), false, _) => {
                    let torn = report.torn_tail.unwrap();
                    assert_eq!(torn.from_block, BlockNumber::new(number as u64));
                    assert!(!torn.certainly_unacknowledged);
                }
                (opened, ..) => panic!("block {number}: {opened:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_block_in_the_middle_is_named_and_the_others_can_be_read() {
    let crashed = Crashed::new(&[1, 5, 5], 40).await;
    let segment = Crashed::segment(crashed.dir.path());
    flip(&segment, crashed.record(4).end - 1);
    let (store, _) = open(crashed.dir.path(), Config::new(channel()));
    let limits = ReadLimits::new(100, 1 << 20);
    assert_eq!(
        store.read(BlockNumber::GENESIS, limits).await.unwrap(),
        raw(&crashed.blocks[..4])
    );
    let error = store.read(BlockNumber::new(4), limits).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("block 4 cannot be read: block 4 in the segment /"),
        "{message}"
    );
    let expected = DamagedRecord {
        segment,
        offset: crashed.record(4).start as u64,
        block: BlockNumber::new(4),
        fault: RecordFault::Payload,
    };
    assert_eq!(damaged_record(error), expected);
    assert_eq!(
        store.read(BlockNumber::new(5), limits).await.unwrap(),
        raw(&crashed.blocks[5..])
    );
}

/// Several sealed segments and one that grows.
async fn several_segments() -> (TempDir, Vec<Block>) {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 12, 40);
    let (store, _) = open(dir.path(), small(900));
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    assert!(files(dir.path(), ".seg").len() >= 3);
    (dir, blocks)
}

/// What is read of a store, each block for itself; damage is an error.
async fn read_each(store: &SegmentStore) -> Vec<Result<Bytes, ReadError>> {
    let mut blocks = Vec::new();
    for number in 0..store.info().height.get() {
        let read = store
            .read(BlockNumber::new(number), ReadLimits::one())
            .await;
        blocks.push(read.map(|mut blocks| blocks.pop().unwrap()));
    }
    blocks
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_noticed() {
    let (original, blocks) = several_segments().await;
    let expected = raw(&blocks);
    for file in files(original.path(), "") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "lock" {
            continue;
        }
        for at in 0..fs::metadata(&file).unwrap().len() as usize {
            // Between its slots the head file has nothing.
            let is_padding = name == "head" && at >= PREAMBLE && at % 4096 >= 61;
            if is_padding && at % 512 != 0 {
                continue;
            }
            let dir = copy(original.path());
            flip(&dir.path().join(&name), at);
            let Ok((store, report)) = SegmentStore::open(dir.path(), small(900)) else {
                continue;
            };
            let read = read_each(&store).await;
            assert_eq!(
                read.len(),
                expected.len(),
                "{name} at {at}: blocks are missing"
            );
            let mut noticed = !report.is_clean();
            for (read, expected) in read.iter().zip(&expected) {
                match read {
                    Ok(read) => assert_eq!(read, expected, "{name} at {at}: another block"),
                    Err(_) => noticed = true,
                }
            }
            assert_eq!(noticed, !is_padding, "{name} at {at}");
        }
    }
}

#[tokio::test]
async fn indexes_are_made_anew() {
    let (original, blocks) = several_segments().await;
    for index in files(original.path(), ".idx") {
        for damage in [None, Some(Vec::new()), Some(vec![0; 300])] {
            let dir = copy(original.path());
            let index = dir.path().join(index.file_name().unwrap());
            match damage {
                None => fs::remove_file(&index).unwrap(),
                Some(bytes) => fs::write(&index, bytes).unwrap(),
            }
            let (store, report) = open(dir.path(), small(900));
            assert_eq!(report.rebuilt_indexes, [index]);
            assert_eq!(read_all(&store).await, raw(&blocks));
            store.close().await;
            assert!(open(dir.path(), small(900)).1.is_clean());
        }
    }
}

#[tokio::test]
async fn a_sealed_segment_is_never_cut() {
    let (original, _) = several_segments().await;
    let sealed = files(original.path(), ".seg").len() - 1;
    for segment in &files(original.path(), ".seg")[..sealed] {
        let length = fs::metadata(segment).unwrap().len();
        for cut in [length - 1, length - 200, PREAMBLE as u64, 100, 0] {
            let dir = copy(original.path());
            let segment = dir.path().join(segment.file_name().unwrap());
            fs::OpenOptions::new()
                .write(true)
                .open(&segment)
                .unwrap()
                .set_len(cut)
                .unwrap();
            let error = open_error(dir.path(), small(900));
            let OpenError::DamagedSegment { damage } = error else {
                panic!("{error}")
            };
            assert!(damage.to.is_some_and(|to| to >= damage.from), "{damage}");
            assert_eq!(fs::metadata(&segment).unwrap().len(), cut);
        }
    }
}

#[tokio::test]
async fn a_missing_segment_is_noticed() {
    let (original, _) = several_segments().await;
    let segments = files(original.path(), ".seg");
    for (position, segment) in segments.iter().enumerate() {
        let dir = copy(original.path());
        fs::remove_file(dir.path().join(segment.file_name().unwrap())).unwrap();
        let error = open_error(dir.path(), small(900));
        let first: u64 = segment
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        match error {
            OpenError::DamagedSegment { damage } => {
                let next = segments[position + 1].file_stem().unwrap();
                let next: u64 = next.to_str().unwrap().parse().unwrap();
                let expected = Damage {
                    segment: dir.path().join(segment.file_name().unwrap()),
                    from: BlockNumber::new(first),
                    to: Some(BlockNumber::new(next - 1)),
                    fault: SegmentFault::Missing,
                };
                assert_eq!(damage, expected);
            }
            OpenError::Lost { found, .. } => {
                assert_eq!((position, found), (segments.len() - 1, Height::new(first)));
            }
            other => panic!("without {segment:?}: {other}"),
        }
    }
    let dir = copy(original.path());
    for segment in files(dir.path(), ".seg") {
        fs::remove_file(segment).unwrap();
    }
    let error = open_error(dir.path(), small(900));
    assert!(
        matches!(
            error,
            OpenError::Lost {
                found: Height::ZERO,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn segments_of_two_stores_are_not_mixed() {
    let (dir, _) = several_segments().await;
    let other = memory_dir();
    let mut chain = TestChain::new("ch");
    let mut blocks = vec![chain.config()];
    blocks.extend((1..12).map(|_| chain.data(41)));
    let (store, _) = open(other.path(), small(900));
    for batch in blocks.chunks(2) {
        store.append(verified(batch)).await.unwrap();
    }
    store.close().await;
    let names = |dir: &Path| -> Vec<_> {
        files(dir, ".seg")
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(dir.path()), names(other.path()));
    for name in names(dir.path()) {
        let mixed = copy(dir.path());
        fs::copy(other.path().join(&name), mixed.path().join(&name)).unwrap();
        let error = open_error(mixed.path(), small(900));
        assert!(
            matches!(
                error,
                OpenError::Unlinked { .. } | OpenError::OtherTip { .. }
            ),
            "{name:?}: {error}"
        );
    }
    fs::copy(other.path().join("head"), dir.path().join("head")).unwrap();
    let error = open_error(dir.path(), small(900));
    assert!(matches!(error, OpenError::OtherTip { .. }), "{error}");
}

#[tokio::test]
async fn an_unknown_version_is_an_error_that_names_it() {
    let (original, _) = several_segments().await;
    for segment in files(original.path(), ".seg") {
        let dir = copy(original.path());
        let segment = dir.path().join(segment.file_name().unwrap());
        let mut bytes = fs::read(&segment).unwrap();
        bytes[8] = 7;
        fs::write(&segment, bytes).unwrap();
        let error = open_error(dir.path(), small(900));
        assert!(
            matches!(&error, OpenError::UnknownVersion { path, version: 7 } if *path == segment),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("has format version 7, this release reads version 1"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn unfinished_files_are_removed() {
    let (dir, blocks) = several_segments().await;
    for name in [
        "head.tmp",
        "00000000000000000099.seg.tmp",
        "00000000000000000000.idx.tmp",
    ] {
        fs::write(dir.path().join(name), "unfinished").unwrap();
    }
    let (store, report) = open(dir.path(), small(900));
    assert!(report.is_clean());
    assert_eq!(read_all(&store).await, raw(&blocks));
    assert!(files(dir.path(), ".tmp").is_empty());
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named_with_the_reason() {
    let dir = memory_dir();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("store")] {
        let message = open_error(&path, Config::new(channel())).to_string();
        assert!(
            message.starts_with(&format!("cannot create the directory {}: ", path.display())),
            "{message}"
        );
        assert!(
            message.ends_with("; give a path at which there is a directory or nothing"),
            "{message}"
        );
    }
}

/// What happens to a store, step by step.
#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Reopen,
    /// A batch is written, the process ends before it is acknowledged, and so much of the batch, in
    /// thousandths, is on the disk; the rest is missing or, as a power cut may leave it, zero.
    Crash(Vec<usize>, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let batch = || proptest::collection::vec(0usize..700, 1..6);
    prop_oneof![
        4 => batch().prop_map(Step::Append),
        1 => Just(Step::Reopen),
        2 => (batch(), 0usize..=1000, any::<bool>()).prop_map(|(batch, kept, zeroed)| Step::Crash(batch, kept, zeroed)),
    ]
}

fn next_blocks(chain: &mut TestChain, sizes: &[usize]) -> Vec<Block> {
    sizes
        .iter()
        .map(|size| {
            if size % 7 == 0 {
                chain.config()
            } else {
                chain.data(*size)
            }
        })
        .collect()
}

/// Leaves the directory as a crash does: of a batch that was never acknowledged, so much is there.
async fn crash(dir: &Path, config: &Config, batch: &[Block], on_disk: usize, zeroed: bool) {
    let head = fs::read(dir.join("head")).unwrap();
    let before = files(dir, ".seg")
        .pop()
        .map(|last| (fs::metadata(&last).unwrap().len() as usize, last));
    let (store, _) = open(dir, config.clone());
    store.append(verified(batch)).await.unwrap();
    store.close().await;
    fs::write(dir.join("head"), head).unwrap();
    let segment = Crashed::segment(dir);
    let start = before
        .filter(|(_, last)| *last == segment)
        .map_or(PREAMBLE, |(length, _)| length);
    let mut bytes = fs::read(&segment).unwrap();
    let length = bytes.len();
    bytes.truncate(start + (length - start) * on_disk / 1000);
    if zeroed {
        bytes.resize(length, 0);
    }
    fs::write(&segment, bytes).unwrap();
}

async fn live(steps: Vec<Step>, segment_bytes: usize) {
    let dir = memory_dir();
    let config = small(segment_bytes);
    let mut chain = TestChain::new("ch");
    let mut kept: Vec<Block> = Vec::new();
    let (mut store, _) = open(dir.path(), config.clone());
    for step in steps {
        let acknowledged = kept.len();
        let mut whole = true;
        match step {
            Step::Append(sizes) => {
                let blocks = next_blocks(&mut chain, &sizes);
                store.append(verified(&blocks)).await.unwrap();
                kept.extend(blocks);
                continue;
            }
            Step::Reopen => store.close().await,
            Step::Crash(sizes, on_disk, zeroed) => {
                store.close().await;
                let blocks = next_blocks(&mut chain, &sizes);
                crash(dir.path(), &config, &blocks, on_disk, zeroed).await;
                kept.extend(blocks);
                whole = on_disk == 1000;
            }
        }
        let report;
        (store, report) = open(dir.path(), config.clone());
        let height = store.info().height.get() as usize;
        assert!(
            (acknowledged..=kept.len()).contains(&height),
            "{height} of {acknowledged} to {}",
            kept.len()
        );
        assert_eq!(report.unacknowledged, (height - acknowledged) as u64);
        assert!(
            !whole || height == kept.len() && report.is_clean(),
            "{report:?}"
        );
        assert!(
            report.damaged.is_empty() && report.rebuilt_indexes.is_empty(),
            "{report:?}"
        );
        if let Some(torn) = report.torn_tail {
            assert_eq!(torn.from_block, BlockNumber::new(height as u64));
            assert!(torn.certainly_unacknowledged && torn.bytes > 0);
        }
        kept.truncate(height);
        chain = TestChain::new("ch");
        // The chain goes on behind what was kept: its maker is deterministic.
        for block in &kept {
            let again = if block.is_config() {
                chain.config()
            } else {
                chain.entries(&[block.data().next().unwrap().to_vec()])
            };
            assert_eq!(again.header_hash(), block.header_hash());
        }
        assert_eq!(read_all(&store).await, raw(&kept));
        let newest_config = kept
            .iter()
            .rev()
            .find(|block| block.is_config())
            .map(Block::number);
        assert_eq!(store.config_at(BlockNumber::new(u64::MAX)), newest_config);
    }
    assert_eq!(read_all(&store).await, raw(&kept));
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every acknowledged block survives whatever happens to the tail.
    #[test]
    fn acknowledged_blocks_survive_any_life(
        steps in proptest::collection::vec(step(), 1..25),
        segment_bytes in prop_oneof![Just(1usize), Just(2000), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live(steps, segment_bytes));
    }
}
