// SPDX-License-Identifier: Apache-2.0
//! `dissemination`: blocks from one node to all others of a channel, from publishing to the whole
//! body in memory with its data hash checked, against a bare gossipsub that pushes the same blocks.
//!
//! The nodes are processes of their own on loopback: this program again. Both sides have the same
//! number of nodes, each connected with each other one over TCP, noise and yamux. Their rounds are
//! interleaved, each with new nodes.

mod cases;
mod child;
mod lines;
mod network;
mod newest;
mod ours;
mod process;
mod push;

use anyhow::Result;
use clap::Parser;
use e2e_tests::bench::{self, Role};

use self::cases::CASES;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// The sizes to run, each by its name; all by default.
    #[arg(long)]
    size: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return Box::pin(child::run(&role)).await;
    }
    let args = Args::parse();
    let pictures = args.shared.plot()?;
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for case in &CASES {
        if !args.size.is_empty() && args.size.iter().all(|size| size != case.size) {
            continue;
        }
        let (of_case, note) = match args.shared.smoke {
            true => Box::pin(case.smoke(pictures)).await?,
            false => Box::pin(case.rows(args.shared.rounds(), pictures)).await?,
        };
        rows.extend(of_case);
        notes.push(note);
    }
    bench::finish_with(&rows, &notes, &args.shared)
}
