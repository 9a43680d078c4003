// SPDX-License-Identifier: Apache-2.0
//! The way of a block from one puller to every node.

use std::{sync::Arc, time::Duration};

use block_api::{
    BlockReader as _, Gossip, Standing, VerifiedBlock,
    testing::{GullibleVerifier, MemoryStore, Step, TestChain, within},
};
use blockcast_deliver_service::Config;
use gossip_memory::{Link, MemoryNetwork};

use crate::{
    harness::{Node, chain, count, fill, has, network},
    members::member,
};

const LINK: Link = Link {
    latency: Duration::from_millis(20),
    jitter: Duration::from_millis(15),
    loss: 0.0,
};

/// Covers: HND-03, NEW-08
#[tokio::test(start_paused = true)]
async fn one_node_pulls_and_every_node_stores() {
    let blocks = chain(60, 500);
    let (_, nodes) = network(5, &blocks[0], LINK).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(60).await;
        has(node, &blocks).await;
    }
    let stats = nodes[0].state().stats;
    assert_eq!(
        (stats.from_orderer, stats.from_topic, stats.rejected),
        (59, 0, 0)
    );
    for node in &nodes[1..] {
        let stats = node.state().stats;
        assert_eq!(stats.from_orderer, 0, "only one node pulls");
        assert_eq!(stats.from_topic + stats.from_catch_up, 59);
        assert_eq!((stats.rejected, stats.unlinked), (0, 0));
        assert_eq!(node.orderer.requests().len(), 0);
        let puller = node.state().peers[&nodes[0].id()].clone();
        assert!(puller.pulling, "the puller says that it pulls");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn big_blocks_are_announced_and_pulled() {
    let blocks = chain(4, 300_000);
    let (_, nodes) = network(3, &blocks[0], LINK).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(4).await;
        has(node, &blocks).await;
    }
    for node in &nodes[1..] {
        let stats = node.state().stats;
        assert_eq!((stats.from_topic, stats.from_pull), (0, 3));
    }
    for node in nodes {
        node.stop().await;
    }
}

/// The announcement comes long before its sender has the body.
#[tokio::test(start_paused = true)]
async fn a_body_is_asked_for_until_the_announcer_has_it() {
    let blocks = chain(4, 300_000);
    let network = MemoryNetwork::new(5);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(Node::start(&network, name, &blocks[0], Config::default()).await);
    }
    let slow = Link {
        latency: Duration::from_millis(120),
        ..Link::default()
    };
    network.link(&nodes[0].id(), &nodes[1].id(), slow);
    network.link(&nodes[1].id(), &nodes[2].id(), Link::default());
    nodes[1].meets(2).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    nodes[2].reaches(4).await;
    has(&nodes[2], &blocks).await;
    let stats = nodes[2].state().stats;
    assert_eq!((stats.from_pull, stats.from_catch_up), (3, 0));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lossy_network_still_brings_everything() {
    let blocks = chain(120, 500);
    let (_, nodes) = network(4, &blocks[0], Link { loss: 0.4, ..LINK }).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(120).await;
        has(node, &blocks).await;
    }
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: INT-05
#[tokio::test(start_paused = true)]
async fn newcomers_and_returners_catch_up_from_peers() {
    let blocks = chain(700, 200);
    let (net, nodes) = network(2, &blocks[0], LINK).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    nodes[1].reaches(700).await;

    // A newcomer with the genesis block alone, linked to the node that does not pull.
    let newcomer = Node::start(&net, "newcomer", &blocks[0], Config::default()).await;
    net.link(&newcomer.id(), &nodes[1].id(), LINK);
    newcomer.reaches(700).await;
    has(&newcomer, &blocks).await;
    let stats = newcomer.state().stats;
    assert_eq!((stats.from_catch_up, stats.from_orderer), (699, 0));

    // It is away while the chain is put further, and returns with its store.
    let store = newcomer.store.clone();
    newcomer.stop().await;
    let returned = Node::restart(&net, "newcomer", &blocks[0], Config::default(), store).await;
    net.link(&returned.id(), &nodes[1].id(), LINK);
    returned.reaches(700).await;
    for node in nodes.into_iter().chain([returned]) {
        node.stop().await;
    }
}

/// A chain may begin behind a block that is known, under a config block that is trusted.
#[tokio::test(start_paused = true)]
async fn a_node_that_begins_later_catches_up_from_there_and_feeds_whoever_needs_no_more() {
    let blocks = chain(60, 200);
    let (net, nodes) = network(1, &blocks[0], LINK).await;
    fill(&nodes[0].store, &blocks[1..40]).await;
    let begun = async |name, after: usize| {
        let config = TestChain::verified(&blocks[after / 5 * 5]);
        let (number, hash) = (blocks[after].number(), blocks[after].header_hash());
        let store = Arc::new(MemoryStore::after_under(number, hash, &config));
        Node::restart(&net, name, &blocks[0], Config::default(), store).await
    };
    let later = begun("later", 22).await;
    net.link(&later.id(), &nodes[0].id(), LINK);
    later.reaches(40).await;
    assert_eq!(later.store.info().first.get(), 23);
    assert_eq!(later.state().stats.from_catch_up, 17);
    net.cut(&later.id(), &nodes[0].id());

    // It alone has what these want: one has its start, the other does not find it here.
    let latest = begun("latest", 37).await;
    let whole = Node::start(&net, "whole", &blocks[0], Config::default()).await;
    for node in [&latest, &whole] {
        net.link(&later.id(), &node.id(), LINK);
    }
    latest.reaches(40).await;
    later.orders(&blocks[40..], Step::Hang);
    later.pull().await;
    latest.reaches(60).await;
    assert_eq!(whole.state().chain.height.get(), 1);
    for node in nodes.into_iter().chain([later, latest, whole]) {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_heals() {
    let blocks = chain(30, 200);
    let (net, nodes) = network(3, &blocks[0], LINK).await;
    nodes[0].orders(&blocks[1..15], Step::Hang);
    for peer in [0, 1] {
        net.cut(&nodes[2].id(), &nodes[peer].id());
    }
    nodes[0].pull().await;
    nodes[1].reaches(15).await;
    assert_eq!(nodes[2].state().chain.height.get(), 1);
    for peer in [0, 1] {
        net.heal(&nodes[2].id(), &nodes[peer].id());
    }
    nodes[2].reaches(15).await;
    has(&nodes[2], &blocks[..15]).await;
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: NEW-11
#[tokio::test(start_paused = true)]
async fn a_forged_block_is_rejected_and_hides_nothing() {
    let blocks = chain(4, 100);
    // An attacker in the network, without the service.
    let net = MemoryNetwork::new(1);
    let victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let store = Arc::new(MemoryStore::default());
    fill(&store, &blocks[..1]).await;
    let (attacker, membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link_all(LINK);
    victim.meets(1).await;
    let forged = VerifiedBlock::new(
        TestChain::forged(&blocks[1]),
        &GullibleVerifier::default(),
        Standing::Linked,
    )
    .unwrap();
    membership.channel.publish(&forged).await.unwrap();
    let rejected = async {
        while victim.state().stats.rejected == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the rejection", rejected).await;
    for block in &blocks[1..] {
        membership
            .channel
            .publish(&TestChain::verified(block))
            .await
            .unwrap();
    }
    victim.reaches(4).await;
    has(&victim, &blocks).await;
    victim.stop().await;
    attacker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_small_buffer_loses_nothing() {
    let blocks = chain(200, 5_000);
    let network = MemoryNetwork::new(1);
    let tight = Config {
        buffer_bytes: count(20_000),
        topic_buffer_bytes: count(8_000),
        window: 5,
        batch_blocks: count(2),
        publish_queue: count(1),
        candidates_at_work: count(2),
        range_blocks: count(3),
        ..Config::default()
    };
    let puller = Node::start(&network, "puller", &blocks[0], tight.clone()).await;
    let other = Node::start(&network, "other", &blocks[0], tight).await;
    network.link_all(LINK);
    puller.orders(&blocks[1..], Step::Hang);
    puller.pull().await;
    puller.reaches(200).await;
    // A range at a time, with the patience of a second only before the first one.
    other.reaches(200).await;
    has(&other, &blocks).await;
    assert!(other.state().buffered_bytes == 0);
    puller.stop().await;
    other.stop().await;
}
