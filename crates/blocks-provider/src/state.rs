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
use tokio::time::Instant;

use crate::{Reason, Suspicion, head::Inbox};

/// A stream that has lasted for so long was not refused: orderers refuse at once.
const SETTLED: Duration = Duration::from_secs(2);

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
    /// Since when no endpoint gives a stream that lasts; `None` while one does, and before the first
    /// attempt has failed.
    pub failing_since: Option<Instant>,
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

impl PullStats {
    /// Adds the counts of another loop.
    pub fn add(&mut self, other: &Self) {
        let Self {
            attempts,
            restarts,
            suspicions_raised,
            suspicions_cleared,
            suspicions_confirmed,
            probes,
            header_streams,
        } = other;
        self.attempts += attempts;
        for (reason, count) in restarts {
            *self.restarts.entry(*reason).or_default() += count;
        }
        self.suspicions_raised += suspicions_raised;
        self.suspicions_cleared += suspicions_cleared;
        self.suspicions_confirmed += suspicions_confirmed;
        self.probes += probes;
        self.header_streams += header_streams;
    }
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
    pub(crate) trouble: Trouble,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) stats: PullStats,
}

/// How long no stream has been any good.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    since: Option<Instant>,
    /// When the stream that is open was opened.
    opened: Option<Instant>,
}

impl Trouble {
    pub(crate) fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The stream that is open gave a block that was taken.
    pub(crate) fn gives(&mut self) {
        self.since = None;
    }

    /// An attempt failed, a stream ended, or there is nobody to ask.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.since = self.since(now).or(Some(now));
        self.opened = None;
    }

    fn since(&self, now: Instant) -> Option<Instant> {
        let settled = |opened| now.saturating_duration_since(opened) >= SETTLED;
        self.since.filter(|_| !self.opened.is_some_and(settled))
    }
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
            trouble,
            suspicion,
            stats,
        } = self.details().clone();
        PullReport {
            state,
            mode,
            failing,
            failing_since: trouble.since(Instant::now()),
            suspicion,
            stats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_lasts_until_a_stream_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = Trouble::default();
        assert_eq!(trouble.since(at(0)), None, "nothing was tried");
        trouble.failed(at(1));
        // One that is opened and refused, again and again, is no end of it.
        for second in 2..10 {
            trouble.opened(at(second));
            assert_eq!(trouble.since(at(second)), Some(at(1)));
            trouble.failed(at(second));
        }
        trouble.opened(at(10));
        assert_eq!(trouble.since(at(12)), None, "it has lasted");
        trouble.failed(at(20));
        assert_eq!(trouble.since(at(21)), Some(at(20)));
        trouble.opened(at(22));
        trouble.gives();
        assert_eq!(trouble.since(at(22)), None, "it gives blocks");
        trouble.failed(at(22));
        assert_eq!(trouble.since(at(30)), Some(at(22)));
    }
}
