// SPDX-License-Identifier: Apache-2.0
//! A node in a channel, and lines of them.

use std::{collections::BTreeSet, sync::Arc};

use block_api::{
    Block, BlockStore, Candidate, ChannelStatus, Gossip, GossipEvent, JoinRequest, Membership,
    NodeId, Readers, Signer,
    testing::{MemoryStore, OpenReaders, TestChain, TestSigner, within},
};
use blockcast_gossip_libp2p::Libp2pGossip;

use crate::support::network_of;

/// A node in a channel.
pub(crate) struct Member {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) membership: Membership,
}

impl Member {
    /// Joins a node to the channel of this genesis block.
    pub(crate) async fn join(node: &Libp2pGossip, channel: &str, genesis: &Block) -> Self {
        Self::join_with(node, channel, genesis, Arc::new(OpenReaders)).await
    }

    /// The same, with these readers.
    pub(crate) async fn join_with(
        node: &Libp2pGossip,
        channel: &str,
        genesis: &Block,
        readers: Arc<dyn Readers>,
    ) -> Self {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await);
        let request = JoinRequest {
            channel: channel.parse().unwrap(),
            genesis: genesis.header_hash(),
            reader: store.clone(),
            readers,
        };
        let membership = within("joining", node.join(request)).await.unwrap();
        Self { store, membership }
    }

    /// Stores a block that links, and publishes it in any case.
    pub(crate) async fn publish(&self, block: &Block) {
        let block = TestChain::verified(block);
        let _ = self.store.append(vec![block.clone()]).await;
        within("publishing", self.membership.channel.publish(&block))
            .await
            .unwrap();
    }

    pub(crate) async fn event(&mut self, what: &str) -> GossipEvent {
        within(what, self.membership.events.recv()).await.unwrap()
    }

    /// The next candidate; statuses before it are dropped.
    pub(crate) async fn candidate(&mut self) -> Candidate {
        loop {
            if let GossipEvent::Candidate(candidate) = self.event("a candidate").await {
                return candidate;
            }
        }
    }

    /// Waits for a status of each of these nodes, in any order.
    pub(crate) async fn hears(&mut self, nodes: &[&Libp2pGossip]) {
        let mut missing: BTreeSet<NodeId> = nodes.iter().map(|node| node.node_id()).collect();
        while !missing.is_empty() {
            if let GossipEvent::Status { from, .. } = self.event("a status of each neighbour").await
            {
                missing.remove(&from);
            }
        }
    }

    /// Waits for a status as wanted.
    pub(crate) async fn status(
        &mut self,
        wanted: impl Fn(&ChannelStatus) -> bool,
    ) -> ChannelStatus {
        loop {
            if let GossipEvent::Status { status, .. } = self.event("the wanted status").await
                && wanted(&status)
            {
                return status;
            }
        }
    }
}

/// Joins all nodes of a line to one channel, and waits until each has heard its neighbours.
pub(crate) async fn line(nodes: &[Libp2pGossip]) -> (Vec<Member>, TestChain) {
    let links: Vec<(usize, usize)> = (1..nodes.len()).map(|place| (place - 1, place)).collect();
    joined(nodes, &links).await
}

/// The same for nodes that are linked otherwise.
pub(crate) async fn joined(
    nodes: &[Libp2pGossip],
    links: &[(usize, usize)],
) -> (Vec<Member>, TestChain) {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let mut members = Vec::new();
    for node in nodes {
        members.push(Member::join(node, "ch", &genesis).await);
    }
    for (place, member) in members.iter_mut().enumerate() {
        let neighbours = links.iter().filter_map(|(one, other)| match place {
            here if here == *one => nodes.get(*other),
            here if here == *other => nodes.get(*one),
            _ => None,
        });
        let neighbours: Vec<&Libp2pGossip> = neighbours.collect();
        member.hears(&neighbours).await;
    }
    (members, chain)
}

/// So many nodes of one identity, connected along these links and no others.
pub(crate) async fn network(count: usize, links: &[(usize, usize)]) -> Vec<Libp2pGossip> {
    let signer = |_| Arc::new(TestSigner("node")) as Arc<dyn Signer>;
    network_of((0..count).map(signer).collect(), links).await
}
