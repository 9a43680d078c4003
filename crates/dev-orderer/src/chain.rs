// SPDX-License-Identifier: Apache-2.0
//! A chain in memory, and the moment at which each of its blocks became available.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use block_api::{Block, BlockNumber, BlockReader, ChainInfo, Height, ReadError, ReadLimits};
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

/// Of so many blocks the moment is remembered, the newest ones.
const REMEMBERED_MOMENTS: usize = 100_000;

/// A chain of blocks from the genesis block on, all of it in memory: it is as large as what was
/// ordered, which suits a development network and nothing else.
#[derive(Debug)]
pub(crate) struct MemoryChain {
    blocks: Mutex<Blocks>,
    tip: watch::Sender<Tip>,
}

#[derive(Debug, Default)]
struct Blocks {
    /// By number: the chain begins with block 0.
    raw: Vec<Bytes>,
    configs: BTreeSet<BlockNumber>,
    /// When the newest blocks became available; the last one belongs to the tip.
    moments: VecDeque<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Tip {
    info: ChainInfo,
    closed: bool,
}

impl MemoryChain {
    pub(crate) fn new() -> Self {
        Self {
            blocks: Mutex::default(),
            tip: watch::Sender::new(Tip {
                info: ChainInfo::EMPTY,
                closed: false,
            }),
        }
    }

    /// Puts a block on top. It must be the next one: only this crate appends, and in order.
    pub(crate) fn append(&self, block: &Block) {
        let now = Instant::now();
        let mut blocks = self.blocks();
        debug_assert_eq!(
            block.number().get(),
            blocks.raw.len() as u64,
            "the next block"
        );
        blocks.raw.push(block.raw().clone());
        if block.number() == BlockNumber::GENESIS || block.is_config() {
            blocks.configs.insert(block.number());
        }
        if blocks.moments.len() >= REMEMBERED_MOMENTS {
            blocks.moments.pop_front();
        }
        blocks.moments.push_back(now);
        // Under the lock, so that tip and blocks grow in one order.
        self.tip.send_modify(|tip| {
            tip.info.height = block.number().height();
            tip.info.tip_hash = Some(block.header_hash());
        });
    }

    /// Takes over the blocks of a chain of this crate, as a node that is new does.
    pub(crate) fn copy_from(&self, other: &Self) {
        let blocks = other.blocks().raw.clone();
        for raw in blocks {
            self.append(&Block::parse(raw).expect("invariant: blocks were appended alone"));
        }
    }

    /// When a block became available; `None` when it did not yet, or so long ago that the moment
    /// is forgotten.
    pub(crate) fn ordered_at(&self, number: BlockNumber) -> Option<Instant> {
        let blocks = self.blocks();
        let from_tip = (blocks.raw.len() as u64).checked_sub(number.get().checked_add(1)?)?;
        let index = blocks
            .moments
            .len()
            .checked_sub(usize::try_from(from_tip).ok()?.checked_add(1)?)?;
        blocks.moments.get(index).copied()
    }

    /// Tells all who wait that the chain will grow no more.
    pub(crate) fn close(&self) {
        self.tip.send_modify(|tip| tip.closed = true);
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        // Nothing panics while it holds the lock.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlockReader for MemoryChain {
    fn info(&self) -> ChainInfo {
        self.tip.borrow().info
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let Ok(start) = usize::try_from(from.get()) else {
            return Ok(Vec::new());
        };
        let mut bytes = 0_usize;
        let mut read = Vec::new();
        for raw in self
            .blocks()
            .raw
            .iter()
            .skip(start)
            .take(limits.blocks.get())
        {
            bytes = bytes.saturating_add(raw.len());
            if bytes > limits.bytes.get() && !read.is_empty() {
                break;
            }
            read.push(raw.clone());
        }
        Ok(read)
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        let mut tip = self.tip.subscribe();
        let tip = tip
            .wait_for(|tip| tip.info.height >= height || tip.closed)
            .await
            .map_err(|_| ReadError::Closed)?;
        if tip.info.height >= height {
            Ok(tip.info)
        } else {
            Err(ReadError::Closed)
        }
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.blocks().configs.range(..=number).next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use block_api::{AppendError, BlockStore, VerifiedBlock, testing::store_conformance};

    use super::*;

    /// Covers: FLG-01, FLG-02, FLG-03, FLG-04
    #[tokio::test]
    async fn reads_as_every_store_does() {
        store_conformance::run(|| async { Arc::new(MemoryChain::new()) as Arc<dyn BlockStore> })
            .await;
    }

    /// Checks what only this crate's own order of appending keeps otherwise.
    #[async_trait]
    impl BlockStore for MemoryChain {
        async fn append(&self, blocks: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError> {
            let info = self.info();
            let newest_config = info.height.tip().and_then(|tip| self.config_at(tip));
            info.check_batch(newest_config, &blocks)?;
            for block in &blocks {
                self.append(block.block());
            }
            Ok(self.info())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_moments_of_the_newest_blocks_are_remembered() {
        let chain = MemoryChain::new();
        let start = Instant::now();
        let mut previous = Vec::new();
        for number in 0..=REMEMBERED_MOMENTS as u64 {
            let block =
                Block::assemble::<&[u8], &[u8]>(BlockNumber::new(number), &previous, &[], &[]);
            previous = block.header_hash().as_ref().to_vec();
            chain.append(&block);
            if number == 0 {
                tokio::time::advance(std::time::Duration::from_secs(1)).await;
            }
        }
        let last = BlockNumber::new(REMEMBERED_MOMENTS as u64);
        assert_eq!(
            chain.ordered_at(BlockNumber::GENESIS),
            None,
            "it was forgotten"
        );
        assert_eq!(
            chain.ordered_at(BlockNumber::new(1)),
            Some(start + std::time::Duration::from_secs(1))
        );
        assert!(chain.ordered_at(last).is_some());
        assert_eq!(
            chain.ordered_at(last.next().unwrap()),
            None,
            "it is not there"
        );
        assert_eq!(chain.ordered_at(BlockNumber::new(u64::MAX)), None);
    }

    #[tokio::test]
    async fn a_closed_chain_tells_those_who_wait() {
        let chain = MemoryChain::new();
        chain.append(&Block::assemble::<&[u8], &[u8]>(
            BlockNumber::GENESIS,
            &[],
            &[],
            &[],
        ));
        chain.close();
        assert_eq!(
            chain.wait_for(Height::new(1)).await.unwrap().height,
            Height::new(1)
        );
        assert!(matches!(
            chain.wait_for(Height::new(2)).await,
            Err(ReadError::Closed)
        ));
    }
}
