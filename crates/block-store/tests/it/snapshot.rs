// SPDX-License-Identifier: Apache-2.0
//! A store that is read as it stands, whoever writes it.

use std::{collections::BTreeMap, fs, path::Path};

use block_api::{
    Block, BlockNumber, BlockReader, BlockStore, Height, ReadError, ReadLimits, testing::TestChain,
};
use blockcast_block_store::{OpenError, Start, StoreSnapshot};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::common::{channel, copy, files, flip, memory_dir, open, raw, read_all, small, verified};

/// Every file of a store with what is in it.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    files(dir, "")
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// A store with config blocks among others, in segments of this size; a batch a block.
async fn kept(segment_bytes: usize, blocks: usize) -> (TempDir, Vec<Block>) {
    let dir = memory_dir();
    let mut chain = TestChain::new("ch");
    let blocks: Vec<_> = (0..blocks)
        .map(|number| match number % 4 {
            0 => chain.config(),
            _ => chain.data(100 + number),
        })
        .collect();
    let (store, _) = open(dir.path(), small(segment_bytes));
    for block in &blocks {
        store
            .append(verified(std::slice::from_ref(block)))
            .await
            .unwrap();
    }
    store.close().await;
    (dir, blocks)
}

fn error(dir: &Path) -> OpenError {
    match StoreSnapshot::open(dir) {
        Err(error) => error,
        Ok(snapshot) => panic!("{snapshot:?} was opened"),
    }
}

#[tokio::test]
async fn a_snapshot_of_an_open_store_has_what_was_acknowledged_and_changes_nothing() {
    for segment_bytes in [1, 900, 1 << 20] {
        let dir = memory_dir();
        let mut chain = TestChain::new("ch");
        let (store, _) = open(dir.path(), small(segment_bytes));
        let empty = StoreSnapshot::open(dir.path()).unwrap();
        assert_eq!((empty.info(), empty.channel()), (store.info(), &channel()));
        assert_eq!(empty.config_at(BlockNumber::new(9)), None);
        let mut blocks = Vec::new();
        let mut snapshots = Vec::new();
        for size in [1, 3, 1, 7, 2] {
            let batch: Vec<_> = (0..size)
                .map(|at| {
                    if at == 0 {
                        chain.config()
                    } else {
                        chain.data(300)
                    }
                })
                .collect();
            blocks.extend(batch.clone());
            store.append(verified(&batch)).await.unwrap();
            let before = content(dir.path());
            let snapshot = StoreSnapshot::open(dir.path()).unwrap();
            assert_eq!(snapshot.info(), store.info());
            assert_eq!(read_all(&snapshot).await, raw(&blocks));
            for number in (0..blocks.len() as u64 + 2).map(BlockNumber::new) {
                assert_eq!(snapshot.config_at(number), store.config_at(number));
            }
            assert_eq!(content(dir.path()), before);
            snapshots.push((snapshot, blocks.len()));
        }
        // The store grew under them.
        for (snapshot, height) in snapshots {
            assert_eq!(snapshot.info().height, Height::new(height as u64));
            assert_eq!(read_all(&snapshot).await, raw(&blocks[..height]));
            let next = snapshot.info().height.next_block();
            assert!(
                snapshot
                    .read(next, ReadLimits::one())
                    .await
                    .unwrap()
                    .is_empty()
            );
            let above = snapshot.wait_for(next.height()).await;
            assert!(matches!(above, Err(ReadError::Closed)));
            assert_eq!(
                snapshot.wait_for(Height::new(height as u64)).await.unwrap(),
                snapshot.info()
            );
        }
    }
}

#[tokio::test]
async fn a_snapshot_begins_where_the_store_begins() {
    let (_, blocks) = TestChain::of_blocks("ch", 9, 200);
    let dir = memory_dir();
    let config = blockcast_block_store::Config {
        start: Start::After {
            number: blocks[3].number(),
            hash: blocks[3].header_hash(),
        },
        ..small(900)
    };
    let (store, _) = open(dir.path(), config);
    let empty = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(empty.info(), store.info());
    store.append(verified(&blocks[4..])).await.unwrap();
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(snapshot.info(), store.info());
    assert_eq!(read_all(&snapshot).await, raw(&blocks[4..]));
    let gone = snapshot.read(BlockNumber::new(3), ReadLimits::one()).await;
    assert!(matches!(gone, Err(ReadError::Gone { .. })));
}

#[tokio::test]
async fn what_stands_behind_the_head_is_not_seen_whole_or_torn() {
    for segment_bytes in [900, 1 << 20] {
        let (original, blocks) = kept(segment_bytes, 12).await;
        let head = fs::read(original.path().join("head")).unwrap();
        let (store, _) = open(original.path(), small(segment_bytes));
        let mut chain = TestChain::new("ch");
        (0..12).for_each(|number| {
            drop(match number % 4 {
                0 => chain.config(),
                _ => chain.data(100 + number),
            })
        });
        let batch = [chain.data(400), chain.config(), chain.data(400)];
        store.append(verified(&batch)).await.unwrap();
        store.close().await;
        fs::write(original.path().join("head"), head).unwrap();
        let grown = files(original.path(), ".seg").pop().unwrap();
        let whole = fs::metadata(&grown).unwrap().len();
        let name = grown.file_name().unwrap();
        // Cut at whatever byte the batch had reached; a segment is there as a whole from its
        // beginning on.
        for cut in (0..1000).take_while(|cut| whole - cut > 512) {
            let dir = copy(original.path());
            let file = fs::OpenOptions::new()
                .write(true)
                .open(dir.path().join(name))
                .unwrap();
            file.set_len(whole - cut).unwrap();
            let snapshot = StoreSnapshot::open(dir.path()).unwrap();
            assert_eq!(snapshot.info().height, Height::new(12), "cut {cut}");
            assert_eq!(read_all(&snapshot).await, raw(&blocks));
            let newest = snapshot.config_at(BlockNumber::new(u64::MAX));
            assert_eq!(newest, Some(BlockNumber::new(8)));
        }
    }
}

#[tokio::test]
async fn without_an_index_the_segments_are_read_and_none_is_made() {
    let (dir, blocks) = kept(900, 20).await;
    let indexes = files(dir.path(), ".idx");
    assert!(indexes.len() > 2, "{indexes:?}");
    for (position, index) in indexes.iter().enumerate() {
        match position % 2 {
            0 => fs::remove_file(index).unwrap(),
            _ => fs::write(index, "no index").unwrap(),
        }
    }
    let before = content(dir.path());
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    assert_eq!(read_all(&snapshot).await, raw(&blocks));
    assert_eq!(
        snapshot.config_at(BlockNumber::new(19)),
        Some(BlockNumber::new(16))
    );
    assert_eq!(content(dir.path()), before);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_the_reason() {
    let (original, _) = kept(900, 20).await;
    let none = original.path().join("none");
    let message = error(&none).to_string();
    assert!(message.contains("none: No such file"), "{message}");
    assert!(!none.exists());
    let empty = memory_dir();
    assert!(matches!(error(empty.path()), OpenError::NoStore { .. }));
    assert!(content(empty.path()).is_empty());

    let spoilt = |spoil: &dyn Fn(&Path)| {
        let dir = copy(original.path());
        spoil(dir.path());
        error(dir.path())
    };
    let segments = files(original.path(), ".seg");
    let segment = |dir: &Path, at: usize| dir.join(segments[at].file_name().unwrap());
    let last = segments.len() - 1;
    let head = spoilt(&|dir| fs::remove_file(dir.join("head")).unwrap());
    assert!(
        head.to_string()
            .contains("is not there, so nothing says which blocks"),
        "{head}"
    );
    let head = spoilt(&|dir| fs::write(dir.join("head"), [7; 9000]).unwrap());
    assert!(head.to_string().contains("is damaged, so"), "{head}");
    let missing = spoilt(&|dir| fs::remove_file(segment(dir, 0)).unwrap());
    assert!(
        matches!(missing, OpenError::DamagedSegment { .. }),
        "{missing}"
    );
    let hole = spoilt(&|dir| fs::remove_file(segment(dir, 1)).unwrap());
    assert!(matches!(hole, OpenError::DamagedSegment { .. }), "{hole}");
    let torn = spoilt(&|dir| {
        let bytes = fs::read(segment(dir, last)).unwrap();
        fs::write(segment(dir, last), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(matches!(torn, OpenError::DamagedSegment { .. }), "{torn}");
    let lost = spoilt(&|dir| {
        for path in files(dir, ".seg") {
            fs::remove_file(path).unwrap();
        }
    });
    assert!(matches!(lost, OpenError::Lost { .. }), "{lost}");
    let (other, _) = {
        let dir = memory_dir();
        let (_, blocks) = TestChain::of_blocks("ch", 20, 333);
        let (store, _) = open(dir.path(), small(900));
        store.append(verified(&blocks)).await.unwrap();
        store.close().await;
        (dir, blocks)
    };
    let mixed = spoilt(&|dir| {
        fs::copy(
            files(other.path(), ".seg").pop().unwrap(),
            segment(dir, last),
        )
        .unwrap();
    });
    assert!(
        matches!(
            mixed,
            OpenError::OtherGenesis { .. } | OpenError::DamagedSegment { .. }
        ),
        "{mixed}"
    );
}

/// Every block, or why it cannot be read.
async fn read_each(snapshot: &StoreSnapshot) -> Vec<Result<Bytes, ReadError>> {
    let info = snapshot.info();
    let mut blocks = Vec::new();
    for number in info.first.get()..info.height.get() {
        let read = snapshot.read(BlockNumber::new(number), ReadLimits::one());
        blocks.push(read.await.map(|mut blocks| blocks.remove(0)));
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever byte of whatever file is another one: a snapshot gives blocks of the chain, or an
    /// error.
    #[test]
    fn a_flipped_byte_never_gives_another_block(
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (dir, blocks) = kept(900, 12).await;
            let all = files(dir.path(), "");
            let path = &all[file.index(all.len())];
            let length = fs::metadata(path).unwrap().len() as usize;
            if length == 0 {
                return;
            }
            flip(path, at.index(length));
            let Ok(snapshot) = StoreSnapshot::open(dir.path()) else { return };
            for (read, expected) in read_each(&snapshot).await.iter().zip(raw(&blocks)) {
                if let Ok(read) = read {
                    assert_eq!(*read, expected);
                }
            }
            // One of the two slots of the head may be gone: the one before is a block behind.
            assert!(snapshot.info().height >= Height::new(11));
        });
    }
}
