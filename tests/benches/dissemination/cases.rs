// SPDX-License-Identifier: Apache-2.0
//! What is measured, and what is to be reached.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e_tests::bench::{Round, Row, Target, median, plot};

use crate::{
    child::Side,
    network::{LOST_AFTER, Network},
};

/// The memory of a node, beside two blocks.
const MEMORY_BYTES: f64 = 64e6;

/// Of the bytes of a block, what a node may receive to get it.
const RECEIVED: f64 = 1.1;

/// Blocks of one size.
pub(crate) struct Case {
    pub(crate) size: &'static str,
    /// The bytes of a block's data.
    pub(crate) bytes: usize,
    pub(crate) nodes: u8,
    /// How many blocks are measured in a round.
    pub(crate) blocks: usize,
    /// How many go before them, in which connections find their windows.
    pub(crate) warm_up: usize,
    /// What the time of ours may be, as a part of that of the push: without it there is no baseline.
    pub(crate) times: &'static [(Percentile, f64)],
    /// Whether the bytes that come count.
    pub(crate) counts_bytes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Percentile {
    P50,
    P99,
}

/// What one network did in a round.
struct Measured {
    /// Of each block to each node; what was lost took as long as was waited for it.
    latencies: Vec<Duration>,
    lost: usize,
    /// The most bytes that a node received, per block.
    received: f64,
    /// In bytes.
    memory: f64,
    /// The time of the cores that all nodes took, in milliseconds per block.
    cpu_ms: f64,
}

pub(crate) const CASES: [Case; 5] = [
    Case {
        size: "1KiB",
        bytes: 1024,
        nodes: 12,
        blocks: 200,
        warm_up: 10,
        times: &[(Percentile::P50, 2.0)],
        counts_bytes: false,
    },
    Case {
        size: "100KiB",
        bytes: 100 * 1024,
        nodes: 12,
        blocks: 100,
        warm_up: 5,
        times: &[(Percentile::P99, 1.0)],
        counts_bytes: false,
    },
    Case {
        size: "1MiB",
        bytes: 1024 * 1024,
        nodes: 12,
        blocks: 40,
        warm_up: 3,
        times: &[(Percentile::P50, 0.5), (Percentile::P99, 0.5)],
        counts_bytes: true,
    },
    Case {
        size: "10MiB",
        bytes: 10 * 1024 * 1024,
        nodes: 12,
        blocks: 10,
        warm_up: 1,
        times: &[(Percentile::P99, 0.5)],
        counts_bytes: true,
    },
    // Too long for one message of gossipsub; to six nodes beside the publisher. One block, for those
    // that a node keeps it keeps on disk.
    Case {
        size: "100MiB",
        bytes: 100 * 1024 * 1024,
        nodes: 7,
        blocks: 1,
        warm_up: 0,
        times: &[],
        counts_bytes: true,
    },
];

impl Case {
    /// Measures it in so many rounds, and gives a row per figure, and what the processes took, for
    /// people; and draws how long blocks took, if there is a folder for that.
    pub(crate) async fn rows(
        &self,
        rounds: usize,
        pictures: Option<&Path>,
    ) -> Result<(Vec<Row>, String)> {
        let mut measured = Vec::new();
        for round in 0..rounds {
            // Whoever runs second finds the machine warm, so that they take turns.
            let (first, second) = match round.is_multiple_of(2) {
                true => (Side::Push, Side::Ours),
                false => (Side::Ours, Side::Push),
            };
            let (mut ours, mut push) = (None, None);
            for side in [first, second] {
                match side {
                    Side::Ours => ours = Some(self.measure(side).await?),
                    Side::Push if self.times.is_empty() => {}
                    Side::Push => push = Some(self.measure(side).await?),
                }
            }
            measured.push((ours.context("our side was measured")?, push));
        }
        if let Some(dir) = pictures {
            self.draw(dir, &measured)?;
        }
        let copies = self.blocks * (usize::from(self.nodes) - 1);
        let pushes = measured.iter().filter_map(|(_, push)| push.as_ref());
        let lost_by_push: usize = pushes.clone().map(|push| push.lost).sum();
        let pushed = copies * pushes.count();
        let mut rows = Vec::new();
        for (percentile, target) in self.times {
            let rounds: Vec<Round> = measured
                .iter()
                .filter_map(|(ours, push)| {
                    Some(Round {
                        value: percentile.of(&ours.latencies),
                        baseline: percentile.of(&push.as_ref()?.latencies),
                    })
                })
                .collect();
            let case = self.named(percentile.name());
            let row = Row::new(case, "ms", Target::AtMost(*target), &rounds);
            rows.push(match lost_by_push {
                0 => row,
                // What was lost counts as the time that it was waited for.
                lost => row.with_note(format!("push lost {lost} of {pushed}")),
            });
        }
        let row = |name, unit, target, scale: f64, value: &dyn Fn(&Measured) -> f64, baseline| {
            let rounds: Vec<Round> = measured
                .iter()
                .map(|(ours, _)| Round {
                    value: value(ours) / scale,
                    baseline: baseline / scale,
                })
                .collect();
            Row::new(self.named(name), unit, target, &rounds)
        };
        let copies = copies as f64;
        let delivered = |ours: &Measured| copies - ours.lost as f64;
        rows.push(row(
            "delivered",
            "blocks",
            Target::AtLeast(1.0),
            1.0,
            &delivered,
            copies,
        ));
        let block = self.bytes as f64;
        if self.counts_bytes {
            rows.push(row(
                "received",
                "MB per block",
                Target::AtMost(RECEIVED),
                1e6,
                &|ours| ours.received,
                block,
            ));
        }
        rows.push(row(
            "memory",
            "MB",
            Target::AtMost(1.0),
            1e6,
            &|ours| ours.memory,
            MEMORY_BYTES + 2.0 * block,
        ));
        Ok((rows, self.note(&measured)))
    }

    /// What the processes took: the medians of the rounds.
    fn note(&self, measured: &[(Measured, Option<Measured>)]) -> String {
        let of = |sides: Vec<&Measured>| {
            let cpu_ms = median(sides.iter().map(|side| side.cpu_ms).collect());
            let memory = median(sides.iter().map(|side| side.memory / 1e6).collect());
            format!("{cpu_ms:.1} ms of the cores per block, {memory:.0} MB of memory at most")
        };
        let (size, nodes) = (self.size, self.nodes);
        let ours = of(measured.iter().map(|(ours, _)| ours).collect());
        let note = format!("{nodes} nodes together, and the largest of them, size={size}: {ours}");
        let pushes: Vec<_> = measured
            .iter()
            .filter_map(|(_, push)| push.as_ref())
            .collect();
        match pushes.is_empty() {
            true => note,
            false => format!("{note}; push: {}", of(pushes)),
        }
    }

    /// A few blocks on a few nodes of each side, to see that it runs.
    pub(crate) async fn smoke(&self, pictures: Option<&Path>) -> Result<(Vec<Row>, String)> {
        let few = Self {
            nodes: 3,
            blocks: 2,
            warm_up: 0,
            counts_bytes: false,
            ..*self
        };
        few.rows(1, pictures).await
    }

    async fn measure(&self, side: Side) -> Result<Measured> {
        let mut network = Network::start(side, self.nodes, self.warm_up > 0).await?;
        for _ in 0..self.warm_up {
            network.spread(self.bytes).await?;
        }
        let before = self.received_bytes(&network).await?;
        let cpu_before = network.cpu_s()?;
        let mut latencies = Vec::new();
        let mut lost = 0;
        for _ in 0..self.blocks {
            let spread = network.spread(self.bytes).await?;
            latencies.extend(spread.latencies);
            latencies.extend((0..spread.lost).map(|_| LOST_AFTER));
            lost += spread.lost;
        }
        let cpu_s = network.cpu_s()? - cpu_before;
        let after = self.received_bytes(&network).await?;
        ensure!(before.len() == after.len(), "as many nodes as before");
        let received = after
            .iter()
            .zip(before)
            // The bytes of a connection that was replaced meanwhile went with it.
            .map(|(after, before)| after.saturating_sub(before));
        let measured = Measured {
            latencies,
            lost,
            received: received.max().unwrap_or_default() as f64 / self.blocks as f64,
            memory: network.peak_memory()? as f64,
            cpu_ms: cpu_s * 1e3 / self.blocks as f64,
        };
        network.stop().await?;
        Ok(measured)
    }

    async fn received_bytes(&self, network: &Network) -> Result<Vec<u64>> {
        match self.counts_bytes {
            true => network.received_bytes().await,
            false => Ok(Vec::new()),
        }
    }

    /// The times of both sides, all rounds together.
    fn draw(&self, dir: &Path, measured: &[(Measured, Option<Measured>)]) -> Result<()> {
        let (mut ours, mut push) = (Vec::new(), Vec::new());
        for (our_side, push_side) in measured {
            ours.extend(&our_side.latencies);
            push.extend(push_side.iter().flat_map(|side| &side.latencies));
        }
        let mut lines = vec![("blockcast".to_owned(), ours)];
        if !push.is_empty() {
            lines.push(("push".to_owned(), push));
        }
        let title = format!(
            "{} from one node to {} others, on one machine",
            self.size,
            self.nodes - 1
        );
        let file = dir.join(format!("dissemination-{}.svg", self.size));
        plot::latency(&file, &title, &lines)
    }

    fn named(&self, figure: &str) -> String {
        format!("{figure} size={}", self.size)
    }
}

impl Percentile {
    fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    /// The time, in milliseconds, that so many in a hundred do not exceed.
    fn of(self, latencies: &[Duration]) -> f64 {
        let percent = match self {
            Self::P50 => 50.0,
            Self::P99 => 99.0,
        };
        let latency = plot::percentile(latencies, percent);
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}
