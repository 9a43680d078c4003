// SPDX-License-Identifier: Apache-2.0
//! The command as a user runs it, and the node as a program embeds it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml allows them in test functions, and these are their helpers"
)]

mod config;
mod demo;
mod embedded;
mod join;
mod node;
mod process;
mod store;
mod trust;
