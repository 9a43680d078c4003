// SPDX-License-Identifier: Apache-2.0
//! An ordering service that has a whole chain, and processes that read it.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use dev_orderer::Consensus;
use e2e_tests::bench::{self, Process, said};
use tempfile::TempDir;

use crate::{bare, node, orderer};

/// Nothing that is waited for takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// Which chain there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) size: &'static str,
    /// How many blocks come after the genesis block.
    pub(crate) blocks: usize,
    /// The bytes of a block's data.
    pub(crate) bytes: usize,
    pub(crate) signatures: Signatures,
}

/// Who signs a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// One orderer, as with raft.
    One,
    /// Three of four, as with SmartBFT.
    Quorum,
}

/// Who reads the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Bare,
    Node,
}

/// What one reading took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) elapsed_s: f64,
    /// Seconds of a core, at either end.
    pub(crate) reader_cpu_s: f64,
    pub(crate) orderer_cpu_s: f64,
    /// The most memory that the reader had resident.
    pub(crate) peak_bytes: f64,
    /// How many appends its store made: none for one that stores nothing.
    pub(crate) appends: usize,
}

pub(crate) struct Rig {
    shape: Shape,
    dir: TempDir,
    orderer: Process,
    endpoint: String,
    /// The bytes of a block as a whole.
    raw_bytes: usize,
}

impl Rig {
    /// Makes the chain, and has it served.
    pub(crate) async fn start(shape: Shape) -> Result<Self> {
        let dir = bench::folder()?;
        let numbers = [shape.blocks, shape.bytes, shape.signatures.nodes()];
        let [blocks, bytes, nodes] = numbers.map(|number| number.to_string());
        let folder = dir.path().to_str().context("the name of a folder")?;
        let (orderer, mut lines) =
            Process::start(orderer::ROLE, [folder, &blocks, &bytes, &nodes])?;
        let line = said(&mut lines, DEADLINE).await?;
        let (endpoint, raw_bytes) = line.split_once(' ').context("where an orderer listens")?;
        Ok(Self {
            shape,
            orderer,
            endpoint: endpoint.to_owned(),
            raw_bytes: raw_bytes.parse()?,
            dir,
        })
    }

    /// Has the whole chain read.
    pub(crate) async fn read(&self, reader: Reader) -> Result<Reading> {
        let role = match reader {
            Reader::Bare => bare::ROLE,
            Reader::Node => node::ROLE,
        };
        let folder = self.dir.path().to_str().context("the name of a folder")?;
        let blocks = self.shape.blocks.to_string();
        let (mut process, mut lines) = Process::start(role, [folder, &self.endpoint, &blocks])?;
        match said(&mut lines, DEADLINE).await?.as_str() {
            READY => {}
            other => bail!("a reader begins with {other:?}"),
        }
        let (reader_before, orderer_before) = (process.usage()?, self.orderer.usage()?);
        process.order("begin").await?;
        let done = said(&mut lines, DEADLINE).await?;
        let (reader_after, orderer_after) = (process.usage()?, self.orderer.usage()?);
        process.stop().await?;
        let (elapsed_ns, appends) = done.split_once(' ').context("what a reading took")?;
        Ok(Reading {
            elapsed_s: elapsed_ns.parse::<f64>()? / 1e9,
            reader_cpu_s: reader_after.cpu_s - reader_before.cpu_s,
            orderer_cpu_s: orderer_after.cpu_s - orderer_before.cpu_s,
            peak_bytes: reader_after.peak_bytes as f64,
            appends: appends.parse()?,
        })
    }

    /// A folder on the disk that the readers write to.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.orderer.stop().await
    }
}

/// What a reader says when it can begin.
pub(crate) const READY: &str = "ready";

impl Reader {
    /// In which order they read: whoever comes second finds the orderer warm, so that they take turns.
    pub(crate) fn in_turn(round: usize) -> [Self; 2] {
        match round.is_multiple_of(2) {
            true => [Self::Bare, Self::Node],
            false => [Self::Node, Self::Bare],
        }
    }
}

impl Signatures {
    /// How many orderers there are.
    fn nodes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Quorum => 4,
        }
    }

    /// How many signatures a block has.
    pub(crate) fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Quorum => 3,
        }
    }

    /// The consensus of so many orderers.
    pub(crate) fn consensus(nodes: usize) -> Consensus {
        match nodes {
            1 => Consensus::Raft,
            _ => Consensus::Bft,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "size={}", self.size)?;
        match self.signatures {
            Signatures::One => Ok(()),
            more => write!(f, " signatures={}", more.count()),
        }
    }
}
