// SPDX-License-Identifier: Apache-2.0
//! Bodies of announced blocks: from several nodes, through nodes that do not have them yet, and
//! from nodes that lie.

use std::time::Duration;

use block_api::{Answer, Block, Gossip, testing::within};
use blockcast_gossip_libp2p::Libp2pGossip;
use tokio::time::timeout;

use crate::member::{Member, joined, line, network};

const MIB: usize = 1024 * 1024;

/// Takes the announcement of a block, and fetches its body.
async fn accept_and_fetch(member: &mut Member) -> Block {
    let announcement = member.candidate().await.answer(Answer::Accept);
    assert!(!announcement.has_data());
    let fetched = member.membership.channel.fetch(&announcement);
    within("the body", fetched).await.unwrap()
}

async fn stop(nodes: Vec<Libp2pGossip>) {
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_size_come_as_they_are() {
    let nodes = network(2, &[(0, 1)]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let [first, second] = members.as_mut_slice() else {
        unreachable!()
    };
    let sizes = [70_000, MIB, 4 * MIB - 200, 4 * MIB + 1, 10 * MIB];
    for size in sizes {
        let block = chain.data(size);
        first.publish(&block).await;
        let fetched = accept_and_fetch(second).await;
        assert_eq!(fetched.raw(), &block.relay().to_bytes(), "{size} bytes");
    }
    let (gave, took) = (nodes[0].stats(), nodes[1].stats());
    assert_eq!(took.bodies_fetched, sizes.len() as u64);
    assert_eq!(
        gave.body_bytes_served, took.body_bytes_came,
        "nothing came twice"
    );
    assert_eq!((gave.offences, took.offences), (0, 0));
    stop(nodes).await;
}

/// The nodes in the middle have it from the one before, and give it on as it comes; none of them
/// stores anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_goes_through_nodes_that_do_not_have_all_of_it() {
    let nodes = network(4, &[(0, 1), (1, 2), (2, 3)]).await;
    let (mut members, mut chain) = line(&nodes).await;
    for size in [2 * MIB, 10 * MIB] {
        let block = chain.data(size);
        let [first, rest @ ..] = members.as_mut_slice() else {
            unreachable!()
        };
        first.publish(&block).await;
        let fetched = futures::future::join_all(rest.iter_mut().map(accept_and_fetch)).await;
        for got in fetched {
            assert_eq!(got.raw(), &block.relay().to_bytes());
        }
    }
    for node in &nodes[1..] {
        let stats = node.stats();
        assert!(
            stats.body_bytes_came < 12 * MIB as u64 * 11 / 10,
            "{stats:?}"
        );
        assert_eq!(stats.offences, 0);
    }
    stop(nodes).await;
}

/// Nobody has the body: everyone who is asked says so within a second, and nobody waits on anybody.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_ask_each_other_both_get_it_from_the_third() {
    let nodes = network(3, &[(0, 1), (0, 2), (1, 2)]).await;
    let (mut members, mut chain) = joined(&nodes, &[(0, 1), (0, 2), (1, 2)]).await;
    let [first, second, third] = members.as_mut_slice() else {
        unreachable!()
    };
    let block = chain.data(6 * MIB);
    let announcement = block.without_data();
    let (one, other) = (
        second.membership.channel.clone(),
        third.membership.channel.clone(),
    );
    let mut both =
        Box::pin(async { tokio::join!(one.fetch(&announcement), other.fetch(&announcement)) });
    let early = timeout(Duration::from_millis(300), &mut both).await;
    assert!(early.is_err(), "nobody has it: {early:?}");
    first.publish(&block).await;
    let (one, other) = within("the bodies", both).await;
    for fetched in [one, other] {
        assert_eq!(fetched.unwrap().raw(), &block.relay().to_bytes());
    }
    stop(nodes).await;
}
