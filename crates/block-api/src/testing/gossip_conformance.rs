// SPDX-License-Identifier: Apache-2.0
//! What every [`Gossip`] backend promises.

mod identity;
mod node;

use std::{collections::BTreeSet, future::Future, sync::Arc};

use self::{
    identity::nodes_are_known_by_their_identities,
    node::{Node, chain, joined, request, stop},
};
use crate::{
    Answer, Block, BlockNumber, BlockStore, BlockVerifier, Candidate, DeliverStatus, Gossip,
    GossipError, GossipEvent, Height, NodeId, Standing, Verdict, VerifiedBlock,
    testing::{GullibleVerifier, MemoryStore, TestChain, TestVerifier, within},
};

/// A size that no backend sends to everyone at once.
const BIG: usize = 2 << 20;

/// Runs every check, each on networks that `start` makes anew: so many nodes, connected along
/// these links and no others.
///
/// # Panics
///
/// When the backend breaks a promise.
pub async fn run<F, N>(start: F)
where
    F: Fn(usize, Vec<(usize, usize)>) -> N,
    N: Future<Output = Vec<Arc<dyn Gossip>>>,
{
    let line = || start(3, vec![(0, 1), (1, 2)]);
    let pair = || start(2, vec![(0, 1)]);
    accepted_blocks_travel_on(line().await).await;
    only_accepted_blocks_travel_on(line().await).await;
    one_message_comes_once(start(3, vec![(0, 1), (1, 2), (0, 2)]).await).await;
    a_forged_copy_hides_nothing(line().await).await;
    big_blocks_can_be_had(pair().await).await;
    config_blocks_travel_whole(pair().await).await;
    ranges_are_served(pair().await).await;
    statuses_follow_the_chain(pair().await).await;
    nodes_are_known_by_their_identities(pair().await).await;
    chains_stay_apart(pair().await).await;
    a_receiver_that_does_not_read_costs_nothing(pair().await).await;
    leaving_and_stopping_end_everything(pair().await).await;
}

async fn accepted_blocks_travel_on(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1), (1, 2)]).await;
    let blocks: Vec<Block> = (0..4).map(|_| chain.data(100)).collect();
    // The order of publishing is not the order of the chain: a backend does not care.
    let shuffled =
        [2, 0, 3, 1].map(|index: usize| blocks.get(index).expect("four blocks were made"));
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    for block in shuffled {
        first.publish(block).await;
    }
    let (mut passed_on, mut arrived) = (BTreeSet::new(), BTreeSet::new());
    let middle = async {
        while passed_on.len() < blocks.len() {
            let candidate = second.candidate().await;
            assert_eq!(
                candidate.from(),
                &network.first().expect("three nodes").node_id(),
                "it says who sent it"
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

async fn only_accepted_blocks_travel_on(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1), (1, 2)]).await;
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
        // The next one goes through: a single bad block does not cut its sender off, and what
        // arrives behind it shows that the other was held back.
        let passed_on = chain.data(100);
        first.publish(&passed_on).await;
        second.candidate().await.answer(Answer::Accept);
        let arrived = third.candidate().await.answer(Answer::Ignore);
        assert_eq!(
            arrived.number(),
            passed_on.number(),
            "a block answered {answer:?} travelled on"
        );
    }
    stop(nodes).await;
}

async fn one_message_comes_once(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1), (1, 2), (0, 2)]).await;
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let (block, marker) = (chain.data(100), chain.data(100));
    first.publish(&block).await;
    first.publish(&block).await;
    let mut copies = [0, 0];
    for (node, copies) in [second, third].into_iter().zip(&mut copies) {
        let arrived = node.candidate().await.answer(Answer::Accept);
        assert_eq!(arrived.number(), block.number());
        *copies += 1;
    }
    let [first, second, third] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    first.publish(&marker).await;
    for (node, copies) in [second, third].into_iter().zip(&mut copies) {
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

async fn a_forged_copy_hides_nothing(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1), (1, 2)]).await;
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
    let verifier = TestVerifier::default();
    let judged = |candidate: Candidate| match VerifiedBlock::new(
        candidate.block().clone(),
        &verifier,
        Standing::Linked,
    ) {
        Ok(_) => (true, candidate.answer(Answer::Accept)),
        Err(_) => (false, candidate.answer(Answer::Reject)),
    };
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
    let (real, arrived) = judged(third.candidate().await);
    assert!(
        real && arrived.header_hash() == block.header_hash(),
        "the real block travels on"
    );
    stop(nodes).await;
}

async fn big_blocks_can_be_had(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let block = chain.data(BIG);
    first.publish(&block).await;
    let candidate = second.candidate().await;
    assert_eq!(candidate.block().header_hash(), block.header_hash());
    let body = second.body(&candidate).await;
    candidate.answer(Answer::Accept);
    assert_eq!(
        TestChain::verified(&body).header_hash(),
        block.header_hash(),
        "the body is the announced one"
    );
    assert_eq!(body.data().map(<[u8]>::len).sum::<usize>(), BIG);
    stop(nodes).await;
}

/// Whoever lacks a configuration can judge nothing behind it, so nobody has to ask for one.
async fn config_blocks_travel_whole(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
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

async fn ranges_are_served(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let mut blocks: Vec<VerifiedBlock> = (1..20)
        .map(|_| TestChain::verified(&chain.data(5000)))
        .collect();
    blocks.push(TestChain::verified(&chain.data(BIG)));
    first
        .store
        .append(blocks.clone())
        .await
        .expect("the blocks link");
    let id = first.id();
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

async fn statuses_follow_the_chain(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let id = first.id();
    let status = second.status(&id, "the first status", |_| true).await;
    assert_eq!(
        (status.first, status.height, status.pulling),
        (BlockNumber::GENESIS, Height::new(1), false)
    );

    let block = chain.data(BIG);
    first
        .store
        .append(vec![TestChain::verified(&block)])
        .await
        .expect("the block links");
    let status = second
        .status(&id, "a status of the new height", |status| {
            status.height == Height::new(2)
        })
        .await;
    let tip = status.tip.expect("a status with a height has a tip");
    assert!(!tip.has_data(), "the tip comes without data");
    assert!(
        matches!(
            TestVerifier::default().verify_attestation(&tip, Standing::Linked),
            Verdict::Accepted(_)
        ),
        "the tip proves itself"
    );
    assert_eq!(tip.header_hash(), block.header_hash());

    first.membership.channel.set_pulling(true);
    second
        .status(&id, "a status that says pulling", |status| status.pulling)
        .await;
    first.membership.channel.set_pulling(false);
    second
        .status(&id, "a status that says not pulling", |status| {
            !status.pulling
        })
        .await;
    stop(nodes).await;
}

async fn chains_stay_apart(network: Vec<Arc<dyn Gossip>>) {
    let [first, second] = network.as_slice() else {
        unreachable!("two nodes were started")
    };
    // One name, two genesis blocks.
    let mut here = chain();
    let mut there = chain();
    let (here_genesis, there_genesis) =
        (here.config(), there.entries(&[b"another genesis".to_vec()]));
    let stores = [
        Arc::new(MemoryStore::with(vec![TestChain::verified(&here_genesis)]).await),
        Arc::new(MemoryStore::with(vec![TestChain::verified(&there_genesis)]).await),
    ];
    let [here_store, there_store] = stores;
    let here_node = Node::join(first, request("ch", &here_genesis, &here_store), here_store).await;
    let mut there_node = Node::join(
        second,
        request("ch", &there_genesis, &there_store),
        there_store,
    )
    .await;
    // A third channel, whose block comes when the other would have come.
    let mut other = TestChain::new("other");
    let other_genesis = other.config();
    let mut others = Vec::new();
    for gossip in [first, second] {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&other_genesis)]).await);
        others.push(Node::join(gossip, request("other", &other_genesis, &store), store).await);
    }
    let [other_here, other_there] = others.as_mut_slice() else {
        unreachable!("two nodes were joined")
    };
    let (here_id, there_id) = (other_here.id(), other_there.id());
    other_there
        .status(&here_id, "the first status", |_| true)
        .await;
    other_here
        .status(&there_id, "the first status", |_| true)
        .await;

    here_node.publish(&here.data(100)).await;
    other_here.publish(&other.data(100)).await;
    other_there.candidate().await.answer(Answer::Accept);
    let event = there_node.membership.events.try_recv();
    assert!(event.is_err(), "a block of another genesis came: {event:?}");
    stop(vec![here_node, there_node]).await;
}

async fn a_receiver_that_does_not_read_costs_nothing(network: Vec<Arc<dyn Gossip>>) {
    const MANY: usize = 3000;
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    for _ in 0..MANY {
        // It returns although nobody reads; a backend may refuse when its own queues are full.
        let block = TestChain::verified(&chain.data(100));
        first
            .store
            .append(vec![block.clone()])
            .await
            .expect("the block links");
        let _ = within("publishing", first.membership.channel.publish(&block)).await;
    }
    let id = first.id();
    let mut queued = 0;
    // The newest status stays, so the reader learns where the chain is.
    let tip = Height::new(MANY as u64 + 1);
    loop {
        match second.event("the newest status").await {
            GossipEvent::Candidate(_) => queued += 1,
            GossipEvent::Status { from, status, .. } if from == id && status.height == tip => break,
            GossipEvent::Status { .. } | GossipEvent::Left(_) => {}
        }
    }
    assert!(
        queued < MANY,
        "{queued} of {MANY} blocks were queued for a receiver that did not read"
    );
    let (got, _) = second.range(&id, 1, MANY as u64).await;
    assert_eq!(got.len(), MANY, "what was dropped can be fetched");
    stop(nodes).await;
}

async fn leaving_and_stopping_end_everything(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, mut chain) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let genesis = TestChain::new("ch").config();
    let again = first
        .gossip
        .join(request("ch", &genesis, &first.store))
        .await;
    assert!(
        matches!(again, Err(GossipError::AlreadyJoined { .. })),
        "a channel is joined once"
    );

    let block = TestChain::verified(&chain.data(100));
    within("leaving", first.membership.channel.leave()).await;
    within("leaving again", first.membership.channel.leave()).await;
    let ended = async { while first.membership.events.recv().await.is_some() {} };
    within("the end of the events", ended).await;
    let closed = first.membership.channel.publish(&block).await;
    assert!(
        matches!(closed, Err(GossipError::Closed)),
        "nothing is published after leaving: {closed:?}"
    );

    let mut back = Node::join(
        &first.gossip,
        request("ch", &genesis, &first.store),
        first.store.clone(),
    )
    .await;
    back.status(&second.id(), "a status after joining again", |_| true)
        .await;

    let leaver = second.id();
    within("stopping", second.gossip.stop()).await;
    within("stopping again", second.gossip.stop()).await;
    let left = async {
        loop {
            if matches!(back.membership.events.recv().await, Some(GossipEvent::Left(node)) if node == leaver)
            {
                break;
            }
        }
    };
    within("the neighbour's leaving", left).await;
    assert!(
        back.membership.channel.source(&leaver).is_none(),
        "who left is no source"
    );
    let ended = async { while second.membership.events.recv().await.is_some() {} };
    within("the end of the events after stop", ended).await;
    let closed = second
        .gossip
        .join(request("ch", &genesis, &second.store))
        .await;
    assert!(
        matches!(closed, Err(GossipError::Closed)),
        "nothing is joined after stop"
    );
    let closed = second.membership.channel.publish(&block).await;
    assert!(
        matches!(closed, Err(GossipError::Closed)),
        "nothing is published after stop"
    );
    stop(nodes).await;
}
