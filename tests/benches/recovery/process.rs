// SPDX-License-Identifier: Apache-2.0
//! A node as a process of its own, and what the system says of it.

use std::{env, fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use block_api::{ChannelId, Height};
use blockcast::{Node, NodeConfig};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The first argument of a process that is a node.
pub(crate) const COMMAND: &str = "node";

/// What it says when it listens, and when each of its channels has a block after the genesis block.
const STARTED: &str = "started";
const AT_THE_TIP: &str = "at the tip";

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Ticks of `/proc/<pid>/stat` in a second, on every Linux there is.
const TICKS_PER_S: f64 = 100.0;

/// A node in a process, killed when it is dropped.
pub(crate) struct NodeProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Is a node until standard input ends.
pub(crate) async fn run(config: &Path) -> Result<()> {
    let config = NodeConfig::load(config)?;
    let node = Node::builder(config).start().await?;
    println!("{STARTED}");
    let channels: Vec<ChannelId> = node.channels().cloned().collect();
    for channel in &channels {
        node.wait_for_height(channel, Height::new(2)).await;
    }
    println!("{AT_THE_TIP}");
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    node.stop().await;
    Ok(())
}

impl NodeProcess {
    /// Starts a node of this configuration, and waits until each channel has its blocks.
    pub(crate) async fn at_the_tip(config: &Path) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg(COMMAND)
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("the output of a node")?;
        let lines = BufReader::new(stdout).lines();
        let mut node = Self { child, lines };
        timeout(DEADLINE, node.says(AT_THE_TIP)).await??;
        Ok(node)
    }

    /// Waits until it says a line.
    async fn says(&mut self, wanted: &str) -> Result<()> {
        while let Some(line) = self.lines.next_line().await? {
            if line == wanted {
                return Ok(());
            }
        }
        bail!("the node ended before it said that it is {wanted}");
    }

    /// The time that it has had of a core, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name, in brackets, may have spaces in it.
        let (_, fields) = stat
            .rsplit_once(')')
            .context("the name in /proc/<pid>/stat")?;
        let ticks = |index| -> Result<f64> {
            let field = fields.split_whitespace().nth(index);
            Ok(field.context("a field of /proc/<pid>/stat")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_S)
    }

    /// Its resident memory, in MB.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: f64 = kib.context("VmRSS in /proc/<pid>/status")?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    fn proc(&self, file: &str) -> Result<String> {
        let pid = self.child.id().context("the node ended")?;
        Ok(fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        timeout(DEADLINE, self.child.wait()).await??;
        Ok(())
    }
}
