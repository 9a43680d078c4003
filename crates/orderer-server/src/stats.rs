// SPDX-License-Identifier: Apache-2.0
//! What a server counts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What a server counts, shared with whoever reads it.
///
/// A *block stream* is a request that is granted, asks for whole blocks, and waits for the next one:
/// what a puller holds. A *probe* is any other request that is granted: it asks for headers only,
/// fails at the tip instead of waiting, or starts and stops with the newest block.
#[derive(Debug, Default)]
pub struct DeliverStats {
    streams_opened: AtomicU64,
    streams_closed: AtomicU64,
    requests_received: AtomicU64,
    requests_succeeded: AtomicU64,
    requests_failed: AtomicU64,
    block_streams: AtomicU64,
    block_streams_ended: AtomicU64,
    probes: AtomicU64,
    probes_ended: AtomicU64,
    blocks_sent: AtomicU64,
    bytes_sent: AtomicU64,
    broadcasts_received: AtomicU64,
}

/// What was counted, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeliverCounts {
    /// Deliver calls that were opened, each with any number of requests.
    pub streams_opened: u64,
    /// Deliver calls that ended.
    pub streams_closed: u64,
    /// Requests for a channel that is served.
    pub requests_received: u64,
    /// Such requests that ended with SUCCESS.
    pub requests_succeeded: u64,
    /// Such requests that ended otherwise; a client that goes away is among them.
    pub requests_failed: u64,
    /// Block streams that were granted.
    pub block_streams: u64,
    /// Block streams that are open now.
    pub open_block_streams: u64,
    /// Probes that were granted.
    pub probes: u64,
    /// Probes that are open now.
    pub open_probes: u64,
    /// Blocks that were sent, whole or without their data.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Envelopes that were submitted.
    pub broadcasts_received: u64,
}

/// What a granted request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    BlockStream,
    Probe,
}

/// Counts a call as long as it is there.
#[derive(Debug)]
pub(crate) struct OpenStream(Arc<DeliverStats>);

/// Counts a request as long as it is there, and then how it ended.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    stats: Arc<DeliverStats>,
    granted: Option<Kind>,
    succeeded: bool,
}

impl DeliverStats {
    /// What was counted so far.
    pub fn counts(&self) -> DeliverCounts {
        // What ended is read first, so that nothing ends that did not begin.
        let streams_closed = self.streams_closed.load(Relaxed);
        let block_streams_ended = self.block_streams_ended.load(Relaxed);
        let probes_ended = self.probes_ended.load(Relaxed);
        let block_streams = self.block_streams.load(Relaxed);
        let probes = self.probes.load(Relaxed);
        DeliverCounts {
            streams_opened: self.streams_opened.load(Relaxed),
            streams_closed,
            requests_received: self.requests_received.load(Relaxed),
            requests_succeeded: self.requests_succeeded.load(Relaxed),
            requests_failed: self.requests_failed.load(Relaxed),
            block_streams,
            open_block_streams: block_streams.saturating_sub(block_streams_ended),
            probes,
            open_probes: probes.saturating_sub(probes_ended),
            blocks_sent: self.blocks_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            broadcasts_received: self.broadcasts_received.load(Relaxed),
        }
    }

    pub(crate) fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.streams_opened.fetch_add(1, Relaxed);
        OpenStream(self.clone())
    }

    pub(crate) fn open_request(self: &Arc<Self>) -> OpenRequest {
        self.requests_received.fetch_add(1, Relaxed);
        OpenRequest {
            stats: self.clone(),
            granted: None,
            succeeded: false,
        }
    }

    pub(crate) fn submitted(&self) {
        self.broadcasts_received.fetch_add(1, Relaxed);
    }
}

impl OpenRequest {
    pub(crate) fn grant(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::BlockStream => &self.stats.block_streams,
            Kind::Probe => &self.stats.probes,
        };
        counter.fetch_add(1, Relaxed);
        self.granted = Some(kind);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.stats.blocks_sent.fetch_add(1, Relaxed);
        self.stats.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn succeed(&mut self) {
        self.succeeded = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams_closed.fetch_add(1, Relaxed);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let stats = &self.stats;
        match self.granted {
            Some(Kind::BlockStream) => drop(stats.block_streams_ended.fetch_add(1, Relaxed)),
            Some(Kind::Probe) => drop(stats.probes_ended.fetch_add(1, Relaxed)),
            None => {}
        }
        let ended = if self.succeeded {
            &stats.requests_succeeded
        } else {
            &stats.requests_failed
        };
        ended.fetch_add(1, Relaxed);
    }
}
