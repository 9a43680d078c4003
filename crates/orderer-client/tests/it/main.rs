// SPDX-License-Identifier: Apache-2.0
//! The tests of the client, against scripted orderers and the real server.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test expects may fail it anywhere, and not only in a function marked as a test"
)]

extern crate blockcast_orderer_client as orderer_client;

mod broadcast;
mod clock;
mod config;
mod connect;
mod keepalive;
mod real;
mod stream;
mod support;
mod tls;
mod windows;
