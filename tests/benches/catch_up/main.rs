// SPDX-License-Identifier: Apache-2.0
//! `catch-up`: a chain from an ordering service into a durable store, verified, against what bounds
//! it: a bare tonic stream of the same blocks from the same server, or the work that no node can do
//! without.
//!
//! The ordering service, the node and the bare client are processes of their own: this program
//! again. Their rounds are interleaved, and who goes first alternates.

mod bare;
mod cases;
mod node;
mod orderer;
mod rig;
mod sweep;

use anyhow::{Result, bail};
use clap::Parser;
use e2e_tests::bench::{self, Role};

use self::{
    cases::Case,
    rig::{Shape, Signatures},
};

/// What a smoke test makes do with.
const FEW: usize = 20;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// Blocks of 101 KB in a chain; those of 11 KB have twice as many.
    #[arg(long, default_value_t = 5000)]
    blocks: usize,
    /// The cases to run, by a part of their names; all by default.
    #[arg(long)]
    case: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return match role.name.as_str() {
            orderer::ROLE => Box::pin(orderer::run(&role)).await,
            bare::ROLE => Box::pin(bare::run(&role)).await,
            node::ROLE => Box::pin(node::run(&role)).await,
            other => bail!("nobody here is a {other}"),
        };
    }
    let args = Args::parse();
    let blocks = if args.shared.smoke { FEW } else { args.blocks };
    let large = |signatures| Shape {
        size: "101KB",
        blocks,
        bytes: 100_000,
        signatures,
    };
    let small = |signatures| Shape {
        size: "11KB",
        blocks: blocks * 2,
        bytes: 10_000,
        signatures,
    };
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for case in [
        Case::against_the_stream(large(Signatures::One)),
        Case::against_the_bound(small(Signatures::One)),
        Case::against_the_bound(large(Signatures::Quorum)),
        Case::against_the_bound(small(Signatures::Quorum)),
    ] {
        let name = case.shape().to_string();
        if args.case.as_ref().is_some_and(|part| !name.contains(part)) {
            continue;
        }
        let measured = case.measure(args.shared.rounds()).await?;
        rows.extend(measured.rows(&case));
        notes.extend(measured.notes(&case));
    }
    if let Some(dir) = args.shared.plot()? {
        sweep::plot(dir, args.shared.smoke, args.shared.rounds()).await?;
    }
    bench::finish_with(&rows, &notes, &args.shared)
}
