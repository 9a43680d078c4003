// SPDX-License-Identifier: Apache-2.0
//! `dissemination`: blocks from one node to all others of a channel, from publishing to the whole
//! body in memory with its data hash checked, against a bare gossipsub that pushes the same blocks.
//!
//! The nodes are processes of their own on loopback: this program again. Both sides have the same
//! number of nodes, each connected with each other one over TCP, noise and yamux. Their rounds are
//! interleaved, each with new nodes.
#![expect(clippy::print_stdout, reason = "the rows are what a benchmark is for")]

mod cases;
mod child;
mod lines;
mod network;
mod newest;
mod ours;
mod process;
mod push;

use std::env;

use anyhow::Result;
use clap::Parser;
use e2e_tests::bench::table;

use self::cases::CASES;

#[derive(Debug, Parser)]
struct Args {
    /// A few blocks on a few nodes, to see that it runs.
    #[arg(long)]
    smoke: bool,
    /// Rows as JSON.
    #[arg(long)]
    json: bool,
    /// How many rounds; the medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The sizes to run, each by its name; all by default.
    #[arg(long)]
    size: Vec<String>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, side, index, nodes] = arguments.as_slice()
        && command == child::COMMAND
    {
        return Box::pin(child::run(side, index, nodes)).await;
    }
    let args = Args::parse();
    let mut rows = Vec::new();
    for case in &CASES {
        if !args.size.is_empty() && args.size.iter().all(|size| size != case.size) {
            continue;
        }
        rows.extend(match args.smoke {
            true => Box::pin(case.smoke()).await?,
            false => Box::pin(case.rows(args.rounds)).await?,
        });
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&rows)?),
        false => print!("{}", table(&rows)),
    }
    Ok(())
}
