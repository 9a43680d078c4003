// SPDX-License-Identifier: Apache-2.0
//! `read`: a chain from its beginning to its end.

use anyhow::{Result, ensure};
use block_api::{BlockNumber, BlockReader as _, BlockStore as _, ReadLimits, VerifiedBlock};
use block_store::{Config, SegmentStore, SyncPolicy};
use e2e_tests::bench::{self, Row, Target};
use orderer_server::DeliverConfig;

use crate::{
    CHANNEL, Extent,
    bare::{BareFile, length, raw},
    batches,
    cost::{Costs, Turn},
};

/// The store, over the bare disk. Nobody asked for this one: reading is measured to be watched.
const TARGET: f64 = 0.85;

/// How many batches are a side's turn.
const TURN: usize = 64;

/// Blocks in an append.
const FILL: usize = 256;

pub(super) async fn case(size: &str, chain: &[VerifiedBlock], extent: Extent) -> Result<Row> {
    let dir = bench::folder()?;
    let config = Config {
        sync: SyncPolicy::Never,
        ..Config::new(CHANNEL.parse()?)
    };
    let (store, _) = SegmentStore::open(dir.path().join("chain"), config)?;
    let mut bare = BareFile::create(dir.path())?;
    for batch in chain.chunks(FILL) {
        store.append(batch.to_vec()).await?;
        bare.append(raw(batch))?;
    }
    // What a node that serves blocks reads ahead.
    let ahead = DeliverConfig::default();
    let (most, most_bytes) = (ahead.batch_blocks.get(), ahead.batch_bytes.get());
    let limits = ReadLimits::new(most, most_bytes);
    let batches = batches(chain, most, most_bytes);
    let (mut rounds, mut total) = (Vec::new(), Costs::default());
    for round in 0..extent.rounds {
        let costs = measure(&store, &bare, (&batches, limits), round % 2 == 0).await?;
        rounds.push(costs.rates(length(chain)));
        total.add(&costs);
    }
    store.close().await;
    let case = format!("read size={size}");
    let row = Row::new(case, "MB/s", Target::AtLeast(TARGET), &rounds);
    Ok(row.with_note(total.note(chain.len() * extent.rounds)))
}

/// What both sides take for all blocks.
async fn measure(
    store: &SegmentStore,
    bare: &BareFile,
    (batches, limits): (&[&[VerifiedBlock]], ReadLimits),
    store_first: bool,
) -> Result<Costs> {
    let mut costs = Costs::default();
    let (mut number, mut offset) = (BlockNumber::GENESIS, 0);
    for batches in batches.chunks(TURN) {
        let (mut store_at, mut bare_at) = (number, offset);
        for is_store in [store_first, !store_first] {
            let turn = Turn::begin()?;
            if is_store {
                for batch in batches {
                    let read = store.read(store_at, limits).await?;
                    ensure!(read.len() == batch.len(), "both sides read the same");
                    store_at = BlockNumber::new(store_at.get() + read.len() as u64);
                }
                turn.end(&mut costs.store)?;
            } else {
                for batch in batches {
                    bare_at += bare.read(bare_at, length(batch))?.len() as u64;
                }
                turn.end(&mut costs.bare)?;
            }
        }
        (number, offset) = (store_at, bare_at);
    }
    Ok(costs)
}
