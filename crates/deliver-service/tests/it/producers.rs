// SPDX-License-Identifier: Apache-2.0
//! The three producers beside each other, and channels beside each other.

use std::{sync::Arc, time::Duration};

use block_api::{
    BlockNumber, Delivery, Endpoint, Gossip, Height, StreamRequest,
    testing::{MemoryStore, Opening, Step, TestChain, within},
};
use blockcast_deliver_service::{ChannelParts, Config};
use futures::StreamExt as _;
use gossip_memory::{Link, MemoryNetwork};
use tokio::time::Instant;

use crate::{
    harness::{Node, ORDERER, chain, count, fill, has, network},
    members::{Slow, member, plain},
};

const LINK: Link = Link {
    latency: Duration::from_millis(20),
    jitter: Duration::from_millis(15),
    loss: 0.0,
};

/// What a node gives is what was asked for, not a block more (H18).
///
/// Covers: STA-03, STA-18
#[tokio::test(start_paused = true)]
async fn a_range_is_given_exactly_and_an_inverted_one_is_empty() {
    let blocks = plain(30);
    let (net, nodes) = network(1, &blocks[0], LINK).await;
    fill(&nodes[0].store, &blocks[1..]).await;
    let store = Arc::new(MemoryStore::default());
    let (gossip, membership) = member(&net, "asks", &nodes[0], &blocks[0], store).await;
    net.link_all(LINK);
    let source = membership.channel.source(&nodes[0].id()).unwrap();
    for (first, last, expected) in [(3, 12, 10), (3, 3, 1), (12, 3, 0), (25, 40, 5)] {
        let (first, last) = (BlockNumber::new(first), BlockNumber::new(last));
        let request = StreamRequest::range(nodes[0].channel.clone(), first, last);
        let endpoint = Endpoint::of_node(&nodes[0].id());
        let given = source.open(&endpoint, &request).await.unwrap();
        let given: Vec<_> = given.collect().await;
        let blocks = given.iter().filter_map(|delivery| match delivery {
            Ok(Delivery::Block(block)) => Some(block.number().get()),
            Ok(Delivery::Status(_)) | Err(_) => None,
        });
        let numbers: Vec<_> = blocks.collect();
        let expected: Vec<_> = (first.get()..).take(expected).collect();
        assert_eq!(numbers, expected);
    }
    gossip.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: STA-08
#[tokio::test(start_paused = true)]
async fn the_stream_the_topic_and_ranges_together_bring_every_block_once() {
    let blocks = chain(150, 300);
    let net = MemoryNetwork::new(9);
    let config = Config {
        buffer_bytes: count(20_000),
        topic_buffer_bytes: count(8_000),
        range_blocks: count(7),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config).await;
    let reader = Slow::new(&blocks, Duration::from_millis(3)).await;
    let peer = member(&net, "peer", &node, &blocks[0], Arc::new(reader)).await;
    net.link_all(LINK);
    // The stream falls silent half way, so that ranges have to bring what the topic's buffer has no
    // room for.
    let pauses = (1..75).map(|_| Step::Wait(Duration::from_millis(15)));
    let steps = pauses
        .zip(blocks[1..].iter().cloned().map(Step::Block))
        .flat_map(|(pause, block)| [pause, block]);
    let steps = steps.chain([Step::Hang]).collect();
    node.orderer.script(ORDERER, Opening::Stream(steps));
    node.pull().await;
    // Every number once, in an order that has nothing to do with them.
    for index in 0..149 {
        let block = &blocks[1 + index * 100 % 149];
        let block = TestChain::verified(block);
        peer.1.channel.publish(&block).await.unwrap();
        tokio::time::sleep(Duration::from_millis(12)).await;
    }
    node.reaches(150).await;
    has(&node, &blocks).await;
    let stats = node.state().stats;
    let by_all = [
        stats.from_orderer,
        stats.from_topic + stats.from_pull,
        stats.from_catch_up,
    ];
    assert_eq!(by_all.iter().sum::<u64>(), 149);
    assert!(by_all.iter().all(|count| *count > 0), "{by_all:?}");
    assert_eq!((stats.rejected, stats.unlinked), (0, 0));
    peer.0.stop().await;
    node.stop().await;
}

/// Covers: STA-11
#[tokio::test(start_paused = true)]
async fn blocks_of_one_channel_do_not_reach_another_one() {
    let (_, blocks) = TestChain::of_blocks("ch", 10, 50);
    let (other, others) = TestChain::of_blocks("other", 20, 50);
    let (_, nodes) = network(2, &blocks[0], LINK).await;
    let mut stores = Vec::new();
    for node in &nodes {
        let store = Arc::new(MemoryStore::default());
        fill(&store, &others[..1]).await;
        let parts = ChannelParts {
            channel: other.channel(),
            genesis: others[0].header_hash(),
            store: store.clone(),
            ..node.parts(&others[0])
        };
        node.service.join_channel(parts).await.unwrap();
        stores.push(store);
    }
    nodes[0].orders(&others[1..], Step::Hang);
    let channel = other.channel();
    let service = &nodes[0].service;
    service
        .start_deliver_for_channel(&channel, stores[0].clone())
        .await
        .unwrap();
    for node in &nodes {
        let reached = node.service.wait_for_height(&channel, Height::new(20));
        assert!(within("the other channel", reached).await);
        assert_eq!(node.state().chain.height.get(), 1);
        assert_eq!(node.state().stats.rejected, 0);
    }
    for node in nodes {
        node.stop().await;
    }
}

/// A store that fails for ever, a buffer that is full, a stream that waits for room, and ranges that
/// do, too: stopping waits for none of them (H23).
///
/// Covers: NEW-09, STA-05
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_room() {
    let blocks = plain(200);
    let net = MemoryNetwork::new(8);
    let config = Config {
        buffer_bytes: count(4_000),
        topic_buffer_bytes: count(1_000),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config).await;
    let peer = Slow::new(&blocks, Duration::ZERO).await;
    let peer = member(&net, "peer", &node, &blocks[0], Arc::new(peer)).await;
    net.link_all(LINK);
    node.store.fail_appends(usize::MAX);
    node.orders(&blocks[1..], Step::Hang);
    node.pull().await;
    let full = async {
        while node.state().buffered_bytes < 2_500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("a full buffer", full).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let state = node.state();
    assert!(state.storage_failure.is_some());
    assert!(state.buffered_bytes <= 5_000, "{}", state.buffered_bytes);
    let begun = Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < Duration::from_millis(100));
    peer.0.stop().await;
}
