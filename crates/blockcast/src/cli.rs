// SPDX-License-Identifier: Apache-2.0
//! The arguments of the command.

use clap::{Parser, Subcommand};

use crate::commands::{channel, demo, fetch, inspect, orderer, run, store, verify};

const EXIT_CODES: &str = "\
Exit codes:
  0    it went well
  1    it failed; the line that begins with `error:` says why
  2    the arguments do not fit
  70   a defect of blockcast
  78   the configuration file, or a file that it names, does not serve
  130  it was interrupted before it was done

Results go to standard output, progress, log and errors to standard error.";

/// Takes blocks from a Hyperledger Fabric ordering service once, verifies them, keeps them, and
/// brings them to every node that may have them.
#[derive(Debug, Parser)]
#[command(name = "blockcast", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// What to log, as in `info` or `warn,blockcast_deliver_service=debug`; goes before RUST_LOG and before
    /// the configuration
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows in one process what blockcast does: an ordering service, and nodes that spread its blocks
    Demo(demo::Args),
    /// Runs one node by its configuration until it is told to stop
    Run(run::Args),
    /// Runs an ordering service for development, and writes what a node needs to join it
    Orderer(orderer::Args),
    /// Fetches blocks from an ordering service into files, byte for byte as received
    Fetch(fetch::Args),
    /// Verifies a folder of blocks by the rules of their own channel
    Verify(verify::Args),
    /// Looks at the store of a channel, and repairs it
    Store(store::Args),
    /// Shows what is in a block
    Inspect(inspect::Args),
    /// Shows how a channel is configured, and what changed
    Channel(channel::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} has no help",
                command.get_name()
            );
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(
                    argument.get_help().is_some(),
                    "{} {name} has no help",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
