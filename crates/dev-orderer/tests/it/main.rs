// SPDX-License-Identifier: Apache-2.0
//! The dev orderer as its users see it: its chains under the real verifier, its server under the
//! real client.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy allows it in test functions, and these are their helpers"
)]

mod chain;
mod changes;
mod faults;
mod judge;
mod live;
mod pki;
mod serve;
mod support;
