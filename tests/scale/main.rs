// SPDX-License-Identifier: Apache-2.0
//! The model of many nodes: held against real nodes, and the tables of `docs/scale.md` against it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on is meant to panic, and its indices are its own"
)]

mod real;

use std::{fs, path::Path};

use block_api::testing::TestChain;
use e2e_tests::scale::{
    CHANNELS, Channels, DISCOVERED, Graph, Mode, NODES, Spread, Terms, Way, Wire, Wiring,
    channels_table, cost_table, found_table, pullers,
};

use crate::real::{Counted, run};

/// Cases of more nodes are for `cargo xtask bench scale`.
const SMALL: usize = 300;

/// Tables with more channels are, too.
const FEW_CHANNELS: usize = 100;

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scale.md");
    fs::read_to_string(page).unwrap()
}

/// Each line of a table is a line of the page.
fn is_in_page(table: &str) {
    let page = page();
    for line in table.lines() {
        assert!(
            page.lines().any(|other| other == line),
            "docs/scale.md lacks this line; `cargo xtask bench scale` prints what it should have:\n{line}"
        );
    }
}

#[test]
fn the_page_has_what_the_model_says_of_a_few_hundred_nodes() {
    for case in NODES.iter().filter(|case| case.nodes() <= SMALL) {
        is_in_page(&cost_table(&[(*case, case.run().unwrap())]));
    }
}

#[test]
fn the_page_has_what_the_model_says_of_channels() {
    for channels in CHANNELS
        .iter()
        .filter(|channels| **channels <= FEW_CHANNELS)
    {
        is_in_page(&channels_table(&[Channels::run(*channels).unwrap()]));
    }
}

#[test]
fn the_page_has_what_the_model_says_of_nodes_that_find_each_other() {
    for case in DISCOVERED.iter().filter(|case| case.nodes() <= SMALL) {
        let found = case.discover().unwrap();
        is_in_page(&found_table(&[found]));
        assert_eq!(found.pullers, case.organisations, "{case:?}");
    }
}

#[test]
fn a_node_gets_one_copy_and_orderers_send_one_to_each_organisation() {
    for case in NODES.iter().filter(|case| case.nodes() <= SMALL) {
        let ways = case.run().unwrap();
        for (way, cost) in ways {
            let copies = cost.bytes_in.mean / f64::from(case.block);
            let streams = cost.orderer_streams as usize;
            match way {
                Way::Blockcast => {
                    assert!((1.0..1.15).contains(&copies), "{case:?}: {copies}");
                    assert_eq!(streams, case.organisations);
                }
                Way::EveryPeerPulls => assert_eq!(streams, case.nodes()),
                Way::FabricPush => assert!(copies > 2.0, "{case:?}: {copies}"),
                Way::GossipsubPush => assert!(copies > 1.5, "{case:?}: {copies}"),
            }
        }
    }
}

/// What the model says of the graph that real nodes are connected by.
fn modelled(graph: &Graph, orderers: usize, data: u32) -> (Vec<usize>, Spread<'_>) {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config().header_hash();
    let pulling = pullers(graph, (&chain.channel(), &genesis), |_| true);
    let terms = Terms {
        wire: Wire::of(data).unwrap(),
        mode: Mode::Announce,
        orderers,
        blocks_a_second: 1.0,
    };
    let spread = Spread::run(graph, &pulling, terms);
    (pulling, spread)
}

fn near(what: &str, real: f64, model: f64, tolerance: f64) {
    let off = (real - model).abs() / model;
    assert!(
        off <= tolerance,
        "{what}: {real} counted, {model} by the model"
    );
}

/// The same pullers, and as many signatures, among nodes that are not all connected.
#[tokio::test(start_paused = true)]
async fn real_engines_elect_and_verify_as_the_model_says() {
    let rows = [
        (3, 8, Wiring::Listed, 1, 200_000),
        (3, 8, Wiring::Listed, 3, 200_000),
        (3, 8, Wiring::Listed, 3, 2000),
        (2, 30, Wiring::Discovered, 3, 200_000),
    ];
    for (organisations, each, wiring, orderers, bytes) in rows {
        let mut graph = Graph::new(organisations, each, wiring, 3);
        // The network in memory passes on to everybody.
        graph.mesh.clone_from(&graph.neighbours);
        let (pulling, spread) = modelled(&graph, orderers, bytes as u32);
        let network = real::in_memory(&graph);
        let Counted { verified, blocks } = run(&graph, network, &pulling, (orderers, bytes)).await;
        let model = spread.parts().signature_sets as f64;
        let what = format!("verified of {bytes} bytes by {orderers} orderers, {wiring:?}");
        near(&what, verified as f64 / blocks as f64, model, 0.1);
    }
}

/// Bytes of bodies and of announcements, over TCP on loopback.
#[tokio::test(flavor = "multi_thread")]
async fn real_nodes_send_as_much_as_the_model_says() {
    let graph = Graph::new(2, 6, Wiring::Listed, 3);
    let (pulling, spread) = modelled(&graph, 1, 1_000_000);
    let (network, nodes) = real::over_tcp(&graph).await;
    let counted = run(&graph, network, &pulling, (1, 1_000_000)).await;
    let parts = spread.parts();
    let of_one = |count: u64| count as f64 / counted.blocks as f64;
    near(
        "verified",
        of_one(counted.verified),
        parts.signature_sets as f64,
        0.15,
    );
    near("bodies", of_one(nodes.bodies()), parts.bodies as f64, 0.1);
    // A block of the test's chain has other signatures than one of real orderers.
    let lent = Wire::of(1_000_000).unwrap().announcement as f64;
    let messages = parts.messages as f64 / lent;
    let real = of_one(nodes.messages());
    near("copies of announcements", real, messages, 0.5);
}
