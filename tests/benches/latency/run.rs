// SPDX-License-Identifier: Apache-2.0
//! A round: an orderer, the nodes, and the bare hops beside them.

use std::{collections::BTreeMap, fs::File, io::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use block_api::{BlockNumber, Clock, SystemClock};
use dev_orderer::{Config, DevOrderer, Pace, Rate};
use e2e_tests::{
    bench::{self, Lines, Process, Usage, plot, said},
    node,
};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Instant, interval, sleep, timeout},
};

use crate::child::{CLIENT, Came, MET, NODE, PULL, SENDER, Stamp, TAKER};

/// The time between two blocks.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Four heartbeats of gossipsub, in which its mesh comes about.
const SETTLES: Duration = Duration::from_secs(3);

/// How many lines of nodes may wait to be read; more wait in the nodes' pipes.
const LINES: usize = 1024;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) blocks: usize,
    /// How many blocks go before them, in which connections find their windows.
    pub(crate) warm_up: usize,
    pub(crate) bytes: usize,
}

/// How long each of many took, in order.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Duration>);

/// A way that blocks went.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) latencies: Latencies,
    /// Seconds of a core for a block, at all ends of it.
    pub(crate) core_s: f64,
}

/// An orderer, and the files of its network.
pub(crate) struct Rig {
    plan: Plan,
    orderer: DevOrderer,
    dir: TempDir,
}

impl Latencies {
    fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self(latencies)
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Duration] {
        &self.0
    }

    /// What so many in a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        plot::percentile(&self.0, percent).unwrap_or_default()
    }
}

impl Rig {
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let network = node::network(plan.nodes)?;
        let orderer = DevOrderer::start(Config {
            network: network.clone(),
            ..Config::new(network.channel, clock)
        })
        .await?;
        let dir = bench::folder()?;
        let files = orderer.network().context("the network of an orderer")?;
        node::write_files(dir.path(), files)?;
        Ok(Self { plan, orderer, dir })
    }

    pub(crate) async fn stop(self) {
        self.orderer.stop().await;
    }

    /// From the moment a block was ordered until the last node has it durable.
    pub(crate) async fn nodes(&self) -> Result<Way> {
        let (telling, mut told) = mpsc::channel(LINES);
        let mut reading = JoinSet::new();
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        let (dir, orderer) = (self.folder()?, self.orderer.endpoint().to_string());
        for index in 0..self.plan.nodes {
            // Of two nodes the later one dials.
            let words = [index, self.plan.nodes - 1].map(|number| number.to_string());
            let [index, others] = &words;
            let words = [dir, index, others, &orderer];
            let peers = addresses.iter().map(String::as_str);
            let (node, mut lines) = Process::start(NODE, words.into_iter().chain(peers))?;
            addresses.push(said(&mut lines, DEADLINE).await?);
            reading.spawn(forward(lines, telling.clone()));
            nodes.push(node);
        }
        for _ in 0..self.plan.nodes {
            ensure!(
                next(&mut told).await? == MET,
                "a node is to meet the others"
            );
        }
        sleep(SETTLES).await;
        let puller = nodes.first_mut().context("a node that pulls")?;
        puller.order(PULL).await?;
        let way = self.blocks(&mut told, &nodes).await?;
        for node in nodes {
            node.stop().await?;
        }
        Ok(way)
    }

    /// What bounds that: a Deliver hop, a libp2p hop, and an fdatasync.
    pub(crate) async fn bare(&self) -> Result<[Way; 3]> {
        Ok([
            Box::pin(self.deliver_hop()).await?,
            Box::pin(self.libp2p_hop()).await?,
            Box::pin(self.synced()).await?,
        ])
    }

    /// From the moment a block was ordered until a bare client has it.
    async fn deliver_hop(&self) -> Result<Way> {
        let endpoint = self.orderer.endpoint().to_string();
        let (client, lines) = Process::start(CLIENT, [self.folder()?, &endpoint])?;
        let (telling, mut told) = mpsc::channel(LINES);
        let mut reading = JoinSet::new();
        reading.spawn(forward(lines, telling));
        ensure!(
            next(&mut told).await? == MET,
            "a client is to have the newest block"
        );
        let clients = [client];
        let way = self.blocks(&mut told, &clients).await?;
        let [client] = clients;
        client.stop().await?;
        Ok(way)
    }

    /// From one process to another, on a stream that is open.
    async fn libp2p_hop(&self) -> Result<Way> {
        let messages = self.plan.warm_up + self.plan.blocks;
        let words = [messages, self.plan.bytes].map(|number| number.to_string());
        let (sender, mut told) = Process::start(SENDER, words)?;
        let address = said(&mut told, DEADLINE).await?;
        let bytes = self.plan.bytes.to_string();
        let (taker, mut lines) = Process::start(TAKER, [&bytes, &address])?;
        let mut latencies = Vec::new();
        let ends = [taker, sender];
        let mut before = 0.0;
        for message in 0..messages {
            let nanos: u64 = said(&mut lines, DEADLINE).await?.parse()?;
            latencies.push(Duration::from_nanos(nanos));
            if message + 1 == self.plan.warm_up {
                before = cpu_s(&ends)?;
            }
        }
        let core_s = (cpu_s(&ends)? - before) / self.plan.blocks as f64;
        // What came has come: the stream need not end in order.
        let [taker, sender] = ends;
        taker.kill().await?;
        sender.stop().await?;
        Ok(Way {
            latencies: Latencies::new(latencies.split_off(self.plan.warm_up)),
            core_s,
        })
    }

    /// Appending as many bytes to a file, durably.
    async fn synced(&self) -> Result<Way> {
        let mut file = File::create(self.dir.path().join("synced"))?;
        let mut block = vec![0xa5; self.plan.bytes];
        let messages = self.plan.warm_up + self.plan.blocks;
        let mut turns = interval(INTERVAL);
        let mut latencies = Vec::new();
        let before = Usage::own()?.cpu_s;
        for _ in 0..messages {
            turns.tick().await;
            let began = Instant::now();
            let mut moved = file;
            (file, block) = spawn_blocking(move || -> Result<(File, Vec<u8>)> {
                moved.write_all(&block)?;
                moved.sync_data()?;
                Ok((moved, block))
            })
            .await??;
            latencies.push(began.elapsed());
        }
        let core_s = (Usage::own()?.cpu_s - before) / messages as f64;
        Ok(Way {
            latencies: Latencies::new(latencies.split_off(self.plan.warm_up)),
            core_s,
        })
    }

    /// Has blocks ordered, and tells of each how long it took until all of these had it. The orderer,
    /// which makes and signs them, is one of the ends.
    async fn blocks(&self, told: &mut mpsc::Receiver<String>, takers: &[Process]) -> Result<Way> {
        let cores = || anyhow::Ok(cpu_s(takers)? + Usage::own()?.cpu_s);
        let (before, takers) = (cores()?, takers.len());
        let blocks = self.plan.warm_up + self.plan.blocks;
        let pace = Pace::At(Rate::per_second(INTERVAL.as_secs_f64().recip())?);
        let mut came: BTreeMap<u64, Vec<Stamp>> = BTreeMap::new();
        let ordering = self.orderer.generate(blocks, self.plan.bytes, pace);
        tokio::pin!(ordering);
        let mut last = None;
        let is_done = |last: Option<BlockNumber>, came: &BTreeMap<u64, Vec<Stamp>>| {
            let stamps = last.and_then(|last| came.get(&last.get()));
            stamps.is_some_and(|stamps| stamps.len() == takers)
        };
        while !is_done(last, &came) {
            tokio::select! {
                ordered = &mut ordering, if last.is_none() => last = ordered?,
                line = next(told) => {
                    let came_now: Came = line?.parse()?;
                    came.entry(came_now.number).or_default().push(came_now.at);
                }
            }
        }
        let last = last.context("blocks")?.get();
        let core_s = (cores()? - before) / blocks as f64;
        let (instant, stamp) = (Instant::now(), Stamp::now());
        let mut latencies = Vec::new();
        for number in last + 1 - self.plan.blocks as u64..=last {
            let ordered = self.orderer.ordered_at(BlockNumber::new(number));
            let ordered = instant - ordered.context("when a block was ordered")?;
            let stamps = came.get(&number).map(Vec::as_slice).unwrap_or_default();
            if stamps.len() != takers {
                bail!("block {number} did not come to all");
            }
            let latest = stamps.iter().max().context("a stamp")?;
            latencies.push(latest.since(Stamp(stamp.0.saturating_sub(ordered))));
        }
        Ok(Way {
            latencies: Latencies::new(latencies),
            core_s,
        })
    }

    fn folder(&self) -> Result<&str> {
        self.dir.path().to_str().context("a folder with a name")
    }
}

/// The time that they have had of a core, in seconds.
fn cpu_s(processes: &[Process]) -> Result<f64> {
    let usages = processes.iter().map(Process::usage);
    usages.map(|usage| Ok(usage?.cpu_s)).sum()
}

/// Passes on what a process says.
async fn forward(mut lines: Lines, to: mpsc::Sender<String>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if to.send(line).await.is_err() {
            break;
        }
    }
}

async fn next(told: &mut mpsc::Receiver<String>) -> Result<String> {
    let line = timeout(DEADLINE, told.recv()).await;
    let line = line.with_context(|| format!("nobody said anything for {DEADLINE:?}"))?;
    line.context("all processes ended")
}
