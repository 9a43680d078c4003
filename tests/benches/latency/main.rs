// SPDX-License-Identifier: Apache-2.0
//! `latency`: blocks of 100 KB at 20 a second, from the moment the development orderer has ordered one
//! until the last of twelve nodes has it in its durable store. One node pulls over TLS, and the others
//! get it from each other.
//!
//! The baseline is what no way can do without: the sum of a bare Deliver hop over TLS, a bare libp2p
//! hop and a bare fdatasync of as many bytes, each alone on the machine, at the same pace and in the
//! same round, and each with the percentile of the row; who goes first alternates. Nodes and bare
//! clients are processes of their own on loopback: this program again.
//!
//! Twelve nodes on two cores wait for each other, so that it is told beside the row how long these two
//! cores have to work for a block, if all that is to be done is the bare hops, and in each node one hash,
//! one signature and one append.

mod bare;
mod child;
mod run;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use e2e_tests::bench::{self, Role, Round, Row, Target, bound, plot};

use self::run::{Plan, Rig, Way};

/// The time of a block, over the bare sum.
const TARGET: f64 = 3.0;

/// The percentiles that are told. The one that has a target is the row.
const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];
const OF_THE_ROW: f64 = 99.0;

const NODES: usize = 12;

/// The bytes of a block's data.
const BLOCK_BYTES: usize = 100_000;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// How many blocks are measured in a round.
    #[arg(long, default_value_t = 300)]
    blocks: usize,
}

/// What a round measured.
struct Measured {
    ours: Way,
    /// Deliver, libp2p, fdatasync.
    bare: [Way; 3],
    /// The least that the cores have to do for a block, in seconds of all of them.
    bound_s: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return Box::pin(child::run(&role)).await;
    }
    let args = Args::parse();
    let plan = match args.shared.smoke {
        true => Plan {
            nodes: 3,
            blocks: 5,
            warm_up: 1,
            bytes: BLOCK_BYTES,
        },
        false => Plan {
            nodes: NODES,
            blocks: args.blocks,
            warm_up: 20,
            bytes: BLOCK_BYTES,
        },
    };
    let mut measured = Vec::new();
    for round in 0..args.shared.rounds_or(3) {
        let (ours, bare) = if round.is_multiple_of(2) {
            let ours = Box::pin(nodes(plan)).await?;
            (ours, Box::pin(hops(plan)).await?)
        } else {
            let bare = Box::pin(hops(plan)).await?;
            (Box::pin(nodes(plan)).await?, bare)
        };
        let bound_s = bound_s(plan, &bare)?;
        measured.push(Measured {
            ours,
            bare,
            bound_s,
        });
    }
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for percentile in PERCENTILES {
        let rounds: Vec<Round> = measured
            .iter()
            .map(|round| Round {
                value: millis(round.ours.latencies.percentile(percentile)),
                baseline: millis(round.sum(percentile)),
            })
            .collect();
        let case = format!("p{percentile} nodes={} size=100KB", plan.nodes);
        let row = Row::new(case, "ms", Target::AtMost(TARGET), &rounds);
        if percentile == OF_THE_ROW {
            rows.push(row);
        } else {
            notes.push(format!(
                "p{percentile}: {:.1} ms over a bare sum of {:.1} ms",
                row.value, row.baseline
            ));
        }
    }
    for round in &measured {
        let [deliver, libp2p, synced] = &round.bare;
        let of = |way: &Way| {
            let [p50, p99] =
                [50.0, 99.0].map(|percentile| millis(way.latencies.percentile(percentile)));
            let core = millis_of(way.core_s);
            format!("{p50:.2} and {p99:.2} ms, {core:.2} ms of a core")
        };
        notes.push(format!(
            "p50 and p99 of a Deliver hop {}; a libp2p hop {}; an fdatasync {}; all nodes {}",
            of(deliver),
            of(libp2p),
            of(synced),
            of(&round.ours)
        ));
        notes.push(format!(
            "two cores work {:.1} ms for a block, and at least {:.1} ms",
            millis_of(round.ours.core_s / bound::CORES),
            millis_of(round.bound_s)
        ));
    }
    if let Some(dir) = args.shared.plot()? {
        let of = |way: &dyn Fn(&Measured) -> &Way| -> Vec<Duration> {
            let rounds = measured.iter().map(way);
            rounds
                .flat_map(|way| way.latencies.all().to_vec())
                .collect()
        };
        let lines = [
            ("last of the nodes".to_owned(), of(&|round| &round.ours)),
            ("bare Deliver hop".to_owned(), of(&|round| &round.bare[0])),
            ("bare libp2p hop".to_owned(), of(&|round| &round.bare[1])),
            ("bare fdatasync".to_owned(), of(&|round| &round.bare[2])),
        ];
        let title = "From ordering to the last durable store, and what bounds it";
        plot::latency(&dir.join("latency.svg"), title, &lines)?;
    }
    bench::finish_with(&rows, &notes, &args.shared)
}

impl Measured {
    /// The bare sum.
    fn sum(&self, percentile: f64) -> Duration {
        self.bare
            .iter()
            .map(|way| way.latencies.percentile(percentile))
            .sum()
    }
}

/// How long the cores have to work for a block at least: one node gets it from the orderer, each of the
/// others over a hop, and all of them hash it, verify it and append it.
fn bound_s(plan: Plan, bare: &[Way; 3]) -> Result<f64> {
    let [deliver, hop, append] = bare.each_ref().map(|way| way.core_s);
    let nodes = plan.nodes as f64;
    let own = bound::hash(plan.bytes)? + bound::signature()? + append;
    Ok((deliver + (nodes - 1.0) * hop + nodes * own) / bound::CORES)
}

/// The nodes, with an orderer that has no block yet: they have nothing to catch up with.
async fn nodes(plan: Plan) -> Result<Way> {
    let rig = Rig::start(plan).await?;
    let way = rig.nodes().await?;
    rig.stop().await;
    Ok(way)
}

/// The bare hops, with such an orderer, too.
async fn hops(plan: Plan) -> Result<[Way; 3]> {
    let rig = Rig::start(plan).await?;
    let ways = rig.bare().await?;
    rig.stop().await;
    Ok(ways)
}

fn millis(latency: Duration) -> f64 {
    millis_of(latency.as_secs_f64())
}

fn millis_of(seconds: f64) -> f64 {
    seconds * 1e3
}
