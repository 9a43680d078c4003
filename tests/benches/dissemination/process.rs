// SPDX-License-Identifier: Apache-2.0
//! A node as a process of its own, and what the system tells of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use e2e_tests::bench::{self, Lines};
use tokio::{process::Command, sync::mpsc, task::JoinSet};

use crate::{
    child::{Place, ROLE, Side},
    lines::{Order, Told},
};

/// A node in a process, killed when it is dropped.
pub(crate) struct Process {
    process: bench::Process,
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
        let [index, nodes] = [place.index, place.nodes].map(|number| number.to_string());
        let arguments = [side.get_name(), &index, &nodes];
        let (process, lines) = bench::Process::start(ROLE, arguments)?;
        let mut reading = JoinSet::new();
        reading.spawn(listen(usize::from(place.index), lines, told));
        Ok(Self {
            process,
            _reading: reading,
        })
    }

    pub(crate) async fn order(&mut self, order: &Order) -> Result<()> {
        self.process.order(&order.to_string()).await
    }

    /// The most memory that was resident at a time, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        Ok(self.process.usage()?.peak_bytes)
    }

    /// The time that it has had of a core, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        Ok(self.process.usage()?.cpu_s)
    }

    /// Begins anew to look for the most memory.
    pub(crate) fn forget_peak_memory(&self) -> Result<()> {
        self.process.forget_peak()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.pid()
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result<()> {
        self.process.stop().await
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
async fn listen(index: usize, mut lines: Lines, told: mpsc::Sender<(usize, Result<Told>)>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if told.send((index, line.parse())).await.is_err() {
            break;
        }
    }
}
