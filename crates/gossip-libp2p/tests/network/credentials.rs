// SPDX-License-Identifier: Apache-2.0
//! Nodes that come again with another key and the same certificate.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{
    Fault, Gossip,
    testing::{MemberKey, MemberReaders, TestChain, within},
};
use blockcast_gossip_libp2p::{Config, Libp2pGossip};

use crate::{
    member::Member,
    strangers::{ORG1, ORG2, of_member},
    support::{connect, peers},
};

/// A node of this member, in the channel.
async fn start(config: Config, chain: &TestChain) -> (Libp2pGossip, Member) {
    let node = Libp2pGossip::start(config).await.unwrap();
    let readers = Arc::new(MemberReaders::of(&["Org1MSP", "Org2MSP"]));
    let genesis = chain.clone().config();
    let member = Member::join_with(&node, "ch", &genesis, readers).await;
    (node, member)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let done = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    within(what, done).await;
}

/// A new key of libp2p costs nothing: a ban is of the certificate as well, until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_banned_is_not_let_in_under_another_node_id() {
    let chain = TestChain::new("ch");
    let config = Config {
        ban_time: Duration::from_secs(3),
        ..of_member(ORG1)
    };
    let (here, member) = start(config, &chain).await;
    let dialling = || Config {
        redial_cap: Duration::from_millis(300),
        ..of_member(ORG2)
    };
    let (bad, _bad) = start(dialling(), &chain).await;
    connect(&bad, &here).await;
    for _ in 0..5 {
        let channel = &member.membership.channel;
        channel.blame(&bad.node_id(), Fault::Invalid);
    }
    peers(&here, |peers| peers.is_empty()).await;
    bad.stop().await;

    let (again, _again) = start(dialling(), &chain).await;
    again.add_peer(here.peer_addrs().remove(0)).await.unwrap();
    until("being refused", || again.stats().proofs_refused > 0).await;
    assert!(here.peers().borrow().is_empty(), "it is in again");
    assert!(!here.bans().borrow().is_empty());
    // Another one of its organisation did nothing.
    let (other, _other) = start(
        of_member(MemberKey {
            organisation: "Org2MSP",
            name: "another",
        }),
        &chain,
    )
    .await;
    connect(&other, &here).await;
    // When the ban is over, it is let in.
    peers(&here, |peers| peers.contains(&again.node_id())).await;
    assert!(here.bans().borrow().is_empty());
    for node in [here, again, other] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_certificate_does_not_take_all_places() {
    let chain = TestChain::new("ch");
    let config = Config {
        max_peers_per_identity: NonZeroUsize::MIN,
        ..of_member(ORG1)
    };
    let (here, _member) = start(config, &chain).await;
    let (first, _first) = start(of_member(ORG2), &chain).await;
    let (second, _second) = start(of_member(ORG2), &chain).await;
    connect(&first, &here).await;
    second.add_peer(here.peer_addrs().remove(0)).await.unwrap();
    until("being refused", || here.stats().connections_refused > 0).await;
    assert!(!here.peers().borrow().contains(&second.node_id()));
    // Whom this node wants to be connected to is not refused.
    here.add_peer(second.peer_addrs().remove(0)).await.unwrap();
    peers(&here, |peers| peers.len() == 2).await;
    for node in [here, first, second] {
        node.stop().await;
    }
}
