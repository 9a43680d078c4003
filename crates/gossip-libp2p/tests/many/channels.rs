// SPDX-License-Identifier: Apache-2.0
//! Thousands of channels between two nodes.

use std::time::Duration;

use block_api::{Answer, Block, Gossip, GossipEvent, testing::TestChain};
use blockcast_gossip_libp2p::Libp2pGossip;
use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    member::{Member, network},
    support::connect,
};

const CHANNELS: usize = 2000;

/// Of all channels together; a single one is no slower than ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A chain and its first block.
type Chain = (TestChain, Block);

/// Joins these channels all at once.
async fn join(node: &Libp2pGossip, chains: &[Chain]) -> Vec<Member> {
    let joined = chains
        .iter()
        .map(async |(chain, genesis)| Member::join(node, chain.channel().as_str(), genesis).await);
    join_all(joined).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_2000_channels() {
    let nodes = network(2, &[]).await;
    let mut chains: Vec<Chain> = (0..CHANNELS)
        .map(|number| {
            let mut chain = TestChain::new(&format!("channel-{number}"));
            let genesis = chain.config();
            (chain, genesis)
        })
        .collect();
    // One half is named in one message when the nodes meet, each of the other in one of its own.
    let (before, after) = chains.split_at(CHANNELS / 2);
    let mut here = join(&nodes[0], before).await;
    let mut there = join(&nodes[1], before).await;
    connect(&nodes[0], &nodes[1]).await;
    here.extend(join(&nodes[0], after).await);
    there.extend(join(&nodes[1], after).await);
    let met = join_all(
        here.iter_mut()
            .map(async |member| member.hears(&[&nodes[1]]).await),
    );
    timeout(PATIENCE, met).await.expect("all members meet");
    let met = join_all(
        there
            .iter_mut()
            .map(async |member| member.hears(&[&nodes[0]]).await),
    );
    timeout(PATIENCE, met).await.expect("all members meet");

    for place in [0, 1, CHANNELS / 2, CHANNELS - 1] {
        let block = chains[place].0.data(100);
        here[place].publish(&block).await;
        let candidate = there[place].candidate().await;
        assert_eq!(candidate.answer(Answer::Accept).number(), block.number());
    }

    let leaving = join_all(there.iter().map(|member| member.membership.channel.leave()));
    timeout(PATIENCE, leaving).await.expect("all are left");
    let left = join_all(here.iter_mut().map(async |member| {
        loop {
            if let GossipEvent::Left(node) = member.event("the leaving").await {
                return node;
            }
        }
    }));
    let left = timeout(PATIENCE, left).await.expect("all hear of it");
    assert!(left.iter().all(|node| *node == nodes[1].node_id()));
    for node in nodes {
        node.stop().await;
    }
}
