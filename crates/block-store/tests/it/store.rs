// SPDX-License-Identifier: Apache-2.0
//! The store as its callers see it.

use std::{fs, num::NonZeroU16, sync::Arc};

use block_api::{
    Acceptance, AppendError, Block, BlockNumber, BlockReader, BlockStore, BlockVerifier, ChainInfo,
    HeaderHash, Height, ReadError, ReadLimits, Rejection, Standing, Verdict, VerifiedBlock,
    testing::{GullibleVerifier, TestChain, store_conformance, within},
};
use blockcast_block_store::{
    Config, HeadState, OpenError, Retention, SegmentStore, Start, StartConfig, StoreSnapshot,
};
use tokio::task::JoinSet;

use crate::common::{channel, files, memory_dir, open, open_error, raw, read_all, small, verified};

/// Covers: FLG-02
#[tokio::test]
async fn keeps_what_every_store_promises() {
    for config in [Config::new(channel()), small(1), small(5000)] {
        let dirs = memory_dir();
        store_conformance::run(|| async {
            let dir = tempfile::tempdir_in(dirs.path()).unwrap().keep();
            Arc::new(open(&dir, config.clone()).0) as Arc<dyn BlockStore>
        })
        .await;
    }
}

/// Covers: FLG-01, FLG-03
#[tokio::test]
async fn opening_again_gives_the_same_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = TestChain::of_blocks("ch", 40, 300);
    let mut info = ChainInfo::EMPTY;
    for (position, block) in blocks.iter().enumerate() {
        let (store, report) = open(dir.path(), small(2000));
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(
            report.head,
            if position == 0 {
                HeadState::New
            } else {
                HeadState::Intact
            }
        );
        assert_eq!(report.unacknowledged, 0);
        assert_eq!(store.info(), info);
        info = store
            .append(vec![TestChain::verified(block)])
            .await
            .unwrap();
        store.close().await;
    }
    let (store, _) = open(dir.path(), small(2000));
    assert_eq!(store.info().height, Height::new(40));
    assert_eq!(read_all(&store).await, raw(&blocks));
    assert!(files(dir.path(), ".seg").len() > 5);
}

/// Takes every block as judged by the newest one of these config blocks below it: signatures are
/// not what is tested here.
#[derive(Debug)]
struct Permissive([u64; 5]);

impl BlockVerifier for Permissive {
    fn verify(&self, block: &Block, _: Standing) -> Verdict {
        let mut below = self.0.into_iter().map(BlockNumber::new);
        Verdict::Accepted(Acceptance {
            is_config: block.is_config(),
            last_config: BlockNumber::GENESIS,
            judged_by: below
                .rfind(|config| *config < block.number())
                .unwrap_or_default(),
        })
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verify(block, standing)
    }

    fn apply_config(&self, _: &VerifiedBlock) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Covers: FLG-01, FLG-02, FLG-03
#[tokio::test]
async fn a_chain_of_a_real_orderer_is_kept_as_it_came() {
    for (folder, count, configs) in [
        ("raft", 66u64, [0, 7, 21, 37, 46]),
        ("bft", 70, [0, 1, 21, 37, 46]),
    ] {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/");
        let file = |number: u64| fs::read(format!("{fixtures}{folder}/block_{number}.pb")).unwrap();
        let blocks: Vec<_> = (0..count)
            .map(|number| {
                VerifiedBlock::new(
                    Block::parse(file(number).into()).unwrap(),
                    &Permissive(configs),
                    Standing::Linked,
                )
                .unwrap()
            })
            .collect();
        let dir = memory_dir();
        let config = Config {
            genesis: Some(blocks[0].header_hash()),
            ..small(200_000)
        };
        let (store, _) = open(dir.path(), config.clone());
        for batch in blocks.chunks(5) {
            store.append(batch.to_vec()).await.unwrap();
        }
        store.close().await;
        let (store, report) = open(dir.path(), config);
        assert!(report.is_clean(), "{report:?}");
        let read = read_all(&store).await;
        assert_eq!(read.len() as u64, count);
        for (number, (read, block)) in (0..).zip(read.iter().zip(&blocks)) {
            assert_eq!(read, block.block().raw());
            assert!(*read == file(number), "{folder} {number}");
            let config = configs
                .iter()
                .rfind(|config| **config <= number)
                .map(|config| BlockNumber::new(*config));
            assert_eq!(
                store.config_at(BlockNumber::new(number)),
                config,
                "{folder} {number}"
            );
        }
        let table = fs::read_to_string(format!("{fixtures}{folder}/blocks.txt")).unwrap();
        let tip = store.info().tip_hash.unwrap();
        assert!(
            table
                .lines()
                .nth(count as usize - 1)
                .unwrap()
                .contains(&format!("header_hash={tip}"))
        );
    }
}

#[tokio::test]
async fn a_read_goes_over_segments() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 30, 300);
    let (store, _) = open(dir.path(), small(1000));
    for block in &blocks {
        store
            .append(vec![TestChain::verified(block)])
            .await
            .unwrap();
    }
    for from in 0..30 {
        let read = store
            .read(BlockNumber::new(from as u64), ReadLimits::new(11, 1 << 20))
            .await
            .unwrap();
        assert_eq!(read, raw(&blocks[from..30.min(from + 11)]));
    }
    let bytes = 3 * blocks[5].raw().len();
    let read = store
        .read(BlockNumber::new(4), ReadLimits::new(100, bytes))
        .await
        .unwrap();
    assert_eq!(read, raw(&blocks[4..7]));
}

#[tokio::test]
async fn a_block_does_not_keep_more_than_was_read_for_it() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 3, 50);
    let (store, _) = open(dir.path(), Config::new(channel()));
    store.append(verified(&blocks)).await.unwrap();
    let mut read = store
        .read(BlockNumber::new(1), ReadLimits::one())
        .await
        .unwrap();
    let block = read.pop().unwrap().try_into_mut().unwrap();
    assert!(
        block.capacity() <= block.len() + 100,
        "{} bytes for {}",
        block.capacity(),
        block.len()
    );
}

#[tokio::test]
async fn config_blocks_are_found_after_opening_again() {
    let dir = memory_dir();
    let mut chain = TestChain::new("ch");
    let configs = [0u64, 1, 7, 8, 30, 49];
    let blocks: Vec<_> = (0..50)
        .map(|number| {
            if configs.contains(&number) {
                chain.config()
            } else {
                chain.data(200)
            }
        })
        .collect();
    let (store, _) = open(dir.path(), small(1500));
    for batch in blocks.chunks(4) {
        store.append(verified(batch)).await.unwrap();
    }
    let check = |store: &SegmentStore| {
        for number in 0..60 {
            let expected = configs
                .iter()
                .rev()
                .find(|config| **config <= number)
                .map(|config| BlockNumber::new(*config));
            assert_eq!(
                store.config_at(BlockNumber::new(number)),
                expected,
                "at {number}"
            );
        }
    };
    check(&store);
    store.close().await;
    let (store, _) = open(dir.path(), small(1500));
    check(&store);
    store.close().await;
    for index in files(dir.path(), ".idx") {
        fs::remove_file(index).unwrap();
    }
    let (store, report) = open(dir.path(), small(1500));
    assert_eq!(
        report.rebuilt_indexes.len(),
        files(dir.path(), ".seg").len() - 1
    );
    check(&store);
}

/// Covers: FLG-05
#[tokio::test]
async fn a_chain_may_begin_behind_a_known_block() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 12, 100);
    let start = Start::After {
        number: BlockNumber::new(6),
        hash: blocks[6].header_hash(),
    };
    let config = Config {
        start,
        ..small(600)
    };
    let beginning = ChainInfo {
        first: BlockNumber::new(7),
        height: Height::new(7),
        tip_hash: Some(blocks[6].header_hash()),
    };
    for _ in 0..2 {
        let (store, _) = open(dir.path(), config.clone());
        assert_eq!(store.info(), beginning);
        assert_eq!(store.config_at(BlockNumber::new(9)), None);
        assert!(
            store
                .read(BlockNumber::new(7), ReadLimits::one())
                .await
                .unwrap()
                .is_empty()
        );
        let refused = store.append(verified(&blocks[8..9])).await;
        assert!(matches!(refused, Err(AppendError::DoesNotLink { .. })));
        store.close().await;
    }
    let (store, _) = open(dir.path(), config.clone());
    let gone = store
        .append(verified(&blocks[7..]))
        .await
        .map(|info| info.first);
    assert_eq!(gone.unwrap(), BlockNumber::new(7));
    let gone = store.read(BlockNumber::new(6), ReadLimits::one()).await;
    assert!(matches!(gone, Err(ReadError::Gone { number, first })
        if number == BlockNumber::new(6) && first == BlockNumber::new(7)));
    assert_eq!(read_all(&store).await, raw(&blocks[7..]));
    store.close().await;
    let (store, report) = open(dir.path(), config);
    assert!(report.is_clean());
    assert_eq!(read_all(&store).await, raw(&blocks[7..]));
}

/// The first block is judged by a config block that the store was given.
#[tokio::test]
async fn a_chain_may_begin_with_a_config_block_that_is_known() {
    let mut chain = TestChain::new("ch");
    let blocks: Vec<_> = (0..24)
        .map(|number| match number {
            0 | 4 | 15 => chain.config(),
            _ => chain.data(100),
        })
        .collect();
    let trusting = |config: usize| Config {
        genesis: Some(blocks[0].header_hash()),
        start: Start::After {
            number: BlockNumber::new(6),
            hash: blocks[6].header_hash(),
        },
        start_config: Some(StartConfig::new(&TestChain::verified(&blocks[config])).unwrap()),
        retention: Retention::Blocks(3.try_into().unwrap()),
        ..small(600)
    };
    let number = BlockNumber::new;
    let dir = memory_dir();
    // Nothing is bound by a beginning from which no block was stored.
    for config in [trusting(0), small(600), trusting(0), trusting(4)] {
        open(dir.path(), config).0.close().await;
    }
    let (store, _) = open(dir.path(), trusting(4));
    assert_eq!(store.config_at(number(6)), Some(number(4)));
    assert_eq!(store.config_at(number(3)), None);
    let read = store.read(number(4), ReadLimits::new(9, 1 << 20)).await;
    assert_eq!(read.unwrap(), raw(&blocks[4..5]), "alone");
    let gone = store.read(number(5), ReadLimits::one()).await;
    assert!(matches!(gone, Err(ReadError::Gone { first, .. }) if first == number(7)));
    // Judged by another configuration, the first block is refused.
    let other = GullibleVerifier::default();
    let other = VerifiedBlock::new(blocks[7].clone(), &other, Standing::Linked).unwrap();
    let refused = store.append(vec![other]).await.unwrap_err();
    assert!(
        matches!(refused, AppendError::OtherJudge { in_force, .. } if in_force == number(4)),
        "{refused}"
    );
    for block in verified(&blocks[7..]) {
        store.append(vec![block]).await.unwrap();
    }
    assert!(store.info().first > number(15), "{:?}", store.info());
    store.close().await;

    let (store, report) = open(dir.path(), trusting(4));
    assert!(report.is_clean(), "{report:?}");
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    for reader in [&store as &dyn BlockReader, &snapshot] {
        assert_eq!(reader.config_at(number(23)), Some(number(15)));
        assert_eq!(reader.config_at(number(14)), Some(number(4)));
        for config in [4, 15] {
            let read = reader.read(number(config), ReadLimits::one()).await;
            let at = config as usize;
            assert_eq!(read.unwrap(), raw(&blocks[at..=at]));
        }
    }
    store.close().await;
    let checked = blockcast_block_store::repair::check(dir.path()).unwrap();
    assert_eq!(checked.damages, []);

    let error = open_error(dir.path(), trusting(0));
    assert!(
        matches!(error, OpenError::OtherStartConfig { kept, asked, .. }
            if kept == Some(number(4)) && asked == number(0)),
        "{error}"
    );
    fs::remove_file(dir.path().join("configs")).unwrap();
    let error = open_error(dir.path(), trusting(4));
    assert!(matches!(error, OpenError::DamagedConfigs { .. }), "{error}");
}

#[tokio::test]
async fn refuses_the_directory_of_another_chain() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 3, 100);
    open(dir.path(), Config::new(channel())).0.close().await;
    let other = Config::new("other".parse().unwrap());
    assert!(
        matches!(
            open_error(dir.path(), other.clone()),
            OpenError::OtherChannel { .. }
        ),
        "an empty store"
    );

    let (store, _) = open(dir.path(), Config::new(channel()));
    store.append(verified(&blocks)).await.unwrap();
    store.close().await;
    let message = open_error(dir.path(), other).to_string();
    assert!(
        message.contains("belongs to channel ch, not to other"),
        "{message}"
    );

    let (right, wrong) = (blocks[0].header_hash(), HeaderHash::new([9; 32]));
    let error = open_error(
        dir.path(),
        Config {
            genesis: Some(wrong),
            ..Config::new(channel())
        },
    );
    assert!(
        matches!(error, OpenError::OtherGenesis { kept, asked, .. } if kept == right && asked == wrong)
    );
    open(
        dir.path(),
        Config {
            genesis: Some(right),
            ..Config::new(channel())
        },
    )
    .0
    .close()
    .await;

    let start = Start::After {
        number: BlockNumber::new(2),
        hash: blocks[2].header_hash(),
    };
    let error = open_error(
        dir.path(),
        Config {
            start,
            ..Config::new(channel())
        },
    );
    assert!(matches!(error, OpenError::OtherStart { .. }), "{error}");
}

#[tokio::test]
async fn an_empty_store_may_begin_elsewhere() {
    let dir = memory_dir();
    open(dir.path(), Config::new(channel())).0.close().await;
    let start = Start::After {
        number: BlockNumber::new(2),
        hash: HeaderHash::new([1; 32]),
    };
    let (store, _) = open(
        dir.path(),
        Config {
            start,
            ..Config::new(channel())
        },
    );
    assert_eq!(store.info().first, BlockNumber::new(3));
}

#[tokio::test]
async fn refuses_another_genesis_block_than_the_configured_one() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 1, 100);
    let config = Config {
        genesis: Some(HeaderHash::new([9; 32])),
        ..Config::new(channel())
    };
    let (store, _) = open(dir.path(), config);
    let error = store.append(verified(&blocks)).await.unwrap_err();
    assert!(matches!(error, AppendError::DoesNotLink { .. }), "{error}");
    assert_eq!(store.info(), ChainInfo::EMPTY);
}

#[tokio::test]
async fn a_second_store_in_one_process_is_refused() {
    let dir = memory_dir();
    let (store, _) = open(dir.path(), Config::new(channel()));
    let error = open_error(dir.path(), Config::new(channel()));
    let own = std::process::id();
    assert!(
        matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == own),
        "{error}"
    );
    // The last handle lets the directory go.
    drop(store.clone());
    open_error(dir.path(), Config::new(channel()));
    drop(store);
    open(dir.path(), Config::new(channel()));
}

/// Covers: FLG-04
#[tokio::test]
async fn closing_ends_everything() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 3, 100);
    let (store, _) = open(dir.path(), Config::new(channel()));
    let info = store.append(verified(&blocks[..2])).await.unwrap();
    let other = store.clone();
    let (waited, ()) = within("the end of a wait", async {
        tokio::join!(other.wait_for(Height::new(3)), store.close())
    })
    .await;
    assert!(matches!(waited, Err(ReadError::Closed)));
    let (again, _) = open(dir.path(), Config::new(channel()));
    assert_eq!(again.info(), info);

    assert!(matches!(
        other.append(verified(&blocks[2..])).await,
        Err(AppendError::Closed)
    ));
    assert!(matches!(
        other.append(Vec::new()).await,
        Err(AppendError::Closed)
    ));
    assert!(matches!(
        other.read(BlockNumber::GENESIS, ReadLimits::one()).await,
        Err(ReadError::Closed)
    ));
    assert!(matches!(
        other.wait_for(Height::new(1)).await,
        Err(ReadError::Closed)
    ));
    assert_eq!(other.info(), info);
    other.close().await;
}

#[tokio::test]
async fn a_batch_whose_future_is_dropped_is_stored_in_full_or_not_at_all() {
    let dir = memory_dir();
    let (_, blocks) = TestChain::of_blocks("ch", 40, 5000);
    let (store, _) = open(dir.path(), Config::new(channel()));
    for batch in blocks.chunks(4) {
        let before = store.info().height.get();
        {
            let mut append = store.append(verified(batch));
            // One poll hands the batch to the writer.
            let polled = futures_poll_once(&mut append).await;
            assert!(polled.is_none_or(|result| result.is_ok()));
        }
        // The queue is in order: after an empty batch, the one before has been dealt with.
        let info = store.append(Vec::new()).await.unwrap();
        assert_eq!(info.height.get(), before + 4);
    }
    assert_eq!(read_all(&store).await, raw(&blocks));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_follow_a_growing_chain() {
    const BLOCKS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = TestChain::of_blocks("ch", BLOCKS, 700);
    let config = Config {
        concurrent_reads: NonZeroU16::new(3).unwrap(),
        open_files: std::num::NonZeroUsize::new(2).unwrap(),
        ..small(20_000)
    };
    let (store, _) = open(dir.path(), config);
    let expected = Arc::new(raw(&blocks));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (store, expected) = (store.clone(), Arc::clone(&expected));
        readers.spawn(async move {
            let mut next = 0;
            while next < BLOCKS {
                let info = store.wait_for(Height::new(next as u64 + 1)).await.unwrap();
                let limits = ReadLimits::new(1 + reader * 5, 1 + reader * 3000);
                let read = store
                    .read(BlockNumber::new(next as u64), limits)
                    .await
                    .unwrap();
                assert!(!read.is_empty() && info.height.get() > next as u64);
                assert_eq!(read, expected[next..next + read.len()]);
                next += read.len();
            }
        });
    }
    for batch in blocks.chunks(3) {
        let info = store.append(verified(batch)).await.unwrap();
        assert_eq!(info.tip_hash, batch.last().map(Block::header_hash));
    }
    within("the end of all readers", async {
        while readers.join_next().await.transpose().unwrap().is_some() {}
    })
    .await;
    store.close().await;
}

/// Polls a future once.
async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
