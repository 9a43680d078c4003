// SPDX-License-Identifier: Apache-2.0
//! What passes on, what is pulled, and within which limits.

use block_api::{
    Answer, BlockStore, DeliverStatus, Delivery, Endpoint, Gossip, Height, SourceError, Start,
    StreamRequest,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip};
use futures::StreamExt;

use crate::{
    member::{Member, line, network},
    support::{config, connect, peers},
};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_was_ignored_travels_on_once_it_is_published() {
    let nodes = network(3, &[(0, 1), (1, 2)]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let [first, second, third] = members.as_mut_slice() else {
        unreachable!()
    };
    let [ignored, dropped, waiting] = [0; 3].map(|_| chain.data(100));

    first.publish(&ignored).await;
    second.candidate().await.answer(Answer::Ignore);
    first.publish(&dropped).await;
    drop(second.candidate().await);
    for block in [&ignored, &dropped] {
        second.publish(block).await;
        assert_eq!(
            third.candidate().await.answer(Answer::Accept).number(),
            block.number()
        );
    }

    // Published while it waits for its answer, whatever that will be.
    first.publish(&waiting).await;
    let candidate = second.candidate().await;
    second.publish(&waiting).await;
    candidate.answer(Answer::Ignore);
    assert_eq!(
        third.candidate().await.answer(Answer::Accept).number(),
        waiting.number()
    );

    // What was passed on is not put on the topic again.
    let before = nodes[1].stats().published;
    second.publish(&waiting).await;
    assert_eq!(nodes[1].stats().published, before);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_body_is_what_the_other_node_has_byte_for_byte() {
    let nodes = network(2, &[(0, 1)]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let [first, second] = members.as_mut_slice() else {
        unreachable!()
    };
    let big = chain.data(3 * MIB);
    first.publish(&big).await;
    let candidate = second.candidate().await;
    assert!(!candidate.block().has_data() && candidate.block().slot_count() == 1);
    let source = second.membership.channel.source(candidate.from()).unwrap();
    let endpoint = Endpoint::of_node(candidate.from());
    assert_eq!(source.endpoints(), vec![endpoint.clone()]);
    let range = StreamRequest::range(chain.channel(), big.number(), big.number());
    let mut stream = within("opening", source.open(&endpoint, &range))
        .await
        .unwrap();
    let body = within("the body", stream.next()).await;
    let Some(Ok(Delivery::Block(body))) = body else {
        panic!("{body:?}")
    };
    assert_eq!(body.raw(), &big.relay().to_bytes());
    assert_eq!(
        body.header_hash(),
        candidate.answer(Answer::Accept).header_hash()
    );
    for node in nodes {
        node.stop().await;
    }
}

/// A config block whose body is too long for the topic goes the same way as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_config_block_travels_whole_or_is_announced() {
    let nodes = network(2, &[(0, 1)]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let [first, second] = members.as_mut_slice() else {
        unreachable!()
    };
    let blocks = [
        (chain.config(), true),
        (chain.config_with(900_000), true),
        (chain.config_with(1_100_000), false),
    ];
    for (block, whole) in blocks {
        first.publish(&block).await;
        let arrived = second.candidate().await.answer(Answer::Accept);
        assert_eq!(
            (arrived.header_hash(), arrived.has_data()),
            (block.header_hash(), whole)
        );
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_have_their_limits() {
    let keys = [Keypair::generate(), Keypair::generate()];
    let admitted = [&keys[0], &keys[1]];
    let giver = Config {
        max_serving_per_peer: 1.try_into().unwrap(),
        ..config(keys[0].clone(), &admitted)
    };
    let taker = Config {
        max_block: MIB.try_into().unwrap(),
        ..config(keys[1].clone(), &admitted)
    };
    let nodes = [
        Libp2pGossip::start(giver).await.unwrap(),
        Libp2pGossip::start(taker).await.unwrap(),
    ];
    connect(&nodes[0], &nodes[1]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let [first, second] = members.as_mut_slice() else {
        unreachable!()
    };
    // More than any buffer between the two holds, so that the giver has to wait for the taker.
    let mut blocks: Vec<_> = (0..40)
        .map(|_| TestChain::verified(&chain.data(MIB - 1000)))
        .collect();
    blocks.push(TestChain::verified(&chain.data(2 * MIB)));
    first.store.append(blocks).await.unwrap();
    second
        .status(|status| status.height == Height::new(42))
        .await;

    let giver = nodes[0].node_id();
    let endpoint = Endpoint::of_node(&giver);
    let source = second.membership.channel.source(&giver).unwrap();
    let all = StreamRequest::range(chain.channel(), 1.into(), 41.into());
    let mut slow = within("opening", source.open(&endpoint, &all))
        .await
        .unwrap();
    let first_block = within("a block", slow.next()).await;
    assert!(
        matches!(first_block, Some(Ok(Delivery::Block(_)))),
        "{first_block:?}"
    );
    let mut refused = within("opening", source.open(&endpoint, &all))
        .await
        .unwrap();
    let status = within("a refusal", refused.next()).await;
    assert!(
        matches!(
            status,
            Some(Ok(Delivery::Status(DeliverStatus::Unavailable)))
        ),
        "{status:?}"
    );
    assert!(within("the end", refused.next()).await.is_none());

    let rest: Vec<_> = within("the rest", slow.collect()).await;
    assert_eq!(
        rest.len(),
        40,
        "39 blocks, and the end at the one that is too long"
    );
    assert!(
        matches!(
            rest.last(),
            Some(Ok(Delivery::Status(DeliverStatus::TooLarge)))
        ),
        "{:?}",
        rest.last()
    );
    let stats = nodes[0].stats();
    assert_eq!(
        (
            stats.requests_served,
            stats.requests_refused,
            stats.blocks_served
        ),
        (1, 1, 40)
    );

    let waits = StreamRequest::blocks_from(chain.channel(), Start::Oldest);
    let unsupported = source.open(&endpoint, &waits).await.err();
    assert!(
        matches!(unsupported, Some(SourceError::Unsupported { .. })),
        "{unsupported:?}"
    );
    let stranger = source
        .open(&"orderer:7050".parse().unwrap(), &all)
        .await
        .err();
    assert!(
        matches!(stranger, Some(SourceError::UnknownEndpoint { .. })),
        "{stranger:?}"
    );
    nodes[0].stop().await;
    peers(&nodes[1], |peers| peers.is_empty()).await;
    let gone = within("failing", source.open(&endpoint, &all)).await.err();
    assert!(
        matches!(gone, Some(SourceError::Connect { .. })),
        "{gone:?}"
    );
    assert!(second.membership.channel.source(&giver).is_none());
    nodes[1].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_channels_on_one_pair_work() {
    const CHANNELS: usize = 300;
    let nodes = network(2, &[]).await;
    let name = |n: usize| format!("channel-{n}");
    let mut chains = Vec::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for n in 0..CHANNELS {
        let mut chain = TestChain::new(&name(n));
        let genesis = chain.config();
        // The one is in half of the channels before the nodes meet, the other in the other half.
        let early = if n % 2 == 0 { &nodes[0] } else { &nodes[1] };
        let member = Member::join(early, &name(n), &genesis).await;
        if n % 2 == 0 {
            first.push(member)
        } else {
            second.push(member)
        }
        chains.push((chain, genesis));
    }
    connect(&nodes[0], &nodes[1]).await;
    let (mut all_first, mut all_second) = (Vec::new(), Vec::new());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    for (n, (_, genesis)) in chains.iter().enumerate() {
        if n % 2 == 0 {
            all_first.push(first.next().unwrap());
            all_second.push(Member::join(&nodes[1], &name(n), genesis).await);
        } else {
            all_second.push(second.next().unwrap());
            all_first.push(Member::join(&nodes[0], &name(n), genesis).await);
        }
    }
    for n in 0..CHANNELS {
        all_first[n].hears(&[&nodes[1]]).await;
        all_second[n].hears(&[&nodes[0]]).await;
    }
    for (n, (chain, _)) in chains.iter_mut().enumerate() {
        let block = chain.data(10);
        all_first[n].publish(&block).await;
        let candidate = all_second[n].candidate().await;
        assert_eq!(
            candidate.answer(Answer::Accept).header_hash(),
            block.header_hash()
        );
    }
    for node in nodes {
        node.stop().await;
    }
}
