// SPDX-License-Identifier: Apache-2.0
//! The checks of the workspace, as `cargo xtask <command>`.
//!
//! Everything is said on standard error, so that the standard output of `bench --json` is the JSON alone.
//! A check prints all its findings before it fails, and the failure ends with the command that fixes it.

mod bench;
mod ci;
mod codegen;
mod command;
mod deny;
mod each_crate;
mod findings;
mod layers;
mod lint;
mod sim;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::findings::say;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The checks of the blockcast workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate crates/protos from proto/
    Codegen {
        /// Compare with what is committed and change nothing
        #[arg(long)]
        check: bool,
    },
    /// Hold the dependencies between the crates, and on libp2p and tonic, against the table
    Layers {
        /// Write the table into ARCHITECTURE.md
        #[arg(long)]
        write: bool,
    },
    /// Check sources, manifests and documents for the rules of the house
    Tidy {
        /// Write what is derived: the layer table and the places of docs/parity.md
        #[arg(long)]
        write: bool,
    },
    /// Format, clippy and rustdoc, every warning an error
    Lint,
    /// Unit, integration and documentation tests
    Test,
    /// Lint every crate alone: without features, with its default ones, with all
    EachCrate,
    /// Licences, bans, duplicates and sources of the dependencies (cargo-deny)
    Deny {
        /// Also security advisories, which needs the network
        #[arg(long)]
        advisories: bool,
    },
    /// Run the benchmarks of the package e2e-tests
    Bench(bench::Bench),
    /// Run the simulated network in release
    Sim {
        /// How many seeds
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first of them; the others follow it
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
    },
    /// All of the above in order, as CI runs it; of benchmarks and simulation a short round
    Ci,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    match command {
        Command::Codegen { check } => codegen::run(&workspace, check),
        Command::Layers { write } => layers::run(&workspace, write),
        Command::Tidy { write } => tidy::run(&workspace, write),
        Command::Lint => lint::run(&workspace),
        Command::Test => test::run(&workspace, test::Profile::Default),
        Command::EachCrate => each_crate::run(&workspace),
        Command::Deny { advisories } => deny::run(&workspace, advisories),
        Command::Bench(wanted) => bench::run(&workspace, &wanted),
        Command::Sim { seeds, first_seed } => sim::run(&workspace, seeds, first_seed),
        Command::Ci => ci::run(&workspace),
    }
}
