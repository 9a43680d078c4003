// SPDX-License-Identifier: Apache-2.0
//! A chain in memory.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    AppendError, BlockNumber, BlockReader, BlockStore, ChainInfo, HeaderHash, Height, ReadError,
    ReadLimits, VerifiedBlock,
};

/// A [`BlockStore`] that keeps everything in memory and can be told to fail.
#[derive(Debug)]
pub struct MemoryStore {
    info: watch::Sender<Option<ChainInfo>>,
    chain: Mutex<Chain>,
}

#[derive(Debug)]
struct Chain {
    info: ChainInfo,
    blocks: Vec<Bytes>,
    configs: BTreeSet<BlockNumber>,
    /// The config block in force where the chain begins, which is kept beside it.
    start_config: Option<(BlockNumber, Bytes)>,
    failures: usize,
    batches: Vec<usize>,
    closed: bool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_info(ChainInfo::EMPTY)
    }
}

impl MemoryStore {
    /// A store whose first block will be the one after this block.
    pub fn after(number: BlockNumber, hash: HeaderHash) -> Self {
        let height = number.height();
        Self::with_info(ChainInfo {
            first: height.next_block(),
            height,
            tip_hash: Some(hash),
        })
    }

    /// The same, where this config block is in force.
    pub fn after_under(number: BlockNumber, hash: HeaderHash, config: &VerifiedBlock) -> Self {
        let store = Self::after(number, hash);
        let mut chain = store.chain();
        chain.configs.insert(config.number());
        chain.start_config = Some((config.number(), config.block().raw().clone()));
        drop(chain);
        store
    }

    /// A store with these blocks in it.
    ///
    /// # Panics
    ///
    /// When they do not link.
    pub async fn with(blocks: Vec<VerifiedBlock>) -> Self {
        let store = Self::default();
        store
            .append(blocks)
            .await
            .expect("the blocks of a test link");
        store
    }

    /// Lets the next `count` appends fail.
    pub fn fail_appends(&self, count: usize) {
        self.chain().failures = count;
    }

    /// The sizes of the batches that were appended.
    pub fn batches(&self) -> Vec<usize> {
        self.chain().batches.clone()
    }

    /// Ends the chain: whoever waits is told, and nothing is appended any more.
    pub fn close(&self) {
        self.chain().closed = true;
        self.info.send_replace(None);
    }

    fn with_info(info: ChainInfo) -> Self {
        Self {
            info: watch::Sender::new(Some(info)),
            chain: Mutex::new(Chain {
                info,
                blocks: Vec::new(),
                configs: BTreeSet::new(),
                start_config: None,
                failures: 0,
                batches: Vec::new(),
                closed: false,
            }),
        }
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

#[async_trait]
impl BlockReader for MemoryStore {
    fn info(&self) -> ChainInfo {
        self.chain().info
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let chain = self.chain();
        let first = chain.info.first;
        let Some(skip) = from.get().checked_sub(first.get()) else {
            if let Some((_, config)) = chain.start_config.as_ref().filter(|(at, _)| *at == from) {
                return Ok(vec![config.clone()]);
            }
            return Err(ReadError::Gone {
                number: from,
                first,
            });
        };
        let mut bytes = 0;
        let blocks = chain
            .blocks
            .iter()
            .skip(skip as usize)
            .take(limits.blocks.get());
        Ok(blocks
            .take_while(|block| {
                let is_first = bytes == 0;
                bytes += block.len();
                is_first || bytes <= limits.bytes.get()
            })
            .cloned()
            .collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        let mut info = self.info.subscribe();
        let reached = info
            .wait_for(|info| info.is_none_or(|info| info.height >= height))
            .await
            .map_err(|_| ReadError::Closed)?;
        (*reached).ok_or(ReadError::Closed)
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.chain().configs.range(..=number).next_back().copied()
    }
}

#[async_trait]
impl BlockStore for MemoryStore {
    async fn append(&self, blocks: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError> {
        let mut chain = self.chain();
        if chain.closed {
            return Err(AppendError::Closed);
        }
        if let (Some(remaining), Some(block)) = (chain.failures.checked_sub(1), blocks.first()) {
            chain.failures = remaining;
            return Err(AppendError::Storage {
                number: block.number(),
                source: "the test said so".into(),
            });
        }
        let newest_config = chain.configs.last().copied();
        let info = chain.info.check_batch(newest_config, &blocks)?;
        chain.info = info;
        chain.batches.push(blocks.len());
        for block in blocks {
            if block.is_config() {
                chain.configs.insert(block.number());
            }
            chain.blocks.push(block.block().raw().clone());
        }
        self.info.send_replace(Some(info));
        Ok(info)
    }
}
