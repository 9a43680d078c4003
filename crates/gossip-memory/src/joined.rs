// SPDX-License-Identifier: Apache-2.0
//! The handle of a joined channel: publishing, and having what neighbours have.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockSource, Delivery, Endpoint, Fault, FetchError, GossipChannel, GossipError, NodeId,
    StreamRequest, VerifiedBlock,
};
use futures::StreamExt as _;
use tokio::time::sleep;

use crate::{
    MemoryNetwork,
    channel::Channel,
    node::{Message, Node},
    source::PeerSource,
};

/// How long to wait before the holders of an announced block are asked again; it doubles each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// What the wait never exceeds.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The handle of a joined channel.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) network: MemoryNetwork,
    pub(crate) node: Arc<Node>,
    pub(crate) channel: Arc<Channel>,
}

#[async_trait]
impl GossipChannel for Joined {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        if self.channel.left.is_cancelled() {
            return Err(GossipError::Closed);
        }
        if self.network.neighbours(self.node.id()).is_empty() {
            // Whoever comes later learns of it by status.
            return Ok(());
        }
        // Everyone needs a config block at once, to judge what comes after it.
        let (is_config, number, block) = (block.is_config(), block.number(), block.block());
        let is_inline = is_config || block.raw().len() <= self.node.config().inline_limit;
        let relay = if is_inline {
            block.relay()
        } else {
            block.without_data().relay()
        };
        let bytes = relay.to_bytes();
        self.channel
            .remember(&bytes, self.node.config().seen_messages.get());
        self.node.send_to_all(
            &self.network,
            &Message::Block {
                topic: self.channel.topic.clone(),
                number,
                bytes,
            },
            None,
        );
        Ok(())
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            if self.channel.left.is_cancelled() {
                return Err(FetchError::Closed);
            }
            for holder in self.channel.holders(announcement) {
                if let Some(block) = self.fetch_from(&holder, announcement).await {
                    return Ok(block);
                }
            }
            tokio::select! {
                biased;
                () = self.channel.left.cancelled() => {}
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    fn set_pulling(&self, pulling: bool) {
        if self.channel.pulling.swap(pulling, Ordering::SeqCst) != pulling {
            self.channel.status_changed.notify_one();
        }
    }

    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>> {
        let peer = self.network.neighbour(self.node.id(), node)?;
        peer.channel(&self.channel.topic)?;
        let topic = self.channel.topic.clone();
        Some(Arc::new(PeerSource::new(
            self.network.clone(),
            self.node.clone(),
            peer,
            topic,
        )))
    }

    fn blame(&self, node: &NodeId, fault: Fault) {
        self.node.note_blame(node, fault);
    }

    async fn leave(&self) {
        self.node.forget(&self.channel);
        self.channel.close();
    }
}

impl Joined {
    async fn fetch_from(&self, holder: &NodeId, announcement: &Block) -> Option<Block> {
        let source = self.source(holder)?;
        let (channel, number) = (&self.channel.topic.0, announcement.number());
        let request = StreamRequest::range(channel.clone(), number, number);
        let endpoint = Endpoint::of_node(holder);
        let mut stream = source.open(&endpoint, &request).await.ok()?;
        match stream.next().await? {
            Ok(Delivery::Block(block)) => body_of(announcement, &block),
            Ok(Delivery::Status(_)) | Err(_) => None,
        }
    }
}

/// An announced block with the data of a block that a neighbour gave; `None` when it is not its data.
fn body_of(announcement: &Block, given: &Block) -> Option<Block> {
    let data = given.data_bytes()?;
    let (head, tail) = announcement.around_data(data.len());
    let block = Block::parse([head.as_slice(), &data, &tail].concat().into()).ok()?;
    block.has_claimed_data().then_some(block)
}
