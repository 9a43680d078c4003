// SPDX-License-Identifier: Apache-2.0
//! What came in by which way.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The way by which a block came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From the ordering service.
    Orderer,
    /// Whole, on the gossip topic.
    Topic,
    /// Announced on the topic, its body pulled from the node that announced it.
    Pull,
    /// In a range from a peer.
    CatchUp,
}

/// Counts since the channel was joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelStats {
    /// Stored blocks that came from the ordering service.
    pub from_orderer: u64,
    /// Stored blocks that came whole on the topic.
    pub from_topic: u64,
    /// Stored blocks that were announced and pulled.
    pub from_pull: u64,
    /// Stored blocks that came in ranges from peers.
    pub from_catch_up: u64,
    /// Bytes of stored blocks.
    pub bytes: u64,
    /// Blocks and announcements that broke a rule, whatever way they came.
    pub rejected: u64,
    /// Candidates that were neither accepted nor rejected: old, known, too far ahead, no room.
    pub ignored: u64,
    /// Candidates and tips that were not verified, because too much of the node that sent them was
    /// refused of late.
    pub limited: u64,
    /// Blocks that were verified but do not link to the chain.
    pub unlinked: u64,
    /// Blocks from the ordering service that were to be published and were not: the queue was full, or
    /// the network did not take them.
    pub unpublished: u64,
    /// Appends that failed and were tried again.
    pub failed_appends: u64,
    /// Pairs of blocks of one number that orderers signed.
    pub equivocations: u64,
    /// Blocks that waited and made room for lower ones, to be fetched again.
    pub evicted: u64,
    /// Appends that went well, each of one batch.
    pub appends: u64,
    /// How long those took, all together.
    pub append_time: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    from_orderer: AtomicU64,
    from_topic: AtomicU64,
    from_pull: AtomicU64,
    from_catch_up: AtomicU64,
    bytes: AtomicU64,
    pub(crate) rejected: Counter,
    pub(crate) ignored: Counter,
    pub(crate) limited: Counter,
    pub(crate) unlinked: Counter,
    pub(crate) unpublished: Counter,
    pub(crate) failed_appends: Counter,
    pub(crate) equivocations: Counter,
    appends: Counter,
    append_micros: AtomicU64,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn stored(&self, origin: Origin, bytes: usize) {
        let count = match origin {
            Origin::Orderer => &self.from_orderer,
            Origin::Topic => &self.from_topic,
            Origin::Pull => &self.from_pull,
            Origin::CatchUp => &self.from_catch_up,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.appends.add(1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.append_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The counts, with those of the buffer.
    pub(crate) fn get(&self, evicted: u64) -> ChannelStats {
        ChannelStats {
            from_orderer: self.from_orderer.load(Ordering::Relaxed),
            from_topic: self.from_topic.load(Ordering::Relaxed),
            from_pull: self.from_pull.load(Ordering::Relaxed),
            from_catch_up: self.from_catch_up.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            rejected: self.rejected.get(),
            ignored: self.ignored.get(),
            limited: self.limited.get(),
            unlinked: self.unlinked.get(),
            unpublished: self.unpublished.get(),
            failed_appends: self.failed_appends.get(),
            equivocations: self.equivocations.get(),
            evicted,
            appends: self.appends.get(),
            append_time: Duration::from_micros(self.append_micros.load(Ordering::Relaxed)),
        }
    }
}
