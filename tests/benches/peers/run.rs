// SPDX-License-Identifier: Apache-2.0
//! One run of either side: processes that give, and one that takes.

use std::{fmt, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e_tests::{
    bench::{Process, said},
    node::store_path,
};

use crate::{
    chain::Chain,
    child::{GIVE, GIVE_BARE, READY, TAKE, TAKE_BARE, Took},
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
    /// CPU time of the one that took, and of those that gave, in seconds.
    taker_s: f64,
    givers_s: f64,
    /// The most memory that the one that took had resident, and the most of one that gave.
    peak_bytes: u64,
    giver_peak_bytes: u64,
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
            addresses.push(said(&mut lines, DEADLINE).await?);
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
        let (mut taker, mut lines) = Process::start(take, words.into_iter().chain(peers))?;
        // Connections are made before; a node cannot say when it has them and begin later.
        if side == Side::Bare {
            let ready = said(&mut lines, DEADLINE).await?;
            ensure!(ready == READY, "one who takes begins with {ready:?}");
        }
        let before = cpu_s(&taker, &givers)?;
        if side == Side::Bare {
            taker.order("begin").await?;
        }
        let took = said(&mut lines, DEADLINE).await?.parse()?;
        let [taking, giving] = cpu_s(&taker, &givers)?;
        let mut giver_peak_bytes = 0;
        for (giver, _) in &givers {
            giver_peak_bytes = giver.usage()?.peak_bytes.max(giver_peak_bytes);
        }
        let run = Run {
            took,
            taker_s: taking - before[0],
            givers_s: giving - before[1],
            peak_bytes: taker.usage()?.peak_bytes,
            giver_peak_bytes,
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

    /// The time of a core that it took at both ends.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.taker_s + self.givers_s
    }

    /// How many appends the store made.
    pub(crate) fn appends(&self) -> usize {
        usize::try_from(self.took.appends).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} MB/s, {:.2} s of a core for taking and {:.2} s for giving, {:.0} MB of memory at most, and {:.0} MB of who gives",
            self.rate(),
            self.taker_s,
            self.givers_s,
            self.peak_bytes as f64 / 1e6,
            self.giver_peak_bytes as f64 / 1e6
        )
    }
}

/// CPU time so far: of the one that takes, and of those that give.
fn cpu_s<L>(taker: &Process, givers: &[(Process, L)]) -> Result<[f64; 2]> {
    let mut giving = 0.0;
    for (giver, _) in givers {
        giving += giver.usage()?.cpu_s;
    }
    Ok([taker.usage()?.cpu_s, giving])
}
