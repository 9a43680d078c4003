// SPDX-License-Identifier: Apache-2.0
//! Nodes that find each other by way of a third, and nodes that must not.

use std::{num::NonZeroUsize, sync::Arc};

use block_api::{
    Gossip, GossipEvent,
    testing::{TestChain, TestSigner, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};
use bytes::Bytes;

use crate::{
    member::Member,
    support::{config, linked},
};

/// A node that anyone may connect to, and that tells where it is.
fn told() -> Config {
    Config {
        external_addrs: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        ..silent()
    }
}

/// The same, but it tells nobody where it is.
fn silent() -> Config {
    Config {
        admission: Admission::Anyone,
        // All nodes here have one identity, or a few.
        max_peers_per_identity: NonZeroUsize::MAX,
        ..config(Keypair::generate(), &[])
    }
}

/// Starts a node with this one as its only static peer.
async fn below(hub: &Libp2pGossip, config: Config) -> Libp2pGossip {
    let config = Config {
        peers: hub.peer_addrs(),
        ..config
    };
    let node = Libp2pGossip::start(config).await.unwrap();
    linked(&node, &hub.node_id()).await;
    node
}

async fn join(nodes: &[&Libp2pGossip], channel: &str) -> Vec<Member> {
    let genesis = TestChain::new(channel).config();
    let mut members = Vec::new();
    for node in nodes {
        members.push(Member::join(node, channel, &genesis).await);
    }
    members
}

async fn stop(nodes: Vec<Libp2pGossip>) {
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: GOS-15
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_channel_find_each_other_by_way_of_a_third() {
    let hub = Libp2pGossip::start(silent()).await.unwrap();
    let (first, second) = (below(&hub, told()).await, below(&hub, told()).await);
    let members = join(&[&hub, &first, &second], "ch").await;
    linked(&first, &second.node_id()).await;
    linked(&second, &first.node_id()).await;
    // The hub tells of itself nothing, so that they know of each other only.
    assert_eq!((first.stats().records, second.stats().records), (1, 1));
    // They know each other without the hub from here on.
    hub.stop().await;
    linked(&first, &second.node_id()).await;
    drop(members);
    stop(vec![first, second]).await;
}

/// Covers: GCH-19, GOS-14
#[tokio::test(flavor = "multi_thread")]
async fn who_tells_nothing_or_shares_no_channel_is_not_told_of() {
    let hub = Libp2pGossip::start(silent()).await.unwrap();
    // Of one channel, of another one, and one that does not tell where it is.
    let here = below(&hub, told()).await;
    let there = below(&hub, told()).await;
    let quiet = below(&hub, silent()).await;
    let first = join(&[&hub, &here, &quiet], "ch").await;
    let other = join(&[&hub, &there], "other").await;
    // Whom it may know of, the quiet one finds, and is not found the other way.
    linked(&quiet, &here.node_id()).await;
    // One more of each channel: when these have heard, whatever there was to tell before is told.
    let late = [below(&hub, told()).await, below(&hub, told()).await];
    let first_late = join(&[&late[0]], "ch").await;
    let other_late = join(&[&late[1]], "other").await;
    linked(&late[0], &here.node_id()).await;
    linked(&late[1], &there.node_id()).await;
    for (one, another) in [(&here, &there), (&quiet, &there), (&late[0], &late[1])] {
        let (one, another) = (one, another.node_id());
        assert!(!one.peers().borrow().contains(&another));
    }
    // The hub heard from each that tells of itself once, and from nobody of anyone else first.
    assert_eq!(hub.stats().records, 4);
    drop((first, other, first_late, other_late));
    stop(vec![hub, here, there, quiet]).await;
    stop(late.into()).await;
}

/// The identities of nodes of three organisations, as far as a name goes.
const ORGS: [&str; 3] = ["\n\u{4}Org1", "\n\u{4}Org2", "\n\u{4}Org3"];

/// Covers: GCH-19, GOS-14, GOS-15
#[tokio::test(flavor = "multi_thread")]
async fn internal_addresses_stay_within_the_organisation() {
    let of = |org: usize, config: Config| Config {
        signer: Arc::new(TestSigner(ORGS[org])),
        ..config
    };
    let inside = || Config {
        internal_addrs: told().external_addrs,
        ..silent()
    };
    let hub = Libp2pGossip::start(of(0, silent())).await.unwrap();
    let mut members = join(&[&hub], "ch").await;
    // All are in the channel, so that what keeps them apart is who they are.
    let hidden = below(&hub, of(0, inside())).await;
    members.extend(join(&[&hidden], "ch").await);
    let stranger = below(&hub, of(1, silent())).await;
    members.extend(join(&[&stranger], "ch").await);
    let colleague = below(&hub, of(0, silent())).await;
    members.extend(join(&[&colleague], "ch").await);
    linked(&colleague, &hidden.node_id()).await;
    // A foreign node has internal addresses too: nobody here is told of them.
    let other = below(&hub, of(1, inside())).await;
    members.extend(join(&[&other], "ch").await);
    // One that everybody is told of, and that passes on of none of them what is inside: who has
    // heard of it has heard all there is.
    let known = below(&hub, of(2, told())).await;
    members.extend(join(&[&known], "ch").await);
    for node in [&stranger, &colleague, &other, &hidden] {
        linked(node, &known.node_id()).await;
    }
    for (one, another) in [
        (&stranger, &hidden),
        (&other, &hidden),
        (&colleague, &other),
    ] {
        assert!(!one.peers().borrow().contains(&another.node_id()));
    }
    assert_eq!((stranger.stats().records, other.stats().records), (1, 1));
    let refused: u64 = [&hub, &hidden, &stranger, &colleague]
        .map(|node| node.stats().records_refused)
        .iter()
        .sum();
    assert_eq!(refused, 0, "nobody tells what is not for the other");
    drop(members);
    stop(vec![hub, hidden, stranger, colleague, other, known]).await;
}

/// Waits until each member hears from a node with this identity.
async fn known_as(members: &mut [Member], node: &Libp2pGossip, identity: &'static str) {
    let (node, identity) = (node.node_id(), Bytes::from_static(identity.as_bytes()));
    for member in members {
        loop {
            if let GossipEvent::Status {
                from,
                identity: Some(proven),
                ..
            } = member.event("a status with its identity").await
                && from == node
                && proven == identity
            {
                break;
            }
        }
    }
}

/// A node of the own organisation and one of another are stopped, and come back at other ports, each
/// with a certificate that was renewed.
///
/// Covers: INT-06
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_elsewhere_and_with_a_new_certificate_is_found() {
    let renewed = ["\n\u{4}Org1\u{12}\u{1}2", "\n\u{4}Org2\u{12}\u{1}2"];
    let of = |identity: &'static str, config: Config| Config {
        signer: Arc::new(TestSigner(identity)),
        ..config
    };
    let hub = Libp2pGossip::start(of(ORGS[0], silent())).await.unwrap();
    let mut members = join(&[&hub], "ch").await;
    let watcher = below(&hub, of(ORGS[0], silent())).await;
    members.extend(join(&[&watcher], "ch").await);
    let inside = || Config {
        internal_addrs: told().external_addrs,
        ..silent()
    };
    for (org, config) in [inside(), told()].into_iter().enumerate() {
        let node = below(&hub, of(ORGS[org], config.clone())).await;
        let member = join(&[&node], "ch").await;
        linked(&watcher, &node.node_id()).await;
        known_as(&mut members, &node, ORGS[org]).await;
        node.stop().await;
        drop(member);
        for member in &mut members {
            loop {
                if let GossipEvent::Left(left) = member.event("its leaving").await {
                    assert_eq!(left, node.node_id());
                    break;
                }
            }
        }
        let node = below(&hub, of(renewed[org], config)).await;
        let member = join(&[&node], "ch").await;
        linked(&watcher, &node.node_id()).await;
        known_as(&mut members, &node, renewed[org]).await;
        // Of the next round, it is not to be heard.
        node.stop().await;
        drop(member);
        for member in &mut members {
            while !matches!(member.event("its leaving").await, GossipEvent::Left(_)) {}
        }
    }
    drop(members);
    stop(vec![hub, watcher]).await;
}

/// Covers: GOS-03
#[tokio::test(flavor = "multi_thread")]
async fn a_static_peer_that_appears_late_is_found() {
    let late = Keypair::generate();
    // A port that was free a moment ago.
    let first = Libp2pGossip::start(Config {
        identity: late.clone(),
        ..silent()
    })
    .await
    .unwrap();
    let (addresses, listen) = (first.peer_addrs(), first.listen_addrs());
    first.stop().await;
    let node = Libp2pGossip::start(Config {
        peers: addresses,
        ..silent()
    })
    .await
    .unwrap();
    let mut peers = node.peers();
    assert!(peers.borrow_and_update().is_empty());
    let late = Libp2pGossip::start(Config {
        identity: late,
        listen,
        ..silent()
    })
    .await
    .unwrap();
    linked(&node, &late.node_id()).await;
    stop(vec![node, late]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_more_peers_dials_nobody_that_it_is_told_of() {
    let hub = Libp2pGossip::start(told()).await.unwrap();
    let content = Config {
        target_peers: 1,
        ..silent()
    };
    let (content, first) = (below(&hub, content).await, below(&hub, told()).await);
    let members = join(&[&hub, &content, &first], "ch").await;
    // It is told of both: the hub's record goes with the first message, the other's at last.
    let told = async {
        while content.stats().records < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("both records", told).await;
    let second = below(&hub, self::told()).await;
    let more = join(&[&second], "ch").await;
    linked(&first, &second.node_id()).await;
    assert_eq!(content.peers().borrow().len(), 1);
    drop((members, more));
    stop(vec![hub, content, first, second]).await;
}

/// The process has more memory than that, so nobody gets in and nobody is dialled.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_its_memory_limit_makes_no_connection() {
    let full = Config {
        max_memory: NonZeroUsize::new(1),
        ..silent()
    };
    let full = Libp2pGossip::start(full).await.unwrap();
    let open = Libp2pGossip::start(silent()).await.unwrap();
    open.add_peer(full.peer_addrs().remove(0)).await.unwrap();
    let refused = async {
        while full.stats().connections_refused < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("being refused, and once more", refused).await;
    assert!(full.peers().borrow().is_empty() && open.peers().borrow().is_empty());
    let roomy = Config {
        max_memory: NonZeroUsize::new(1 << 40),
        ..silent()
    };
    let roomy = Libp2pGossip::start(roomy).await.unwrap();
    open.add_peer(roomy.peer_addrs().remove(0)).await.unwrap();
    linked(&open, &roomy.node_id()).await;
    stop(vec![full, open, roomy]).await;
}

/// Covers: GOS-15
#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread")]
async fn static_peers_and_records_lead_over_quic_too() {
    let quic = |text: &str| -> Vec<_> { vec![text.parse().unwrap()] };
    let told = || Config {
        listen: quic("/ip4/127.0.0.1/udp/0/quic-v1"),
        external_addrs: quic("/ip4/127.0.0.1/udp/0/quic-v1"),
        ..silent()
    };
    let hub = Libp2pGossip::start(told()).await.unwrap();
    let (first, second) = (below(&hub, told()).await, below(&hub, told()).await);
    let members = join(&[&hub, &first, &second], "ch").await;
    linked(&first, &second.node_id()).await;
    drop(members);
    stop(vec![hub, first, second]).await;
}
