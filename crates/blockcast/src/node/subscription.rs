// SPDX-License-Identifier: Apache-2.0
//! A stream of the blocks in the store, which goes on as the chain grows.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use block_api::{Block, BlockNumber, BlockReader, ChannelId, ReadError, ReadLimits};
use bytes::Bytes;
use futures::{
    Stream,
    stream::{BoxStream, StreamExt as _, try_unfold},
};

use super::SubscribeError;

/// So many blocks and bytes are read ahead of a subscriber at most; a larger block is read alone.
const READ_AHEAD_BLOCKS: usize = 64;
const READ_AHEAD_BYTES: usize = 4 << 20;

/// The verified blocks of a channel from one number on, in order and without a gap.
///
/// The blocks come from the node's store, which takes verified blocks only. Nothing is read before
/// it is asked for, apart from a few blocks ahead: a slow subscriber holds nobody up and costs no
/// memory. At the tip the stream waits for the next block. It never ends but with an error, when
/// the node is stopped or a block cannot be had; after an error there is nothing more.
pub struct Subscription {
    channel: ChannelId,
    blocks: BoxStream<'static, Result<Block, SubscribeError>>,
}

struct Cursor {
    channel: ChannelId,
    reader: Arc<dyn BlockReader>,
    next: BlockNumber,
    ahead: VecDeque<Bytes>,
}

impl Subscription {
    pub(super) fn new(channel: ChannelId, reader: Arc<dyn BlockReader>, from: BlockNumber) -> Self {
        let cursor = Cursor {
            channel: channel.clone(),
            reader,
            next: from,
            ahead: VecDeque::new(),
        };
        let blocks = try_unfold(cursor, |mut cursor| async move {
            let block = cursor.block().await?;
            Ok(Some((block, cursor)))
        });
        Self {
            channel,
            blocks: blocks.boxed(),
        }
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }
}

impl Stream for Subscription {
    type Item = Result<Block, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.blocks.poll_next_unpin(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

impl Cursor {
    async fn block(&mut self) -> Result<Block, SubscribeError> {
        let raw = loop {
            if let Some(raw) = self.ahead.pop_front() {
                break raw;
            }
            let wait = self.reader.wait_for(self.next.height()).await;
            wait.map_err(|source| self.failed(source))?;
            let limits = ReadLimits::new(READ_AHEAD_BLOCKS, READ_AHEAD_BYTES);
            let read = self.reader.read(self.next, limits).await;
            self.ahead = read.map_err(|source| self.failed(source))?.into();
        };
        let damaged = |source| SubscribeError::Damaged {
            channel: self.channel.clone(),
            number: self.next,
            source,
        };
        let block = Block::parse(raw).map_err(damaged)?;
        self.next = self.next.height().next_block();
        Ok(block)
    }

    fn failed(&self, source: ReadError) -> SubscribeError {
        let channel = self.channel.clone();
        match source {
            ReadError::Gone { number, first } => SubscribeError::Gone {
                channel,
                number,
                first,
            },
            ReadError::Closed => SubscribeError::Stopped {
                channel,
                next: self.next,
            },
            source @ (ReadError::Storage { .. } | _) => SubscribeError::Read { channel, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use block_api::{
        BlockStore as _, Height,
        testing::{MemoryStore, TestChain},
    };
    use futures::FutureExt as _;

    use super::*;

    async fn store_of(blocks: usize) -> (TestChain, Arc<MemoryStore>) {
        let (chain, blocks) = TestChain::of_blocks("ch", blocks, 10);
        let store = MemoryStore::with(blocks.iter().map(TestChain::verified).collect()).await;
        (chain, Arc::new(store))
    }

    #[tokio::test]
    async fn blocks_come_in_order_and_go_on_at_the_tip() {
        let (mut chain, store) = store_of(200).await;
        let from = BlockNumber::new(3);
        let mut subscription = Subscription::new(chain.channel(), store.clone(), from);
        for number in 3..200 {
            let block = subscription.next().await.unwrap().unwrap();
            assert_eq!(block.number(), BlockNumber::new(number));
        }
        assert!(
            subscription.next().now_or_never().is_none(),
            "it waits at the tip"
        );
        let block = chain.data(10);
        store
            .append(vec![TestChain::verified(&block)])
            .await
            .unwrap();
        assert_eq!(
            subscription.next().await.unwrap().unwrap().raw(),
            block.raw()
        );
    }

    #[tokio::test]
    async fn a_start_above_the_tip_waits_for_its_block() {
        let (mut chain, store) = store_of(2).await;
        let from = Height::new(3).next_block();
        let mut subscription = Subscription::new(chain.channel(), store.clone(), from);
        assert!(subscription.next().now_or_never().is_none());
        for _ in 0..2 {
            let block = chain.data(10);
            store
                .append(vec![TestChain::verified(&block)])
                .await
                .unwrap();
        }
        assert_eq!(subscription.next().await.unwrap().unwrap().number(), from);
    }

    #[tokio::test]
    async fn a_pruned_start_and_a_closed_store_are_errors_and_the_end() {
        let (mut chain, blocks) = TestChain::of_blocks("ch", 5, 10);
        let tip = blocks.last().unwrap();
        let store = Arc::new(MemoryStore::after(tip.number(), tip.header_hash()));
        let block = chain.data(10);
        store
            .append(vec![TestChain::verified(&block)])
            .await
            .unwrap();

        let mut pruned = Subscription::new(chain.channel(), store.clone(), BlockNumber::GENESIS);
        let error = pruned.next().await.unwrap().unwrap_err();
        assert!(
            matches!(error, SubscribeError::Gone { first, .. } if first == block.number()),
            "{error}"
        );
        assert!(pruned.next().await.is_none());

        let mut live = Subscription::new(chain.channel(), store.clone(), block.number());
        assert_eq!(live.next().await.unwrap().unwrap().raw(), block.raw());
        store.close();
        let error = live.next().await.unwrap().unwrap_err();
        assert!(
            matches!(error, SubscribeError::Stopped { next, .. } if next == BlockNumber::new(6)),
            "{error}"
        );
        assert!(live.next().await.is_none());
    }
}
