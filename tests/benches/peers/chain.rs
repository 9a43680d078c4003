// SPDX-License-Identifier: Apache-2.0
//! The chain of a benchmark, once on disk for each node that gives it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use block_api::{Block, BlockStore as _, Clock as _, Standing, SystemClock, VerifiedBlock};
use block_store::SegmentStore;
use channel_config::ChannelVerifier;
use dev_orderer::ChainMaker;
use e2e_tests::{
    bench,
    node::{self, store_path},
};
use tempfile::TempDir;

/// How many blocks are appended at once while the chain is made.
const BATCH: usize = 64;

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
    pub(crate) bytes: u64,
}

impl Chain {
    /// Makes so many blocks with so many bytes of data each.
    pub(crate) async fn make(blocks: usize, bytes: usize, givers: usize) -> Result<Self> {
        let dir = bench::folder()?;
        let endpoint = "localhost:7050".parse()?;
        let config = node::network(givers + 1)?;
        let mut maker = ChainMaker::new(config, &[endpoint], SystemClock.now())?;
        node::write_files(dir.path(), maker.network())?;
        let genesis = maker.network().genesis().clone();
        let written = write(
            store_path(dir.path(), 0),
            genesis,
            &mut maker,
            (blocks, bytes),
        )
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
        usize::try_from(self.bytes).unwrap_or(usize::MAX) / self.blocks
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Stores the chain, and gives the bytes of what follows the genesis block.
async fn write(
    path: PathBuf,
    genesis: Block,
    maker: &mut ChainMaker,
    (blocks, bytes): (usize, usize),
) -> Result<u64> {
    let verifier = ChannelVerifier::from_genesis(&genesis)?;
    let config = block_store::Config::new(verifier.channel().clone());
    let (store, _) = SegmentStore::open(path, config)?;
    let mut batch = vec![VerifiedBlock::new(genesis, &verifier, Standing::Linked)?];
    let mut written = 0;
    for _ in 0..blocks {
        let block = maker.block(&[bytes]).await?;
        written += block.raw().len() as u64;
        // Nobody else makes blocks here.
        batch.push(VerifiedBlock::new(block, &verifier, Standing::Linked)?);
        if batch.len() == BATCH {
            store.append(std::mem::take(&mut batch)).await?;
        }
    }
    if !batch.is_empty() {
        store.append(batch).await?;
    }
    store.close().await;
    Ok(written)
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
