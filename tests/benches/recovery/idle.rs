// SPDX-License-Identifier: Apache-2.0
//! What a node with many channels and another node beside it needs while no block comes: memory, and
//! time of a core.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use block_api::{Clock as _, SystemClock, testing::OpenReaders};
use dev_orderer::{ChainMaker, DevOrderer, NetworkConfig, NodesConfig, Pace};
use e2e_tests::{
    bench::{self, Round, Row, Target},
    node::write_files,
};
use tokio::time::{Instant, sleep};

use crate::{
    files::{self, free_address, write},
    process::NodeProcess,
};

/// MB of resident memory, and percent of a core.
const MEMORY_MB: f64 = 150.0;
const CPU_PERCENT: f64 = 2.0;

/// How long a node is left alone before it is measured.
const SETTLES: Duration = Duration::from_secs(5);

/// The bytes of a block's data.
const BLOCK_BYTES: usize = 1000;

pub(crate) async fn case(channels: usize, seconds: u64) -> Result<Vec<Row>> {
    let dir = bench::folder()?;
    let mut rest = String::new();
    let mut orderers = Vec::new();
    for index in 0..channels {
        let listen = free_address()?;
        let network = NetworkConfig::new(format!("channel{index}").parse()?);
        let endpoint = listen.to_string().parse()?;
        let mut maker = ChainMaker::new(network, &[endpoint], SystemClock.now())?;
        write_files(dir.path(), maker.network())?;
        let chain = maker.chain(1, BLOCK_BYTES).await?;
        let nodes = NodesConfig {
            listen,
            ..NodesConfig::new(Arc::new(SystemClock))
        };
        let readers = Arc::new(OpenReaders);
        let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, readers, nodes).await?;
        let genesis = dir.path().join(format!("channel{index}.block"));
        write(&genesis, orderer.genesis().raw())?;
        let ca = orderer.ordering_organization().tls_ca_pem();
        write(
            &dir.path().join(format!("channel{index}.pem")),
            ca.as_bytes(),
        )?;
        // Writing to a string does not fail.
        let _ = write!(
            rest,
            "[[channel]]\n\
             id = \"channel{index}\"\n\
             genesis = \"channel{index}.block\"\n\
             [[channel.orderers]]\n\
             endpoint = \"{listen}\"\n\
             ca = \"channel{index}.pem\"\n"
        );
        orderers.push(orderer);
    }
    // An orderer that replays does not ask who reads: one identity will do for every channel.
    let names = ["peer0", "user1"].map(str::to_owned);
    let mut nodes = Vec::new();
    for config in files::configurations(dir.path(), &names, &rest)? {
        nodes.push(NodeProcess::start(&config)?);
    }
    for node in &nodes {
        node.tells(|told| told.at_the_tip).await?;
    }
    let node = nodes.first().context("a node")?;
    sleep(SETTLES.min(Duration::from_secs(seconds))).await;
    let (before, began) = (node.cpu_s()?, Instant::now());
    sleep(Duration::from_secs(seconds)).await;
    let used = node.cpu_s()? - before;
    let percent = used / began.elapsed().as_secs_f64() * 100.0;
    let memory = node.resident_mb()?;
    for node in nodes {
        node.stop().await?;
    }
    for orderer in orderers {
        orderer.stop().await;
    }
    Ok(vec![
        row(
            format!("idle channels={channels} memory"),
            "MB",
            memory,
            MEMORY_MB,
        ),
        row(
            format!("idle channels={channels} cpu"),
            "% of a core",
            percent,
            CPU_PERCENT,
        ),
    ])
}

/// A value that is bounded by a number, and not by another measurement.
fn row(case: String, unit: &'static str, value: f64, bound: f64) -> Row {
    let round = Round {
        value,
        baseline: bound,
    };
    Row::new(case, unit, Target::AtMost(1.0), &[round])
}
