// SPDX-License-Identifier: Apache-2.0
//! The time from the start of a node with a large store until its first block is served, against a
//! small store.

use anyhow::{Context as _, Result};
use block_api::{BlockNumber, ChannelId, Clock as _, SystemClock};
use block_store::SyncPolicy;
use blockcast::{Node, NodeConfig};
use dev_orderer::{ChainMaker, NetworkConfig};
use e2e_tests::{
    bench::{self, Blocks, Round, Row, Target},
    node::{CHANNEL, write_files},
};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use crate::files::write;

/// The time with the large store, over the one with the small store.
const TARGET: f64 = 1.5;

/// The large store has so many times the blocks of the small one.
const TIMES: u64 = 100;

/// The bytes of a block's data.
const BLOCK_BYTES: usize = 500;

pub(crate) async fn case(rounds: usize, blocks: u64) -> Result<Row> {
    let small = blocks.div_ceil(TIMES).max(2);
    let dir = bench::folder()?;
    let network = NetworkConfig::new(CHANNEL.parse()?);
    // Nobody listens there: what is served is what was stored.
    let endpoint = "127.0.0.1:9".parse()?;
    let maker = ChainMaker::new(network, &[endpoint], SystemClock.now())?;
    write_files(dir.path(), maker.network())?;
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
        fill(&config, maker.clone(), height).await?;
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

/// Stores a chain of this height.
async fn fill(config: &NodeConfig, maker: ChainMaker, height: u64) -> Result<()> {
    let channel: ChannelId = CHANNEL.parse()?;
    let dir = config.channel_dir(&channel);
    let config = block_store::Config {
        sync: SyncPolicy::Never,
        genesis: Some(maker.network().genesis().header_hash()),
        ..block_store::Config::new(channel)
    };
    let blocks = Blocks {
        count: usize::try_from(height - 1)?,
        data_bytes: BLOCK_BYTES,
    };
    blocks.store(maker, config, &dir).await?;
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
