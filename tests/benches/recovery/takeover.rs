// SPDX-License-Identifier: Apache-2.0
//! The time from the end of the node that pulls, which is killed or falls silent, until a block that
//! is ordered then is at every other node, against the configured time until another one takes over.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail};
use block_api::SystemClock;
use dev_orderer::{Config, DevOrderer, OrganizationSpec, Pace, Role};
use e2e_tests::{
    bench::{self, Round, Row, Target},
    node::{CHANNEL, USER, write_files},
};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    files,
    process::{DEADLINE, LOOKS_EVERY, NodeProcess},
};

/// The configured time, which is the default, and what may come on top.
const TAKEOVER: Duration = Duration::from_secs(3);
const ON_TOP: Duration = Duration::from_secs(1);

/// A node that pulls is the only one when it has been for so long: one that is better placed and was
/// started a moment ago opens its stream after the takeover time, and not before.
const ALONE_FOR: Duration = TAKEOVER.saturating_mul(2);

/// A node that had a stream when the block came has told of it before it has looked so often.
const LOOKS: usize = 50;

const NODES: usize = 4;
const BLOCK_BYTES: usize = 1000;

/// How the node that pulls ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It is killed, and the system closes its connections.
    Killed,
    /// It says nothing any more, and its connections stay, as if its host were gone.
    Silent,
}

pub(crate) async fn cases(rounds: usize) -> Result<Vec<Row>> {
    let dir = bench::folder()?;
    let names: Vec<String> = (0..NODES).map(|index| format!("peer{index}")).collect();
    let peers = names.iter().map(|name| (name.as_str(), Role::Peer));
    let members = peers.chain([(USER, Role::Client), ("admin", Role::Admin)]);
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
    let mut rows = Vec::new();
    for (end, case) in [
        (End::Killed, "the puller is killed over takeover"),
        (End::Silent, "the puller falls silent over takeover"),
    ] {
        let mut measured = Vec::new();
        for _ in 0..rounds {
            let puller = puller(&nodes, last).await?;
            let began = Instant::now();
            let ended = nodes.remove(puller);
            let silent = match end {
                End::Killed => {
                    ended.kill().await?;
                    None
                }
                End::Silent => {
                    ended.halt().await?;
                    Some(ended)
                }
            };
            last = order(&orderer).await?;
            for node in &nodes {
                node.tells(|told| told.stored >= last).await?;
            }
            let elapsed = began.elapsed();
            one_pulls(&nodes).await?;
            if let Some(silent) = silent {
                silent.kill().await?;
            }
            measured.push(Round {
                value: elapsed.as_secs_f64(),
                baseline: TAKEOVER.as_secs_f64(),
            });
            nodes.insert(
                puller,
                start(configs.get(puller).context("its configuration")?)?,
            );
        }
        let target = (TAKEOVER + ON_TOP).as_secs_f64() / TAKEOVER.as_secs_f64();
        rows.push(Row::new(case, "s", Target::AtMost(target), &measured));
    }
    for node in nodes {
        node.stop().await?;
    }
    orderer.stop().await;
    Ok(rows)
}

/// Has a block ordered, and gives its number.
async fn order(orderer: &DevOrderer) -> Result<u64> {
    let last = orderer.generate(1, BLOCK_BYTES, Pace::AllAtOnce).await?;
    Ok(last.context("a block")?.get())
}

/// Waits until every node is at the tip and the same one alone has pulled for long, and tells which.
async fn puller(nodes: &[NodeProcess], last: u64) -> Result<usize> {
    for node in nodes {
        node.tells(|told| told.stored >= last).await?;
    }
    let began = Instant::now();
    let (mut pulled, mut since) = (Vec::new(), began);
    while began.elapsed() < DEADLINE {
        let pulls = pulling(nodes);
        if pulls != pulled {
            (pulled, since) = (pulls, Instant::now());
        }
        match pulled.as_slice() {
            [puller] if since.elapsed() > ALONE_FOR => return Ok(*puller),
            _ => sleep(LOOKS_EVERY).await,
        }
    }
    bail!("no node has pulled alone for {ALONE_FOR:?} after {DEADLINE:?}")
}

/// Sees that the block came by the stream of a node that took over: it tells of that stream when it
/// looks next. There was no such stream before the kill.
async fn one_pulls(nodes: &[NodeProcess]) -> Result<()> {
    for _ in 0..LOOKS {
        if !pulling(nodes).is_empty() {
            return Ok(());
        }
        sleep(LOOKS_EVERY).await;
    }
    bail!("a block came although no node took over, so that nothing was measured: run it again")
}

/// The nodes that have a stream.
fn pulling(nodes: &[NodeProcess]) -> Vec<usize> {
    let nodes = nodes.iter().enumerate();
    let pulling = nodes.filter(|(_, node)| node.told().pulling);
    pulling.map(|(index, _)| index).collect()
}
