// SPDX-License-Identifier: Apache-2.0
//! Chains of benchmarks: served from memory by an ordering service, or stored.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use block_api::{BlockStore as _, Standing, VerifiedBlock, testing::OpenReaders};
use block_store::SegmentStore;
use channel_config::ChannelVerifier;
use dev_orderer::{ChainMaker, DevOrderer, NodesConfig, Pace};

use crate::node::{Files, write_files};

/// How many blocks are appended at once while a chain is stored.
const BATCH: usize = 64;

/// So many blocks behind the genesis block.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// How many there are.
    pub count: usize,
    /// The bytes of the data of each.
    pub data_bytes: usize,
}

impl Blocks {
    /// Makes them, serves them from memory, all at once, and writes to the folder what their readers
    /// need. It gives the bytes of these blocks, too.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub async fn serve(
        self,
        mut maker: ChainMaker,
        nodes: NodesConfig,
        folder: &Path,
    ) -> Result<(DevOrderer, usize)> {
        write_files(folder, maker.network())?;
        let chain = maker.chain(self.count, self.data_bytes).await?;
        let behind = chain.blocks().iter().skip(1);
        let bytes = behind.map(|block| block.raw().len()).sum();
        let readers = Arc::new(OpenReaders);
        let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, readers, nodes).await?;
        Files(folder).served_by(orderer.ordering_organization().tls_ca_pem())?;
        Ok((orderer, bytes))
    }

    /// Makes them, and stores them in a new store. It gives the bytes of these blocks.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub async fn store(
        self,
        mut maker: ChainMaker,
        config: block_store::Config,
        folder: &Path,
    ) -> Result<usize> {
        let genesis = maker.network().genesis().clone();
        let verifier = ChannelVerifier::from_genesis(&genesis)?;
        let (store, _) = SegmentStore::open(folder, config)?;
        let mut batch = vec![VerifiedBlock::new(genesis, &verifier, Standing::Linked)?];
        let mut bytes = 0;
        for _ in 0..self.count {
            let block = maker.block(&[self.data_bytes]).await?;
            bytes += block.raw().len();
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
        Ok(bytes)
    }
}
