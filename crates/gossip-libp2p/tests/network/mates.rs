// SPDX-License-Identifier: Apache-2.0
//! Nodes that find those of their own organisation, and one that claims to be of it.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use block_api::{
    Gossip, NodeId, SignError, Signer,
    testing::{TestChain, TestSigner, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip, Multiaddr};
use bytes::Bytes;

use crate::{
    member::Member,
    support::{config, linked, peers},
};

/// The identities of nodes of two organisations, as far as a name goes.
const ORGS: [&str; 2] = ["\n\u{4}Org1", "\n\u{4}Org2"];

/// How many nodes each of them has.
const EACH: usize = 6;

/// A node that tells where it is, and that wants so many nodes of other organisations.
async fn start(signer: Arc<dyn Signer>, known: &[Multiaddr], others: usize) -> Libp2pGossip {
    let config = Config {
        admission: Admission::Anyone,
        max_peers_per_identity: NonZeroUsize::MAX,
        external_addrs: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        peers: known.to_vec(),
        target_peers: others,
        signer,
        ..config(Keypair::generate(), &[])
    };
    Libp2pGossip::start(config).await.unwrap()
}

fn of(organisation: usize) -> Arc<dyn Signer> {
    Arc::new(TestSigner(ORGS[organisation]))
}

/// Covers: GOS-15
#[tokio::test(flavor = "multi_thread")]
async fn each_node_finds_all_of_its_organisation_by_way_of_the_one_it_knows() {
    let genesis = TestChain::new("ch").config();
    let (mut nodes, mut members) = (Vec::<Libp2pGossip>::new(), Vec::new());
    // Each knows the one before it, which is of the other organisation.
    for place in 0..2 * EACH {
        let known = nodes.last().map(Libp2pGossip::peer_addrs);
        let node = start(of(place % 2), &known.unwrap_or_default(), 2).await;
        members.push(Member::join(&node, "ch", &genesis).await);
        nodes.push(node);
    }
    let ids: Vec<NodeId> = nodes.iter().map(Libp2pGossip::node_id).collect();
    for (place, node) in nodes.iter().enumerate() {
        for mate in (place % 2..2 * EACH)
            .step_by(2)
            .filter(|mate| *mate != place)
        {
            linked(node, &ids[mate]).await;
        }
    }
    drop(members);
    for node in nodes {
        node.stop().await;
    }
}

/// Is of the first organisation until it is told to be of the second one.
#[derive(Debug)]
struct Turncoat(AtomicBool);

#[async_trait]
impl Signer for Turncoat {
    fn identity(&self) -> Bytes {
        let organisation = usize::from(self.0.load(Ordering::Relaxed));
        Bytes::from_static(ORGS[organisation].as_bytes())
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        of(1).sign(message).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_dialled_for_a_false_claim_is_hung_up_on() {
    let genesis = TestChain::new("ch").config();
    let hub = start(of(1), &[], 0).await;
    let known = hub.peer_addrs();
    let watcher = start(of(0), &known, 1).await;
    let mut members = vec![
        Member::join(&hub, "ch", &genesis).await,
        Member::join(&watcher, "ch", &genesis).await,
    ];
    // The hub is the one node of others that the watcher wants.
    linked(&watcher, &hub.node_id()).await;
    let turncoat = Arc::new(Turncoat(AtomicBool::new(false)));
    // It dials nobody, so that who connects to it does it for its claim.
    let liar = start(turncoat.clone(), &[], 0).await;
    turncoat.0.store(true, Ordering::Relaxed);
    liar.add_peer(known[0].clone()).await.unwrap();
    members.push(Member::join(&liar, "ch", &genesis).await);
    let refused = async {
        while watcher.stats().claims_refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("hanging up on the liar", refused).await;
    let id = liar.node_id();
    peers(&watcher, |peers| !peers.contains(&id)).await;
    // One that is of the organisation is found still, and the liar is not dialled for it again.
    let mate = start(of(0), &known, 0).await;
    members.push(Member::join(&mate, "ch", &genesis).await);
    linked(&watcher, &mate.node_id()).await;
    assert_eq!(watcher.stats().claims_refused, 1);
    assert!(!watcher.peers().borrow().contains(&id));
    drop(members);
    for node in [hub, watcher, liar, mate] {
        node.stop().await;
    }
}
