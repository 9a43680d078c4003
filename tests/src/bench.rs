// SPDX-License-Identifier: Apache-2.0
//! What every benchmark shares: its arguments, its rows, children of its own binary, and bare ends.

mod args;
pub mod bound;
mod chain;
mod client;
mod compare;
mod folder;
pub mod plot;
mod process;
mod row;

pub use args::{Args, finish, finish_with};
pub use bound::{Bound, Load};
pub use chain::Blocks;
pub use client::{BareBlocks, BareClient};
pub use compare::{Earlier, compare};
pub use folder::folder;
pub use process::{Lines, Orders, Process, Role, Usage, Words, said, tell};
pub use row::{Round, Row, Spread, Target, median, table};
