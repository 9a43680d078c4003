// SPDX-License-Identifier: Apache-2.0
//! The memory backend keeps the promises of a gossip backend, and its links do what they are told.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails here is meant to panic"
)]

use std::{future::ready, sync::Arc, time::Duration};

use block_api::{
    BlockNumber, BlockStore, Gossip, GossipEvent, JoinRequest, Membership, NodeId, StreamRequest,
    testing::{
        MemoryStore, OpenReaders, TestChain, gossip_conformance, gossip_conformance::Topology,
        within,
    },
};
use blockcast_gossip_memory::{Link, MemoryGossip, MemoryNetwork, NodeConfig};
use tokio::time::Instant;

fn network(topology: &Topology, link: Link) -> Vec<Arc<dyn Gossip>> {
    let network = MemoryNetwork::new(1);
    let mut nodes: Vec<MemoryGossip> = Vec::new();
    for (index, signer) in topology.signers.iter().enumerate() {
        let config = NodeConfig {
            identity: Some(signer.identity()),
            asks_readers: true,
            ..NodeConfig::default()
        };
        nodes.push(network.node_with(&format!("node-{index}"), config));
    }
    for &(a, b) in &topology.links {
        network.link(&nodes[a].node_id(), &nodes[b].node_id(), link);
    }
    nodes
        .into_iter()
        .map(|node| Arc::new(node) as Arc<dyn Gossip>)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_memory_backend_conforms() {
    gossip_conformance::run(|topology| ready(network(&topology, Link::default()))).await;
}

#[tokio::test(start_paused = true)]
async fn it_conforms_with_slow_and_uneven_links() {
    let link = Link {
        latency: Duration::from_millis(40),
        jitter: Duration::from_millis(30),
        loss: 0.0,
    };
    gossip_conformance::run(|topology| ready(network(&topology, link))).await;
}

struct Pair {
    network: MemoryNetwork,
    nodes: [MemoryGossip; 2],
    stores: [Arc<MemoryStore>; 2],
    members: [Membership; 2],
    chain: TestChain,
}

async fn pair(seed: u64, link: Link) -> Pair {
    let network = MemoryNetwork::new(seed);
    let nodes = [network.node("a"), network.node("b")];
    network.link_all(link);
    let mut chain = TestChain::new("ch");
    let genesis = TestChain::verified(&chain.config());
    let stores = [(); 2].map(|()| Arc::new(MemoryStore::default()));
    let mut members = Vec::new();
    for (node, store) in nodes.iter().zip(&stores) {
        store.append(vec![genesis.clone()]).await.unwrap();
        let request = JoinRequest {
            channel: chain.channel(),
            genesis: genesis.header_hash(),
            reader: store.clone(),
            readers: Arc::new(OpenReaders),
        };
        members.push(node.join(request).await.unwrap());
    }
    let members: [Membership; 2] = members.try_into().unwrap();
    Pair {
        network,
        nodes,
        stores,
        members,
        chain,
    }
}

/// Publishes blocks on one node and says which the other received.
async fn received(seed: u64, loss: f64) -> Vec<u64> {
    let link = Link {
        latency: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss,
    };
    let mut pair = pair(seed, link).await;
    for _ in 0..100 {
        let block = TestChain::verified(&pair.chain.data(10));
        pair.stores[0].append(vec![block.clone()]).await.unwrap();
        pair.members[0].channel.publish(&block).await.unwrap();
    }
    let mut received = Vec::new();
    let far = |status: &block_api::ChannelStatus| status.height.get() == 101;
    loop {
        match within("the end", pair.members[1].events.recv())
            .await
            .unwrap()
        {
            GossipEvent::Candidate(candidate) => received.push(candidate.block().number().get()),
            GossipEvent::Status { status, .. } if far(&status) => break,
            GossipEvent::Status { .. } | GossipEvent::Left(_) => {}
        }
    }
    for node in &pair.nodes {
        node.stop().await;
    }
    received
}

#[tokio::test(start_paused = true)]
async fn loss_follows_from_the_seed() {
    assert_eq!(received(1, 0.0).await.len(), 100);
    let lossy = received(1, 0.5).await;
    assert!(
        (20..80).contains(&lossy.len()),
        "half of 100 were to be lost, {} came",
        lossy.len()
    );
    assert_eq!(received(1, 0.5).await, lossy, "one seed, one fate");
    assert_ne!(received(2, 0.5).await, lossy, "another seed, another fate");
}

#[tokio::test(start_paused = true)]
async fn latency_is_kept() {
    let link = Link {
        latency: Duration::from_millis(250),
        ..Link::default()
    };
    let mut pair = pair(1, link).await;
    let block = TestChain::verified(&pair.chain.data(10));
    let published = Instant::now();
    pair.members[0].channel.publish(&block).await.unwrap();
    loop {
        if let Some(GossipEvent::Candidate(_)) = pair.members[1].events.recv().await {
            break;
        }
    }
    assert_eq!(published.elapsed(), Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_carries_nothing_until_it_is_healed() {
    let mut pair = pair(1, Link::default()).await;
    let (a, b): (NodeId, NodeId) = (pair.nodes[0].node_id(), pair.nodes[1].node_id());
    pair.network.cut(&a, &b);
    loop {
        if let GossipEvent::Left(node) = within("the cut", pair.members[1].events.recv())
            .await
            .unwrap()
        {
            assert_eq!(node, a);
            break;
        }
    }
    let lost = TestChain::verified(&pair.chain.data(10));
    pair.members[0].channel.publish(&lost).await.unwrap();
    assert!(pair.members[0].channel.source(&b).is_none());

    pair.network.heal(&a, &b);
    let passed = TestChain::verified(&pair.chain.data(10));
    pair.members[0].channel.publish(&passed).await.unwrap();
    loop {
        if let GossipEvent::Candidate(candidate) =
            within("a block after healing", pair.members[1].events.recv())
                .await
                .unwrap()
        {
            assert_eq!(candidate.block().number(), passed.number());
            break;
        }
    }
    assert!(pair.members[0].channel.source(&b).is_some());
}

/// A node that hangs closes no connection.
#[tokio::test(start_paused = true)]
async fn a_node_that_falls_silent_leaves_and_comes_back_with_its_status() {
    let mut pair = pair(1, Link::default()).await;
    let (a, b): (NodeId, NodeId) = (pair.nodes[0].node_id(), pair.nodes[1].node_id());
    let hears = async |events: &mut Membership, left: bool| loop {
        let event = within("news of a", events.events.recv()).await.unwrap();
        match event {
            GossipEvent::Left(node) if left => {
                assert_eq!(node, a);
                return;
            }
            GossipEvent::Status { from, .. } if !left => {
                assert_eq!(from, a);
                return;
            }
            GossipEvent::Left(_) | GossipEvent::Status { .. } | GossipEvent::Candidate(_) => {}
        }
    };
    hears(&mut pair.members[1], false).await;
    let cut = Instant::now();
    pair.network.cut_one_way(&a, &b);
    hears(&mut pair.members[1], true).await;
    let limit = NodeConfig::default().silence_limit;
    assert!(cut.elapsed() <= limit && cut.elapsed() + Duration::from_secs(1) >= limit);
    pair.network.heal(&a, &b);
    hears(&mut pair.members[1], false).await;
    // The other one was heard all the time.
    let mut left = 0;
    while let Ok(event) = pair.members[0].events.try_recv() {
        left += usize::from(matches!(event, GossipEvent::Left(_)));
    }
    assert_eq!(left, 0);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_cut_one_way_carries_the_other_way() {
    let mut pair = pair(1, Link::default()).await;
    let (a, b): (NodeId, NodeId) = (pair.nodes[0].node_id(), pair.nodes[1].node_id());
    pair.network.cut_one_way(&b, &a);
    let lost = TestChain::verified(&pair.chain.data(10));
    pair.members[1].channel.publish(&lost).await.unwrap();
    let passed = TestChain::verified(&pair.chain.data(10));
    pair.members[0].channel.publish(&passed).await.unwrap();
    assert_eq!(next_candidate(&mut pair.members[1]).await, passed.number());
    pair.network.heal(&a, &b);
    let again = TestChain::verified(&pair.chain.data(10));
    pair.members[1].channel.publish(&again).await.unwrap();
    assert_eq!(next_candidate(&mut pair.members[0]).await, again.number());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_removed_is_missed_and_may_come_back() {
    let mut pair = pair(1, Link::default()).await;
    let (a, b): (NodeId, NodeId) = (pair.nodes[0].node_id(), pair.nodes[1].node_id());
    let source = pair.members[1].channel.source(&a).unwrap();
    pair.network.remove(&a);
    loop {
        let event = within("the end of a", pair.members[1].events.recv()).await;
        if let GossipEvent::Left(node) = event.unwrap() {
            assert_eq!(node, a);
            break;
        }
    }
    let range = StreamRequest::range(pair.chain.channel(), 0.into(), 0.into());
    let endpoint = source.endpoints().remove(0);
    assert!(source.open(&endpoint, &range).await.is_err());
    assert!(pair.members[1].channel.source(&a).is_none());

    let back = pair.network.node("a");
    let request = JoinRequest {
        channel: pair.chain.channel(),
        genesis: TestChain::verified(&TestChain::new("ch").config()).header_hash(),
        reader: pair.stores[0].clone(),
        readers: Arc::new(OpenReaders),
    };
    let mut member = back.join(request).await.unwrap();
    let block = TestChain::verified(&pair.chain.data(10));
    pair.members[1].channel.publish(&block).await.unwrap();
    assert_eq!(next_candidate(&mut member).await, block.number());
    assert!(member.channel.source(&b).is_some());
}

async fn next_candidate(member: &mut Membership) -> BlockNumber {
    let candidate = async {
        loop {
            if let GossipEvent::Candidate(candidate) = member.events.recv().await.unwrap() {
                return candidate.block().number();
            }
        }
    };
    within("a candidate", candidate).await
}
