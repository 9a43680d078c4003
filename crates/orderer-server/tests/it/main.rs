// SPDX-License-Identifier: Apache-2.0
//! The tests of the server, against what a live orderer answered and what upstream tests.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test expects may fail it anywhere, and not only in a function marked as a test"
)]

extern crate blockcast_orderer_server as orderer_server;

mod access;
mod broadcast;
mod deliver;
mod position;
mod sharing;
mod status;
mod support;
mod transport;
