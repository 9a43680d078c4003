// SPDX-License-Identifier: Apache-2.0
//! The node as a library: plugged-in signer, gossip and clock, and the stream of blocks.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use block_api::{BlockNumber, ChannelId, Height, NodeId, SignError, Signer, SystemClock};
use blockcast::{
    Node, NodeConfig, StartError, SubscribeError,
    config::{ChannelSection, GossipBackend, Pull},
};
use blocks_provider::PullState;
use bytes::Bytes;
use dev_orderer::{Config, DevOrderer, Pace};
use futures::StreamExt as _;
use gossip_memory::{Link, MemoryNetwork};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::process::DEADLINE;

/// A signer from outside the workspace, as far as the node knows.
#[derive(Debug)]
struct OwnSigner {
    key_holder: Arc<dyn Signer>,
    signatures: AtomicU64,
}

#[async_trait]
impl Signer for OwnSigner {
    fn identity(&self) -> Bytes {
        self.key_holder.identity()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        self.key_holder.sign(message).await
    }
}

fn channel() -> ChannelId {
    "embedded".parse().unwrap()
}

async fn orderer() -> DevOrderer {
    DevOrderer::start(Config::new(channel(), Arc::new(SystemClock)))
        .await
        .unwrap()
}

fn config(orderer: &DevOrderer, dir: &Path, name: &str) -> NodeConfig {
    let genesis = dir.join("genesis.block");
    std::fs::write(&genesis, orderer.genesis().raw()).unwrap();
    let mut config = NodeConfig::new(dir.join(name));
    config.node.name = name.to_owned();
    config
        .channels
        .push(ChannelSection::new(channel(), genesis));
    config
}

fn signer(orderer: &DevOrderer) -> Arc<OwnSigner> {
    let key_holder = orderer.client().unwrap().signer();
    Arc::new(OwnSigner {
        key_holder,
        signatures: AtomicU64::new(0),
    })
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test]
async fn blocks_are_streamed_from_a_node_that_pulls_and_from_one_that_does_not() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let network = MemoryNetwork::new(3);
    let signer = signer(&orderer);
    let gossips = ["a", "b"].map(|name| network.node_of(name, signer.identity()));
    network.link(&NodeId::new("a"), &NodeId::new("b"), Link::default());
    let mut nodes = Vec::new();
    for (index, (name, gossip)) in ["a", "b"].into_iter().zip(gossips).enumerate() {
        let mut config = config(&orderer, dir.path(), name);
        config.channels[0].pull = if index == 0 {
            Pull::Always
        } else {
            Pull::Never
        };
        let builder = Node::builder(config)
            .signer(signer.clone())
            .gossip(Arc::new(gossip));
        nodes.push(builder.clock(Arc::new(SystemClock)).start().await.unwrap());
    }
    let mut streams: Vec<_> = nodes
        .iter()
        .map(|node| node.subscribe(&channel(), BlockNumber::GENESIS).unwrap())
        .collect();
    orderer.generate(30, 2000, Pace::AllAtOnce).await.unwrap();
    let mut hashes = Vec::new();
    for stream in &mut streams {
        let mut seen = Vec::new();
        for number in 0..=30 {
            let block = within("a block", stream.next()).await.unwrap().unwrap();
            assert_eq!(block.number(), BlockNumber::new(number));
            seen.push(block.header_hash());
        }
        hashes.push(seen);
    }
    assert_eq!(hashes[0], hashes[1]);
    assert!(
        signer.signatures.load(Ordering::Relaxed) > 0,
        "the node signs with the signer that it was given"
    );
    assert_eq!(orderer.stats().block_streams, 1);
    let state = nodes[0].channel_state(&channel()).unwrap();
    assert!(
        matches!(state.pull, Some(PullState::Streaming(_))),
        "{state:?}"
    );
    assert_eq!(nodes[1].channel_state(&channel()).unwrap().pull, None);

    for node in &nodes {
        within("stopping", node.stop()).await;
        node.stop().await;
        assert!(node.channel_state(&channel()).is_none());
    }
    for mut stream in streams {
        let error = within("the end", stream.next()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, SubscribeError::Stopped { next, .. } if next == BlockNumber::new(31)),
            "{error}"
        );
        assert!(stream.next().await.is_none());
    }
    let unknown = nodes[0]
        .subscribe(&"other".parse().unwrap(), BlockNumber::GENESIS)
        .unwrap_err();
    assert!(matches!(unknown, SubscribeError::UnknownChannel { .. }));
    orderer.stop().await;
}

#[tokio::test]
async fn a_node_starts_again_on_what_it_has() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let mut config = config(&orderer, dir.path(), "node");
    config.gossip.backend = GossipBackend::Memory;
    for round in 1..=2 {
        orderer.generate(5, 100, Pace::AllAtOnce).await.unwrap();
        let node = Node::builder(config.clone())
            .signer(signer(&orderer))
            .start()
            .await
            .unwrap();
        let reader = node.reader(&channel()).unwrap();
        within("the height", reader.wait_for(Height::new(5 * round + 1)))
            .await
            .unwrap();
        let stats = node.channel_state(&channel()).unwrap().stats;
        assert!(
            stats.from_orderer <= 5,
            "what is kept is not pulled again: {stats:?}"
        );
        node.stop().await;
    }
    orderer.stop().await;
}

/// A slow subscriber neither loses a block nor holds the node up.
#[tokio::test]
async fn a_subscriber_that_waits_loses_nothing() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let mut config = config(&orderer, dir.path(), "node");
    config.gossip.backend = GossipBackend::Memory;
    let node = Node::builder(config)
        .signer(signer(&orderer))
        .start()
        .await
        .unwrap();
    let mut stream = node.subscribe(&channel(), BlockNumber::new(1)).unwrap();
    orderer.generate(300, 100, Pace::AllAtOnce).await.unwrap();
    let reader = node.reader(&channel()).unwrap();
    within("the height", reader.wait_for(Height::new(301)))
        .await
        .unwrap();
    for number in 1..=300 {
        let block = within("a block", stream.next()).await.unwrap().unwrap();
        assert_eq!(block.number(), BlockNumber::new(number));
    }
    node.stop().await;
    orderer.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_open() {
    let (orderer, dir) = (orderer().await, TempDir::new().unwrap());
    let mut twice = config(&orderer, dir.path(), "node");
    twice.gossip.backend = GossipBackend::Memory;
    let network = MemoryNetwork::new(1);
    let stopped = network.node("stopped");
    block_api::Gossip::stop(&stopped).await;
    let builder = Node::builder(twice.clone())
        .signer(signer(&orderer))
        .gossip(Arc::new(stopped));
    let error = within("the start", builder.start()).await.unwrap_err();
    assert!(
        matches!(error, StartError::Join(_)) && !error.is_config(),
        "{error}"
    );
    // The store is free again.
    let node = Node::builder(twice)
        .signer(signer(&orderer))
        .start()
        .await
        .unwrap();
    node.stop().await;
    orderer.stop().await;
}
