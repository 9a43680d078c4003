// SPDX-License-Identifier: Apache-2.0
//! `blockcast store`: looks at the store of a channel, and repairs it.

mod check;
mod repair;

use std::path::PathBuf;

use block_api::ChannelId;
use clap::Subcommand;

use crate::{commands::printable::counted, error::CommandError};

/// What is done to a store.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads every byte of a store and lists the damaged segments
    Check(check::Args),
    /// Replaces damaged segments by blocks from peers, the ordering service or a folder
    Repair(repair::Args),
}

/// What `store` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// One channel of a node.
#[derive(Debug, clap::Args)]
struct OfNode {
    /// The configuration of the node, a TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The channel
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelId,
}

/// Looks or repairs.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    match args.command {
        Command::Check(args) => check::run(args).await,
        Command::Repair(args) => repair::run(args).await,
    }
}

fn segments(number: usize) -> String {
    counted(number, "segment", "segments")
}
