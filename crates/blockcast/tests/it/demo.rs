// SPDX-License-Identifier: Apache-2.0
//! `blockcast demo`.

use std::fs;

use serde_json::Value;

use crate::process::{Ended, Run, command, fixtures, run};

/// The last block in the table of a recorded chain: its number and header hash.
fn last_block(folder: &str) -> (u64, String) {
    let table = fs::read_to_string(fixtures(folder).join("blocks.txt")).unwrap();
    let last = table.lines().last().unwrap();
    let mut words = last.split_whitespace();
    let number = words.nth(1).unwrap().parse().unwrap();
    let hash = words
        .find_map(|word| word.strip_prefix("header_hash="))
        .unwrap();
    (number, hash.to_owned())
}

/// The JSON object of a demo that went well: it is all that is on standard output.
fn result(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// Checks that all have the same, that each block came to each node in one way, and that one stream
/// of one node was enough.
fn check(result: &Value, nodes: usize, height: u64) {
    assert_eq!(result["height"], height, "{result}");
    assert_eq!(
        (&result["orderer_streams"], &result["orderer_probes"]),
        (&1.into(), &0.into())
    );
    assert!(result["orderer_bytes_sent"].as_u64().unwrap() > 0);
    assert!(result["elapsed_s"].as_f64().unwrap() > 0.0);
    assert_eq!(result["nodes"].as_array().unwrap().len(), nodes);
    for (index, node) in result["nodes"].as_array().unwrap().iter().enumerate() {
        assert_eq!(node["name"], format!("node-{}", index + 1));
        assert_eq!(
            (&node["height"], &node["tip_hash"]),
            (&result["height"], &result["tip_hash"])
        );
        let ways =
            ["from_orderer", "from_gossip", "from_pull"].map(|way| node[way].as_u64().unwrap());
        let [orderer, gossip, pull] = ways;
        assert_eq!(ways.iter().sum::<u64>(), height - 1, "{node}");
        assert_eq!(orderer, if index == 0 { height - 1 } else { 0 }, "{node}");
        assert_eq!(gossip + pull == 0, index == 0, "{node}");
        let latency = ["p50", "p99"].map(|p| node["latency_ms"][p].as_f64().unwrap());
        assert!(0.0 < latency[0] && latency[0] <= latency[1], "{node}");
    }
}

#[tokio::test]
async fn small_blocks_go_by_the_topic_and_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = command([
        "demo",
        "--nodes",
        "3",
        "--blocks",
        "20",
        "--block-bytes",
        "10KiB",
        "--json",
    ]);
    demo.env("TMPDIR", temporary.path());
    let ended = Run::start(demo).end().await;
    let result = result(&ended);
    check(&result, 3, 21);
    assert_eq!(result["channel"], "demo");
    let from_topic = result["nodes"][1]["from_gossip"].as_u64().unwrap();
    assert!(
        from_topic > 0,
        "the topic brings blocks while they are ordered: {result}"
    );
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn big_blocks_are_pulled_from_nodes() {
    let ended = run([
        "demo",
        "--nodes",
        "2",
        "--blocks",
        "5",
        "--block-bytes",
        "300KiB",
        "--json",
    ])
    .await;
    let result = result(&ended);
    check(&result, 2, 6);
    assert_eq!(result["nodes"][1]["from_pull"], 5);
}

async fn replay(folder: &str, channel: &str, endpoint: &str) {
    let chain = fixtures(folder);
    let ended = run([
        "demo".as_ref(),
        "--json".as_ref(),
        "--replay".as_ref(),
        chain.as_os_str(),
    ])
    .await;
    let result = result(&ended);
    let (number, hash) = last_block(folder);
    check(&result, 4, number + 1);
    assert_eq!(
        (&result["tip_hash"], &result["channel"]),
        (&hash.into(), &channel.into())
    );
    // Who reads the result is told what was not as in the recorded network.
    assert!(ended.stderr.contains(endpoint), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("not the channel's Readers"),
        "{}",
        ended.stderr
    );
}

/// Endpoints that config blocks of the chain add are led to the embedded server, too.
#[tokio::test]
async fn a_raft_chain_of_a_real_ordering_service_is_replayed() {
    replay("raft", "ch-raft", "127.0.0.1:17050").await;
}

#[tokio::test]
async fn a_bft_chain_of_a_real_ordering_service_is_replayed() {
    replay("bft", "ch-bft", "localhost:18050").await;
}

#[tokio::test]
async fn the_table_has_a_row_for_each_node() {
    let ended = run([
        "demo",
        "--nodes",
        "2",
        "--blocks",
        "3",
        "--block-bytes",
        "1KiB",
        "--rate",
        "200",
    ])
    .await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let rows: Vec<Vec<&str>> = ended
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let tip = rows[0].last().unwrap();
    assert_eq!(rows[0][..4], ["channel", "demo:", "height", "4,"]);
    for (name, orderer) in [("node-1", "3"), ("node-2", "0")] {
        let row = rows.iter().find(|row| row.first() == Some(&name)).unwrap();
        assert_eq!((row[1], row[3]), ("4", orderer), "{row:?}");
        assert!(tip.starts_with(row[2].trim_end_matches('…')), "{row:?}");
    }
    assert!(
        ended.stdout.contains("1 block stream(s)"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn an_interrupted_demo_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = command(["demo", "--nodes", "2", "--rate", "0.01"]);
    demo.env("TMPDIR", temporary.path());
    let mut demo = Run::start(demo);
    demo.stderr.line_with("of 201 ordered").await;
    demo.signal("-INT").await;
    let ended = demo.end().await;
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("error: interrupted"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, "");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_demo_that_cannot_be_says_so() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["--nodes", "0"], 2, "0 is not in 1..=64"),
        (&["--rate", "0"], 2, "above zero"),
        (&["--block-bytes", "1megabyte"], 2, "64MiB"),
        (&["--block-bytes", "1GiB"], 1, "96MiB at most"),
        (&["--replay", empty], 1, "block_0.pb: No such file"),
        (
            &["--replay", empty, "--blocks", "3"],
            2,
            "cannot be used with",
        ),
    ];
    for (arguments, code, words) in rows {
        let ended = run([&["demo"], *arguments].concat()).await;
        assert_eq!(ended.code, Some(*code), "{arguments:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(words),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert_eq!(ended.stdout, "");
    }
}
