// SPDX-License-Identifier: Apache-2.0
//! An example of a gossip backend: blocks over plain TCP, by way of `block-api` alone.
#![doc = include_str!("../README.md")]

mod broker;
mod channel;
mod config;
pub mod guide;
mod handshake;
mod link;
mod node;
mod seen;
mod source;
mod wire;

pub use self::{
    broker::{Broker, BrokerGossip},
    config::Config,
    node::TcpGossip,
};
