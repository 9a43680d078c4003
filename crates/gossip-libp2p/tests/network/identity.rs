// SPDX-License-Identifier: Apache-2.0
//! Who a node is in a channel, and whether it lives.

use std::time::Duration;

use block_api::{Gossip, GossipEvent, testing::TestChain};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip};
use bytes::Bytes;
use tokio::runtime::Builder;

use crate::{
    member::Member,
    support::{config, connect},
};

/// Waits until the status of a node comes with this identity.
async fn known_as(member: &mut Member, identity: Option<&'static str>) {
    loop {
        if let GossipEvent::Status {
            identity: proven, ..
        } = member.event("a status with its identity").await
            && proven == identity.map(Bytes::from)
        {
            return;
        }
    }
}

/// A node on a runtime that nobody drives closes no connection: it hangs.
///
/// Covers: GCH-03
#[test]
fn a_node_that_hangs_leaves_and_comes_back_with_its_status() {
    let lives = Builder::new_multi_thread().enable_all().build().unwrap();
    let hangs = Builder::new_current_thread().enable_all().build().unwrap();
    let keys = [Keypair::generate(), Keypair::generate()];
    let quick = |key: &Keypair| Config {
        silence_limit: Duration::from_millis(900),
        // Long enough that it is not the ping that finds out.
        ping_timeout: Duration::from_secs(60),
        ..config(key.clone(), &[&keys[0], &keys[1]])
    };
    let genesis = TestChain::new("ch").config();
    let here = lives
        .block_on(Libp2pGossip::start(quick(&keys[0])))
        .unwrap();
    let there = hangs
        .block_on(Libp2pGossip::start(quick(&keys[1])))
        .unwrap();
    let mut member = lives.block_on(Member::join(&here, "ch", &genesis));
    let (other, mut member) = hangs.block_on(async {
        connect(&there, &here).await;
        let mut other = Member::join(&there, "ch", &genesis).await;
        known_as(&mut other, Some("node")).await;
        let known = lives.spawn(async move {
            known_as(&mut member, Some("node")).await;
            member
        });
        (other, known.await.unwrap())
    });
    let left = |event: &GossipEvent| matches!(event, GossipEvent::Left(_));
    lives.block_on(async {
        let event = loop {
            let event = member.event("the word that it left").await;
            if left(&event) {
                break event;
            }
        };
        assert!(matches!(event, GossipEvent::Left(node) if node == there.node_id()));
        assert!(
            here.peers().borrow().contains(&there.node_id()),
            "connected"
        );
    });
    let back = lives.spawn(async move {
        known_as(&mut member, Some("node")).await;
        member
    });
    let member = hangs.block_on(back).unwrap();
    hangs.block_on(there.stop());
    lives.block_on(here.stop());
    drop((member, other));
}
