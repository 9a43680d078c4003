// SPDX-License-Identifier: Apache-2.0
//! How a node behaves, and whom it knows.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, time::Duration};

use block_api::NodeId;

/// How a node behaves, and whom it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of this node, of at most 255 bytes.
    pub node: NodeId,
    /// The other nodes, and where they listen; no others are let in. Of two nodes the one with the
    /// lower name dials.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// Blocks of more bytes than this are announced, not sent, unless they are config blocks.
    /// Default: 64 KiB.
    pub inline_limit: usize,
    /// The longest frame that is taken, which bounds a block. Default: 128 MiB.
    pub max_frame: usize,
    /// How many events of a channel wait for their reader. While the queue is full, candidates are
    /// dropped and of each node's statuses the newest is kept. Default: 256.
    pub event_queue: NonZeroUsize,
    /// How many frames wait to be sent to a node. While the queue is full, further ones are dropped:
    /// statuses come again, and blocks can be had by ranges. Default: 256.
    pub link_queue: NonZeroUsize,
    /// How many messages of a channel are remembered, so that a second copy is not handed on.
    /// Default: 1024.
    pub seen_messages: NonZeroUsize,
    /// How many connections may be about to prove themselves; further ones wait to be taken.
    /// Default: 16.
    pub max_unproven: NonZeroUsize,
    /// How many ranges are served at one time; further ones are told to ask later. Default: 16.
    pub max_serving: NonZeroUsize,
    /// How often the status is told beside every change. Default: one second.
    pub status_interval: Duration,
    /// After so long without a status a node counts as gone. Default: five seconds.
    pub silence_limit: Duration,
    /// How long a connection, a proof, or the next frame of a range may take. Default: five seconds.
    pub timeout: Duration,
    /// How long to wait before a node is dialled again. Default: a quarter of a second.
    pub redial: Duration,
}

impl Config {
    /// A node that knows these others.
    pub fn new(node: NodeId, peers: BTreeMap<NodeId, SocketAddr>) -> Self {
        let count = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            node,
            peers,
            inline_limit: 64 << 10,
            max_frame: 128 << 20,
            event_queue: count(256),
            link_queue: count(256),
            seen_messages: count(1024),
            max_unproven: count(16),
            max_serving: count(16),
            status_interval: Duration::from_secs(1),
            silence_limit: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            redial: Duration::from_millis(250),
        }
    }
}
