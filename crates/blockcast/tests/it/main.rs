// SPDX-License-Identifier: Apache-2.0
//! The command as a user runs it, and the node as a program embeds it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "clippy.toml allows them in test functions, and these are their helpers"
)]

mod clock;
mod config;
mod demo;
mod disk;
mod embedded;
mod join;
mod node;
mod operations;
mod private;
mod process;
mod repair;
mod store;
mod trust;
