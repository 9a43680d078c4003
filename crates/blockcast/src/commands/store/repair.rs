// SPDX-License-Identifier: Apache-2.0
//! `blockcast store repair`: what is damaged is fetched again.

use std::path::PathBuf;

use block_api::BlockNumber;
use blockcast::{ChannelRepair, NodeConfig, RepairSource, RepairStoreError};

use super::{OfNode, segments};
use crate::{
    commands::{block_files, printable::printable},
    error::CommandError,
    output,
    signals::StopSignals,
};

/// What is shown of what others wrote.
const SHOWN: usize = 2000;

/// What `store repair` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: OfNode,
    /// Takes the blocks from this folder, one file `block_<n>.pb` each, instead of peers and the ordering service
    #[arg(long, value_name = "DIR")]
    from_dir: Option<PathBuf>,
}

/// Repairs one segment after the other. What was repaired stays so, whatever becomes of the rest.
pub(super) async fn run(args: Args) -> Result<(), CommandError> {
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        biased;
        _ = signals.wait() => Err(CommandError::interrupted()),
        repaired = Box::pin(repair(args)) => repaired,
    }
}

async fn repair(args: Args) -> Result<(), CommandError> {
    let config = NodeConfig::load(&args.node.config).map_err(CommandError::config)?;
    let opened = ChannelRepair::open(&config, &args.node.channel).await;
    let mut store = opened.map_err(told)?;
    let mut source = match args.from_dir {
        None => RepairSource::Network,
        Some(dir) => RepairSource::Supply(Box::new(move |number: BlockNumber| {
            let path = dir.join(block_files::file_name(number));
            Ok(block_files::read(&path)?)
        })),
    };
    let repaired = repair_all(&mut store, &mut source).await;
    store.close().await;
    let channel = &args.node.channel;
    output::result(&match repaired? {
        0 => format!("ok: channel {channel}, nothing is damaged"),
        repaired => format!("ok: channel {channel}, {} repaired", segments(repaired)),
    })
}

/// Repairs what is damaged, and says how many segments that were.
async fn repair_all(
    store: &mut ChannelRepair,
    source: &mut RepairSource,
) -> Result<usize, CommandError> {
    let mut repaired = 0;
    while let Some(done) = store.repair_next(source).await.map_err(told)? {
        repaired += 1;
        let sources: Vec<String> = done.sources.iter().map(ToString::to_string).collect();
        let from = match sources.is_empty() {
            true => String::new(),
            false => format!(" from {}", sources.join(", ")),
        };
        output::result(&format!(
            "repaired: {}, blocks {}..{}{from}",
            done.damage.segment.display(),
            done.damage.from,
            done.damage.to.unwrap_or(done.damage.from),
        ))?;
    }
    Ok(repaired)
}

fn told(error: RepairStoreError) -> CommandError {
    if matches!(error, RepairStoreError::NotFetched { .. }) {
        // Some of the message may be a peer's or an orderer's.
        return CommandError::new(printable(&error.to_string(), SHOWN)).hint(
            "try again when a node of gossip.peers that has the blocks, or an orderer, can be reached; or put the \
             blocks into a folder, as `blockcast fetch` does, and give it with --from-dir",
        );
    }
    let of_start = matches!(&error, RepairStoreError::Start(start) if start.is_config());
    match of_start || matches!(error, RepairStoreError::UnknownChannel { .. }) {
        true => CommandError::config(error),
        false => error.into(),
    }
}
