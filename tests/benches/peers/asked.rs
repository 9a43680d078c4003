// SPDX-License-Identifier: Apache-2.0
//! Gossip that notes when the first range was asked for.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use block_api::{
    Block, BlockSource, Capabilities, Fault, FetchError, Gossip, GossipChannel, GossipError,
    JoinRequest, Membership, NodeId, VerifiedBlock,
};
use tokio::time::Instant;

/// When the first range was asked for, once it was.
pub(crate) type FirstAsked = Arc<OnceLock<Instant>>;

/// A node's gossip, and the channels that it joins.
#[derive(Debug)]
pub(crate) struct Noting<T: ?Sized> {
    inner: Arc<T>,
    first: FirstAsked,
}

impl<T> Noting<T> {
    pub(crate) fn new(inner: T, first: FirstAsked) -> Self {
        let inner = Arc::new(inner);
        Self { inner, first }
    }
}

#[async_trait]
impl<T: Gossip> Gossip for Noting<T> {
    fn node_id(&self) -> NodeId {
        self.inner.node_id()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError> {
        let Membership { channel, events } = self.inner.join(request).await?;
        let first = self.first.clone();
        let channel = Arc::new(Noting {
            inner: channel,
            first,
        });
        Ok(Membership { channel, events })
    }

    async fn stop(&self) {
        self.inner.stop().await;
    }
}

#[async_trait]
impl GossipChannel for Noting<dyn GossipChannel> {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        self.inner.publish(block).await
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        self.inner.fetch(announcement).await
    }

    fn set_pulling(&self, pulling: bool) {
        self.inner.set_pulling(pulling);
    }

    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>> {
        // Nobody wants a source but to open a range on it at once.
        self.first.get_or_init(Instant::now);
        self.inner.source(node)
    }

    fn blame(&self, node: &NodeId, fault: Fault) {
        self.inner.blame(node, fault);
    }

    async fn leave(&self) {
        self.inner.leave().await;
    }
}
