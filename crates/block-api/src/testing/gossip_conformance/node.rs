// SPDX-License-Identifier: Apache-2.0
//! A node of the suite: one backend in one channel, and what it hears there.

use std::{collections::VecDeque, sync::Arc};

use futures::StreamExt;

use super::topology::Topology;
use crate::{
    Block, BlockStore, Candidate, Capabilities, ChannelStatus, DeliverStatus, Delivery, Endpoint,
    Gossip, GossipError, GossipEvent, JoinRequest, Membership, NodeId, Readers, StreamRequest,
    VerifiedBlock,
    testing::{MemoryStore, OpenReaders, TestChain, within},
};

/// The nodes that a case runs on.
pub(super) struct Network {
    pub(super) topology: Topology,
    pub(super) network: Vec<Arc<dyn Gossip>>,
}

/// A node in one channel.
pub(super) struct Node {
    pub(super) gossip: Arc<dyn Gossip>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) membership: Membership,
    /// Statuses that came while something else was waited for.
    pub(super) heard: Vec<(NodeId, ChannelStatus)>,
    /// Candidates that came while a status was waited for.
    waiting: VecDeque<Candidate>,
}

impl Network {
    pub(super) fn capabilities(&self) -> Capabilities {
        let first = self.network.first();
        first.expect("a network has nodes").capabilities()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Gossip>> {
        self.network.iter()
    }

    pub(super) async fn join(&self, index: usize, channel: &str, genesis: &Block) -> Node {
        let joined = self.try_join(index, channel, genesis).await;
        joined.expect("a channel can be joined")
    }

    /// Joins a channel whose genesis block is in the node's store.
    pub(super) async fn try_join(
        &self,
        index: usize,
        channel: &str,
        genesis: &Block,
    ) -> Result<Node, GossipError> {
        let readers = Arc::new(OpenReaders);
        self.try_join_with(index, channel, genesis, readers).await
    }

    /// The same for a channel that not everybody may read.
    pub(super) async fn try_join_with(
        &self,
        index: usize,
        channel: &str,
        genesis: &Block,
        readers: Arc<dyn Readers>,
    ) -> Result<Node, GossipError> {
        let gossip = self
            .network
            .get(index)
            .expect("the case asked for so many nodes");
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await);
        let request = JoinRequest {
            channel: channel.parse().expect("a test names its channel well"),
            genesis: genesis.header_hash(),
            reader: store.clone(),
            readers,
        };
        let membership = within("joining", gossip.join(request)).await?;
        Ok(Node {
            gossip: gossip.clone(),
            store,
            membership,
            heard: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// For a case that does not apply.
    pub(super) async fn stop(self) {
        for node in self.network {
            within("stopping", node.stop()).await;
        }
    }
}

impl Node {
    pub(super) fn id(&self) -> NodeId {
        self.gossip.node_id()
    }

    /// The next event, however long it takes: what is waited for has the deadline, since statuses
    /// come all the time.
    pub(super) async fn event(&mut self, what: &str) -> GossipEvent {
        let event = self.membership.events.recv().await;
        event.unwrap_or_else(|| panic!("the events ended before {what}"))
    }

    pub(super) async fn candidate(&mut self) -> Candidate {
        if let Some(candidate) = self.waiting.pop_front() {
            return candidate;
        }
        let what = "a candidate";
        let candidate = async {
            loop {
                match self.event(what).await {
                    GossipEvent::Candidate(candidate) => return candidate,
                    GossipEvent::Status { from, status, .. } => self.heard.push((from, status)),
                    GossipEvent::Left(_) => {}
                }
            }
        };
        within(what, candidate).await
    }

    pub(super) async fn status(
        &mut self,
        from: &NodeId,
        what: &str,
        wanted: impl Fn(&ChannelStatus) -> bool,
    ) -> ChannelStatus {
        let mut heard = std::mem::take(&mut self.heard).into_iter();
        let status = async {
            loop {
                let (teller, status) = match heard.next() {
                    Some(heard) => heard,
                    None => match self.event(what).await {
                        GossipEvent::Status { from, status, .. } => (from, status),
                        GossipEvent::Candidate(candidate) => {
                            self.waiting.push_back(candidate);
                            continue;
                        }
                        GossipEvent::Left(_) => continue,
                    },
                };
                if teller != *from {
                    // Another check may be waiting for it; the nodes come in any order.
                    self.heard.push((teller, status));
                } else if wanted(&status) {
                    return status;
                }
            }
        };
        let status = within(what, status).await;
        self.heard.extend(heard);
        status
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

    /// The block of a candidate, fetched if it was only announced.
    pub(super) async fn body(&self, candidate: &Candidate) -> Block {
        match candidate.block().has_data() {
            true => candidate.block().clone(),
            false => self.fetch(candidate.block()).await,
        }
    }

    pub(super) async fn fetch(&self, announcement: &Block) -> Block {
        let fetched = self.membership.channel.fetch(announcement);
        within("the body of an announced block", fetched)
            .await
            .expect("an announced block can be fetched")
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

    /// Waits until it is told that a node left.
    pub(super) async fn misses(&mut self, node: &NodeId) {
        let what = format!("the leaving of {node}");
        let left = async {
            while !matches!(self.event(&what).await, GossipEvent::Left(left) if left == *node) {}
        };
        within(&what, left).await;
    }

    /// Whether a status came until now.
    pub(super) fn has_heard_statuses(&mut self) -> bool {
        while let Ok(event) = self.membership.events.try_recv() {
            if let GossipEvent::Status { from, status, .. } = event {
                self.heard.push((from, status));
            }
        }
        !self.heard.is_empty()
    }

    /// The next candidate among what has come until now.
    pub(super) fn waiting_candidate(&mut self) -> Option<Candidate> {
        if let Some(candidate) = self.waiting.pop_front() {
            return Some(candidate);
        }
        loop {
            match self.membership.events.try_recv().ok()? {
                GossipEvent::Candidate(candidate) => return Some(candidate),
                GossipEvent::Status { from, status, .. } => self.heard.push((from, status)),
                GossipEvent::Left(_) => {}
            }
        }
    }
}

pub(super) fn chain() -> TestChain {
    TestChain::new("ch")
}

/// Joins all nodes to one channel and waits until each has heard its neighbours. The last value is
/// the chain, whose genesis block every node has.
pub(super) async fn joined(network: &Network) -> (Vec<Node>, TestChain) {
    let mut chain = chain();
    let genesis = chain.config();
    (joined_to(network, "ch", &genesis).await, chain)
}

/// The same for a channel of any name.
pub(super) async fn joined_to(network: &Network, channel: &str, genesis: &Block) -> Vec<Node> {
    let mut nodes = Vec::new();
    for index in 0..network.network.len() {
        nodes.push(network.join(index, channel, genesis).await);
    }
    if !network.capabilities().knows_peers {
        return nodes;
    }
    let ids: Vec<NodeId> = nodes.iter().map(Node::id).collect();
    for (a, b) in &network.topology.links {
        for (here, there) in [(*a, *b), (*b, *a)] {
            let (Some(node), Some(id)) = (nodes.get_mut(here), ids.get(there)) else {
                unreachable!("links are among the nodes")
            };
            let status = node.status(id, "the first status", |_| true).await;
            node.heard.push((id.clone(), status));
        }
    }
    nodes
}

pub(super) async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        within("stopping", node.gossip.stop()).await;
    }
}
