// SPDX-License-Identifier: Apache-2.0
//! The in-process gossip backend of blockcast, for tests and simulation.
#![doc = include_str!("../README.md")]

mod channel;
mod config;
mod joined;
mod network;
mod node;
mod source;

pub use self::{
    config::{Link, NodeConfig},
    network::MemoryNetwork,
    node::MemoryGossip,
};
