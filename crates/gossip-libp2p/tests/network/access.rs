// SPDX-License-Identifier: Apache-2.0
//! Who is let in, and how connections come and go.

use block_api::{
    Answer, Gossip, GossipEvent,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip};

use crate::{
    member::{Member, line},
    support::{config, connect, linked, peers},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_admitted_gets_nothing() {
    let [inside, friend, stranger] = [1, 2, 3].map(|seed| Keypair::from_seed([seed; 32]));
    let here = Libp2pGossip::start(config(inside.clone(), &[&friend]))
        .await
        .unwrap();
    let there = Libp2pGossip::start(config(friend, &[&inside]))
        .await
        .unwrap();
    let outside = Libp2pGossip::start(config(stranger, &[&inside]))
        .await
        .unwrap();
    connect(&there, &here).await;
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let mut members = Vec::new();
    for node in [&here, &there, &outside] {
        members.push(Member::join(node, "ch", &genesis).await);
    }
    let [publisher, reader, eavesdropper] = members.as_mut_slice() else {
        unreachable!()
    };
    reader.hears(&[&here]).await;
    publisher.hears(&[&there]).await;

    outside.add_peer(here.peer_addrs().remove(0)).await.unwrap();
    let refused = async {
        while outside.stats().proofs_refused < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("being refused", refused).await;
    assert!(here.stats().proofs_refused >= 1);
    assert!(outside.peers().borrow().is_empty(), "it was connected");

    let block = chain.data(100);
    publisher.publish(&block).await;
    assert_eq!(
        reader.candidate().await.answer(Answer::Accept).number(),
        block.number()
    );
    assert!(
        eavesdropper.membership.events.try_recv().is_err(),
        "a stranger heard something"
    );
    assert!(
        eavesdropper
            .membership
            .channel
            .source(&here.node_id())
            .is_none()
    );
    assert!(!here.peers().borrow().contains(&outside.node_id()));
    for node in [here, there, outside] {
        node.stop().await;
    }
}

/// Covers: GOS-01
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_is_dialled_again() {
    let [here_key, there_key] = [11, 12].map(|seed| Keypair::from_seed([seed; 32]));
    let there = Libp2pGossip::start(config(there_key.clone(), &[&here_key]))
        .await
        .unwrap();
    let there_config = Config {
        listen: there.listen_addrs(),
        ..config(there_key, &[&here_key])
    };
    let here_config = Config {
        peers: there.peer_addrs(),
        ..config(here_key, &[])
    };
    let here = Libp2pGossip::start(here_config).await.unwrap();
    linked(&here, &there.node_id()).await;
    let genesis = TestChain::new("ch").config();
    let mut member = Member::join(&here, "ch", &genesis).await;
    let _joined = Member::join(&there, "ch", &genesis).await;
    member.hears(&[&there]).await;

    there.stop().await;
    let left = member.event("the leaving of the other node").await;
    assert!(
        matches!(&left, GossipEvent::Left(node) if *node == there.node_id()),
        "{left:?}"
    );
    peers(&here, |peers| peers.is_empty()).await;

    let there = Libp2pGossip::start(there_config).await.unwrap();
    linked(&here, &there.node_id()).await;
    let mut back = Member::join(&there, "ch", &genesis).await;
    member.hears(&[&there]).await;
    back.hears(&[&here]).await;
    for node in [here, there] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_dial_each_other_at_once_end_up_with_one_connection_that_works() {
    for _ in 0..5 {
        let keys = [Keypair::generate(), Keypair::generate()];
        let [one, other] = &keys;
        let one = Libp2pGossip::start(config(one.clone(), &[other]))
            .await
            .unwrap();
        let other = Libp2pGossip::start(config(other.clone(), &[&keys[0]]))
            .await
            .unwrap();
        let (to_other, to_one) = (other.peer_addrs().remove(0), one.peer_addrs().remove(0));
        let (a, b) = tokio::join!(one.add_peer(to_other), other.add_peer(to_one));
        assert!(a.is_ok() && b.is_ok());
        let nodes = [one, other];
        let (mut members, mut chain) = line(&nodes).await;
        let block = chain.data(100);
        members[0].publish(&block).await;
        assert_eq!(
            members[1].candidate().await.answer(Answer::Accept).number(),
            block.number()
        );
        for node in nodes {
            node.stop().await;
        }
    }
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread")]
async fn nodes_meet_over_quic_too() {
    let keys = [Keypair::generate(), Keypair::generate()];
    let mut nodes = Vec::new();
    for key in &keys {
        let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let config = Config {
            listen,
            ..config(key.clone(), &[&keys[0], &keys[1]])
        };
        nodes.push(Libp2pGossip::start(config).await.unwrap());
    }
    connect(&nodes[0], &nodes[1]).await;
    let (mut members, mut chain) = line(&nodes).await;
    let block = chain.data(100);
    members[0].publish(&block).await;
    let candidate = members[1].candidate().await;
    assert_eq!(candidate.answer(Answer::Accept).number(), block.number());
    for node in nodes {
        node.stop().await;
    }
}
