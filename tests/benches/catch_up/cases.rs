// SPDX-License-Identifier: Apache-2.0
//! What is measured, and what is to be reached.

use anyhow::{Context as _, Result};
use e2e_tests::bench::{Bound, Load, Round, Row, Target, median};

use crate::rig::{Reader, Reading, Rig, Shape};

/// Verified and durable, over the bare stream. The bare stream neither hashes nor writes.
const OF_THE_STREAM: f64 = 0.75;

/// Verified and durable, over the bound of two cores.
const OF_THE_BOUND: f64 = 0.8;

/// The memory of a node that catches up, in MB.
const MEMORY_MB: f64 = 96.0;

/// A chain, and what its reading is measured against.
pub(crate) struct Case {
    shape: Shape,
    against: Against,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The bare stream; and memory, against a number.
    Stream,
    /// The bound of two cores.
    Bound,
}

/// The rounds of a case.
pub(crate) struct Measured(Vec<Beside>);

/// What was measured beside each other in a round.
struct Beside {
    bare: Reading,
    node: Reading,
    bound: Bound,
}

impl Case {
    pub(crate) fn against_the_stream(shape: Shape) -> Self {
        let against = Against::Stream;
        Self { shape, against }
    }

    pub(crate) fn against_the_bound(shape: Shape) -> Self {
        let against = Against::Bound;
        Self { shape, against }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) async fn measure(&self, rounds: usize) -> Result<Measured> {
        let rig = Rig::start(self.shape).await?;
        let mut measured = Vec::new();
        for round in 0..rounds {
            measured.push(beside(&self.shape, &rig, round).await?);
        }
        rig.stop().await?;
        Ok(Measured(measured))
    }
}

impl Measured {
    pub(crate) fn rows(&self, Case { shape, against }: &Case) -> Vec<Row> {
        let blocks = shape.blocks as f64;
        let rounds = |of: &dyn Fn(&Beside) -> Round| self.0.iter().map(of).collect::<Vec<_>>();
        let name = format!("catch-up {shape}");
        match against {
            Against::Stream => {
                let rates = rounds(&|round| Round {
                    value: blocks / round.node.elapsed_s,
                    baseline: blocks / round.bare.elapsed_s,
                });
                let memory = rounds(&|round| Round {
                    value: round.node.peak_bytes / 1e6,
                    baseline: MEMORY_MB,
                });
                let target = Target::AtLeast(OF_THE_STREAM);
                vec![
                    Row::new(name, "blocks/s", target, &rates).with_note("of the bare stream"),
                    Row::new(
                        format!("memory {shape}"),
                        "MB",
                        Target::AtMost(1.0),
                        &memory,
                    ),
                ]
            }
            Against::Bound => {
                let rates = rounds(&|round| Round {
                    value: blocks / round.node.elapsed_s,
                    baseline: round.bound.rate(),
                });
                let target = Target::AtLeast(OF_THE_BOUND);
                vec![Row::new(name, "blocks/s", target, &rates).with_note("of the bound")]
            }
        }
    }

    /// What stands behind the rows, for people.
    pub(crate) fn notes(&self, Case { shape, .. }: &Case) -> Vec<String> {
        let blocks = shape.blocks as f64;
        let of = |part: &dyn Fn(&Beside) -> f64| median(self.0.iter().map(part).collect());
        let micros = |part: fn(&Bound) -> f64| of(&|round| part(&round.bound) * 1e6);
        let per_thousand = |part: fn(&Beside) -> f64| of(&|round| part(round) * 1e3 / blocks);
        vec![
            format!(
                "{shape}: of a core per 1,000 blocks: node {:.3} s, orderer {:.3} s; bare client {:.3} s, orderer {:.3} s",
                per_thousand(|round| round.node.reader_cpu_s),
                per_thousand(|round| round.node.orderer_cpu_s),
                per_thousand(|round| round.bare.reader_cpu_s),
                per_thousand(|round| round.bare.orderer_cpu_s),
            ),
            format!(
                "{shape}: bound {:.0} blocks/s: c {:.0} µs, h {:.0} µs, v {:.0} µs × {}, w {:.0} µs; \
                 bare stream {:.0} blocks/s; {:.0} blocks a sync; node {:.1} MB, bare client {:.1} MB",
                of(&|round| round.bound.rate()),
                micros(|bound| bound.stream),
                micros(|bound| bound.hash),
                micros(|bound| bound.signature),
                shape.signatures.count(),
                micros(|bound| bound.append),
                of(&|round| blocks / round.bare.elapsed_s),
                of(&|round| blocks / round.node.appends.max(1) as f64),
                of(&|round| round.node.peak_bytes / 1e6),
                of(&|round| round.bare.peak_bytes / 1e6),
            ),
        ]
    }
}

/// A round.
async fn beside(shape: &Shape, rig: &Rig, round: usize) -> Result<Beside> {
    let (mut bare, mut node) = (None, None);
    for reader in Reader::in_turn(round) {
        let reading = rig.read(reader).await?;
        match reader {
            Reader::Bare => bare = Some(reading),
            Reader::Node => node = Some(reading),
        }
    }
    let bare = bare.context("the bare stream was measured")?;
    let node = node.context("the node was measured")?;
    let bound = Bound::measure(&Load {
        folder: rig.folder(),
        blocks: shape.blocks,
        data_bytes: shape.bytes,
        raw_bytes: rig.raw_bytes(),
        signatures: shape.signatures.count(),
        appends: node.appends,
        stream_cpu_s: bare.reader_cpu_s + bare.orderer_cpu_s,
    })?;
    Ok(Beside { bare, node, bound })
}
