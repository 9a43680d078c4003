// SPDX-License-Identifier: Apache-2.0
//! How blocks spread: to everyone, once, and only where they were accepted.

use std::collections::BTreeSet;

use super::node::{Network, Node, chain, joined, stop};
use crate::{
    Answer, Block, Candidate, Standing, VerifiedBlock,
    testing::{GullibleVerifier, TestChain, TestVerifier},
};

pub(super) async fn accepted_blocks_travel_on(network: Network, order: [usize; 4]) {
    let knows_peers = network.capabilities().knows_peers;
    let (mut nodes, mut chain) = joined(&network).await;
    let blocks: Vec<Block> = (0..4).map(|_| chain.data(100)).collect();
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let maker = first.id();
    for block in order.iter().filter_map(|index| blocks.get(*index)) {
        first.publish(block).await;
    }
    let (mut passed_on, mut arrived) = (BTreeSet::new(), BTreeSet::new());
    let middle = async {
        while passed_on.len() < blocks.len() {
            let candidate = second.candidate().await;
            assert!(
                !knows_peers || *candidate.from() == maker,
                "a candidate of {maker} says that it is from {}",
                candidate.from()
            );
            passed_on.insert(candidate.answer(Answer::Accept).header_hash());
        }
    };
    let end = async {
        while arrived.len() < blocks.len() {
            let candidate = third.candidate().await;
            let block = candidate.answer(Answer::Accept);
            assert!(
                block.slot_count() <= 1,
                "only the slot of the signatures travels"
            );
            arrived.insert(TestChain::verified(&block).header_hash());
        }
    };
    tokio::join!(middle, end);
    let published: BTreeSet<_> = blocks.iter().map(Block::header_hash).collect();
    assert_eq!(
        arrived, published,
        "what came at the end of the line is what was published"
    );
    stop(nodes).await;
}

pub(super) async fn only_accepted_blocks_travel_on(network: Network) {
    let holds_back = network.capabilities().validates_before_forward;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    for answer in [Some(Answer::Reject), Some(Answer::Ignore), None] {
        let held_back = chain.data(100);
        first.publish(&held_back).await;
        let candidate = second.candidate().await;
        assert_eq!(candidate.block().header_hash(), held_back.header_hash());
        match answer {
            Some(answer) => drop(candidate.answer(answer)),
            None => drop(candidate),
        }
        if !holds_back {
            // Everybody judges for themselves, and what one rejects is a candidate of the others.
            let candidate = third.candidate().await;
            assert_eq!(candidate.block().header_hash(), held_back.header_hash());
            candidate.answer(answer.unwrap_or(Answer::Ignore));
        }
        // The next one goes through: a single bad block does not cut its sender off, and what
        // arrives behind it shows that the other was held back.
        let passed_on = chain.data(100);
        first.publish(&passed_on).await;
        let arrived = second.candidate().await.answer(Answer::Accept);
        assert_eq!(arrived.number(), passed_on.number());
        let arrived = third.candidate().await.answer(Answer::Ignore);
        assert_eq!(
            arrived.number(),
            passed_on.number(),
            "a block answered {answer:?} travelled on"
        );
    }
    stop(nodes).await;
}

pub(super) async fn one_message_comes_once(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, others @ ..] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let (block, marker) = (chain.data(100), chain.data(100));
    first.publish(&block).await;
    first.publish(&block).await;
    let mut copies = [1, 1];
    for node in &mut *others {
        let arrived = node.candidate().await.answer(Answer::Accept);
        assert_eq!(arrived.number(), block.number());
    }
    first.publish(&marker).await;
    for (node, copies) in others.iter_mut().zip(&mut copies) {
        loop {
            let arrived = node.candidate().await.answer(Answer::Accept);
            if arrived.number() == marker.number() {
                break;
            }
            *copies += 1;
        }
    }
    assert_eq!(copies, [1, 1], "the same bytes came more than once");
    stop(nodes).await;
}

pub(super) async fn own_blocks_do_not_come_back(network: Network) {
    let mut chain = chain();
    let genesis = chain.config();
    let mut first = network.join(0, "ch", &genesis).await;
    let mut second = network.join(1, "ch", &genesis).await;
    meet(&network, &mut first, &mut second).await;
    let block = chain.data(100);
    first.publish(&block).await;
    second.candidate().await.answer(Answer::Ignore);
    // The last one comes later, and publishes what it did not have from the first one.
    let mut third = network.join(2, "ch", &genesis).await;
    meet(&network, &mut first, &mut third).await;
    third.publish(&block).await;
    let marker = chain.data(100);
    third.publish(&marker).await;
    let arrived = first.candidate().await.answer(Answer::Accept);
    assert_eq!(
        arrived.number(),
        marker.number(),
        "a node was handed what it published itself"
    );
    stop(vec![first, second, third]).await;
}

async fn meet(network: &Network, one: &mut Node, other: &mut Node) {
    if network.capabilities().knows_peers {
        let (id, other_id) = (one.id(), other.id());
        one.status(&other_id, "the first status", |_| true).await;
        other.status(&id, "the first status", |_| true).await;
    }
}

pub(super) async fn a_forged_copy_hides_nothing(network: Network) {
    let holds_back = network.capabilities().validates_before_forward;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let block = chain.data(100);
    let forged = VerifiedBlock::new(
        TestChain::forged(&block),
        &GullibleVerifier::default(),
        Standing::Linked,
    )
    .expect("it believes anything");
    assert_eq!(
        forged.header_hash(),
        block.header_hash(),
        "only the signatures differ"
    );
    first.publish_verified(&forged).await;
    assert!(
        !judged(second.candidate().await).0,
        "the forged copy comes first"
    );
    first.publish(&block).await;
    assert!(
        judged(second.candidate().await).0,
        "the real block comes although a forged copy came before"
    );
    let mut arrived = judged(third.candidate().await);
    if !holds_back && !arrived.0 {
        arrived = judged(third.candidate().await);
    }
    assert!(
        arrived.0 && arrived.1.header_hash() == block.header_hash(),
        "the real block travels on"
    );
    stop(nodes).await;
}

fn judged(candidate: Candidate) -> (bool, Block) {
    let verifier = TestVerifier::default();
    let block = candidate.block().clone();
    match VerifiedBlock::new(block, &verifier, Standing::Linked) {
        Ok(_) => (true, candidate.answer(Answer::Accept)),
        Err(_) => (false, candidate.answer(Answer::Reject)),
    }
}
