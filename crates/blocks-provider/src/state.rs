// SPDX-License-Identifier: Apache-2.0
//! What the pull loop is doing, for health, status and metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use block_api::Endpoint;

use crate::{Reason, Suspicion, head::Inbox};

/// What the pull loop is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullState {
    /// It has not begun, or has ended.
    Idle,
    /// It opens a stream.
    Connecting(Endpoint),
    /// A stream is open. It may be silent: whether it gives blocks is told by the height.
    Streaming(Endpoint),
    /// Nobody gave anything; it pauses.
    BackingOff {
        /// For so long.
        pause: Duration,
        /// Why the last attempt failed; `None` when there was no endpoint to try.
        last_failure: Option<String>,
        /// The kind of that failure.
        reason: Option<Reason>,
    },
}

/// What the pull loop is doing, and how it came to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullReport {
    /// What it is doing.
    pub state: PullState,
    /// By which rules withheld blocks are noticed.
    pub mode: Mode,
    /// The endpoints whose last stream was given up and that gave no block since, each with the
    /// reason.
    pub failing: BTreeMap<Endpoint, Reason>,
    /// What the source is suspected of withholding.
    pub suspicion: Option<Suspicion>,
    /// Counts since the loop was made.
    pub stats: PullStats,
}

/// By which rules withheld blocks are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// One identity can sign a header (raft): a header that does not link is a hint.
    #[default]
    Cft,
    /// A header needs a quorum (BFT): it proves its height.
    Bft,
}

/// Counts since the pull loop was made; they only grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullStats {
    /// Attempts to open a stream of blocks.
    pub attempts: u64,
    /// Streams that were given up, by reason.
    pub restarts: BTreeMap<Reason, u64>,
    /// Suspicions that a source withholds a block.
    pub suspicions_raised: u64,
    /// Suspicions that ended because the source delivered.
    pub suspicions_cleared: u64,
    /// Suspicions that ended with a change of source.
    pub suspicions_confirmed: u64,
    /// Times that another orderer was asked for its newest header.
    pub probes: u64,
    /// Streams of headers that were opened.
    pub header_streams: u64,
}

/// What the loop, its watch and its handles share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    progress_wanted: AtomicBool,
    details: Mutex<Details>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Details {
    pub(crate) mode: Mode,
    pub(crate) failing: BTreeMap<Endpoint, Reason>,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) stats: PullStats,
}

impl Shared {
    pub(crate) fn details(&self) -> MutexGuard<'_, Details> {
        self.details
            .lock()
            .expect("invariant: no holder of this lock panics")
    }

    /// Says whether the watch is to be woken by every block, which while nothing is suspected it
    /// need not be.
    pub(crate) fn wants_progress(&self, wanted: bool) {
        self.progress_wanted.store(wanted, Ordering::SeqCst);
    }

    pub(crate) fn is_progress_wanted(&self) -> bool {
        self.progress_wanted.load(Ordering::SeqCst)
    }

    pub(crate) fn report(&self, state: PullState) -> PullReport {
        let Details {
            mode,
            failing,
            suspicion,
            stats,
        } = self.details().clone();
        PullReport {
            state,
            mode,
            failing,
            suspicion,
            stats,
        }
    }
}
