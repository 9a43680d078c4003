// SPDX-License-Identifier: Apache-2.0
//! How the data of blocks is had: with the gossip, or from a node that has it.

use futures::FutureExt as _;

use super::node::{Network, joined, stop};
use crate::{
    Answer, Block, BlockStore, DeliverStatus, FetchError, Height, NodeId, VerifiedBlock,
    testing::{TestChain, within},
};

/// A size that no backend sends to everyone at once.
pub(super) const BIG: usize = 2 << 20;

pub(super) async fn big_blocks_can_be_had(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let block = chain.data(BIG);
    first.publish(&block).await;
    let candidate = second.candidate().await;
    assert_eq!(candidate.block().header_hash(), block.header_hash());
    let body = second.body(&candidate).await;
    candidate.answer(Answer::Accept);
    is_body(&body, &block);
    stop(nodes).await;
}

/// The announcement travels ahead of the body: who passed it on may not hold the body yet.
pub(super) async fn announced_bodies_can_be_fetched(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let block = chain.data(BIG);
    first.publish(&block).await;
    let announced = second.candidate().await.answer(Answer::Accept);
    let passed_on = third.candidate().await.answer(Answer::Accept);
    assert_eq!(passed_on.header_hash(), block.header_hash());
    if passed_on.has_data() {
        is_body(&passed_on, &block);
        return stop(nodes).await;
    }
    // It may be given up and begun anew.
    let given_up = third.membership.channel.fetch(&passed_on);
    assert!(given_up.now_or_never().is_none(), "nobody has it so soon");
    let middle = async {
        let body = second.fetch(&announced).await;
        is_body(&body, &block);
        let stored = second.store.append(vec![TestChain::verified(&body)]).await;
        stored.expect("the block links");
    };
    let end = async { is_body(&third.fetch(&passed_on).await, &block) };
    tokio::join!(end, middle);

    within("leaving", third.membership.channel.leave()).await;
    let closed = third.membership.channel.fetch(&passed_on);
    let closed = within("a fetch after leaving", closed).await;
    assert!(
        matches!(closed, Err(FetchError::Closed)),
        "a body was fetched after leaving: {closed:?}"
    );
    stop(nodes).await;
}

fn is_body(body: &Block, announced: &Block) {
    assert_eq!(
        TestChain::verified(body).header_hash(),
        announced.header_hash(),
        "the body is the announced one"
    );
    assert!(
        body.slot_count() <= 1,
        "only the slot of the signatures travels"
    );
    assert_eq!(body.data().map(<[u8]>::len).sum::<usize>(), BIG);
}

pub(super) async fn config_blocks_travel_whole(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let block = chain.config_with(500 << 10);
    first.publish(&block).await;
    let candidate = second.candidate().await;
    assert_eq!(candidate.block().header_hash(), block.header_hash());
    assert!(
        candidate.block().has_data(),
        "a config block was only announced"
    );
    candidate.answer(Answer::Accept);
    stop(nodes).await;
}

pub(super) async fn ranges_are_served(network: Network) {
    let knows_peers = network.capabilities().knows_peers;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let id = first.id();
    if !knows_peers {
        assert!(
            second.membership.channel.source(&id).is_none(),
            "a backend that knows no nodes has a source"
        );
        return stop(nodes).await;
    }
    let mut blocks: Vec<VerifiedBlock> = (1..20)
        .map(|_| TestChain::verified(&chain.data(5000)))
        .collect();
    blocks.push(TestChain::verified(&chain.data(BIG)));
    first
        .store
        .append(blocks.clone())
        .await
        .expect("the blocks link");
    second
        .status(&id, "a status of the new height", |status| {
            status.height == Height::new(21)
        })
        .await;

    let (got, status) = second.range(&id, 3, 20).await;
    assert_eq!(
        status,
        Some(DeliverStatus::Success),
        "a whole range ends with SUCCESS"
    );
    let hashes: Vec<_> = got
        .iter()
        .map(|block| TestChain::verified(block).header_hash())
        .collect();
    let expected: Vec<_> = blocks
        .iter()
        .skip(2)
        .map(VerifiedBlock::header_hash)
        .collect();
    assert_eq!(
        hashes, expected,
        "a range comes in order and without a hole"
    );

    let (got, status) = second.range(&id, 19, 25).await;
    assert_eq!(got.len(), 2, "what is there is given");
    assert_eq!(
        status,
        Some(DeliverStatus::NotFound),
        "and the end of the chain is told"
    );
    let (got, status) = second.range(&id, 21, 21).await;
    assert_eq!((got.len(), status), (0, Some(DeliverStatus::NotFound)));
    assert!(
        second
            .membership
            .channel
            .source(&NodeId::new("nobody"))
            .is_none(),
        "a stranger is no source"
    );
    stop(nodes).await;
}
