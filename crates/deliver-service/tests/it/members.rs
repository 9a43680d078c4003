// SPDX-License-Identifier: Apache-2.0
//! Members of the network without the service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, BlockStore, Gossip, JoinRequest, Membership, ReadError,
    ReadLimits,
    testing::{AlteredStore, MemoryStore, TestChain},
};
use bytes::Bytes;
use gossip_memory::{MemoryGossip, MemoryNetwork};

use crate::harness::{Node, fill};

/// A chain of which every block takes its time to be read.
#[derive(Debug)]
pub(crate) struct Slow {
    pub(crate) store: MemoryStore,
    pub(crate) delay: Duration,
    /// From this block on nothing is given.
    pub(crate) stuck_at: BlockNumber,
    pub(crate) reads: AtomicU64,
}

impl Slow {
    pub(crate) async fn new(blocks: &[Block], delay: Duration) -> Self {
        let store = MemoryStore::default();
        fill(&store, blocks).await;
        Self {
            store,
            delay,
            stuck_at: BlockNumber::new(u64::MAX),
            reads: AtomicU64::new(0),
        }
    }
}

#[async_trait]
impl AlteredStore for Slow {
    fn inner(&self) -> &dyn BlockStore {
        &self.store
    }

    async fn instead_of_read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        // The tip is read for the status.
        if Some(from) != self.inner().info().height.tip() {
            self.reads.fetch_add(1, Ordering::SeqCst);
            if from >= self.stuck_at {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.delay).await;
        }
        self.inner().read(from, limits).await
    }
}

/// A member of the network without the service, which serves from this reader.
pub(crate) async fn member(
    network: &MemoryNetwork,
    name: &str,
    victim: &Node,
    genesis: &Block,
    reader: Arc<dyn BlockReader>,
) -> (MemoryGossip, Membership) {
    let identity = Bytes::from_static(victim.identity.as_bytes());
    member_of(network.node_of(name, identity), victim, genesis, reader).await
}

/// The same on this node of the network, which has an identity of its own.
pub(crate) async fn member_of(
    gossip: MemoryGossip,
    victim: &Node,
    genesis: &Block,
    reader: Arc<dyn BlockReader>,
) -> (MemoryGossip, Membership) {
    let parts = victim.parts(genesis);
    let joined = gossip.join(JoinRequest {
        channel: parts.channel,
        genesis: parts.genesis,
        reader,
        readers: parts.readers,
    });
    let membership = joined.await.unwrap();
    (gossip, membership)
}

/// A chain with a config block at its beginning only.
pub(crate) fn plain(count: usize) -> Vec<Block> {
    TestChain::of_blocks("ch", count, 200).1
}
