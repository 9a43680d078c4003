// SPDX-License-Identifier: Apache-2.0
//! A node as a process of its own, and what the system tells of it.

use std::{collections::BTreeMap, env, fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::{
    child::{COMMAND, Place, Side},
    lines::{Order, Told},
};

/// How long a node may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A node in a process, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    _reading: JoinSet<()>,
}

impl Process {
    /// Starts a node; what it tells goes to `told`, with its place.
    pub(crate) fn start(
        side: Side,
        place: Place,
        told: mpsc::Sender<(usize, Result<Told>)>,
    ) -> Result<Self> {
        let side = side.to_possible_value().context("the name of a side")?;
        let mut child = Command::new(env::current_exe()?)
            .args([COMMAND, side.get_name()])
            .args([place.index, place.nodes].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("the input of a node")?;
        let stdout = child.stdout.take().context("the output of a node")?;
        let mut reading = JoinSet::new();
        reading.spawn(listen(usize::from(place.index), stdout, told));
        Ok(Self {
            child,
            orders,
            _reading: reading,
        })
    }

    pub(crate) async fn order(&mut self, order: &Order) -> Result<()> {
        let line = format!("{order}\n");
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// The most memory that was resident at a time, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib.context("VmHWM in /proc/<pid>/status")?.parse()?;
        Ok(kib * 1024)
    }

    /// Begins anew to look for the most memory.
    pub(crate) fn forget_peak_memory(&self) -> Result<()> {
        // What the kernel takes for that.
        const RESET_PEAK: &str = "5";
        Ok(fs::write(
            format!("/proc/{}/clear_refs", self.pid()?),
            RESET_PEAK,
        )?)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("a node ended")
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<()> {
        let Self {
            mut child, orders, ..
        } = self;
        drop(orders);
        timeout(ENDS_WITHIN, child.wait()).await??;
        Ok(())
    }
}

/// The bytes that each process received over its TCP connections, as the kernel counts them.
pub(crate) async fn received_bytes() -> Result<BTreeMap<u32, u64>> {
    let output = Command::new("ss")
        .args(["-tinpHO", "state", "established"])
        .output()
        .await
        .context("bytes are counted with ss of iproute2: install it")?;
    ensure!(output.status.success(), "ss failed: {}", output.status);
    let mut received = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let number = |name: &str| -> Option<u64> {
            let (_, rest) = line.split_once(name)?;
            let end = rest.find(|character: char| !character.is_ascii_digit());
            rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
        };
        if let (Some(pid), Some(bytes)) = (number("pid="), number("bytes_received:")) {
            *received.entry(u32::try_from(pid)?).or_default() += bytes;
        }
    }
    Ok(received)
}

/// Hears what a node tells, until it ends.
async fn listen(index: usize, stdout: ChildStdout, told: mpsc::Sender<(usize, Result<Told>)>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if told.send((index, line.parse())).await.is_err() {
            break;
        }
    }
}
