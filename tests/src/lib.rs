// SPDX-License-Identifier: Apache-2.0
//! What the end-to-end tests and the benchmarks share.

pub mod bare;
pub mod bench;
pub mod drawing;
pub mod fixtures;
pub mod fuzz;
pub mod node;
pub mod scale;
