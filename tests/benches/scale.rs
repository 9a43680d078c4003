// SPDX-License-Identifier: Apache-2.0
//! `scale`: what a block costs as nodes, channels and blocks grow, from a model of many nodes. It
//! prints the tables of `docs/scale.md`, and as rows what the orderers send and what a node gets.
#![expect(clippy::print_stdout, reason = "the tables are what it is for")]

use std::fs;

use anyhow::Result;
use clap::Parser;
use e2e_tests::{
    bench::{self, Round, Row, Target, finish},
    scale::{
        CHANNELS, Case, Channels, Costs, DISCOVERED, NODE_GETS, NODE_SENDS, NODES, ORDERERS_SEND,
        SIZES, channels_table, cost_table, found_table,
    },
};

/// What orderers send may not be more than one stream for each organisation: of what every peer
/// pulls, so much by the smallest organisation, of five nodes.
const ORDERERS: Target = Target::AtMost(0.2);

/// What a node gets with statuses, announcements and second copies, of the bare block.
const NODE: Target = Target::AtMost(1.15);

/// In a small case, and in a short run of all of them, so many lines.
const FEW: usize = 2;

#[derive(Debug, Parser)]
struct Args {
    /// Rows are of growing numbers of nodes alone. Each run comes to the same, so that one round is
    /// as good as many.
    #[command(flatten)]
    shared: bench::Args,
}

fn main() -> Result<()> {
    let args = Args::parse().shared;
    let few = |all: usize| if args.smoke { FEW } else { all };
    let nodes = costs(&NODES, few(NODES.len()))?;
    if let Some(folder) = args.plot()? {
        let pictures = [
            ("scale-orderers.svg", ORDERERS_SEND),
            ("scale-node-sends.svg", NODE_SENDS),
            ("scale-node-gets.svg", NODE_GETS),
        ];
        for (name, picture) in pictures {
            fs::write(folder.join(name), picture.draw(&nodes)?)?;
        }
    }
    if !args.json {
        print_page(&nodes, args.smoke)?;
    }
    finish(&rows(&nodes), &args)
}

/// Prints the tables of `docs/scale.md`.
fn print_page(nodes: &[Costs], smoke: bool) -> Result<()> {
    let few = |all: usize| if smoke { FEW } else { all };
    println!("{}", cost_table(nodes));
    if !smoke {
        println!("{}", cost_table(&costs(&SIZES, SIZES.len())?));
    }
    let channels = CHANNELS.iter().take(few(CHANNELS.len()));
    let channels = channels.map(|count| Channels::run(*count));
    println!("{}", channels_table(&channels.collect::<Result<Vec<_>>>()?));
    let found = DISCOVERED.iter().take(few(DISCOVERED.len()));
    let found = found.map(Case::discover);
    println!("{}", found_table(&found.collect::<Result<Vec<_>>>()?));
    Ok(())
}

fn costs(cases: &[Case], count: usize) -> Result<Vec<Costs>> {
    let cases = cases.iter().take(count);
    cases.map(|case| Ok((*case, case.run()?))).collect()
}

/// The same as rows of a benchmark, held against every peer's own stream.
fn rows(nodes: &[Costs]) -> Vec<Row> {
    let both = |(case, [(_, ours), (_, theirs), ..]): &Costs| {
        let name = |what: &str| format!("{what} nodes={}", case.nodes());
        let row = |what: &str, target, value, baseline| {
            Row::new(name(what), "B", target, &[Round { value, baseline }])
        };
        let (sent, all) = (ours.orderer_bytes as f64, theirs.orderer_bytes as f64);
        [
            row("orderers send", ORDERERS, sent, all),
            row(
                "a node gets",
                NODE,
                ours.bytes_in.mean,
                theirs.bytes_in.mean,
            ),
        ]
    };
    nodes.iter().flat_map(both).collect()
}
