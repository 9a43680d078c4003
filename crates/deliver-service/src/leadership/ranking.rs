// SPDX-License-Identifier: Apache-2.0
//! Decides whether this node pulls, from what is known of the others and from the time.

use std::{collections::BTreeMap, time::Duration};

use block_api::Height;
use tokio::time::Instant;

use super::{Leadership, Role, rank::Rank};

/// How often the time that a node pulls beside others doubles at most.
const MOST_DOUBLINGS: u32 = 4;

/// How often the censorship timeout passes at most before a standby looks for itself, however many
/// come before it and whatever blocks come: those who pull may pass on one now and then.
const MOST_PATIENCE: u32 = 4;

/// By which numbers it is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How many nodes pull.
    pub(crate) pullers: usize,
    /// How long a node may take to begin.
    pub(crate) takeover: Duration,
    /// How long nothing may come before the first standby looks for itself, the second one after twice
    /// as long, and so on.
    pub(crate) censorship: Duration,
}

/// Another node that may pull.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) rank: Rank,
    /// Whether it says that it has a stream.
    pub(crate) pulling: bool,
    pub(crate) height: Height,
}

/// What to do, until something is known anew or this time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) leadership: Leadership,
    /// Whether an orderer is to be asked for the next block.
    pub(crate) probe: bool,
    pub(crate) wake: Option<Instant>,
}

/// The others, and how this node stands among them.
///
/// A node that comes before this one in the order counts as one that pulls while it has a stream,
/// and while it has not had the time to open one. That time is given once: it begins anew only after a
/// stream that lasted as long, or blocks that came meanwhile, so that nobody holds the others back with
/// streams that come and go. Whoever pulls goes on until enough better ones have streams, so that a
/// handover never leaves the channel without; and nodes that reach no orderer keep no other from
/// trying.
#[derive(Debug)]
pub(crate) struct Ranking {
    settings: Settings,
    own: Rank,
    began: Instant,
    others: BTreeMap<Rank, Other>,
    /// Whether this node pulls by its place.
    leads: bool,
    height: Height,
    grown_at: Instant,
    /// The height after the newest block that did not come from this node's own stream.
    fed: Height,
    fed_at: Option<Instant>,
    /// When this node looked for itself last, whatever its place was since, or began.
    looked: Instant,
    beside: Option<Beside>,
    /// How often others kept a block back since they were trusted.
    withheld: u32,
    /// From when on a block that others bring makes this node trust them again. Those that came while
    /// it pulled beside them, or a moment later, may be its own.
    trusts_from: Instant,
}

#[derive(Debug)]
struct Other {
    /// Since when it says that it has a stream.
    pulling_since: Option<Instant>,
    height: Height,
    appeared: Instant,
    /// By when it should have a stream, until it had one for long enough.
    begin_by: Option<Instant>,
}

/// Pulling beside others that kept a block back.
#[derive(Debug)]
struct Beside {
    /// The others follow when they have reached this height soon after this node.
    mark: Height,
    marked_at: Instant,
    /// Since when they follow.
    level_since: Instant,
    /// How long they have to.
    period: Duration,
}

impl Ranking {
    /// A ranking that knows of nobody yet. Whoever pulls already goes on until a better one does.
    pub(crate) fn new(
        settings: Settings,
        own: Rank,
        height: Height,
        pulls: bool,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            own,
            began: now,
            others: BTreeMap::new(),
            leads: pulls,
            height,
            grown_at: now,
            fed: height,
            fed_at: None,
            looked: now,
            beside: None,
            withheld: 0,
            trusts_from: now,
        }
    }

    /// Takes this node's place, and all other nodes that may pull, as they are known.
    pub(crate) fn see(&mut self, own: Rank, seen: Vec<Seen>, now: Instant) {
        self.own = own;
        let mut known = std::mem::take(&mut self.others);
        for Seen {
            rank,
            pulling,
            height,
        } in seen
        {
            let old = known.remove(&rank);
            let since = old.as_ref().and_then(|old| old.pulling_since);
            let other = Other {
                pulling_since: pulling.then(|| since.unwrap_or(now)),
                height,
                appeared: old.as_ref().map_or(now, |old| old.appeared),
                // A stream that lasted until this moment did so, whether it is still there or not.
                begin_by: match since {
                    Some(since) if now >= since + self.settings.takeover => None,
                    Some(_) | None => old.and_then(|old| old.begin_by),
                },
            };
            self.others.insert(rank, other);
        }
    }

    /// Takes the height of the chain, and the one after the newest block that others brought.
    pub(crate) fn grew(&mut self, height: Height, fed: Height, now: Instant) {
        if fed > self.fed {
            self.fed = fed;
            self.fed_at = Some(now);
            if !self.leads && self.beside.is_none() && now >= self.trusts_from {
                self.withheld = 0;
            }
        }
        if height <= self.height {
            return;
        }
        self.height = height;
        self.grown_at = now;
    }

    /// A probe was made, or is under way.
    pub(crate) fn probed(&mut self, at: Instant) {
        self.looked = self.looked.max(at);
    }

    /// A probe found a block that the ones who pull did not bring.
    pub(crate) fn found_withheld(&mut self, now: Instant) {
        let factor = doubled(self.withheld);
        self.withheld = self.withheld.saturating_add(1);
        self.beside = Some(Beside {
            mark: self.height,
            marked_at: now,
            level_since: now,
            period: self.settings.censorship * factor,
        });
    }

    /// Decides by what is known.
    pub(crate) fn decide(&mut self, now: Instant) -> Decision {
        let Settings {
            pullers, takeover, ..
        } = self.settings;
        let mut wake = Wake(None);
        // Those before this node that count as pulling.
        let mut active = 0;
        // Those that would take over before it, and all that come before it.
        let (mut standbys, mut rank) = (0_u32, 0);
        let mut lowest: Option<Height> = None;
        for (_, other) in self.others.range_mut(..&self.own) {
            rank += 1;
            if active >= pullers {
                other.begin_by = None;
                standbys += 1;
                continue;
            }
            if let Some(since) = other.pulling_since {
                let proven_at = since + takeover;
                let brought = self.fed_at.is_some_and(|fed_at| fed_at >= since);
                if now >= proven_at || brought {
                    other.begin_by = None;
                }
                match other.begin_by {
                    // It began too late, or again: it has the channel back once that lasts.
                    Some(begin_by) if since >= begin_by => {
                        wake.at(proven_at);
                        continue;
                    }
                    Some(_) => wake.at(proven_at),
                    None => {}
                }
                active += 1;
                lowest = Some(lowest.map_or(other.height, |lowest| lowest.min(other.height)));
                continue;
            }
            // A node that has begun itself a moment ago waits whether better ones appear.
            let begin_by = *other
                .begin_by
                .get_or_insert((now + takeover).max(other.appeared + takeover * 2));
            if now < begin_by && !self.leads {
                active += 1;
                wake.at(begin_by);
            }
        }
        let is_due = active < pullers;
        let grace_ends = self.began + takeover;
        self.leads = is_due && (self.leads || now >= grace_ends);
        if !self.leads && is_due {
            wake.at(grace_ends);
        }
        self.stay_beside(lowest, now, &mut wake);
        let role = match (self.leads, &self.beside) {
            (true, _) => Role::Puller,
            (false, Some(_)) => Role::Beside,
            (false, None) if is_due => Role::Waiting,
            (false, None) => Role::Standby,
        };
        // Whether those before it can look, or would, is not known.
        let turn = (role == Role::Standby).then_some(standbys + 1);
        Decision {
            leadership: Leadership {
                role,
                rank,
                candidates: self.others.len() + 1,
            },
            probe: self.probe_due(turn, now, &mut wake),
            wake: wake.0,
        }
    }

    /// Whether it is time for this node to look for itself, as the standby whose turn is this one.
    fn probe_due(&self, turn: Option<u32>, now: Instant, wake: &mut Wake) -> bool {
        let Some(turn) = turn else {
            return false;
        };
        let patience = self.settings.censorship;
        // Up to a quarter more, so that the channels of a node do not ask in step.
        let patience = patience + patience * u32::from(self.own.share()) / (4 * 255);
        let turn = turn.min(MOST_PATIENCE);
        // Whoever kept a block back is looked after whatever comes.
        let most = if self.withheld == 0 {
            MOST_PATIENCE
        } else {
            turn
        };
        let idle = self.looked.max(self.grown_at) + patience * turn;
        let due = idle.min(self.looked + patience * most);
        if now < due {
            wake.at(due);
        }
        now >= due
    }

    /// Ends the pulling beside others once they have followed for long enough.
    fn stay_beside(&mut self, lowest: Option<Height>, now: Instant, wake: &mut Wake) {
        let Some(beside) = &mut self.beside else {
            return;
        };
        let follow_by = beside.marked_at + self.settings.takeover;
        if lowest.is_none_or(|lowest| lowest >= beside.mark) {
            beside.mark = self.height;
            beside.marked_at = now;
        } else if now >= follow_by {
            beside.level_since = now;
        } else {
            wake.at(follow_by);
        }
        let ends = beside.level_since + beside.period;
        if now >= ends {
            self.beside = None;
            // The others have their time before they are looked after again, and are trusted when
            // they brought blocks for as long as this node may pull beside them.
            self.looked = now;
            self.trusts_from = now + self.settings.censorship * doubled(MOST_DOUBLINGS);
        } else {
            wake.at(ends);
        }
    }
}

/// The earliest of some times.
struct Wake(Option<Instant>);

impl Wake {
    fn at(&mut self, time: Instant) {
        self.0 = Some(self.0.map_or(time, |earliest| earliest.min(time)));
    }
}

/// By how much longer this node pulls beside others that kept a block back so often before.
fn doubled(withheld: u32) -> u32 {
    1 << withheld.min(MOST_DOUBLINGS)
}

#[cfg(test)]
mod tests;
