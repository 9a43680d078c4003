// SPDX-License-Identifier: Apache-2.0
//! What every benchmark shares: its arguments, its rows, children of its own binary, and bare ends.

mod args;
mod client;
mod compare;
pub mod plot;
mod process;
mod row;

pub use args::{Args, finish, finish_with};
pub use client::{BareBlocks, BareClient};
pub use compare::{Earlier, compare};
pub use process::{Lines, Orders, Process, Role, Usage, tell};
pub use row::{Round, Row, Spread, Target, median, table};
