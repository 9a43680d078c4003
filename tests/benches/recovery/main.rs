// SPDX-License-Identifier: Apache-2.0
//! `recovery`: how soon a node is back after it was stopped or the one that pulls is gone, and
//! what it costs to wait for blocks on many channels.
//!
//! Nodes whose memory is measured, or which are killed, are processes of their own: this program
//! again, which then is a node of the file that it is told.
#![expect(
    clippy::print_stdout,
    reason = "a node tells its benchmark how far it is"
)]

mod files;
mod idle;
mod process;
mod restart;
mod takeover;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use e2e_tests::bench::{self, Role};

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// How many channels the idle node has.
    #[arg(long, default_value_t = 200)]
    channels: usize,
    /// How many blocks the larger of two stores has; the smaller one has a hundredth.
    #[arg(long, default_value_t = 100_000)]
    blocks: u64,
    /// The cases to run, by a part of their names; all by default.
    #[arg(long)]
    case: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        let config: PathBuf = role.argument(0)?;
        return Box::pin(process::run(&config)).await;
    }
    let args = Args::parse();
    let wanted = |name: &str| {
        args.case
            .as_ref()
            .is_none_or(|case| name.contains(case.as_str()))
    };
    let (rounds, blocks, channels, seconds) = if args.shared.smoke {
        (1, 500, 3, 1)
    } else {
        (args.shared.rounds(), args.blocks, args.channels, 20)
    };
    let mut rows = Vec::new();
    if wanted("restart") {
        rows.push(Box::pin(restart::case(rounds, blocks)).await?);
    }
    if wanted("takeover") {
        rows.extend(Box::pin(takeover::cases(rounds)).await?);
    }
    if wanted("idle") {
        rows.extend(Box::pin(idle::case(channels, seconds)).await?);
    }
    bench::finish(&rows, &args.shared)
}
