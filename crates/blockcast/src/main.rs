// SPDX-License-Identifier: Apache-2.0
//! The `blockcast` command: reads its arguments, runs what they ask for, and says how it ended.

mod cli;
mod commands;
mod error;
mod logging;
mod output;
mod signals;

use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    error::{CommandError, Exit},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    panic::set_hook(Box::new(report_defect));
    // What panicked has been reported by the hook; a user needs no more than the exit code.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| start(cli)));
    match ended {
        Ok(Ok(())) => Exit::Success.into(),
        Ok(Err(error)) => {
            output::error(&error);
            error.exit().into()
        }
        Err(_) => Exit::Defect.into(),
    }
}

fn start(cli: Cli) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(Box::pin(run(cli)))
}

async fn run(cli: Cli) -> Result<(), CommandError> {
    let log = cli.log.as_deref();
    match cli.command {
        // It reads what to log from its configuration.
        Command::Run(args) => commands::run::run(args, log).await,
        Command::Demo(args) => {
            logging::init(log, "warn")?;
            commands::demo::run(args).await
        }
        Command::Orderer(args) => {
            logging::init(log, "info")?;
            commands::orderer::run(args).await
        }
        Command::Fetch(args) => {
            logging::init(log, "warn")?;
            commands::fetch::run(args).await
        }
        Command::Verify(args) => {
            logging::init(log, "warn")?;
            commands::verify::run(args).await
        }
        Command::Store(args) => {
            logging::init(log, "warn")?;
            commands::store::run(args).await
        }
        Command::Inspect(args) => {
            logging::init(log, "warn")?;
            commands::inspect::run(args).await
        }
        Command::Channel(args) => {
            logging::init(log, "warn")?;
            commands::channel::run(args).await
        }
    }
}

fn report_defect(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no reason given");
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    output::note(&format!(
        "error: defect: {text} ({place}); please report it with what you did"
    ));
}
