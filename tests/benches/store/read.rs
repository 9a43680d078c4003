// SPDX-License-Identifier: Apache-2.0
//! `read`: a chain from its beginning to its end.

use std::time::Duration;

use anyhow::{Result, ensure};
use block_api::{BlockNumber, BlockReader as _, BlockStore as _, ReadLimits, VerifiedBlock};
use block_store::{Config, SegmentStore, SyncPolicy};
use e2e_tests::bench::{Round, Row, Target};
use tokio::time::Instant;

use crate::{
    CHANNEL, Extent,
    bare::{BareFile, folder, length, raw},
    batches,
};

/// The store, over the bare disk. Nobody asked for this one: reading is measured to be watched.
const TARGET: f64 = 0.85;

/// What a node that serves blocks reads ahead.
const BATCH: (usize, usize) = (64, 4 << 20);

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
    let mut rounds = Vec::new();
    for round in 0..extent.rounds {
        rounds.push(measure(&store, &bare, &batches, round % 2 == 0).await?);
    }
    store.close().await;
    let case = format!("read size={size}");
    Ok(Row::new(case, "MB/s", Target::AtLeast(TARGET), &rounds))
}

/// The rates at which both sides gave all blocks, turn by turn.
async fn measure(
    store: &SegmentStore,
    bare: &BareFile,
    batches: &[&[VerifiedBlock]],
    store_first: bool,
) -> Result<Round> {
    let (mut value, mut baseline) = (Duration::ZERO, Duration::ZERO);
    let limits = ReadLimits::new(BATCH.0, BATCH.1);
    let (mut number, mut offset) = (BlockNumber::GENESIS, 0);
    for batch in batches {
        let bytes = length(batch);
        for is_store in [store_first, !store_first] {
            let began = Instant::now();
            if is_store {
                let read = store.read(number, limits).await?;
                value += began.elapsed();
                ensure!(read.len() == batch.len(), "both sides read the same");
            } else {
                let read = bare.read(offset, bytes)?;
                baseline += began.elapsed();
                drop(read);
            }
        }
        number = BlockNumber::new(number.get() + batch.len() as u64);
        offset += bytes as u64;
    }
    let rate = |time: Duration| offset as f64 / 1e6 / time.as_secs_f64();
    Ok(Round {
        value: rate(value),
        baseline: rate(baseline),
    })
}
