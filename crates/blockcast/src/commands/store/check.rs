// SPDX-License-Identifier: Apache-2.0
//! `blockcast store check`: every byte of a store is read, and nothing is changed.

use std::path::PathBuf;

use block_api::ChannelId;
use block_store::repair::{CheckReport, check};
use blockcast::NodeConfig;
use tokio::task::spawn_blocking;

use super::segments;
use crate::{commands::printable::grouped, error::CommandError, output};

/// What `store check` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder with the blocks of one channel; a node may have it open
    #[arg(
        value_name = "DIR",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    dir: Option<PathBuf>,
    /// The configuration of the node, instead of the folder
    #[arg(long, value_name = "FILE", requires = "channel")]
    config: Option<PathBuf>,
    /// The channel of the node
    #[arg(long, value_name = "CHANNEL", requires = "config")]
    channel: Option<ChannelId>,
}

/// Lists what is damaged, and fails if anything is.
pub(super) async fn run(args: Args) -> Result<(), CommandError> {
    let dir = match (args.dir, args.config, args.channel) {
        (Some(dir), ..) => dir,
        (None, Some(config), Some(channel)) => NodeConfig::load(&config)
            .map_err(CommandError::config)?
            .channel_dir(&channel),
        (None, ..) => {
            return Err(CommandError::new(
                "give a folder, or --config and --channel",
            ));
        }
    };
    let report = spawn_blocking(move || check(dir)).await??;
    for damage in &report.damages {
        output::result(&format!("damaged: {damage}"))?;
    }
    if report.damages.is_empty() {
        return output::result(&summary(&report));
    }
    let all = report.sound + report.damages.len();
    Err(CommandError::new(format!(
        "channel {}: {} of {} {} damaged",
        report.channel,
        report.damages.len(),
        segments(all),
        match report.damages.len() {
            1 => "is",
            _ => "are",
        }
    ))
    .hint("stop the node, and run `blockcast store repair --config FILE --channel CHANNEL`"))
}

fn summary(report: &CheckReport) -> String {
    let CheckReport {
        channel,
        first,
        height,
        ..
    } = report;
    match height.tip().filter(|tip| tip >= first) {
        Some(tip) => format!(
            "ok: channel {channel}, blocks {first}..{tip} in {}, {} blocks",
            segments(report.sound),
            grouped(height.get() - first.get()),
        ),
        None => format!("ok: channel {channel}, no block yet"),
    }
}
