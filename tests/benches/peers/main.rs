// SPDX-License-Identifier: Apache-2.0
//! `peers`: a node that is far behind, from four peers over libp2p into its durable store, verified,
//! against bare libp2p streams of as many bytes.
//!
//! Each node is a process of its own on loopback, this program again, in both: they share the cores
//! of the machine. The time is from asking for the first range until the last block is durable, and of
//! the bare streams from asking to the last byte; connecting is in neither. Rounds are interleaved, and who
//! goes first alternates.
//!
//! A bare stream neither hashes nor verifies nor writes. What a machine of two cores can do at best is
//! the second baseline: 2 / (c + h + v + w), of the time of a core that the bare streams take for a
//! block with both ends, SHA-256 over it, one verification, and a bare append, from the same round.

mod asked;
mod bare;
mod chain;
mod child;
mod node;
mod run;

use anyhow::Result;
use clap::Parser;
use e2e_tests::bench::{self, Bound, Load, Role, Round, Row, Target};

use self::{
    chain::Chain,
    run::{Run, Side},
};

/// Verified and durable, over bare streams of as many bytes.
const TARGET: f64 = 0.85;

/// Of what two cores can do.
const TARGET_OF_BOUND: f64 = 0.8;

/// How many peers give the chain, and how many bare streams there are: one from each.
const GIVERS: usize = 4;

/// The bytes of a block's data: with its signatures it has 101 KB.
const BLOCK_BYTES: usize = 100_000;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// How many blocks the chain has.
    #[arg(long, default_value_t = 5000)]
    blocks: usize,
}

/// What was measured beside each other.
struct Measured {
    ours: Run,
    bare: Run,
    bound: Bound,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return Box::pin(child::run(&role)).await;
    }
    let args = Args::parse();
    let blocks = if args.shared.smoke { 60 } else { args.blocks };
    let chain = Chain::make(blocks, BLOCK_BYTES, GIVERS).await?;
    let mut measured = Vec::new();
    for round in 0..args.shared.rounds() {
        let mut runs = [Side::Bare, Side::Ours];
        runs.rotate_left(round % 2);
        let (mut ours, mut bare) = (None, None);
        for side in runs {
            let run = Some(Box::pin(chain.run(side)).await?);
            match side {
                Side::Ours => ours = run,
                Side::Bare => bare = run,
            }
        }
        if let (Some(ours), Some(bare)) = (ours, bare) {
            let bound = Bound::measure(&Load {
                folder: chain.dir(),
                blocks: chain.blocks,
                data_bytes: chain.data_bytes,
                raw_bytes: chain.raw_bytes(),
                signatures: 1,
                appends: ours.appends(),
                stream_cpu_s: bare.cpu_s(),
            })?;
            measured.push(Measured { ours, bare, bound });
        }
    }
    let rows = [
        row("peers=4 size=101KB", TARGET, &measured, |round| {
            round.bare.rate()
        }),
        row(
            "peers=4 size=101KB of the bound",
            TARGET_OF_BOUND,
            &measured,
            |round| round.bound.rate() * chain.raw_bytes() as f64 / 1e6,
        ),
    ];
    let mut notes = Vec::new();
    for Measured { ours, bare, bound } in &measured {
        notes.push(format!("node: {ours}"));
        notes.push(format!("bare: {bare}; {bound}"));
    }
    bench::finish_with(&rows, &notes, &args.shared)
}

fn row(case: &str, target: f64, measured: &[Measured], baseline: impl Fn(&Measured) -> f64) -> Row {
    let rounds: Vec<Round> = measured
        .iter()
        .map(|round| Round {
            value: round.ours.rate(),
            baseline: baseline(round),
        })
        .collect();
    Row::new(case, "MB/s", Target::AtLeast(target), &rounds)
}
