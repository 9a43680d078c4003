// SPDX-License-Identifier: Apache-2.0
//! The cases, and their rounds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e_tests::bench::{Blocks, Lines, Process, Round, Row, Target, median, said};

use crate::{bare, files::Made, ours, readers};

/// All of them.
pub(crate) const CASES: [Case; 4] = [
    Case::new("101KB", 100_000, 1, 2_000),
    Case::new("101KB", 100_000, 20, 200),
    Case::new("11KB", 10_000, 1, 10_000),
    Case::new("11KB", 10_000, 20, 1_000),
];

/// As fast as prepared bytes, within this.
const TARGET: f64 = 0.85;

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// A size of blocks, and a number of readers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    size: &'static str,
    /// Bytes of data in a block.
    bytes: usize,
    readers: usize,
    /// So many blocks each of them reads.
    blocks: usize,
    /// So many times as many blocks are in the chain: each round has other ones, so that none finds
    /// what the one before it has left in memory.
    windows: usize,
}

/// A server, and what its rounds took.
struct Server {
    name: &'static str,
    process: Process,
    _lines: Lines,
    address: String,
    rates: Vec<f64>,
    /// Microseconds of a processor for each block, of the server and of the readers.
    cpu: Vec<(f64, f64)>,
}

impl Case {
    const fn new(size: &'static str, bytes: usize, readers: usize, blocks: usize) -> Self {
        Self {
            size,
            bytes,
            readers,
            blocks,
            windows: if readers > 1 { 5 } else { 1 },
        }
    }

    pub(crate) fn name(self) -> String {
        format!("serve size={} readers={}", self.size, self.readers)
    }

    pub(crate) fn smoke(self) -> Self {
        Self {
            blocks: 20,
            windows: 1,
            ..self
        }
    }

    /// Measures so many rounds; the notes say what a block costs each process.
    pub(crate) async fn run(self, rounds: usize) -> Result<(Row, [String; 2])> {
        let made = Made::make(Blocks {
            count: self.blocks * self.windows,
            data_bytes: self.bytes,
        })
        .await?;
        // The bare server reads the store before the other one opens it.
        let bare = Server::start("bare", bare::ROLE, &made).await?;
        let ours = Server::start("ours", ours::ROLE, &made).await?;
        let mut servers = [bare, ours];
        for round in 0..rounds {
            let first = 1 + (round % self.windows) * self.blocks;
            // Whoever comes second finds the readers' program and the machine warm: they take turns.
            servers.reverse();
            for server in &mut servers {
                self.round(&made, server, first).await?;
            }
        }
        servers.sort_by_key(|server| server.name);
        let [bare, ours] = servers;
        let measured: Vec<Round> = ours
            .rates
            .iter()
            .zip(&bare.rates)
            .map(|(&value, &baseline)| Round { value, baseline })
            .collect();
        let name = self.name();
        let notes = [bare.finish(&name).await?, ours.finish(&name).await?];
        let row = Row::new(name, "blocks/s", Target::AtLeast(TARGET), &measured);
        Ok((row, notes))
    }

    async fn round(self, made: &Made, server: &mut Server, first: usize) -> Result<()> {
        let blocks = (self.readers * self.blocks) as f64;
        let before = server.process.usage()?;
        let arguments = [
            made.files().0.display().to_string(),
            server.address.clone(),
            first.to_string(),
            self.readers.to_string(),
            self.blocks.to_string(),
        ];
        let (readers, mut lines) = Process::start(readers::ROLE, arguments)?;
        let line = said(&mut lines, DEADLINE).await?;
        let (seconds, cpu) = line.split_once(' ').context("what the readers say")?;
        let after = server.process.usage()?;
        readers.stop().await?;
        server.rates.push(blocks / seconds.parse::<f64>()?);
        let micros = |seconds: f64| seconds * 1e6 / blocks;
        server
            .cpu
            .push((micros(after.cpu_s - before.cpu_s), micros(cpu.parse()?)));
        Ok(())
    }
}

impl Server {
    async fn start(name: &'static str, role: &str, made: &Made) -> Result<Self> {
        let (process, mut lines) = Process::start(role, [made.files().0])?;
        let address = said(&mut lines, DEADLINE).await?;
        Ok(Self {
            name,
            process,
            _lines: lines,
            address,
            rates: Vec::new(),
            cpu: Vec::new(),
        })
    }

    /// Ends it, and says what it took.
    async fn finish(self, case: &str) -> Result<String> {
        let of = |part: fn(&(f64, f64)) -> f64| median(self.cpu.iter().map(part).collect());
        let note = format!(
            "{case}: {} takes {:.0} µs of a core a block, its readers {:.0} µs; peak memory {} MB",
            self.name,
            of(|cpu| cpu.0),
            of(|cpu| cpu.1),
            self.process.usage()?.peak_bytes / 1_000_000,
        );
        self.process.stop().await?;
        Ok(note)
    }
}
