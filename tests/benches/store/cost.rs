// SPDX-License-Identifier: Apache-2.0
//! What the two sides of a case take, in turns: time that passes, and time of the cores.

use std::time::Duration;

use anyhow::Result;
use e2e_tests::bench::{Round, Usage};
use tokio::time::Instant;

/// What a side has taken so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    time: Duration,
    cpu_s: f64,
}

/// A turn that has begun.
pub(super) struct Turn {
    began: Instant,
    cpu_s: f64,
}

/// What both sides took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Costs {
    pub(super) store: Cost,
    pub(super) bare: Cost,
}

impl Turn {
    pub(super) fn begin() -> Result<Self> {
        Ok(Self {
            cpu_s: Usage::own()?.cpu_s,
            began: Instant::now(),
        })
    }

    /// Ends the turn on the account of a side.
    pub(super) fn end(self, cost: &mut Cost) -> Result<()> {
        cost.time += self.began.elapsed();
        cost.cpu_s += Usage::own()?.cpu_s - self.cpu_s;
        Ok(())
    }
}

impl Costs {
    /// The rates at which both took so many bytes, in megabytes a second.
    pub(super) fn rates(&self, bytes: usize) -> Round {
        let rate = |cost: Cost| bytes as f64 / 1e6 / cost.time.as_secs_f64();
        Round {
            value: rate(self.store),
            baseline: rate(self.bare),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (cost, other) in [(&mut self.store, other.store), (&mut self.bare, other.bare)] {
            cost.time += other.time;
            cost.cpu_s += other.cpu_s;
        }
    }

    /// The time of the cores for each of so many blocks, for people.
    pub(super) fn note(&self, blocks: usize) -> String {
        let of = |cost: Cost| cost.cpu_s * 1e6 / blocks as f64;
        let (store, bare) = (of(self.store), of(self.bare));
        format!("{store:.1} µs of a core per block, bare {bare:.1}")
    }
}
