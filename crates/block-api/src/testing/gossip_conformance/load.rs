// SPDX-License-Identifier: Apache-2.0
//! What it costs when somebody does not read.

use std::time::Duration;

use tokio::{task::yield_now, time::timeout};

use super::node::{Network, Node, joined, joined_to, stop};
use crate::{
    Answer, BlockStore, GossipEvent, Height,
    testing::{TestChain, within},
};

/// More blocks than any queue between two nodes holds.
const MANY: usize = 3000;

/// How long a block is waited for before another one is published: what a full queue dropped does
/// not come by itself.
const PATIENCE: Duration = Duration::from_millis(100);

pub(super) async fn a_receiver_that_does_not_read_costs_nothing(network: Network) {
    let knows_peers = network.capabilities().knows_peers;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    flood(first, &mut chain).await;
    let mut queued = 0;
    if !knows_peers {
        let marker = comes_through(first, second, &mut chain);
        let (queued, _) = within("a block behind a flood", marker).await;
        assert!(
            queued < MANY,
            "{queued} of {MANY} blocks were queued for a receiver that did not read"
        );
        return stop(nodes).await;
    }
    let id = first.id();
    // The newest status stays, so the reader learns where the chain is.
    let tip = Height::new(MANY as u64 + 1);
    let what = "the newest status";
    let told = async {
        loop {
            match second.event(what).await {
                GossipEvent::Candidate(_) => queued += 1,
                GossipEvent::Status { from, status, .. } if from == id && status.height == tip => {
                    return;
                }
                GossipEvent::Status { .. } | GossipEvent::Left(_) => {}
            }
        }
    };
    within(what, told).await;
    assert!(
        queued < MANY,
        "{queued} of {MANY} blocks were queued for a receiver that did not read"
    );
    let (got, _) = second.range(&id, 1, MANY as u64).await;
    assert_eq!(got.len(), MANY, "what was dropped can be fetched");
    stop(nodes).await;
}

pub(super) async fn who_does_not_read_holds_up_nobody(network: Network) {
    let (mut nodes, mut flooded) = joined(&network).await;
    let mut quiet = TestChain::new("quiet");
    let genesis = quiet.config();
    let mut others = joined_to(&network, "quiet", &genesis).await;
    let ([first, _, third], [first_too, second_too, _]) =
        (nodes.as_mut_slice(), others.as_mut_slice())
    else {
        unreachable!("three nodes were started")
    };
    // The second node reads nothing of the flooded channel.
    flood(first, &mut flooded).await;
    let marker = comes_through(first, third, &mut flooded);
    within("a block for a node that reads", marker).await;
    let marker = comes_through(first_too, second_too, &mut quiet);
    within("a block of a channel that is read", marker).await;
    stop(nodes).await;
}

async fn flood(maker: &Node, chain: &mut TestChain) {
    for _ in 0..MANY {
        // It returns although nobody reads; a backend may refuse when its own queues are full.
        let block = TestChain::verified(&chain.data(100));
        maker
            .store
            .append(vec![block.clone()])
            .await
            .expect("the block links");
        let _ = within("publishing", maker.membership.channel.publish(&block)).await;
        // What lies between the nodes gets its turn, so that the flood arrives.
        yield_now().await;
    }
}

/// Publishes further blocks until one of them comes; says how many older ones came before it, and
/// its number.
async fn comes_through(maker: &Node, reader: &mut Node, chain: &mut TestChain) -> (usize, u64) {
    let mut older = 0;
    let marker = TestChain::verified(&chain.data(100));
    let first = marker.number();
    let mut next = marker;
    loop {
        let _ = maker.store.append(vec![next.clone()]).await;
        let _ = maker.membership.channel.publish(&next).await;
        while let Ok(candidate) = timeout(PATIENCE, reader.candidate()).await {
            let number = candidate.answer(Answer::Accept).number();
            if number >= first {
                return (older, number.get());
            }
            older += 1;
        }
        next = TestChain::verified(&chain.data(100));
    }
}
