// SPDX-License-Identifier: Apache-2.0
//! A node as a process of its own, what it tells of itself, and what the system tells of it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use block_api::{BlockNumber, ChannelId, Height};
use blockcast::{Node, NodeConfig};
use blocks_provider::PullState;
use e2e_tests::bench::{Lines, Process};
use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    sync::watch,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_stream::StreamExt as _;

/// The role of a process that is a node.
const ROLE: &str = "node";

/// What it says when each of its channels has a block after the genesis block; and, if it has one
/// channel, when it begins and ceases to pull, and of each block with its number.
const AT_THE_TIP: &str = "at the tip";
const PULLING: &str = "pulling";
const NOT_PULLING: &str = "not pulling";
const STORED: &str = "stored ";

/// Nothing that is waited for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How often a node looks whether it pulls.
pub(crate) const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// A node in a process, killed when it is dropped.
pub(crate) struct NodeProcess {
    process: Process,
    told: watch::Receiver<Told>,
    _reading: JoinSet<()>,
}

/// What a node told of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) at_the_tip: bool,
    pub(crate) pulling: bool,
    pub(crate) stored: u64,
}

/// Is a node until standard input ends.
pub(crate) async fn run(config: &Path) -> Result<()> {
    let config = NodeConfig::load(config)?;
    let node = Node::builder(config).start().await?;
    let channels: Vec<ChannelId> = node.channels().cloned().collect();
    let mut end = Vec::new();
    let mut stdin = tokio::io::stdin();
    let telling = async {
        for channel in &channels {
            node.wait_for_height(channel, Height::new(2)).await;
        }
        println!("{AT_THE_TIP}");
        if let [channel] = channels.as_slice() {
            tell(&node, channel).await?;
        }
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        ended = stdin.read_to_end(&mut end) => drop(ended?),
        failed = telling => failed?,
    }
    node.stop().await;
    Ok(())
}

/// Tells of each block, and of pulling.
async fn tell(node: &Node, channel: &ChannelId) -> Result<()> {
    let mut blocks = node.subscribe(channel, BlockNumber::new(1))?;
    let mut look = interval(LOOKS_EVERY);
    let mut pulled = false;
    loop {
        tokio::select! {
            block = blocks.next() => {
                let block = block.context("a block")??;
                println!("{STORED}{}", block.number());
            }
            _ = look.tick() => {
                let state = node.channel_state(channel).context("the state of a channel")?;
                let pulls = matches!(state.pull, Some(PullState::Streaming(_)));
                if pulls != pulled {
                    println!("{}", if pulls { PULLING } else { NOT_PULLING });
                    pulled = pulls;
                }
            }
        }
    }
}

impl NodeProcess {
    /// Starts a node of this configuration.
    pub(crate) fn start(config: &Path) -> Result<Self> {
        let (process, lines) = Process::start(ROLE, [config])?;
        let (sender, told) = watch::channel(Told::default());
        let mut reading = JoinSet::new();
        reading.spawn(listen(lines, sender));
        Ok(Self {
            process,
            told,
            _reading: reading,
        })
    }

    /// Waits until it has told this.
    pub(crate) async fn tells(&self, wanted: impl FnMut(&Told) -> bool) -> Result<()> {
        let mut told = self.told.clone();
        match timeout(DEADLINE, told.wait_for(wanted)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => bail!("a node ended"),
            Err(_) => bail!("a node is not where it should be after {DEADLINE:?}"),
        }
    }

    /// What it told last.
    pub(crate) fn told(&self) -> Told {
        *self.told.borrow()
    }

    /// Kills it, as `kill -9` does.
    pub(crate) async fn kill(self) -> Result<()> {
        self.process.kill().await
    }

    /// Has it do nothing any more, though it is there, as `kill -STOP` does.
    pub(crate) async fn halt(&self) -> Result<()> {
        let pid = self.process.pid()?.to_string();
        let halted = Command::new("kill").args(["-STOP", &pid]).status().await?;
        ensure!(halted.success(), "`kill -STOP {pid}` failed: {halted}");
        Ok(())
    }

    /// The time that it has had of a core, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        Ok(self.process.usage()?.cpu_s)
    }

    /// Its resident memory, in MB.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        Ok(self.process.resident_bytes()? as f64 / 1e6)
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<()> {
        self.process.stop().await
    }
}

/// Hears what a node tells, until it ends.
async fn listen(mut lines: Lines, told: watch::Sender<Told>) {
    while let Ok(Some(line)) = lines.next_line().await {
        told.send_modify(|told| match line.as_str() {
            AT_THE_TIP => told.at_the_tip = true,
            PULLING => told.pulling = true,
            NOT_PULLING => told.pulling = false,
            line => {
                let number = line
                    .strip_prefix(STORED)
                    .and_then(|number| number.parse().ok());
                told.stored = number.unwrap_or(told.stored);
            }
        });
    }
}
