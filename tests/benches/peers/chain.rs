// SPDX-License-Identifier: Apache-2.0
//! The chain of a benchmark, once on disk for each node that gives it.

use std::{fs, path::Path};

use anyhow::Result;
use block_api::{Clock as _, SystemClock};
use dev_orderer::ChainMaker;
use e2e_tests::{
    bench::{self, Blocks},
    node::{self, CHANNEL, store_path},
};
use tempfile::TempDir;

/// The network's files, the genesis block, and a store for each node but the one that catches up.
pub(crate) struct Chain {
    dir: TempDir,
    /// How many nodes give it.
    pub(crate) givers: usize,
    /// How many blocks it has beside the genesis block.
    pub(crate) blocks: usize,
    /// The bytes of a block's data.
    pub(crate) data_bytes: usize,
    /// The bytes of those blocks.
    pub(crate) bytes: usize,
}

impl Chain {
    /// Makes so many blocks with so many bytes of data each.
    pub(crate) async fn make(blocks: usize, bytes: usize, givers: usize) -> Result<Self> {
        let dir = bench::folder()?;
        let endpoint = "localhost:7050".parse()?;
        let config = node::network(givers + 1)?;
        let maker = ChainMaker::new(config, &[endpoint], SystemClock.now())?;
        node::write_files(dir.path(), maker.network())?;
        let made = Blocks {
            count: blocks,
            data_bytes: bytes,
        };
        let config = block_store::Config::new(CHANNEL.parse()?);
        let written = made
            .store(maker, config, &store_path(dir.path(), 0))
            .await?;
        for giver in 1..givers {
            share(&store_path(dir.path(), 0), &store_path(dir.path(), giver))?;
        }
        Ok(Self {
            dir,
            givers,
            blocks,
            data_bytes: bytes,
            bytes: written,
        })
    }

    /// The bytes of a block as a whole.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.bytes / self.blocks
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Gives another node the same files: nobody writes to them any more. Each node locks its own store.
fn share(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != "lock" {
            fs::hard_link(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
