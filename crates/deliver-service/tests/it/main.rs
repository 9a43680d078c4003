// SPDX-License-Identifier: Apache-2.0
//! The delivery service on a memory network, in paused time.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

mod answers;
mod catch_up;
mod dissemination;
mod evidence;
mod faults;
mod harness;
mod health;
mod hostile;
mod leadership;
mod life_cycle;
mod members;
mod pipeline;
mod producers;
mod supervision;
mod trust;
