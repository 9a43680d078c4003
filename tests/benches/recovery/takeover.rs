// SPDX-License-Identifier: Apache-2.0
//! The time from the end of the node that pulls, which is killed, until a block that is ordered then
//! is at every other node, against the configured time until another one takes over.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use block_api::SystemClock;
use dev_orderer::{Config, DevOrderer, OrganizationSpec, Pace, Role};
use e2e_tests::{
    bench::{self, Round, Row, Target},
    node::write_files,
};
use tokio::time::{Duration, Instant};

use crate::{files, process::NodeProcess};

/// The configured time, which is the default, and what may come on top.
const TAKEOVER: Duration = Duration::from_secs(3);
const ON_TOP: Duration = Duration::from_secs(1);

const NODES: usize = 4;
const CHANNEL: &str = "bench";
const BLOCK_BYTES: usize = 1000;

pub(crate) async fn case(rounds: usize) -> Result<Row> {
    let dir = bench::folder()?;
    let names: Vec<String> = (0..NODES).map(|index| format!("peer{index}")).collect();
    let peers = names.iter().map(|name| (name.as_str(), Role::Peer));
    let members = peers.chain([("user1", Role::Client), ("admin", Role::Admin)]);
    let mut config = Config::new(CHANNEL.parse()?, Arc::new(SystemClock));
    config.network.applications = vec![OrganizationSpec::new("Org1", members)];
    let orderer = DevOrderer::start(config).await?;
    let network = orderer.network().context("the network")?;
    write_files(dir.path(), network)?;
    let rest = format!(
        "[delivery]\n\
         takeover = \"{}s\"\n\
         [[channel]]\n\
         id = \"{CHANNEL}\"\n\
         genesis = \"genesis.block\"\n\
         pull = \"elected\"\n",
        TAKEOVER.as_secs()
    );
    let configs = files::configurations(dir.path(), &names, &rest)?;
    let mut last = order(&orderer).await?;
    let start = |config: &PathBuf| NodeProcess::start(config);
    let mut nodes = configs.iter().map(start).collect::<Result<Vec<_>>>()?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        let puller = puller(&nodes, last).await?;
        let began = Instant::now();
        nodes.remove(puller).kill().await?;
        last = order(&orderer).await?;
        for node in &nodes {
            node.tells(|told| told.stored >= last).await?;
        }
        measured.push(Round {
            value: began.elapsed().as_secs_f64(),
            baseline: TAKEOVER.as_secs_f64(),
        });
        nodes.insert(
            puller,
            start(configs.get(puller).context("its configuration")?)?,
        );
    }
    for node in nodes {
        node.stop().await?;
    }
    orderer.stop().await;
    let target = (TAKEOVER + ON_TOP).as_secs_f64() / TAKEOVER.as_secs_f64();
    let case = "the puller is killed over takeover";
    Ok(Row::new(case, "s", Target::AtMost(target), &measured))
}

/// Has a block ordered, and gives its number.
async fn order(orderer: &DevOrderer) -> Result<u64> {
    let last = orderer.generate(1, BLOCK_BYTES, Pace::AllAtOnce).await?;
    Ok(last.context("a block")?.get())
}

/// Waits until every node is at the tip and one of them pulls, and tells which.
async fn puller(nodes: &[NodeProcess], last: u64) -> Result<usize> {
    for node in nodes {
        node.tells(|told| told.stored >= last).await?;
    }
    let pulls = |node: &NodeProcess| node.told().pulling;
    loop {
        // One that was better placed may have come back: there is one in the end.
        if nodes.iter().filter(|node| pulls(node)).count() == 1 {
            return nodes.iter().position(pulls).context("the node that pulls");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
