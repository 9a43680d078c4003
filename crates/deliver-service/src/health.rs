// SPDX-License-Identifier: Apache-2.0
//! How well a channel does: a pure function of how it stands, and of the time.

mod reason;

use std::{fmt, time::Duration};

use block_api::{BlockNumber, Height};
use blocks_provider::{PullReport, PullState, Reason};
use tokio::time::Instant;

pub use self::reason::StuckReason;
use crate::{Config, Missing, StorageFailure, StorageFailureKind, Task};

/// What was stored so soon after the last stream had ended may have come by it.
const AFTERGLOW: Duration = Duration::from_secs(1);

/// How well a channel does. Only what is proven counts: what a node merely claims makes nobody late.
///
/// As text it begins with its short name (of a stuck channel that of the reason), and says what that
/// means, what was said, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It has every block that is proven to be there, and somebody who would give the next one.
    AtTip,
    /// Whoever would give blocks has not been reached so far, and not for long.
    Connecting,
    /// Blocks are missing, and on their way.
    CatchingUp {
        /// How many.
        blocks: u64,
        /// For how long the first of them is known to be there.
        behind: Duration,
    },
    /// It does not go on; or it does, and what it goes on with is in doubt
    /// ([`StuckReason::Equivocation`]).
    Stuck {
        /// Why.
        reason: StuckReason,
        /// What was said of it last, where something was.
        detail: Option<String>,
    },
}

/// What of a channel its health depends on.
#[derive(Debug)]
pub(crate) struct Signs<'a> {
    pub(crate) height: Height,
    /// When the chain last grew, or the channel was joined.
    pub(crate) grown_at: Instant,
    pub(crate) missing: Option<Missing>,
    /// `None` when this node does not pull.
    pub(crate) pull: Option<&'a PullReport>,
    pub(crate) neighbours: Neighbours,
    pub(crate) storage: Option<&'a StorageFailure>,
    /// Since when an append is under way.
    pub(crate) appending: Option<Instant>,
    /// Whether orderers signed two blocks of one number.
    pub(crate) contradicted: bool,
    /// A task that dies again and again.
    pub(crate) dying: Option<Task>,
}

/// Whether blocks can be expected of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Neighbours {
    /// One of them says that it pulls, and has proven its identity.
    Pulling,
    /// None of them does, since then.
    Idle(Instant),
    /// There is none, since then.
    None(Instant),
}

/// For how long what may pass by itself is waited for before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// With nobody who gives blocks.
    pub(crate) grace: Duration,
    /// With a block that was stored although the own source fails, for the next one.
    pub(crate) quiet: Duration,
    /// With a block that is proven and that nobody gives, and with one append.
    pub(crate) withheld: Duration,
}

impl Patience {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            grace: config.health_grace,
            quiet: config.provider.idle_limit,
            withheld: config.provider.censorship_timeout + config.health_grace,
        }
    }
}

impl Health {
    /// Whether blocks can be expected to come.
    pub fn is_well(&self) -> bool {
        !matches!(self, Self::Stuck { .. })
    }

    /// A short name of the state, the same in every message and metric.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AtTip => "at-tip",
            Self::Connecting => "connecting",
            Self::CatchingUp { .. } => "catching-up",
            Self::Stuck { .. } => "stuck",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtTip => write!(
                f,
                "at-tip: every block that is proven to be there is stored"
            ),
            Self::Connecting => write!(
                f,
                "connecting: whoever gives blocks has not been reached so far"
            ),
            Self::CatchingUp { blocks, behind } => write!(
                f,
                "catching-up: {blocks} blocks are missing, the first of them for {} s",
                behind.as_secs()
            ),
            Self::Stuck { reason, detail } => {
                write!(f, "{}: {reason}", reason.as_str())?;
                if let Some(detail) = detail {
                    write!(f, ": {detail}")?;
                }
                write!(f, "; {}", reason.remedy())
            }
        }
    }
}

/// The health of a channel, with what is worst and what an operator can mend first.
pub(crate) fn judge(signs: &Signs<'_>, patience: &Patience, now: Instant) -> Health {
    if let Some(stuck) = cannot_store(signs, patience, now) {
        return stuck;
    }
    let lacks = match signs.pull {
        Some(report) => lacks_orderer(signs, report, patience, now),
        None => lacks_neighbour(signs.neighbours, patience, now),
    };
    if let Some(lacks @ Health::Stuck { .. }) = lacks {
        return lacks;
    }
    if signs.contradicted {
        return stuck(StuckReason::Equivocation);
    }
    let quiet_for = now.saturating_duration_since(signs.grown_at);
    if let Some(Missing { highest, since }) = signs.missing {
        let behind = now.saturating_duration_since(since);
        if behind.min(quiet_for) >= patience.withheld {
            return stuck(StuckReason::Withheld { number: highest });
        }
        return Health::CatchingUp {
            blocks: highest.height().get().saturating_sub(signs.height.get()),
            behind,
        };
    }
    lacks.unwrap_or(Health::AtTip)
}

fn cannot_store(signs: &Signs<'_>, patience: &Patience, now: Instant) -> Option<Health> {
    if let Some(failure) = signs.storage {
        return Some(Health::Stuck {
            reason: match failure.kind {
                StorageFailureKind::Full => StuckReason::DiskFull,
                StorageFailureKind::Failed => StuckReason::StoreFailed,
                StorageFailureKind::Unusable => StuckReason::StoreUnusable,
                StorageFailureKind::ConfigNotApplied => StuckReason::ConfigNotApplied,
            },
            detail: Some(failure.message.clone()),
        });
    }
    let hangs = |began| now.saturating_duration_since(began) >= patience.withheld;
    if signs.appending.is_some_and(hangs) {
        return Some(stuck(StuckReason::StoreHangs));
    }
    signs
        .dying
        .map(|task| stuck(StuckReason::TaskDies { task }))
}

/// What a node that pulls lacks: a stream that lasts. While blocks come from other nodes although
/// its own source fails, it is not stuck; that they will go on coming is believed for a while only.
fn lacks_orderer(
    signs: &Signs<'_>,
    report: &PullReport,
    patience: &Patience,
    now: Instant,
) -> Option<Health> {
    let Some(since) = report.failing_since else {
        let open = matches!(report.state, PullState::Streaming(_));
        return (!open).then_some(Health::Connecting);
    };
    if now.saturating_duration_since(since) < patience.grace {
        return Some(Health::Connecting);
    }
    let fed = signs.grown_at > since + AFTERGLOW;
    if fed && now.saturating_duration_since(signs.grown_at) < patience.quiet {
        return None;
    }
    let (reason, said) = match &report.state {
        PullState::BackingOff {
            last_failure,
            reason,
            ..
        } => (*reason, last_failure.clone()),
        PullState::Idle | PullState::Connecting(_) | PullState::Streaming(_) | _ => (None, None),
    };
    let reasons = report.failing.values().copied().chain(reason);
    let worst = reasons
        .map(|reason| of_failure(reason, signs.height))
        .min_by_key(StuckReason::rank);
    Some(Health::Stuck {
        reason: worst.unwrap_or(StuckReason::NoOrderer),
        detail: said,
    })
}

/// What a node that does not pull lacks: another one that does.
fn lacks_neighbour(neighbours: Neighbours, patience: &Patience, now: Instant) -> Option<Health> {
    let (since, reason) = match neighbours {
        Neighbours::Pulling => return None,
        Neighbours::Idle(since) => (since, StuckReason::NobodyPulls),
        Neighbours::None(since) => (since, StuckReason::NoPeer),
    };
    if now.saturating_duration_since(since) < patience.grace {
        return Some(Health::Connecting);
    }
    Some(stuck(reason))
}

/// What it means that an orderer failed in this way (`deliver-status.md` tells who answers what).
fn of_failure(reason: Reason, height: Height) -> StuckReason {
    match reason {
        Reason::IdentityRefused => StuckReason::IdentityRefused,
        Reason::RequestRefused => StuckReason::ClockSkew,
        Reason::NotSigned => StuckReason::NotSigned,
        // Whoever has blocks of the channel knows that it is there: the orderer lacks it, or has
        // fewer blocks.
        Reason::UnknownChannel if height > BlockNumber::GENESIS.height() => {
            StuckReason::OrdererOnboarding
        }
        Reason::UnknownChannel => StuckReason::UnknownChannel,
        Reason::NoLeader => StuckReason::NoQuorum,
        Reason::InvalidBlock | Reason::Malformed => StuckReason::InvalidBlocks,
        Reason::NotTaken => StuckReason::NotTaken,
        Reason::Unreachable => StuckReason::NoOrdererReachable,
        Reason::TimedOut
        | Reason::Broken
        | Reason::OtherStatus
        | Reason::EndpointsChanged
        | Reason::OnRequest
        | Reason::Withheld
        | Reason::Behind
        | Reason::Doubted
        | _ => StuckReason::OrderersFail,
    }
}

fn stuck(reason: StuckReason) -> Health {
    Health::Stuck {
        reason,
        detail: None,
    }
}

#[cfg(test)]
mod tests;
