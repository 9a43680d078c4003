// SPDX-License-Identifier: Apache-2.0
//! `blockcast demo`: an ordering service and nodes in one process, over real connections.

mod cluster;
mod latency;
mod progress;
mod report;
mod service;

use std::{path::PathBuf, time::Duration};

use blockcast::config::ByteSize;
use dev_orderer::Rate;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::{
    cluster::Cluster,
    progress::{Heights, Progress},
    report::Report,
    service::Service,
};
use crate::{error::CommandError, output, signals::StopSignals};

/// The biggest block that an orderer may send is 100 MiB with all that is around the data.
const MAX_BLOCK_BYTES: ByteSize = ByteSize::mib(96);

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(100);

/// So long nothing may move while a node is behind.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `demo` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many nodes there are; the first one pulls from the ordering service
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// How many blocks are ordered
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    blocks: u32,
    /// The size of the data in a block
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::kib(100))]
    block_bytes: ByteSize,
    /// How many blocks are ordered in a second
    #[arg(long, value_name = "BLOCKS_PER_S", default_value = "50")]
    rate: Rate,
    /// Serves the recorded chain in this folder (block_0.pb, block_1.pb …) instead of ordering
    #[arg(long, value_name = "DIR", conflicts_with_all = ["blocks", "block_bytes"])]
    replay: Option<PathBuf>,
    /// Prints the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the demo and prints what came of it.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    if args.block_bytes > MAX_BLOCK_BYTES {
        return Err(CommandError::new(format!(
            "--block-bytes is {}: an orderer sends {MAX_BLOCK_BYTES} at most",
            args.block_bytes
        )));
    }
    let mut signals = StopSignals::listen()?;
    let folder = tempfile::Builder::new()
        .prefix("blockcast-demo-")
        .tempdir()?;
    let report = Box::pin(demonstrate(&args, &folder, &mut signals)).await?;
    output::result(&if args.json {
        report.json()?
    } else {
        report.table()
    })?;
    report.check()
}

/// Starts everything, has the blocks ordered, waits until every node has them, and stops it all.
async fn demonstrate(
    args: &Args,
    folder: &TempDir,
    signals: &mut StopSignals,
) -> Result<Report, CommandError> {
    let count = usize::from(args.nodes);
    let service = match &args.replay {
        Some(recorded) => Service::replay(recorded, args.rate, count).await?,
        None => {
            let blocks = usize::try_from(args.blocks)?;
            Service::order(blocks, args.block_bytes.as_usize(), args.rate, count).await?
        }
    };
    for note in service.notes() {
        output::note(&note);
    }
    let started = Cluster::start(&service, folder.path()).await;
    let ended = match started {
        Ok(cluster) => {
            let ended = tokio::select! {
                biased;
                _ = signals.wait() => Err(CommandError::interrupted()),
                ended = Box::pin(spread(&service, &cluster)) => ended,
            };
            cluster.stop().await;
            ended
        }
        Err(error) => Err(error),
    };
    service.stop().await;
    ended
}

async fn spread(service: &Service, cluster: &Cluster) -> Result<Report, CommandError> {
    cluster.connected(PATIENCE).await?;
    let started = Instant::now();
    let heights = || Heights {
        orderer: service.height(),
        nodes: cluster.heights(),
    };
    let watching = cluster.watch(service.target());
    let (_, stored) = tokio::select! {
        done = async { tokio::try_join!(service.begin(), watching) } => done?,
        error = keep_watch(cluster, service.target().get(), heights) => return Err(error),
    };
    Report::collect(service, cluster, &stored, started.elapsed()).await
}

/// Shows progress; ends with an error when there is none for too long while a node is behind.
async fn keep_watch(cluster: &Cluster, target: u64, heights: impl Fn() -> Heights) -> CommandError {
    let mut progress = Progress::new(target, cluster.names());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut moved) = (heights(), Instant::now());
    loop {
        ticks.tick().await;
        let now = heights();
        progress.show(&now);
        if now != last || now.nodes.iter().all(|height| *height == now.orderer) {
            (last, moved) = (now, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return cluster.behind(&now, PATIENCE);
        }
    }
}
