// SPDX-License-Identifier: Apache-2.0
//! A chain of which the newest block alone is kept, so that what a node needs beside it shows in its
//! memory.

use async_trait::async_trait;
use block_api::{Block, BlockNumber, BlockReader, ChainInfo, Height, ReadError, ReadLimits};
use bytes::Bytes;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Newest {
    kept: watch::Sender<Kept>,
}

#[derive(Debug)]
struct Kept {
    info: ChainInfo,
    raw: Bytes,
}

impl Default for Newest {
    fn default() -> Self {
        Self {
            kept: watch::Sender::new(Kept {
                info: ChainInfo::EMPTY,
                raw: Bytes::new(),
            }),
        }
    }
}

impl Newest {
    /// Keeps a block in the place of the one before it.
    pub(crate) fn keep(&self, block: &Block) {
        self.kept.send_replace(Kept {
            info: ChainInfo {
                first: block.number(),
                height: block.number().height(),
                tip_hash: Some(block.header_hash()),
            },
            raw: block.raw().clone(),
        });
    }
}

#[async_trait]
impl BlockReader for Newest {
    fn info(&self) -> ChainInfo {
        self.kept.borrow().info
    }

    async fn read(&self, from: BlockNumber, _: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let kept = self.kept.borrow();
        let first = kept.info.first;
        if from < first {
            return Err(ReadError::Gone {
                number: from,
                first,
            });
        }
        Ok(match from.height() <= kept.info.height {
            true => vec![kept.raw.clone()],
            false => Vec::new(),
        })
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        let mut kept = self.kept.subscribe();
        let reached = kept.wait_for(|kept| kept.info.height >= height).await;
        Ok(reached.map_err(|_| ReadError::Closed)?.info)
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}
