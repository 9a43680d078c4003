// SPDX-License-Identifier: Apache-2.0
//! The libp2p backend of the gossip seam: blocks on gossipsub topics, ranges over streams.
#![doc = include_str!("../README.md")]

mod access;
mod behaviour;
mod bodies;
mod channels;
mod config;
mod credential;
mod dialer;
mod discovery;
mod door;
mod error;
mod event_loop;
mod frames;
mod gate;
mod handle;
mod identity;
mod membership;
mod muxer;
mod score;
mod seen;
mod serve;
mod source;
mod stats;
mod status;
mod streams;
mod topic;
mod transport;
mod wire;

#[cfg(any(test, feature = "testing"))]
pub use self::{
    bodies::{BodyPlan, BodyStep, sizes},
    wire::fuzz_wire,
};
pub use self::{
    config::{Admission, Config, MeshSize},
    error::{AddPeerError, AddressError, ConfigError, StartError},
    handle::Libp2pGossip,
    identity::{Keypair, node_id, peer_id},
    score::{Ban, Offence},
    stats::Stats,
};
pub use libp2p::{Multiaddr, PeerId, metrics::Registry};
