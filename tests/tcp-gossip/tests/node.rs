// SPDX-License-Identifier: Apache-2.0
//! Whole nodes on the backends of the guide, by way of the builder.
#![expect(
    clippy::unwrap_used,
    reason = "a test that fails here is meant to panic"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use block_api::{BlockNumber, ChannelId, Gossip, HeaderHash, NodeId, SystemClock, testing::within};
use blockcast::{
    Node, NodeConfig,
    config::{ChannelSection, Pull},
};
use dev_orderer::{Config, DevOrderer, Pace};
use futures::StreamExt as _;
use tcp_gossip::{Broker, BrokerGossip, Config as TcpConfig, TcpGossip};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// How many blocks are ordered.
const BLOCKS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_over_tcp_what_another_one_pulls() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let signer = orderer.client().unwrap().signer();
    let (ids, mut listeners) = (["a", "b"].map(NodeId::new), Vec::new());
    for _ in &ids {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    let peers: BTreeMap<_, _> = ids.iter().cloned().zip(addresses).collect();
    let mut nodes = Vec::new();
    for ((id, listener), pull) in ids.iter().zip(listeners).zip([Pull::Always, Pull::Never]) {
        let mut others = peers.clone();
        others.remove(id);
        let config = TcpConfig::new(id.clone(), others);
        let gossip = TcpGossip::start(config, listener, signer.clone());
        nodes.push(node(&orderer, dir.path(), Arc::new(gossip), pull).await);
    }
    have_the_same_blocks(orderer, nodes).await;
}

/// Nodes that know of nobody all pull, and what the broker brings is judged like all else.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_broker_pull_each_for_itself() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Broker::start(listener);
    let mut nodes = Vec::new();
    for id in ["a", "b"].map(NodeId::new) {
        let gossip = BrokerGossip::connect(id, address).await.unwrap();
        nodes.push(node(&orderer, dir.path(), Arc::new(gossip), Pull::Elected).await);
    }
    have_the_same_blocks(orderer, nodes).await;
    broker.stop().await;
}

fn channel() -> ChannelId {
    "guide".parse().unwrap()
}

async fn orderer() -> DevOrderer {
    let config = Config::new(channel(), Arc::new(SystemClock));
    DevOrderer::start(config).await.unwrap()
}

async fn node(orderer: &DevOrderer, dir: &Path, gossip: Arc<dyn Gossip>, pull: Pull) -> Node {
    let genesis = dir.join("genesis.block");
    std::fs::write(&genesis, orderer.genesis().raw()).unwrap();
    let section = ChannelSection {
        pull,
        ..ChannelSection::new(channel(), genesis)
    };
    let config = NodeConfig {
        channels: vec![section],
        ..NodeConfig::new(dir.join(gossip.node_id().as_str()))
    };
    let builder = Node::builder(config)
        .signer(orderer.client().unwrap().signer())
        .gossip(gossip);
    Box::pin(builder.start()).await.unwrap()
}

async fn have_the_same_blocks(orderer: DevOrderer, nodes: Vec<Node>) {
    orderer
        .generate(BLOCKS, 2000, Pace::AllAtOnce)
        .await
        .unwrap();
    let mut chains = Vec::new();
    for node in &nodes {
        let blocks = node.subscribe(&channel(), BlockNumber::new(1)).unwrap();
        let hashes = blocks
            .take(BLOCKS)
            .map(|block| block.unwrap().header_hash());
        let hashes: Vec<HeaderHash> = within("the blocks", hashes.collect()).await;
        chains.push(hashes);
    }
    assert!(chains.iter().all(|chain| chain.len() == BLOCKS));
    assert!(chains.windows(2).all(|pair| pair.first() == pair.last()));
    for node in nodes {
        node.stop().await;
    }
    orderer.stop().await;
}
