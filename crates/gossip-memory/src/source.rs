// SPDX-License-Identifier: Apache-2.0
//! A neighbour as a source of blocks.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockSource, BlockStream, Content, DeliverStatus, Delivery, Endpoint,
    ReadLimits, SourceError, Start, Stop, StreamRequest, WhenMissing,
};
use futures::{StreamExt, stream};
use tokio::time::sleep;

use crate::{MemoryNetwork, channel::Topic, network::Kind, node::Node};

/// Serves ranges from the reader of a neighbour, with the latency of the link. What takes time takes
/// it by the clock of the node that asks; the neighbour's reader is called there, too.
#[derive(Debug, Clone)]
pub(crate) struct PeerSource {
    network: MemoryNetwork,
    here: Arc<Node>,
    peer: Arc<Node>,
    topic: Topic,
}

/// Where a range stands.
enum Next {
    Block(BlockNumber),
    Done,
}

impl PeerSource {
    pub(crate) fn new(
        network: MemoryNetwork,
        here: Arc<Node>,
        peer: Arc<Node>,
        topic: Topic,
    ) -> Self {
        Self {
            network,
            here,
            peer,
            topic,
        }
    }

    /// The block of this number, as it arrives; a status when it is not there.
    async fn fetch(&self, number: BlockNumber, content: Content) -> Result<Delivery, SourceError> {
        let endpoint = Endpoint::of_node(self.peer.id());
        let is_cut = self
            .network
            .draw(self.peer.id(), self.here.id(), &self.topic.0, Kind::Stream)
            .is_none();
        if is_cut || !self.network.is_there(&self.peer) {
            return Err(SourceError::Broken {
                endpoint,
                source: "the link is cut".into(),
            });
        }
        let Some(channel) = self.peer.channel(&self.topic) else {
            return Ok(Delivery::Status(DeliverStatus::NotFound));
        };
        let blocks = match channel.reader.read(number, ReadLimits::one()).await {
            Ok(blocks) => blocks,
            Err(error) => {
                return Err(SourceError::Broken {
                    endpoint,
                    source: error.into(),
                });
            }
        };
        let Some(bytes) = blocks.into_iter().next() else {
            return Ok(Delivery::Status(DeliverStatus::NotFound));
        };
        let malformed = |source| SourceError::MalformedBlock { endpoint, source };
        let block = Block::parse(bytes)
            .map_err(malformed)?
            .with_signatures_slot_only();
        Ok(Delivery::Block(match content {
            Content::Headers if !block.is_config() => block.without_data(),
            Content::Headers | Content::Blocks => block,
        }))
    }
}

#[async_trait]
impl BlockSource for PeerSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::of_node(self.peer.id())]
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let unsupported = |reason| SourceError::Unsupported {
            endpoint: endpoint.clone(),
            reason,
        };
        if *endpoint != Endpoint::of_node(self.peer.id()) {
            return Err(SourceError::UnknownEndpoint {
                endpoint: endpoint.clone(),
            });
        }
        if request.when_missing == WhenMissing::Wait {
            return Err(unsupported(
                "a peer gives ranges of what it has and does not wait for more",
            ));
        }
        // The request and the first answer take their time; what follows is on its way behind it.
        for (from, to) in [
            (self.here.id(), self.peer.id()),
            (self.peer.id(), self.here.id()),
        ] {
            let Some(latency) = self.network.draw(from, to, &self.topic.0, Kind::Stream) else {
                let endpoint = endpoint.clone();
                return Err(SourceError::Connect {
                    endpoint,
                    source: "the link is cut".into(),
                });
            };
            sleep(latency).await;
        }
        if !self.network.is_there(&self.peer) {
            let endpoint = endpoint.clone();
            return Err(SourceError::Connect {
                endpoint,
                source: "the node is gone".into(),
            });
        }
        let Some(channel) = self.peer.channel(&self.topic) else {
            return Ok(stream::iter([Ok(Delivery::Status(DeliverStatus::NotFound))]).boxed());
        };
        if !self.peer.lets_read(&self.topic, &self.here) {
            return Ok(stream::iter([Ok(Delivery::Status(DeliverStatus::Forbidden))]).boxed());
        }
        let info = channel.reader.info();
        let first = match request.start {
            Start::At(number) => number,
            Start::Oldest => info.first,
            Start::Newest => info.height.tip().unwrap_or_default(),
        };
        let last = match request.stop {
            Stop::At(number) => number,
            Stop::Newest => info.height.tip().unwrap_or_default(),
            Stop::Never => return Err(unsupported("a range without an end")),
        };
        let (source, content) = (self.clone(), request.content);
        let blocks = stream::unfold(Next::Block(first), move |next| {
            let source = source.clone();
            async move {
                let Next::Block(number) = next else {
                    return None;
                };
                if number > last {
                    return Some((Ok(Delivery::Status(DeliverStatus::Success)), Next::Done));
                }
                let delivery = source.fetch(number, content).await;
                let next = match (&delivery, number.next()) {
                    (Ok(Delivery::Block(_)), Some(next)) => Next::Block(next),
                    _ => Next::Done,
                };
                Some((delivery, next))
            }
        });
        Ok(blocks.boxed())
    }
}
