// SPDX-License-Identifier: Apache-2.0
//! Counters of what a node did and refused.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a node counted since it started. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Blocks and announcements that were put on a topic.
    pub published: u64,
    /// Publications that a full queue kept from at least all peers, or that were too long for the
    /// topic; peers learn of such blocks by status.
    pub publish_dropped: u64,
    /// Candidates that were handed to a channel.
    pub candidates: u64,
    /// Candidates that nobody could be asked about, because a queue was full.
    pub candidates_dropped: u64,
    /// Candidates that were answered accept.
    pub accepted: u64,
    /// Candidates that were answered ignore, or not in time.
    pub ignored: u64,
    /// Candidates that were answered reject.
    pub rejected: u64,
    /// Messages, statuses and requests that are not understood.
    pub malformed: u64,
    /// Statuses that came.
    pub statuses: u64,
    /// Records of nodes that came and said something new.
    pub records: u64,
    /// Records of nodes that were not for this one.
    pub records_refused: u64,
    /// Nodes that were hung up on because they were dialled for an organisation that they are not of.
    pub claims_refused: u64,
    /// Connections that were refused: not admitted, or one too many.
    pub connections_refused: u64,
    /// Connections on which the other node did not prove who it is, or on which it refused this one.
    pub proofs_refused: u64,
    /// Messages, statuses and requests about channels that the node may not have.
    pub not_entitled: u64,
    /// Requests for blocks that were served, to whatever end.
    pub requests_served: u64,
    /// Requests for blocks that were told to come back.
    pub requests_refused: u64,
    /// Blocks that were sent on request.
    pub blocks_served: u64,

    /// Messages that were not looked at, because their senders had sent too many.
    pub messages_limited: u64,
    /// Streams that were not heard, because those who opened them had opened too many.
    pub requests_limited: u64,
    /// Whatever was held against peers.
    pub offences: u64,
    /// Peers that were banned.
    pub bans: u64,
    /// Bodies of announced blocks that were fetched.
    pub bodies_fetched: u64,
    /// Bytes of bodies that were sent on request.
    pub body_bytes_served: u64,
    /// Bytes of bodies that came, be they of use or not.
    pub body_bytes_came: u64,
}

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        /// The counters themselves, shared by the tasks of a node.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

counters!(
    published,
    publish_dropped,
    candidates,
    candidates_dropped,
    accepted,
    ignored,
    rejected,
    malformed,
    statuses,
    records,
    records_refused,
    claims_refused,
    connections_refused,
    proofs_refused,
    not_entitled,
    requests_served,
    requests_refused,
    blocks_served,
    messages_limited,
    requests_limited,
    offences,
    bans,
    bodies_fetched,
    body_bytes_served,
    body_bytes_came,
);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}
