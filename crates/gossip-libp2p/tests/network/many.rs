// SPDX-License-Identifier: Apache-2.0
//! More nodes than are linked to each other.

use std::collections::BTreeSet;

use block_api::{
    Answer, Block, Gossip as _, GossipEvent,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::Libp2pGossip;

use crate::{
    member::{Member, joined, network},
    support::{connect, peers},
};

/// Each node is linked to the next one and to one further on, round and round.
fn ring(count: usize) -> Vec<(usize, usize)> {
    let links = |node| [(node, (node + 1) % count), (node, (node + 5) % count)];
    (0..count).flat_map(links).collect()
}

/// Waits until a node has heard statuses of so many others.
async fn hears(member: &mut Member, neighbours: usize) {
    let mut heard = BTreeSet::new();
    let all = async {
        while heard.len() < neighbours {
            if let Some(GossipEvent::Status { from, .. }) = member.membership.events.recv().await {
                heard.insert(from);
            }
        }
    };
    within("the statuses of the neighbours", all).await;
}

/// Takes candidates until each of these blocks came; says how many came.
async fn has_all(member: &mut Member, blocks: &[Block]) -> usize {
    let mut missing: BTreeSet<_> = blocks.iter().map(Block::header_hash).collect();
    let mut came = 0;
    let all = async {
        while !missing.is_empty() {
            let block = member.candidate().await.answer(Answer::Accept);
            missing.remove(&block.header_hash());
            came += 1;
        }
    };
    within("every block", all).await;
    came
}

/// Covers: GOS-04, GOS-06
#[tokio::test(flavor = "multi_thread")]
async fn each_of_twenty_nodes_has_each_of_ten_blocks_once() {
    const NODES: usize = 20;
    let links = ring(NODES);
    let nodes = network(NODES, &links).await;
    let (mut members, mut chain) = joined(&nodes, &links).await;
    let blocks: Vec<Block> = (0..10).map(|_| chain.data(1000)).collect();
    for block in &blocks {
        members[0].publish(block).await;
    }
    let others = members.iter_mut().skip(1);
    let all = others.map(|member| has_all(member, &blocks));
    let came = futures::future::join_all(all).await;
    assert_eq!(came, [10; NODES - 1], "a block came twice");
    for node in &nodes {
        node.stop().await;
    }
}

/// Covers: GOS-10
#[tokio::test(flavor = "multi_thread")]
async fn every_node_publishes_and_every_node_has_all() {
    const NODES: usize = 8;
    let links = ring(NODES);
    let nodes = network(NODES, &links).await;
    let (mut members, mut chain) = joined(&nodes, &links).await;
    let blocks: Vec<Block> = members.iter().map(|_| chain.data(1000)).collect();
    let all = members.iter().zip(&blocks);
    futures::future::join_all(all.map(|(member, block)| member.publish(block))).await;
    let all = members.iter_mut().enumerate().map(|(index, member)| {
        let mut others = blocks.clone();
        others.remove(index);
        async move { has_all(member, &others).await }
    });
    let came = futures::future::join_all(all).await;
    assert_eq!(
        came,
        [NODES - 1; NODES],
        "a block came twice, or an own one"
    );
    for node in &nodes {
        node.stop().await;
    }
}

/// Covers: GOS-07
#[tokio::test(flavor = "multi_thread")]
async fn islands_are_joined_by_a_bridge_and_outlive_it() {
    let island = |first: usize| {
        [
            (first, first + 1),
            (first + 1, first + 2),
            (first, first + 2),
        ]
    };
    let links = [island(0), island(3), island(6)].concat();
    let nodes = network(10, &links).await;
    let (islanders, bridge) = (&nodes[..9], &nodes[9]);
    let (mut members, mut chain) = joined(islanders, &links).await;
    for first in [0, 3, 6] {
        connect(bridge, &islanders[first]).await;
    }
    let genesis = TestChain::new("ch").config();
    let mut crossing = Member::join(bridge, "ch", &genesis).await;
    hears(&mut crossing, 3).await;
    for first in [0, 3, 6] {
        hears_of(&mut members[first], bridge).await;
    }
    let block = chain.data(1000);
    members[1].publish(&block).await;
    let over = async { crossing.candidate().await.answer(Answer::Accept) };
    let blocks = [block.clone()];
    let here = [0, 2, 3, 4, 5, 6, 7, 8];
    let members_of = members.iter_mut().enumerate();
    let reached = members_of.filter(|(index, _)| here.contains(index));
    let reached = reached.map(|(_, member)| has_all(member, &blocks));
    let (crossed, _) = tokio::join!(over, futures::future::join_all(reached));
    assert_eq!(crossed.header_hash(), block.header_hash());

    bridge.stop().await;
    for first in [0, 3, 6] {
        peers(&islanders[first], |peers| peers.len() == 2).await;
    }
    for first in [0, 3, 6] {
        let block = chain.data(1000);
        members[first].publish(&block).await;
        for islander in [first + 1, first + 2] {
            has_all(&mut members[islander], std::slice::from_ref(&block)).await;
        }
    }
    for node in islanders {
        node.stop().await;
    }
}

async fn hears_of(member: &mut Member, node: &Libp2pGossip) {
    let id = node.node_id();
    let heard = async {
        loop {
            if let Some(GossipEvent::Status { from, .. }) = member.membership.events.recv().await
                && from == id
            {
                return;
            }
        }
    };
    within("a status of the bridge", heard).await;
}
