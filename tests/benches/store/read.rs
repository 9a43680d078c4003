// SPDX-License-Identifier: Apache-2.0
//! `read`: a chain from its beginning to its end.

use anyhow::{Result, ensure};
use block_api::{BlockNumber, BlockReader as _, BlockStore as _, ReadLimits, VerifiedBlock};
use block_store::{Config, SegmentStore, SyncPolicy};
use e2e_tests::bench::{Row, Target};

use crate::{
    CHANNEL, Extent,
    bare::{BareFile, folder, length, raw},
    batches,
    cost::{Costs, Turn},
};

/// The store, over the bare disk. Nobody asked for this one: reading is measured to be watched.
const TARGET: f64 = 0.85;

/// What a node that serves blocks reads ahead.
const BATCH: (usize, usize) = (64, 4 << 20);

/// How many batches are a side's turn.
const TURN: usize = 16;

/// Blocks in an append.
const FILL: usize = 256;

pub(super) async fn case(size: &str, chain: &[VerifiedBlock], extent: Extent) -> Result<Row> {
    let dir = folder()?;
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
    let batches = batches(chain, BATCH.0, BATCH.1);
    let (mut rounds, mut total) = (Vec::new(), Costs::default());
    for round in 0..extent.rounds {
        let costs = measure(&store, &bare, &batches, round % 2 == 0).await?;
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
    batches: &[&[VerifiedBlock]],
    store_first: bool,
) -> Result<Costs> {
    let mut costs = Costs::default();
    let limits = ReadLimits::new(BATCH.0, BATCH.1);
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
