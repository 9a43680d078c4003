// SPDX-License-Identifier: Apache-2.0
//! Several crates together: a dev orderer over TLS, libp2p on loopback, stores in files.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

mod faults;
mod harness;
mod hostile;
mod leadership;
mod live;
mod rights;
mod trust;
mod watched;
mod whole_way;
