// SPDX-License-Identifier: Apache-2.0
//! Three orderers and five nodes as processes in network namespaces, whose links fail and who are
//! killed a hundred times.
//!
//! The binary has no test harness, because it is run a second time as the forwarder that delays
//! packets, in the namespace where they pass.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are the helpers of one test, and it says what it does on standard output"
)]

mod chain;
mod cluster;
mod faults;
mod forwarder;
mod network;
mod program;

use std::{env, process::ExitCode, time::Duration};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{chain::Chain, cluster::Cluster, network::Network};

/// The one test.
const TEST: &str = "what_is_acknowledged_is_kept_and_every_node_comes_back_to_the_tip";

/// How often a process is killed.
const KILLS: usize = 100;

/// The longest pause between two attempts on orderers, as every node of the test is told.
const CAP: Duration = Duration::from_secs(2);

/// What every node may take to the tip after the last fault.
const TO_THE_TIP: Duration = CAP.saturating_add(Duration::from_secs(5));

/// How long the whole test may take.
const WHOLE: Duration = Duration::from_secs(180);

/// Replays the faults of a run.
const SEED: &str = "BLOCKCAST_PROCESSES_SEED";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, name, milliseconds] = arguments.as_slice()
        && command == forwarder::COMMAND
    {
        forwarder::run(name, Duration::from_millis(milliseconds.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    // What runners of tests ask for: the list, and whether a filter leaves this test out.
    let told = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if told("--list") {
        if !told("--ignored") {
            println!("{TEST}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut filters = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-'))
        .peekable();
    if filters.peek().is_some() && !filters.any(|filter| TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let network = match Network::make(cluster::HOSTS) {
        Ok(network) => network,
        Err(reason) => return skipped(&reason),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(network));
    ExitCode::SUCCESS
}

/// Says that this machine cannot run the test; where everything must run, that is a failure.
fn skipped(reason: &str) -> ExitCode {
    println!("SKIPPED: {reason}");
    if env::var("BLOCKCAST_REQUIRE_ALL").is_ok_and(|value| value == "1") {
        println!("BLOCKCAST_REQUIRE_ALL is set, so that this is a failure");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(network: Network) {
    let began = Instant::now();
    let seed = env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse::<u64>().unwrap());
    println!("the faults of this run come again with {SEED}={seed}");
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::begin(dir.path()).await;
    let mut cluster = Cluster::start(network, &chain, dir.path());
    let stop = CancellationToken::new();
    let mut making = JoinSet::new();
    let tip = chain.tip();
    making.spawn(chain.grow(stop.clone()));
    // The receiver's guard must not live while anything is awaited: the chain could not grow.
    let begun = *tip.borrow() + 20;
    cluster.reach(begun, WHOLE).await;

    faults::inflict(&mut cluster, &mut StdRng::seed_from_u64(seed), KILLS).await;

    // Half a second of blocks that no node has seen when the last fault is over.
    let expected = *tip.borrow() + 10;
    let took = cluster.reach(expected, TO_THE_TIP).await;
    println!("every node was at block {expected} {took:?} after the last fault");
    stop.cancel();
    let blocks = making.join_next().await.unwrap().unwrap();
    cluster.reach(blocks.len() as u64 - 1, TO_THE_TIP).await;
    cluster.stop(&blocks).await;
    assert!(
        began.elapsed() < WHOLE,
        "the test took {:?}",
        began.elapsed()
    );
    println!(
        "{} blocks, {KILLS} kills, {:?}",
        blocks.len(),
        began.elapsed()
    );
}
