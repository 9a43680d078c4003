// SPDX-License-Identifier: Apache-2.0
//! What a role that was played to its end took of time and of the machine.

use std::{fmt, str::FromStr};

use anyhow::{Error, Result};
use e2e_tests::bench::{Usage, Words, median};
use tokio::time::Instant;

/// What the clock of a process cannot tell from nothing, in seconds.
const TICK_S: f64 = 0.01;

/// What one process took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) elapsed_s: f64,
    /// The time that it had of a core meanwhile, in seconds.
    pub(crate) cpu_s: f64,
    /// The most memory that it had resident, in MB.
    peak_mb: f64,
}

/// What one process took, and what the orderer took for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Played {
    pub(crate) took: Took,
    pub(crate) orderer: Took,
}

impl Took {
    /// What this process has taken since then.
    pub(crate) fn since(before: &Usage, began: Instant) -> Result<Self> {
        Ok(Self::between(before, &Usage::own()?, began))
    }

    /// What a process has taken since then, of which this is known now.
    pub(crate) fn between(before: &Usage, after: &Usage, began: Instant) -> Self {
        Self {
            elapsed_s: began.elapsed().as_secs_f64(),
            cpu_s: (after.cpu_s - before.cpu_s).max(TICK_S),
            peak_mb: after.peak_bytes as f64 / 1e6,
        }
    }
}

/// The medians of several rounds, for people.
pub(crate) fn note<'a>(
    role: &str,
    rounds: impl Iterator<Item = &'a Played> + Clone,
    blocks: usize,
) -> String {
    let of = |took: fn(&Played) -> Took| {
        let per_thousand = |took: Took| took.cpu_s * 1e3 / blocks as f64;
        let cpu_s = median(rounds.clone().map(took).map(per_thousand).collect());
        let memory = median(rounds.clone().map(|round| took(round).peak_mb).collect());
        format!("{cpu_s:.3} s of a core for 1,000 blocks, {memory:.0} MB of memory at most")
    };
    let (own, orderer) = (of(|round| round.took), of(|round| round.orderer));
    format!("{role}: {own}; the orderer for it: {orderer}")
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            elapsed_s,
            cpu_s,
            peak_mb,
        } = self;
        write!(f, "{elapsed_s} {cpu_s} {peak_mb}")
    }
}

impl FromStr for Took {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = Words::of(line);
        Ok(Self {
            elapsed_s: words.take()?,
            cpu_s: words.take()?,
            peak_mb: words.take()?,
        })
    }
}
