// SPDX-License-Identifier: Apache-2.0
//! A chain in memory that grows, fails and starts late as a test says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use block_api::{BlockNumber, BlockReader, ChainInfo, Height, ReadError, ReadLimits};
use bytes::Bytes;
use tokio::sync::watch;

use super::{HEIGHT, recorded};

#[derive(Debug)]
pub(crate) struct Ledger {
    first: AtomicU64,
    blocks: Mutex<Vec<Bytes>>,
    /// The height; `None` once closed.
    height: watch::Sender<Option<u64>>,
    /// The heights that somebody waited for.
    waits: watch::Sender<Vec<u64>>,
    broken: Mutex<bool>,
    reads: Mutex<Vec<ReadLimits>>,
}

impl Ledger {
    /// The recorded chain.
    pub(crate) fn recorded() -> Arc<Self> {
        Self::starting_at(0, (0..HEIGHT).map(recorded).collect())
    }

    /// The blocks from `first` on; without any, a chain that is known up to the block before.
    pub(crate) fn starting_at(first: u64, blocks: Vec<Bytes>) -> Arc<Self> {
        let height = first + blocks.len() as u64;
        Arc::new(Self {
            first: AtomicU64::new(first),
            blocks: Mutex::new(blocks),
            height: watch::Sender::new(Some(height)),
            waits: watch::Sender::default(),
            broken: Mutex::default(),
            reads: Mutex::default(),
        })
    }

    pub(crate) fn append(&self, block: Bytes) {
        self.blocks.lock().unwrap().push(block);
        self.height
            .send_modify(|height| *height = height.map(|height| height + 1));
    }

    pub(crate) fn block(&self, number: u64) -> Bytes {
        self.blocks.lock().unwrap()[(number - self.first()) as usize].clone()
    }

    /// Drops the blocks below this one.
    pub(crate) fn prune(&self, first: u64) {
        let dropped = first - self.first.swap(first, Ordering::SeqCst);
        self.blocks.lock().unwrap().drain(..dropped as usize);
    }

    pub(crate) fn close(&self) {
        self.height.send_replace(None);
    }

    /// Lets every read fail.
    pub(crate) fn break_reads(&self) {
        *self.broken.lock().unwrap() = true;
    }

    /// Waits until somebody waits for this height.
    pub(crate) async fn waited_for(&self, height: u64) {
        let mut waits = self.waits.subscribe();
        waits
            .wait_for(|waits| waits.contains(&height))
            .await
            .unwrap();
    }

    /// The limits of all reads so far.
    pub(crate) fn reads(&self) -> Vec<ReadLimits> {
        self.reads.lock().unwrap().clone()
    }

    fn first(&self) -> u64 {
        self.first.load(Ordering::SeqCst)
    }

    fn height(&self) -> u64 {
        self.first() + self.blocks.lock().unwrap().len() as u64
    }
}

#[async_trait]
impl BlockReader for Ledger {
    fn info(&self) -> ChainInfo {
        ChainInfo {
            first: BlockNumber::new(self.first()),
            height: Height::new(self.height()),
            tip_hash: None,
        }
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        self.reads.lock().unwrap().push(limits);
        if *self.broken.lock().unwrap() {
            return Err(ReadError::Storage {
                number: from,
                source: "the disk is on fire".into(),
            });
        }
        let first = BlockNumber::new(self.first());
        let skip = from
            .get()
            .checked_sub(self.first())
            .ok_or(ReadError::Gone {
                number: from,
                first,
            })?;
        let mut bytes = 0;
        let blocks = self.blocks.lock().unwrap();
        let wanted = blocks.iter().skip(skip as usize).take(limits.blocks.get());
        let wanted = wanted.take_while(|block| {
            let fits = bytes == 0 || bytes + block.len() <= limits.bytes.get();
            bytes += block.len();
            fits
        });
        Ok(wanted.cloned().collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        if self.height() < height.get() {
            self.waits.send_modify(|waits| waits.push(height.get()));
        }
        let reached = |now: &Option<u64>| now.is_none_or(|now| now >= height.get());
        let mut heights = self.height.subscribe();
        match *heights
            .wait_for(reached)
            .await
            .map_err(|_| ReadError::Closed)?
        {
            Some(_) => Ok(self.info()),
            None => Err(ReadError::Closed),
        }
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}
