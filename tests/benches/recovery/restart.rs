// SPDX-License-Identifier: Apache-2.0
//! The time from the start of a node with a large store until its first block is served, against a
//! small store.

use anyhow::{Context as _, Result, ensure};
use block_api::{
    BlockNumber, BlockReader as _, BlockStore as _, Clock as _, Standing, SystemClock,
    VerifiedBlock,
};
use block_store::{SegmentStore, SyncPolicy};
use blockcast::{Node, NodeConfig};
use channel_config::ChannelVerifier;
use dev_orderer::{ChainMaker, NetworkConfig};
use e2e_tests::bench::{self, Round, Row, Target};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use crate::files::write;

/// The time with the large store, over the one with the small store.
const TARGET: f64 = 1.5;

/// The large store has so many times the blocks of the small one.
const TIMES: u64 = 100;

/// The bytes of a block's data, and how many blocks are stored at a time.
const BLOCK_BYTES: usize = 500;
const BATCH: u64 = 500;

const CHANNEL: &str = "bench";

pub(crate) async fn case(rounds: usize, blocks: u64) -> Result<Row> {
    let small = blocks.div_ceil(TIMES).max(2);
    let dir = bench::folder()?;
    let network = NetworkConfig::new(CHANNEL.parse()?);
    // Nobody listens there: what is served is what was stored.
    let endpoint = "127.0.0.1:9".parse()?;
    let maker = ChainMaker::new(network, &[endpoint], SystemClock.now())?;
    for (path, content) in maker.network().files() {
        write(&dir.path().join(path), &content)?;
    }
    let mut configs = Vec::new();
    // The chain of the small store is the beginning of the other.
    for (name, height) in [("small", small), ("large", blocks)] {
        let config = format!(
            "[node]\n\
             data_dir = \"{name}\"\n\
             [identity]\n\
             msp_id = \"Org1MSP\"\n\
             msp_dir = \"org1/peer0/msp\"\n\
             [gossip]\n\
             listen = [\"/ip4/127.0.0.1/tcp/0\"]\n\
             [[channel]]\n\
             id = \"{CHANNEL}\"\n\
             genesis = \"genesis.block\"\n"
        );
        let path = dir.path().join(format!("{name}.toml"));
        write(&path, config.as_bytes())?;
        let config = NodeConfig::load(&path)?;
        fill(&config, &mut maker.clone(), height).await?;
        configs.push(config);
    }
    let [small_config, large_config] = configs.as_slice() else {
        unreachable!("two were made");
    };
    // A start before the rounds reads both into the memory of the system.
    first_block(small_config, small).await?;
    first_block(large_config, blocks).await?;
    let mut measured = Vec::new();
    for round in 0..rounds {
        let small_first = round.is_multiple_of(2);
        let (mut value, mut baseline) = (0.0, 0.0);
        for is_small in [small_first, !small_first] {
            match is_small {
                true => baseline = first_block(small_config, small).await?,
                false => value = first_block(large_config, blocks).await?,
            }
        }
        measured.push(Round { value, baseline });
    }
    let case = format!("restart blocks={blocks} over blocks={small}");
    Ok(Row::new(case, "ms", Target::AtMost(TARGET), &measured))
}

/// Stores a chain of this height. The maker goes on from its genesis block.
async fn fill(config: &NodeConfig, maker: &mut ChainMaker, height: u64) -> Result<()> {
    let genesis = maker.network().genesis().clone();
    let verifier = ChannelVerifier::from_genesis(&genesis)?;
    let channel = CHANNEL.parse()?;
    let dir = config.channel_dir(&channel);
    let store_config = block_store::Config {
        sync: SyncPolicy::Never,
        genesis: Some(genesis.header_hash()),
        ..block_store::Config::new(channel)
    };
    let (store, _) = SegmentStore::open(dir, store_config)?;
    let mut batch = vec![VerifiedBlock::new(genesis, &verifier, Standing::Linked)?];
    for number in 1..height {
        let block = maker.block(&[BLOCK_BYTES]).await?;
        batch.push(VerifiedBlock::new(block, &verifier, Standing::Linked)?);
        if number.is_multiple_of(BATCH) {
            store.append(std::mem::take(&mut batch)).await?;
        }
    }
    store.append(batch).await?;
    ensure!(
        store.info().height.get() == height,
        "the store has every block"
    );
    store.close().await;
    Ok(())
}

/// Milliseconds until a node that is started gives its oldest and its newest block.
async fn first_block(config: &NodeConfig, height: u64) -> Result<f64> {
    let channel = CHANNEL.parse()?;
    let began = Instant::now();
    let node = Node::builder(config.clone()).start().await?;
    let mut blocks = node.subscribe(&channel, BlockNumber::GENESIS)?;
    blocks.next().await.context("a block")??;
    let mut blocks = node.subscribe(&channel, BlockNumber::new(height - 1))?;
    blocks.next().await.context("a block")??;
    let elapsed = began.elapsed();
    node.stop().await;
    Ok(elapsed.as_secs_f64() * 1e3)
}
