// SPDX-License-Identifier: Apache-2.0
//! `blockcast run`: one node, until it is told to stop.

use std::path::PathBuf;

use blockcast::{Node, NodeConfig, StoreCheck};
use tracing::info;

use crate::{
    commands::{health_log, open_files},
    error::CommandError,
    logging,
    signals::StopSignals,
};

/// What `run` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration of the node, a TOML file; `blockcast orderer` writes one, and
    /// node.example.toml explains every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Judges every stored block before the node starts, and not only some of them
    #[arg(long)]
    deep: bool,
}

/// Runs the node. ctrl-c and SIGTERM end it well; a second one ends it at once.
pub(crate) async fn run(args: Args, log: Option<&str>) -> Result<(), CommandError> {
    let config = NodeConfig::load(&args.config).map_err(CommandError::config)?;
    logging::init(log, &config.log.filter)?;
    open_files::raise_limit();
    let mut signals = StopSignals::listen()?;
    let check = match args.deep {
        true => StoreCheck::Whole,
        false => StoreCheck::Spots,
    };
    let node = Node::builder(config)
        .check_stores(check)
        .start()
        .await
        .map_err(|error| match error.is_config() {
            true => CommandError::config(error),
            false => error.into(),
        })?;
    let signal = tokio::select! {
        signal = signals.wait() => signal,
        never = health_log::run(&node) => match never {},
    };
    info!(signal, "stopping");
    tokio::select! {
        () = node.stop() => {
            info!("stopped");
            Ok(())
        }
        _ = signals.wait() => Err(CommandError::interrupted()),
    }
}
