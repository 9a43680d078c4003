// SPDX-License-Identifier: Apache-2.0
//! `store`: what the block store makes of the disk, against the bare disk.
//!
//! - `append`: batches of verified blocks, against a file that grows by the same bytes with one
//!   vectored write and one `fdatasync` a batch.
//! - `read`: the chain read through in batches, against `pread` of the same bytes.
//! - `tip`: one block at a time, from the moment at which it is in hand until it is durable, against
//!   one SHA-256 over its data, one signature verification, and one write with `fdatasync`.
//!
//! Both sides take turns within a round, a few batches or one block at a time, and so meet the same
//! disk; who goes first alternates.

mod append;
mod bare;
mod cost;
mod read;
mod tip;

use anyhow::Result;
use block_api::{VerifiedBlock, testing::TestChain};
use clap::Parser;
use e2e_tests::bench::{self, Row, Usage};

/// The channel of the chains.
const CHANNEL: &str = "bench";

/// Blocks by their size in a case's name, and the bytes of data that make them so large.
const SIZES: [(&str, usize); 2] = [("101KB", 100_800), ("11KB", 10_800)];

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// Megabytes of blocks that a round appends or reads.
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Blocks that arrive one at a time in a round.
    #[arg(long, default_value_t = 200)]
    tips: usize,
    /// The cases to run, by a part of their names; all by default.
    #[arg(long)]
    case: Option<String>,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Extent {
    rounds: usize,
    bytes: usize,
    tips: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |name: &str| {
        args.case
            .as_ref()
            .is_none_or(|case| name.contains(case.as_str()))
    };
    let rounds = args.shared.rounds();
    let extent = match args.shared.smoke {
        true => Extent {
            rounds,
            bytes: 3_000_000,
            tips: 5,
        },
        false => Extent {
            rounds,
            bytes: args.megabytes * 1_000_000,
            tips: args.tips,
        },
    };
    let mut rows: Vec<Row> = Vec::new();
    for (size, bytes) in SIZES {
        if wanted("append") || wanted("read") {
            let chain = chain(extent.bytes / bytes, bytes);
            if wanted("append") {
                rows.extend(Box::pin(append::cases(size, &chain, extent)).await?);
            }
            if wanted("read") {
                rows.push(Box::pin(read::case(size, &chain, extent)).await?);
            }
        }
        if wanted("tip") {
            rows.extend(Box::pin(tip::cases(size, bytes, extent)).await?);
        }
    }
    let Usage { cpu_s, peak_bytes } = Usage::own()?;
    let memory = peak_bytes as f64 / 1e6;
    let note = format!(
        "one process: {cpu_s:.1} s of a core for all of it, {memory:.0} MB of memory at most"
    );
    bench::finish_with(&rows, &[note], &args.shared)
}

/// A chain of so many blocks behind its first one, each with data of this size.
fn chain(blocks: usize, bytes: usize) -> Vec<VerifiedBlock> {
    let (_, blocks) = TestChain::of_blocks(CHANNEL, blocks + 1, bytes);
    blocks.iter().map(TestChain::verified).collect()
}

/// The blocks in batches of at most so many blocks and bytes, or one block.
fn batches(chain: &[VerifiedBlock], most: usize, most_bytes: usize) -> Vec<&[VerifiedBlock]> {
    let mut batches = Vec::new();
    let mut rest = chain;
    while let Some(first) = rest.first() {
        let mut bytes = first.block().raw().len();
        let more = rest.iter().skip(1).take(most - 1).take_while(|block| {
            bytes += block.block().raw().len();
            bytes <= most_bytes
        });
        let (batch, behind) = rest.split_at(1 + more.count());
        batches.push(batch);
        rest = behind;
    }
    batches
}
