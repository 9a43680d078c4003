// SPDX-License-Identifier: Apache-2.0
//! What one block costs the orderers and each node, as nodes, channels and blocks grow: a model that
//! asks the state machines of the product what they would do. `docs/scale.md` has its assumptions.
#![expect(
    clippy::indexing_slicing,
    reason = "a model that cannot go on is meant to panic, and its indices are its own"
)]

mod cases;
mod election;
mod fabric;
mod graph;
mod plot;
mod spread;
mod table;
mod wire;

pub use self::{
    cases::{CHANNELS, Case, Channels, Costs, DISCOVERED, Found, NODES, SIZES, Way},
    election::{identity, pullers},
    fabric::{every_peer_pulls, push},
    graph::{Graph, STRANGERS, Wiring, defaults},
    plot::{NODE_GETS, NODE_SENDS, ORDERERS_SEND, Picture},
    spread::{Mean, Mode, Parts, Spread, Terms, latency, orderer_of},
    table::{channels_table, cost_table, found_table},
    wire::Wire,
};

/// What a block costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Bytes that all orderers send.
    pub orderer_bytes: u64,
    /// Streams that they serve.
    pub orderer_streams: u64,
    /// Bytes that come to a node, from orderers too.
    pub bytes_in: Mean,
    /// Bytes that a node sends.
    pub bytes_out: Mean,
    /// Connections of a node to other nodes; where everybody pulls, to an orderer.
    pub connections: Mean,
    /// How often a node verifies all signatures that a block has to have.
    pub signature_sets: Mean,
    /// Over how many transfers the last node gets it, that from the orderer counted.
    pub hops: u32,
}
