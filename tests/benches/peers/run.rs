// SPDX-License-Identifier: Apache-2.0
//! One run of either side: processes that give, and one that takes.

use std::{fmt, fs, time::Duration};

use anyhow::{Context as _, Result};
use e2e_tests::{
    bench::{Lines, Process, Usage},
    node::store_path,
};
use tokio::time::timeout;

use crate::{
    chain::Chain,
    child::{GIVE, GIVE_BARE, TAKE, TAKE_BARE, Took},
};

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nodes of the product.
    Ours,
    /// Bare streams.
    Bare,
}

/// What one of them did.
pub(crate) struct Run {
    took: Took,
    /// What the process that took has used.
    taker: Usage,
    /// CPU time of those that gave, in seconds.
    givers_s: f64,
}

impl Chain {
    /// Has a new node take the chain from those that have it.
    pub(crate) async fn run(&self, side: Side) -> Result<Run> {
        let dir = self.dir().to_str().context("a folder with a name")?;
        let (give, take) = match side {
            Side::Ours => (GIVE, TAKE),
            Side::Bare => (GIVE_BARE, TAKE_BARE),
        };
        let mut givers = Vec::new();
        let mut addresses = Vec::new();
        for index in 0..self.givers {
            let (giver, mut lines) = Process::start(give, [dir, &index.to_string()])?;
            addresses.push(line(&mut lines).await?);
            // What it says later nobody hears; closed, it could not say anything.
            givers.push((giver, lines));
        }
        let index = self.givers.to_string();
        let wanted = match side {
            Side::Ours => self.blocks.to_string(),
            Side::Bare => self.bytes.to_string(),
        };
        let words = [dir, &index, &wanted];
        let peers = addresses.iter().map(String::as_str);
        let (taker, mut lines) = Process::start(take, words.into_iter().chain(peers))?;
        let took = line(&mut lines).await?.parse()?;
        let mut givers_s = 0.0;
        for (giver, _) in &givers {
            givers_s += giver.usage()?.cpu_s;
        }
        let run = Run {
            took,
            taker: taker.usage()?,
            givers_s,
        };
        taker.stop().await?;
        for (giver, _) in givers {
            giver.stop().await?;
        }
        if side == Side::Ours {
            fs::remove_dir_all(store_path(self.dir(), self.givers))?;
        }
        Ok(run)
    }
}

impl Run {
    /// MB per second.
    pub(crate) fn rate(&self) -> f64 {
        self.took.bytes as f64 / 1e6 / self.took.elapsed.as_secs_f64()
    }

    /// The time of a core that a byte took at both ends.
    pub(crate) fn cpu_s_per_byte(&self) -> f64 {
        (self.taker.cpu_s + self.givers_s) / self.took.bytes as f64
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} MB/s, {:.2} s of a core for taking and {:.2} s for giving, {:.0} MB of memory",
            self.rate(),
            self.taker.cpu_s,
            self.givers_s,
            self.taker.peak_bytes as f64 / 1e6
        )
    }
}

/// What a process says next.
async fn line(lines: &mut Lines) -> Result<String> {
    let line = timeout(DEADLINE, lines.next_line()).await;
    let line = line.with_context(|| format!("a node said nothing for {DEADLINE:?}"))?;
    line?.context("a node ended")
}
