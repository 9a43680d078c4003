// SPDX-License-Identifier: Apache-2.0
//! Judges what is in a block store, as if it had just come.

use std::{collections::BTreeSet, sync::Arc};

use block_api::{
    Block, BlockNumber, BlockReader, BlockVerifier as _, ChainInfo, HeaderHash, ParseBlockError,
    ReadError, ReadLimits, Rejection, Standing, VerifiedBlock, VerifyError,
};
use channel_config::{ChainWalk, ChannelVerifier, verify_chain_step};
use tokio::task::spawn_blocking;
use tracing::info;

/// How many blocks a spot check judges beside the config blocks and the newest block.
const SPOTS: u64 = 32;

/// How much is read at once.
const BATCH: (usize, usize) = (512, 4 << 20);

/// So often the progress of a whole check is told, in blocks.
const TOLD_EVERY: u64 = 100_000;

/// How much of a block store is judged when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreCheck {
    /// The config blocks, the newest block, and some of those between: whether the store is the one
    /// of this channel, and as it was left.
    #[default]
    Spots,
    /// Every block.
    Whole,
}

/// A block in a store is not what the node would have stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredBlockError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not there.
    #[error("block {number} is missing")]
    Missing {
        /// The block.
        number: BlockNumber,
    },
    /// It is a config block, and the store does not know that, or takes another block for a newer one.
    #[error("config block {number} is not the one that the index of the store names")]
    NotIndexed {
        /// The block.
        number: BlockNumber,
    },
    /// It is no block.
    #[error("what is stored as block {number} is no block: {source}")]
    Parse {
        /// The block.
        number: BlockNumber,
        /// What is wrong with it.
        source: ParseBlockError,
    },
    /// It breaks a rule of the channel.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is not accepted.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl StoredBlockError {
    /// What an operator can do.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Read(_) => "check the disk, and start again",
            Self::Missing { .. }
            | Self::NotIndexed { .. }
            | Self::Parse { .. }
            | Self::Rejected(_)
            | Self::Verify(_) => {
                "move the folder away, and the node fetches the chain anew from orderers and peers"
            }
        }
    }
}

/// Judges what a store holds, by a verifier that knows nothing but what is trusted, and gives the
/// number of blocks that it judged.
pub(super) async fn check_store(
    store: Arc<dyn BlockReader>,
    verifier: ChannelVerifier,
    check: StoreCheck,
) -> Result<u64, StoredBlockError> {
    match check {
        StoreCheck::Spots => check_spots(&*store, verifier).await,
        StoreCheck::Whole => check_whole(&*store, verifier).await,
    }
}

async fn check_whole(
    store: &dyn BlockReader,
    verifier: ChannelVerifier,
) -> Result<u64, StoredBlockError> {
    let ChainInfo { first, height, .. } = store.info();
    let channel = verifier.channel().clone();
    let below = ChainInfo {
        first,
        height: first
            .previous()
            .map_or_else(Default::default, BlockNumber::height),
        tip_hash: None,
    };
    // What was dropped is not judged, but its configurations are in force for what is kept.
    let mut dropped = Vec::new();
    let mut number = first.previous();
    while let Some(config) = number.and_then(|number| store.config_at(number)) {
        dropped.push(config);
        number = config.previous();
    }
    for number in dropped.into_iter().rev() {
        check_spot(&verifier, read(store, number).await?, None)?;
    }
    let mut walk = ChainWalk::new(verifier, below);
    let mut judged = 0;
    while walk.chain().height < height {
        let next = walk.chain().height.next_block();
        let read = store.read(next, ReadLimits::new(BATCH.0, BATCH.1)).await?;
        if read.is_empty() {
            return Err(StoredBlockError::Missing { number: next });
        }
        // Judging a batch takes long enough to hold up whatever else the runtime does.
        let batch = spawn_blocking(move || {
            let mut configs = Vec::new();
            for (bytes, number) in read.into_iter().zip(next.get()..) {
                let block = walk.take(parse(bytes, BlockNumber::new(number))?)?;
                configs.extend(block.is_config().then_some(block.number()));
            }
            Ok::<_, StoredBlockError>((walk, configs))
        });
        let configs;
        (walk, configs) = match batch.await {
            Ok(judged) => judged?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // The index tells by which configuration the next blocks will be judged.
        let newest = walk.verifier().config_number();
        let unlisted = |number: &BlockNumber| store.config_at(*number) != Some(*number);
        let tip = walk.chain().height.tip().unwrap_or_default();
        if let Some(number) = configs.into_iter().find(unlisted) {
            return Err(StoredBlockError::NotIndexed { number });
        }
        if store.config_at(tip) != Some(newest) {
            return Err(StoredBlockError::NotIndexed { number: newest });
        }
        let before = judged;
        judged = walk.chain().height.get() - first.get();
        if before / TOLD_EVERY < judged / TOLD_EVERY {
            info!(%channel, blocks = judged, of = height.get(), "judging stored blocks");
        }
    }
    Ok(judged)
}

async fn check_spots(
    store: &dyn BlockReader,
    verifier: ChannelVerifier,
) -> Result<u64, StoredBlockError> {
    let ChainInfo { first, height, .. } = store.info();
    let Some(tip) = height.tip().filter(|tip| *tip >= first) else {
        return Ok(0);
    };
    let mut spots = BTreeSet::from([first, tip]);
    let length = tip.get() - first.get();
    spots.extend((1..SPOTS).map(|spot| {
        // Multiplied in 128 bits, so that no length overflows.
        let offset = u128::from(length) * u128::from(spot) / u128::from(SPOTS);
        BlockNumber::new(first.get() + u64::try_from(offset).unwrap_or(length))
    }));
    let mut below = Some(tip);
    while let Some(config) = below.and_then(|number| store.config_at(number)) {
        spots.insert(config);
        below = config.previous();
    }
    for number in &spots {
        let previous = match number.previous().filter(|previous| *previous >= first) {
            Some(previous) => Some(read(store, previous).await?.header_hash()),
            None => None,
        };
        let block = read(store, *number).await?;
        check_spot(&verifier, block, previous)?;
    }
    Ok(spots.len() as u64)
}

fn check_spot(
    verifier: &ChannelVerifier,
    block: Block,
    previous: Option<HeaderHash>,
) -> Result<(), StoredBlockError> {
    let below = ChainInfo {
        first: BlockNumber::GENESIS,
        height: block
            .number()
            .previous()
            .map_or_else(Default::default, BlockNumber::height),
        tip_hash: previous,
    };
    verify_chain_step(&below, &block)?;
    let verified = VerifiedBlock::new(block, verifier, Standing::Linked)?;
    Ok(verifier.apply_config(&verified)?)
}

async fn read(store: &dyn BlockReader, number: BlockNumber) -> Result<Block, StoredBlockError> {
    let read = store.read(number, ReadLimits::one()).await?;
    let bytes = read.into_iter().next();
    parse(bytes.ok_or(StoredBlockError::Missing { number })?, number)
}

pub(super) fn parse(bytes: bytes::Bytes, number: BlockNumber) -> Result<Block, StoredBlockError> {
    let parsed = Block::parse(bytes);
    parsed.map_err(|source| StoredBlockError::Parse { number, source })
}

#[cfg(test)]
mod tests {
    use block_api::BlockStore as _;
    use block_api::testing::{GullibleVerifier, MemoryStore};

    use super::*;

    fn fixture(number: u64) -> Block {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/bft");
        let bytes = std::fs::read(format!("{folder}/block_{number}.pb")).unwrap();
        Block::parse(bytes.into()).unwrap()
    }

    fn trusting(genesis: &Block) -> ChannelVerifier {
        ChannelVerifier::from_genesis(genesis).unwrap()
    }

    /// A store with the recorded chain, but for one block.
    async fn store(changed: Option<Block>) -> Arc<dyn BlockReader> {
        let verifier = ChannelVerifier::from_genesis(&fixture(0)).unwrap();
        let store = MemoryStore::default();
        for number in 0..70 {
            let good = VerifiedBlock::new(fixture(number), &verifier, Standing::Linked).unwrap();
            verifier.apply_config(&good).unwrap();
            let stored = match &changed {
                Some(block) if block.number().get() == number => {
                    let judged_by = good.judged_by();
                    let judge = GullibleVerifier { judged_by };
                    VerifiedBlock::new(block.clone(), &judge, Standing::Linked).unwrap()
                }
                Some(_) | None => good,
            };
            store.append(vec![stored]).await.unwrap();
        }
        Arc::new(store)
    }

    /// The block with the header, the data, and no signature.
    fn unsigned(number: u64) -> Block {
        let block = fixture(number);
        let entries: Vec<&[u8]> = block.data().collect();
        let previous = block.header().previous_hash;
        Block::assemble(block.number(), previous, &entries, &[&[]])
    }

    async fn checked(changed: Option<Block>, check: StoreCheck) -> Result<u64, String> {
        let checked = check_store(store(changed).await, trusting(&fixture(0)), check).await;
        checked.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_good_store_passes() {
        assert_eq!(checked(None, StoreCheck::Whole).await, Ok(70));
        let spots = checked(None, StoreCheck::Spots).await.unwrap();
        assert!((33..70).contains(&spots), "{spots}");
    }

    #[tokio::test]
    async fn a_block_that_was_tampered_with_is_named() {
        // 69 is the newest one, 37 a config block.
        for (number, by_spots) in [(69, true), (37, true), (1, true), (63, false)] {
            for check in [StoreCheck::Spots, StoreCheck::Whole] {
                let result = checked(Some(unsigned(number)), check).await;
                if check == StoreCheck::Whole || by_spots {
                    let error = result.unwrap_err();
                    let expected = format!("block {number} breaks the rule `signatures`");
                    assert!(error.starts_with(&expected), "{check:?}: {error}");
                } else {
                    assert!(result.is_ok(), "block {number} is not looked at");
                }
            }
        }
    }

    /// The blocks that are left are judged by config blocks that were put aside.
    #[tokio::test]
    async fn a_store_whose_beginning_was_dropped_passes() {
        let dir = tempfile::tempdir().unwrap();
        let config = block_store::Config {
            segment_bytes: (64 << 10).try_into().unwrap(),
            index_interval_bytes: (8 << 10).try_into().unwrap(),
            retention: block_store::Retention::Blocks(5.try_into().unwrap()),
            ..block_store::Config::new("ch-bft".parse().unwrap())
        };
        let (kept, _) = block_store::SegmentStore::open(dir.path(), config).unwrap();
        let verifier = ChannelVerifier::from_genesis(&fixture(0)).unwrap();
        for number in 0..70 {
            let block = VerifiedBlock::new(fixture(number), &verifier, Standing::Linked).unwrap();
            verifier.apply_config(&block).unwrap();
            kept.append(vec![block]).await.unwrap();
        }
        let first = kept.info().first.get();
        assert!(first > 37, "{first}: a config block was dropped");
        for check in [StoreCheck::Spots, StoreCheck::Whole] {
            let verifier = trusting(&fixture(0));
            let checked = check_store(Arc::new(kept.clone()), verifier, check).await;
            assert!(checked.unwrap() >= 70 - first, "{check:?}");
        }
    }

    #[tokio::test]
    async fn the_store_of_another_network_is_found_out() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/raft");
        let genesis = std::fs::read(format!("{folder}/block_0.pb")).unwrap();
        let genesis = Block::parse(genesis.into()).unwrap();
        for check in [StoreCheck::Spots, StoreCheck::Whole] {
            let store = store(None).await;
            let error = check_store(store, trusting(&genesis), check).await;
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("block 0 breaks the rule `genesis`"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_empty_store_holds_nothing_to_judge() {
        for check in [StoreCheck::Spots, StoreCheck::Whole] {
            let store = Arc::new(MemoryStore::default());
            let checked = check_store(store, trusting(&fixture(0)), check).await;
            assert_eq!(checked.unwrap(), 0);
        }
    }
}
