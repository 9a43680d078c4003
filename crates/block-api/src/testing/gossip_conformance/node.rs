// SPDX-License-Identifier: Apache-2.0
//! A node of the suite: one backend in one channel, and what it hears there.

use std::sync::Arc;

use futures::StreamExt;

use crate::{
    Block, BlockStore, Candidate, ChannelStatus, DeliverStatus, Delivery, Endpoint, Gossip,
    GossipEvent, JoinRequest, Membership, NodeId, StreamRequest, VerifiedBlock,
    testing::{MemoryStore, OpenReaders, TestChain, within},
};

/// A node in one channel.
pub(super) struct Node {
    pub(super) gossip: Arc<dyn Gossip>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) membership: Membership,
    /// Statuses that came while something else was waited for.
    pub(super) heard: Vec<(NodeId, ChannelStatus)>,
}

impl Node {
    pub(super) async fn join(
        gossip: &Arc<dyn Gossip>,
        request: JoinRequest,
        store: Arc<MemoryStore>,
    ) -> Self {
        let membership = gossip.join(request).await.expect("a channel can be joined");
        Self {
            gossip: gossip.clone(),
            store,
            membership,
            heard: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.gossip.node_id()
    }

    pub(super) async fn event(&mut self, what: &str) -> GossipEvent {
        within(what, self.membership.events.recv())
            .await
            .unwrap_or_else(|| panic!("the events ended before {what}"))
    }

    pub(super) async fn candidate(&mut self) -> Candidate {
        loop {
            match self.event("a candidate").await {
                GossipEvent::Candidate(candidate) => return candidate,
                GossipEvent::Status { from, status, .. } => self.heard.push((from, status)),
                GossipEvent::Left(_) => {}
            }
        }
    }

    pub(super) async fn status(
        &mut self,
        from: &NodeId,
        what: &str,
        wanted: impl Fn(&ChannelStatus) -> bool,
    ) -> ChannelStatus {
        let mut heard = std::mem::take(&mut self.heard).into_iter();
        loop {
            let (teller, status) = match heard.next() {
                Some(heard) => heard,
                None => match self.event(what).await {
                    GossipEvent::Status { from, status, .. } => (from, status),
                    GossipEvent::Candidate(_) | GossipEvent::Left(_) => continue,
                },
            };
            if teller != *from {
                // Another check may be waiting for it; the nodes come in any order.
                self.heard.push((teller, status));
            } else if wanted(&status) {
                self.heard.extend(heard);
                return status;
            }
        }
    }

    pub(super) async fn publish(&self, block: &Block) {
        self.publish_verified(&TestChain::verified(block)).await;
    }

    pub(super) async fn publish_verified(&self, block: &VerifiedBlock) {
        // Out of order, the test publishes what is not in the store.
        let _ = self.store.append(vec![block.clone()]).await;
        within("publishing", self.membership.channel.publish(block))
            .await
            .expect("a block can be published");
    }

    /// The block of a candidate, fetched from its sender if it was only announced.
    pub(super) async fn body(&self, candidate: &Candidate) -> Block {
        if candidate.block().has_data() {
            return candidate.block().clone();
        }
        let number = candidate.block().number();
        let blocks = self
            .range(candidate.from(), number.get(), number.get())
            .await
            .0;
        blocks
            .into_iter()
            .next()
            .expect("the sender of an announcement has the block")
    }

    pub(super) async fn range(
        &self,
        from: &NodeId,
        first: u64,
        last: u64,
    ) -> (Vec<Block>, Option<DeliverStatus>) {
        let source = self
            .membership
            .channel
            .source(from)
            .expect("a connected node is a source");
        let request = StreamRequest::range(chain().channel(), first.into(), last.into());
        let endpoint = Endpoint::of_node(from);
        let opened = source.open(&endpoint, &request);
        let mut stream = within("opening a range", opened)
            .await
            .expect("a range can be opened");
        let mut blocks = Vec::new();
        while let Some(delivery) = within("the next block of a range", stream.next()).await {
            match delivery.expect("a range comes whole") {
                Delivery::Block(block) => blocks.push(block),
                Delivery::Status(status) => return (blocks, Some(status)),
            }
        }
        (blocks, None)
    }
}

pub(super) fn chain() -> TestChain {
    TestChain::new("ch")
}

pub(super) fn request(channel: &str, genesis: &Block, store: &Arc<MemoryStore>) -> JoinRequest {
    JoinRequest {
        channel: channel.parse().expect("a test names its channel well"),
        genesis: genesis.header_hash(),
        reader: store.clone(),
        readers: Arc::new(OpenReaders),
    }
}

/// Joins all nodes to one channel and waits until each has heard its neighbours. The last value is
/// the chain, whose genesis block every node has.
pub(super) async fn joined(
    network: &[Arc<dyn Gossip>],
    links: &[(usize, usize)],
) -> (Vec<Node>, TestChain) {
    let mut chain = chain();
    let genesis = chain.config();
    let mut nodes = Vec::new();
    for gossip in network {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
        nodes.push(Node::join(gossip, request("ch", &genesis, &store), store).await);
    }
    let ids: Vec<NodeId> = nodes.iter().map(Node::id).collect();
    for (a, b) in links {
        for (here, there) in [(*a, *b), (*b, *a)] {
            let (Some(node), Some(id)) = (nodes.get_mut(here), ids.get(there)) else {
                unreachable!("links are among the nodes")
            };
            let status = node.status(id, "the first status", |_| true).await;
            node.heard.push((id.clone(), status));
        }
    }
    (nodes, chain)
}

pub(super) async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        within("stopping", node.gossip.stop()).await;
    }
}
