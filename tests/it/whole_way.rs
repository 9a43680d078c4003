// SPDX-License-Identifier: Apache-2.0
//! From an ordering service to the durable store of every node.

use std::{num::NonZeroUsize, sync::Arc};

use block_api::SystemClock;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{
    Config, Consensus, DevOrderer, KeyKind, NetworkConfig, NodesConfig, Pace, RecordedChain,
};
use e2e_tests::fixtures;
use signer::load_msp_folder;

use crate::harness::{Common, Node, gossip, nodes};

/// An ordering service of its own kind, four nodes, one of which pulls.
async fn whole_way(consensus: Consensus, key_kind: KeyKind, orderers: usize) {
    let clock = Arc::new(SystemClock);
    let mut config = Config::new("ch".parse().unwrap(), clock);
    config.network = NetworkConfig {
        consensus,
        key_kind,
        ..config.network
    };
    config.nodes.count = NonZeroUsize::new(orderers).unwrap();
    let orderer = DevOrderer::start(config).await.unwrap();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let signer = orderer.client().unwrap().signer();
    let common = Common::of(
        &orderer,
        Arc::new(ChannelAccess::readers(&verifier)),
        signer,
    );
    let (_dirs, nodes) = nodes(&common, 4).await;
    nodes[0].pull().await;
    // Small ones go whole on the topic, big ones are announced and pulled.
    orderer.generate(20, 10_000, Pace::AllAtOnce).await.unwrap();
    orderer
        .generate(10, 300_000, Pace::AllAtOnce)
        .await
        .unwrap();
    let mut hashes = Vec::new();
    for node in &nodes {
        hashes.push(node.reaches(31).await);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    assert_eq!(orderer.stats().block_streams, 1, "one node pulls");
    let pulled = nodes[0].state().stats;
    assert_eq!(
        (pulled.from_orderer, pulled.rejected, pulled.unlinked),
        (30, 0, 0)
    );
    for node in &nodes[1..] {
        let stats = node.state().stats;
        assert_eq!(stats.from_orderer, 0);
        assert_eq!(stats.from_topic + stats.from_pull + stats.from_catch_up, 30);
        assert_eq!((stats.rejected, stats.unlinked), (0, 0));
    }
    for node in nodes {
        node.stop().await;
    }
    orderer.stop().await;
}

/// Covers: INT-01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_with_ecdsa() {
    whole_way(Consensus::Raft, KeyKind::EcdsaP256, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_with_ed25519() {
    whole_way(Consensus::Raft, KeyKind::Ed25519, 1).await;
}

/// Covers: INT-01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bft_with_a_quorum_of_four() {
    whole_way(Consensus::Bft, KeyKind::EcdsaP256, 4).await;
}

/// A chain that a real ordering service wrote, through the recorded endpoints and overrides, with
/// config blocks on the way.
async fn replay(name: &str) {
    let recorded = fixtures::chain(name).unwrap();
    let raw = recorded.iter().map(|block| block.raw().clone()).collect();
    let clock = Arc::new(SystemClock);
    let chain = RecordedChain::new(raw).unwrap();
    let verifier = ChannelVerifier::from_genesis(&recorded[0]).unwrap();
    // Org1's user may read the channel by the recorded configuration itself.
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let orderer = DevOrderer::replay(
        chain,
        Pace::AllAtOnce,
        readers.clone(),
        NodesConfig::new(clock),
    )
    .await
    .unwrap();
    let signer = load_msp_folder(&fixtures::path("msp/org1/user1/msp"), "Org1MSP").unwrap();
    let common = Common::replayed(&orderer, readers, signer);
    let (_dirs, nodes) = nodes(&common, 3).await;
    nodes[0].pull().await;
    let tip = fixtures::recorded(name).unwrap().pop().unwrap();
    for node in &nodes {
        assert_eq!(node.reaches(tip.number + 1).await, tip.header_hash);
        let kept = node.blocks().await;
        assert_eq!(kept.len(), recorded.len());
        for (kept, recorded) in kept.iter().zip(&recorded) {
            assert_eq!(kept.header_hash(), recorded.header_hash());
            assert!(
                kept.data().eq(recorded.data()),
                "block {}",
                recorded.number()
            );
            assert_eq!(kept.signatures_slot(), recorded.signatures_slot());
            // LAST_CONFIG is written by the receiver from what the orderers signed, and agrees.
            assert_eq!(
                kept.slots().nth(1),
                recorded.slots().nth(1),
                "block {}",
                recorded.number()
            );
            assert_eq!(kept.slot_count(), 5);
        }
    }
    let puller = nodes[0].blocks().await;
    assert!(
        puller
            .iter()
            .zip(&recorded)
            .all(|(kept, sent)| kept.raw() == sent.raw()),
        "byte for byte as received"
    );
    for node in nodes {
        node.stop().await;
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_raft_chain() {
    replay("raft").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recorded_bft_chain() {
    replay("bft").await;
}

/// Covers: INT-05
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_goes_on_with_its_store() {
    let clock = Arc::new(SystemClock);
    let orderer = DevOrderer::start(Config::new("ch".parse().unwrap(), clock))
        .await
        .unwrap();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let signer = orderer.client().unwrap().signer();
    let common = Common::of(
        &orderer,
        Arc::new(ChannelAccess::readers(&verifier)),
        signer,
    );
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut networks = gossip(2, &common.signer).await.into_iter();
    let puller = Node::start(
        &common,
        &dirs[0].path().join("chain"),
        networks.next().unwrap(),
    )
    .await;
    let other = Node::start(
        &common,
        &dirs[1].path().join("chain"),
        networks.next().unwrap(),
    )
    .await;
    puller.pull().await;
    orderer.generate(10, 2_000, Pace::AllAtOnce).await.unwrap();
    other.reaches(11).await;
    other.stop().await;
    orderer.generate(300, 2_000, Pace::AllAtOnce).await.unwrap();
    puller.reaches(311).await;

    // The same key and the same folder, at another port.
    let mut config = gossip_libp2p::Config::new(
        gossip_libp2p::Keypair::from_seed([2; 32]),
        common.signer.clone(),
    );
    config.peers = puller.gossip.peer_addrs();
    let network = gossip_libp2p::Libp2pGossip::start(config).await.unwrap();
    let other = Node::start(&common, &dirs[1].path().join("chain"), network).await;
    let hash = other.reaches(311).await;
    assert_eq!(hash, puller.reaches(311).await);
    // The newest ones may come by the topic: gossipsub tells a newcomer what it remembers.
    let stats = other.state().stats;
    assert_eq!(
        stats.from_catch_up + stats.from_topic + stats.from_pull,
        300,
        "what it had is not fetched again"
    );
    assert_eq!((stats.from_orderer, stats.rejected), (0, 0));
    assert_eq!(orderer.stats().block_streams, 1);
    other.stop().await;
    puller.stop().await;
    orderer.stop().await;
}
