// SPDX-License-Identifier: Apache-2.0
//! How links and nodes behave.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use block_api::ChannelId;
use bytes::Bytes;

/// One direction of a link between two nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// How long a message takes at least. Default: nothing.
    pub latency: Duration,
    /// How much longer it may take, drawn evenly for each message. Blocks that it holds up are
    /// overtaken, statuses of a channel are not. Default: nothing.
    pub jitter: Duration,
    /// The share of gossip messages that is lost, from 0 to 1. Streams lose nothing. Default: 0.
    pub loss: f64,
}

/// How a node behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Blocks of more bytes than this are announced, not sent, unless they are config blocks.
    /// Default: 64 KiB.
    pub inline_limit: usize,
    /// How many events of a channel wait for their reader. While the queue is full, candidates are
    /// dropped and of each node's statuses the newest is kept. Default: 256.
    pub event_queue: NonZeroUsize,
    /// How many messages are on their way to this node; further ones are lost. Default: 1024.
    pub inbox: NonZeroUsize,
    /// How many messages are remembered, so that a second copy is not handed on. Default: 1024.
    pub seen_messages: NonZeroUsize,
    /// How often the status is told. Default: one second.
    pub status_interval: Duration,
    /// The identity that it proves to the others; `None` proves none. Default: `node`, as that of
    /// every other node.
    pub identity: Option<Bytes>,
    /// The identities that it proves in channels where it has others. Default: none.
    pub identities: BTreeMap<ChannelId, Bytes>,
    /// Whether the [`Readers`](block_api::Readers) of a channel are asked who may have its blocks. A
    /// neighbour's identity stands for its proof: what it would have signed is empty. Default: no,
    /// everybody may.
    pub asks_readers: bool,
    /// After so long without a status a neighbour counts as gone. Default: three seconds.
    pub silence_limit: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        let count = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            inline_limit: 64 << 10,
            event_queue: count(256),
            inbox: count(1024),
            seen_messages: count(1024),
            status_interval: Duration::from_secs(1),
            identity: Some(Bytes::from_static(b"node")),
            identities: BTreeMap::new(),
            asks_readers: false,
            silence_limit: Duration::from_secs(3),
        }
    }
}
