// SPDX-License-Identifier: Apache-2.0
//! `append`: batches of blocks.

use anyhow::{Result, ensure};
use block_api::{BlockReader as _, BlockStore as _, VerifiedBlock};
use block_store::{Config, SegmentStore};
use e2e_tests::bench::{self, Row, Target};

use crate::{
    CHANNEL, Extent,
    bare::{BareFile, length, raw},
    batches,
    cost::{Costs, Turn},
};

/// The store, over the bare disk.
const TARGET: f64 = 0.85;

/// Blocks in a batch at most, beside what the writer of a channel takes: what the yardsticks were
/// measured with.
const FEW: usize = 50;

/// After so many bytes it is the other side's turn.
const TURN_BYTES: usize = 32 << 20;

pub(super) async fn cases(size: &str, chain: &[VerifiedBlock], extent: Extent) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let writer = deliver_service::Config::default();
    for most in [writer.batch_blocks.get(), FEW] {
        let batches = batches(chain, most, writer.batch_bytes.get());
        let (mut rounds, mut total) = (Vec::new(), Costs::default());
        for round in 0..extent.rounds {
            let costs = measure(&batches, round % 2 == 0).await?;
            rounds.push(costs.rates(length(chain)));
            total.add(&costs);
        }
        let case = format!("append size={size} batch={most}");
        let row = Row::new(case, "MB/s", Target::AtLeast(TARGET), &rounds);
        rows.push(row.with_note(total.note(chain.len() * extent.rounds)));
    }
    Ok(rows)
}

/// What both sides take for all batches.
async fn measure(batches: &[&[VerifiedBlock]], store_first: bool) -> Result<Costs> {
    let dir = bench::folder()?;
    let config = Config::new(CHANNEL.parse()?);
    let (store, _) = SegmentStore::open(dir.path().join("chain"), config)?;
    let mut bare = BareFile::create(dir.path())?;
    let mut costs = Costs::default();
    let mut rest = batches;
    while !rest.is_empty() {
        let (batches, behind) = rest.split_at(turn(rest));
        rest = behind;
        for is_store in [store_first, !store_first] {
            let turn = Turn::begin()?;
            if is_store {
                for batch in batches {
                    store.append(batch.to_vec()).await?;
                }
                turn.end(&mut costs.store)?;
            } else {
                for batch in batches {
                    bare.append(raw(batch))?;
                }
                turn.end(&mut costs.bare)?;
            }
        }
    }
    let stored: usize = batches.iter().map(|batch| batch.len()).sum();
    ensure!(
        store.info().height.get() == stored as u64,
        "the store has what it was given"
    );
    store.close().await;
    Ok(costs)
}

/// How many batches are a side's turn.
fn turn(batches: &[&[VerifiedBlock]]) -> usize {
    let mut bytes = 0;
    let turn = batches.iter().take_while(|batch| {
        let before = bytes;
        bytes += length(batch);
        before < TURN_BYTES
    });
    turn.count()
}
