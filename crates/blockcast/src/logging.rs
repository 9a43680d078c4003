// SPDX-License-Identifier: Apache-2.0
//! The log: what is logged, and where it goes.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::error::CommandError;

/// Logs to standard error what the flag says, else what `RUST_LOG` says, else `otherwise`.
pub(crate) fn init(flag: Option<&str>, otherwise: &str) -> Result<(), CommandError> {
    let environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let (name, filter) = match (flag, environment.as_deref()) {
        (Some(filter), _) => ("--log", filter),
        (None, Some(filter)) => ("RUST_LOG", filter),
        (None, None) => ("log.filter", otherwise),
    };
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        CommandError::new(format!("{name} is {filter:?}: {error}")).hint(
            "write a level, as in `info`, or levels by target, as in `warn,blockcast_deliver_service=debug`",
        )
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}
