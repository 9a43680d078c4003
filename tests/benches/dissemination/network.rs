// SPDX-License-Identifier: Apache-2.0
//! Nodes of one side, each connected with each other one, and one of them the publisher: as with the
//! node that pulls, it stays the same.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail};
use gossip_libp2p::Multiaddr;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    child::{Place, Side},
    lines::{Order, Told},
    process::{Process, received_bytes},
};

/// How many lines of nodes may wait to be read; more wait in the nodes' pipes.
const LINES: usize = 1024;

/// Nothing that has to come takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A block that takes longer is lost, and counts as one that took so long.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(60);

/// Four heartbeats of gossipsub, in which its mesh comes about.
const SETTLES: Duration = Duration::from_secs(3);

/// The shortest time between two blocks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Network {
    publisher: Process,
    others: Vec<Process>,
    told: mpsc::Receiver<(usize, Result<Told>)>,
    /// The most memory that the publisher had resident while blocks spread, in bytes.
    publisher_memory: u64,
}

/// How a block spread.
pub(crate) struct Spread {
    /// How long it took to each node, other than the publisher, that got it.
    pub(crate) latencies: Vec<Duration>,
    /// How many nodes did not get it.
    pub(crate) lost: usize,
}

impl Network {
    /// Starts so many nodes. On return they are connected and at rest.
    pub(crate) async fn start(side: Side, nodes: u8, settles: bool) -> Result<Self> {
        let (telling, told) = mpsc::channel(LINES);
        let start = |index| Process::start(side, Place { index, nodes }, telling.clone());
        let mut network = Self {
            publisher: start(0)?,
            others: (1..nodes).map(start).collect::<Result<_>>()?,
            told,
            publisher_memory: 0,
        };
        let mut addresses: Vec<(usize, Multiaddr)> = Vec::new();
        while addresses.len() < usize::from(nodes) {
            if let (index, Told::Listening(address)) = network.next().await? {
                addresses.push((index, address));
            }
        }
        for (dialler, node) in network.others.iter_mut().enumerate() {
            // Of two nodes one dials.
            let listeners = addresses.iter().filter(|(index, _)| *index <= dialler);
            let listeners = listeners.map(|(_, address)| address.clone()).collect();
            node.order(&Order::Connect(listeners)).await?;
        }
        let mut joined = BTreeSet::new();
        while joined.len() < usize::from(nodes) {
            if let (index, Told::Joined) = network.next().await? {
                joined.insert(index);
            }
        }
        if settles {
            sleep(SETTLES).await;
        }
        Ok(network)
    }

    /// Publishes a block with so many bytes of data, waits until all have it, and then as long again,
    /// in which what is under way arrives too.
    pub(crate) async fn spread(&mut self, bytes: usize) -> Result<Spread> {
        self.publisher.order(&Order::Prepare(bytes)).await?;
        while !matches!(self.next().await?, (_, Told::Prepared)) {}
        // What it takes to make a block is no part of spreading it.
        self.publisher.forget_peak_memory()?;
        let began = Instant::now();
        self.publisher.order(&Order::Publish).await?;
        let mut published = None;
        let mut held = Vec::new();
        let deadline = began + LOST_AFTER;
        while published.is_none() || held.len() < self.others.len() {
            match timeout_at(deadline, self.told.recv()).await {
                Ok(told) => match told.context("the nodes ended")?.1? {
                    Told::Published(number, at) => published = Some((number, at)),
                    Told::Held(number, at) => held.push((number, at)),
                    Told::Listening(_) | Told::Joined | Told::Prepared => {}
                },
                Err(_) => break,
            }
        }
        sleep(began.elapsed().max(SHORTEST_PAUSE)).await;
        let memory = self.publisher.peak_memory()?;
        self.publisher_memory = self.publisher_memory.max(memory);
        let Some((published, at)) = published else {
            bail!("a block was not published within {LOST_AFTER:?}");
        };
        // A block that came after it was given up counts as lost.
        let held = held.iter().filter(|(number, _)| *number == published);
        let latencies: Vec<_> = held.map(|(_, held)| held.since(at)).collect();
        let lost = self.others.len() - latencies.len();
        Ok(Spread { latencies, lost })
    }

    /// The bytes that each node but the publisher received since it was started.
    pub(crate) async fn received_bytes(&self) -> Result<Vec<u64>> {
        let received = received_bytes().await?;
        let of = |node: &Process| Ok(received.get(&node.pid()?).copied().unwrap_or_default());
        self.others.iter().map(of).collect()
    }

    /// The most memory that a node had resident, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let others = self.others.iter().map(Process::peak_memory);
        let peaks: Vec<u64> = others.collect::<Result<_>>()?;
        Ok(peaks.into_iter().fold(self.publisher_memory, u64::max))
    }

    /// The time of the cores that all nodes have had, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let nodes = [&self.publisher].into_iter().chain(&self.others);
        nodes.map(Process::cpu_s).sum()
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let nodes: Vec<Process> = [self.publisher].into_iter().chain(self.others).collect();
        for node in nodes {
            node.stop().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(usize, Told)> {
        let told = timeout(DEADLINE, self.told.recv()).await;
        let told = told.with_context(|| format!("nodes said nothing for {DEADLINE:?}"))?;
        let (index, told) = told.context("the nodes ended")?;
        Ok((index, told?))
    }
}
