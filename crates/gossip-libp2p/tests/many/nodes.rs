// SPDX-License-Identifier: Apache-2.0
//! Networks that grow from one address that each node knows.

use std::collections::BTreeMap;

use block_api::{
    Answer, Block, Gossip, GossipEvent, NodeId,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip, Multiaddr};
use futures::future::join_all;

use crate::{
    member::Member,
    support::{config, peers},
};

/// A node that tells where it is, and that knows these.
async fn start(seeds: &[Multiaddr]) -> Libp2pGossip {
    let config = Config {
        admission: Admission::Anyone,
        external_addrs: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        peers: seeds.to_vec(),
        target_peers: 32,
        ..config(Keypair::generate(), &[])
    };
    Libp2pGossip::start(config).await.unwrap()
}

/// So many nodes, each with the first one as its only static peer.
async fn around_one(count: usize) -> Vec<Libp2pGossip> {
    let mut nodes = vec![start(&[]).await];
    let seeds = nodes[0].peer_addrs();
    for _ in 1..count {
        nodes.push(start(&seeds).await);
    }
    nodes
}

/// Joins all nodes to one channel; returns when each is connected to each.
async fn join(nodes: &[Libp2pGossip]) -> (Vec<Member>, TestChain) {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let joined = nodes.iter().map(|node| Member::join(node, "ch", &genesis));
    let members = join_all(joined).await;
    for node in nodes {
        // One after the other, so that the deadline is one for each step.
        for count in 1..nodes.len() {
            peers(node, |peers| peers.len() >= count).await;
        }
    }
    (members, chain)
}

/// Waits until each member has heard of each other node.
async fn meet(members: &mut [Member], nodes: &[Libp2pGossip]) {
    let met = members.iter_mut().enumerate().map(async |(place, member)| {
        let others: Vec<&Libp2pGossip> = nodes
            .iter()
            .enumerate()
            .filter_map(|(other, node)| (other != place).then_some(node))
            .collect();
        member.hears(&others).await;
    });
    join_all(met).await;
}

/// Accepts so many candidates, and counts them by their numbers.
async fn take(member: &mut Member, count: usize) -> BTreeMap<u64, usize> {
    let mut taken = BTreeMap::new();
    for _ in 0..count {
        let block = member.candidate().await.answer(Answer::Accept);
        *taken.entry(block.number().get()).or_default() += 1;
    }
    taken
}

/// Whether a candidate waits to be read.
fn has_another(member: &mut Member) -> bool {
    std::iter::from_fn(|| member.membership.events.try_recv().ok())
        .any(|event| matches!(event, GossipEvent::Candidate(_)))
}

/// Each member publishes its block at the same time; every other one gets it once, and it itself
/// does not. Then one more block goes around, after which there is nothing left of the first ones.
async fn each_reaches_each(members: &mut [Member], blocks: &[Block], last: &Block) {
    join_all(
        members
            .iter()
            .zip(blocks)
            .map(|(member, block)| member.publish(block)),
    )
    .await;
    let taken = members.iter_mut().enumerate().map(async |(place, member)| {
        let own = usize::from(place < blocks.len());
        let taken = take(member, blocks.len() - own).await;
        let expected = blocks
            .iter()
            .enumerate()
            .filter_map(|(by, block)| (by != place).then_some((block.number().get(), 1)))
            .collect();
        assert_eq!(taken, expected, "member {place}");
    });
    join_all(taken).await;
    let (first, others) = members.split_first_mut().unwrap();
    first.publish(last).await;
    for member in others {
        assert_eq!(
            member.candidate().await.answer(Answer::Accept).number(),
            last.number()
        );
        assert!(!has_another(member));
    }
    assert!(!has_another(first), "a member got a block of its own");
}

async fn stop(nodes: Vec<Libp2pGossip>) {
    within("stopping", join_all(nodes.iter().map(Gossip::stop))).await;
}

/// Covers: GOS-04, GOS-05, GOS-06
#[tokio::test(flavor = "multi_thread")]
async fn twenty_nodes_meet_by_way_of_one_and_each_gets_each_of_ten_blocks_once() {
    let nodes = around_one(20).await;
    let (mut members, mut chain) = join(&nodes).await;
    meet(&mut members, &nodes).await;
    let blocks: Vec<Block> = (0..10).map(|_| chain.data(100)).collect();
    each_reaches_each(&mut members, &blocks, &chain.data(100)).await;
    // How a member stands is known to all of them, not to its neighbours in the mesh alone.
    members[7].membership.channel.set_pulling(true);
    let pulling = members
        .iter_mut()
        .enumerate()
        .filter(|(place, _)| *place != 7)
        .map(async |(_, member)| member.status(|status| status.pulling).await);
    assert_eq!(join_all(pulling).await.len(), 19);
    stop(nodes).await;
}

/// Covers: GOS-07
#[tokio::test(flavor = "multi_thread")]
async fn three_islands_that_a_bridge_joined_stay_together_without_it() {
    let mut nodes = Vec::new();
    let mut seeds = Vec::new();
    for _ in 0..3 {
        let island = around_one(3).await;
        seeds.extend(island[0].peer_addrs());
        nodes.extend(island);
    }
    let islands: Vec<NodeId> = nodes.iter().map(Libp2pGossip::node_id).collect();
    for (place, node) in nodes.iter().enumerate() {
        let first = place / 3 * 3;
        let seen = node.peers().borrow().clone();
        assert!(
            seen.iter()
                .all(|peer| islands[first..first + 3].contains(peer))
        );
    }
    nodes.push(start(&seeds).await);
    let (mut members, mut chain) = join(&nodes).await;
    meet(&mut members, &nodes).await;

    let bridge = nodes.pop().unwrap();
    drop(members.pop());
    bridge.stop().await;
    let left = join_all(nodes.iter().map(|node| {
        let bridge = bridge.node_id();
        peers(node, move |peers| {
            peers.len() == 8 && !peers.contains(&bridge)
        })
    }));
    left.await;
    let block = chain.data(100);
    each_reaches_each(&mut members, &[block], &chain.data(100)).await;
    stop(nodes).await;
}
