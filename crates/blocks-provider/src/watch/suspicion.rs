// SPDX-License-Identifier: Apache-2.0
//! Whether the source withholds blocks: a state machine without a clock.

use std::time::Duration;

use block_api::{BlockNumber, Endpoint, Height};
use tokio::time::Instant;

use crate::Evidence;

/// No time is shorter than this, so that no setting makes a busy loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// How the stream of blocks stands, as the pull loop tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceView {
    /// Counts the attempts, so that what is said of one is never taken for another (H8).
    pub(crate) attempt: u64,
    /// Whose stream is open; `None` while none is.
    pub(crate) endpoint: Option<Endpoint>,
    /// What was asked for, and then what was delivered.
    pub(crate) height: Height,
    /// When the stream was opened, or the newest block of it was taken over.
    pub(crate) at: Instant,
    /// How long hand-offs took, all together: that time is not the source's.
    pub(crate) busy: Duration,
    /// Whether a hand-off is under way.
    pub(crate) handing_off: bool,
}

/// A source is suspected: somebody showed a block that it has not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The block.
    pub number: BlockNumber,
    /// What shows that there is such a block.
    pub evidence: Evidence,
    /// Who showed it; `None` when the chain has it.
    pub shown_by: Option<Endpoint>,
    /// Since when the source could have delivered it.
    pub since: Instant,
}

/// How often a suspicion was raised, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) raised: u64,
    pub(crate) cleared: u64,
    pub(crate) confirmed: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Leave the stream of this attempt.
    Leave { attempt: u64, why: Why },
    /// Ask another orderer for its newest header.
    Probe,
}

/// Why a stream is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) number: BlockNumber,
    pub(crate) evidence: Evidence,
    pub(crate) shown_by: Option<Endpoint>,
    pub(crate) after: Duration,
}

/// Holds the stream of blocks against what others show.
///
/// - A block that others show and the source has not delivered raises a suspicion, whose time begins
///   when it was shown or the stream was opened, whichever was later: a new source is never
///   suspected for what was withheld by the one before.
/// - It is cleared when the source delivers the block; a hint also when it delivers any block.
/// - It is confirmed when the timeout has passed, hand-offs not counted. A source that delivers, and
///   comes nearer to what is proven, gets another timeout each time.
/// - A source that is silent for the idle limit while nothing is suspected is compared with another.
#[derive(Debug)]
pub(crate) struct Withholding {
    timeout: Duration,
    idle: Duration,
    stream: Option<Stream>,
    /// The attempt that was told to leave its stream.
    left: Option<u64>,
    stored: Option<Sighting>,
    proven: Option<Sighting>,
    hint: Option<Sighting>,
    suspicion: Option<Pending>,
    probed: Option<Instant>,
    pub(crate) tally: Tally,
}

#[derive(Debug)]
struct Stream {
    view: SourceView,
    opened: Instant,
}

/// The highest block that was shown in one way.
#[derive(Debug, Clone)]
struct Sighting {
    number: BlockNumber,
    at: Instant,
    by: Option<Endpoint>,
}

#[derive(Debug)]
struct Pending {
    shown: Suspicion,
    /// Where the source was, how far from what is proven, and how long hand-offs had taken, when the
    /// timeout began.
    height: Height,
    lag: u64,
    busy: Duration,
}

impl Withholding {
    pub(crate) fn new(timeout: Duration, idle: Duration) -> Self {
        Self {
            timeout: timeout.max(SHORTEST),
            idle: idle.max(SHORTEST),
            stream: None,
            left: None,
            stored: None,
            proven: None,
            hint: None,
            suspicion: None,
            probed: None,
            tally: Tally::default(),
        }
    }

    /// What is suspected.
    pub(crate) fn suspicion(&self) -> Option<&Suspicion> {
        self.suspicion.as_ref().map(|pending| &pending.shown)
    }

    /// How the stream of blocks stands.
    pub(crate) fn source(&mut self, view: &SourceView) {
        if view.endpoint.is_none() || self.left == Some(view.attempt) {
            self.stream = None;
            return;
        }
        let before = self
            .stream
            .take()
            .filter(|stream| stream.view.attempt == view.attempt);
        let is_new = before.is_none();
        let delivered = before
            .as_ref()
            .is_some_and(|stream| stream.view.height < view.height);
        let opened = before.map_or(view.at, |stream| stream.opened);
        let stream = Stream {
            view: view.clone(),
            opened,
        };
        if is_new && let Some(pending) = &mut self.suspicion {
            pending.shown.since = pending.shown.since.max(opened);
            pending.begin(view, lag(&self.stored, &self.proven, view.height));
        }
        self.stream = Some(stream);
        if delivered && self.hint.as_ref().is_some_and(|hint| hint.at <= view.at) {
            // The source gives blocks; a hint is nothing against that.
            self.hint = None;
            self.clear_if(|shown| shown.evidence == Evidence::Hint);
        }
        self.review();
    }

    /// The chain has this height, whoever gave the blocks.
    pub(crate) fn chain(&mut self, height: Height, now: Instant) {
        if let Some(number) = height.tip() {
            note(&mut self.stored, number, None, now);
            self.review();
        }
    }

    /// Somebody showed a block, at that time.
    pub(crate) fn head(
        &mut self,
        number: BlockNumber,
        evidence: Evidence,
        by: &Endpoint,
        at: Instant,
    ) {
        let slot = match evidence {
            Evidence::Hint => &mut self.hint,
            Evidence::Proven => &mut self.proven,
            Evidence::Stored => &mut self.stored,
        };
        note(slot, number, Some(by.clone()), at);
        self.review();
    }

    /// What is to be done by now; to be asked until it is nothing.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Order> {
        let stream = self
            .stream
            .as_ref()
            .filter(|stream| !stream.view.handing_off)?;
        let (attempt, height) = (stream.view.attempt, stream.view.height);
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            let lag = lag(&self.stored, &self.proven, height);
            let view = stream.view.clone();
            let mut pending = self.suspicion.take()?;
            if pending.height < height && lag < pending.lag {
                pending.shown.since = now;
                pending.begin(&view, lag);
                self.suspicion = Some(pending);
                return None;
            }
            self.tally.confirmed += 1;
            // What was a hint has had its change of source.
            self.hint = None;
            self.left = Some(attempt);
            self.stream = None;
            let shown = pending.shown;
            let stored = self.stored.as_ref().map(|sighting| sighting.number);
            return Some(Order::Leave {
                attempt,
                why: Why {
                    number: shown.number,
                    evidence: match stored >= Some(shown.number) {
                        true => Evidence::Stored,
                        false => shown.evidence,
                    },
                    shown_by: shown.shown_by,
                    after: now.saturating_duration_since(shown.since),
                },
            });
        }
        if self.probe_due().is_some_and(|due| due <= now) {
            self.probed = Some(now);
            return Some(Order::Probe);
        }
        None
    }

    /// When [`poll`](Self::poll) has something to say, if nothing happens until then.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.stream
            .as_ref()
            .filter(|stream| !stream.view.handing_off)?;
        self.deadline().or_else(|| self.probe_due())
    }

    fn deadline(&self) -> Option<Instant> {
        let (stream, pending) = (self.stream.as_ref()?, self.suspicion.as_ref()?);
        let busy = stream.view.busy.saturating_sub(pending.busy);
        pending.shown.since.checked_add(self.timeout + busy)
    }

    fn probe_due(&self) -> Option<Instant> {
        let stream = self.stream.as_ref()?;
        if self.suspicion.is_some() {
            return None;
        }
        let quiet_since = self.probed.map_or(stream.view.at, |probed| {
            // Attempts that follow one another fast do not each bring a probe.
            probed.max(stream.view.at)
        });
        quiet_since.checked_add(self.idle)
    }

    /// Forgets what the source has delivered, and suspects it for what it has not.
    fn review(&mut self) {
        let Some(stream) = &self.stream else {
            return;
        };
        let height = stream.view.height;
        for slot in [&mut self.stored, &mut self.proven, &mut self.hint] {
            slot.take_if(|sighting| sighting.number.height() <= height);
        }
        self.clear_if(|shown| shown.number.height() <= height);
        let strongest = [
            (Evidence::Stored, &self.stored),
            (Evidence::Proven, &self.proven),
            (Evidence::Hint, &self.hint),
        ]
        .into_iter()
        .find_map(|(evidence, slot)| Some((evidence, slot.clone()?)));
        let Some((evidence, sighting)) = strongest else {
            return;
        };
        let Some(stream) = &self.stream else {
            return;
        };
        match &self.suspicion {
            // A proof takes the place of a hint, with a timeout of its own.
            Some(pending) if pending.shown.evidence == Evidence::Hint => {
                if evidence > Evidence::Hint {
                    self.clear_if(|_| true);
                    self.review();
                }
            }
            Some(_) => {}
            // What is being handed over may be what was shown.
            None if stream.view.handing_off => {}
            None => {
                let mut pending = Pending {
                    shown: Suspicion {
                        number: sighting.number,
                        evidence,
                        shown_by: sighting.by,
                        since: sighting.at.max(stream.opened),
                    },
                    height,
                    lag: 0,
                    busy: Duration::ZERO,
                };
                pending.begin(&stream.view, lag(&self.stored, &self.proven, height));
                self.suspicion = Some(pending);
                self.tally.raised += 1;
            }
        }
    }

    fn clear_if(&mut self, clears: impl FnOnce(&Suspicion) -> bool) {
        let cleared = self.suspicion.take_if(|pending| clears(&pending.shown));
        self.tally.cleared += u64::from(cleared.is_some());
    }
}

impl Pending {
    fn begin(&mut self, view: &SourceView, lag: u64) {
        self.height = view.height;
        self.busy = view.busy;
        self.lag = lag;
    }
}

/// Notes the highest block that was shown, and when it was first.
fn note(slot: &mut Option<Sighting>, number: BlockNumber, by: Option<Endpoint>, at: Instant) {
    if slot.as_ref().is_none_or(|held| held.number < number) {
        *slot = Some(Sighting { number, at, by });
    }
}

/// How many blocks a source lacks of those that are known to be there.
fn lag(stored: &Option<Sighting>, proven: &Option<Sighting>, height: Height) -> u64 {
    let known = [stored, proven].into_iter().flatten();
    let highest = known.map(|sighting| sighting.number.height().get()).max();
    highest.map_or(0, |highest| highest.saturating_sub(height.get()))
}

#[cfg(test)]
mod tests;
