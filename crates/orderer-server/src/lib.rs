// SPDX-License-Identifier: Apache-2.0
//! Serves Fabric's Deliver from any block reader.
#![doc = include_str!("../README.md")]

mod ahead;
mod broadcast;
mod channel;
mod config;
mod deliver;
mod peer;
mod position;
mod recent;
mod request;
mod serve;
mod server;
mod session;
mod stats;
mod tasks;
mod tls;

#[cfg(feature = "testing")]
pub use self::request::fuzz_request;
pub use self::{
    broadcast::{BroadcastAnswer, BroadcastHandler},
    channel::{ConsenterState, ServedChannel},
    config::{DeliverConfig, ServeConfig},
    peer::{Peer, PeerTls},
    serve::{ServeError, serve, serve_connection},
    server::{OrdererServer, OrdererServerBuilder},
    stats::{DeliverCounts, DeliverStats},
    tls::{ServerTls, TlsError},
};
