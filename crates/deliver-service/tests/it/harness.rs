// SPDX-License-Identifier: Apache-2.0
//! Nodes with a delivery service each, and an orderer that does what the test says.

use std::{num::NonZeroUsize, sync::Arc};

use block_api::{
    Block, BlockReader, BlockStore, BlockVerifier, ChannelId, Endpoint, Gossip, Height, NodeId,
    testing::{
        MemoryStore, OpenReaders, Opening, ScriptedSource, Step, TestChain, TestOrganisation,
        TestSigner, TestVerifier, within,
    },
};
use blockcast_deliver_service::{ChannelParts, ChannelState, Config, DeliverService, Equivocation};
use gossip_memory::{Link, MemoryGossip, MemoryNetwork};

pub(crate) const ORDERER: &str = "orderer:7050";

/// A node that joined the channel of a chain.
pub(crate) struct Node {
    pub(crate) gossip: MemoryGossip,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) verifier: Arc<TestVerifier>,
    pub(crate) orderer: Arc<ScriptedSource>,
    pub(crate) service: DeliverService,
    pub(crate) channel: ChannelId,
    pub(crate) identity: &'static str,
}

impl Node {
    /// Starts a node that has the first block of the chain.
    pub(crate) async fn start(
        network: &MemoryNetwork,
        name: &str,
        genesis: &Block,
        config: Config,
    ) -> Self {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await);
        Self::restart(network, name, genesis, config, store).await
    }

    /// Starts a node with a store that was filled before.
    pub(crate) async fn restart(
        network: &MemoryNetwork,
        name: &str,
        genesis: &Block,
        config: Config,
        store: Arc<MemoryStore>,
    ) -> Self {
        let gossip = network.node(name);
        Self::with(gossip, "node", genesis, config, store).await
    }

    /// Starts a node with this identity on a node of the network.
    pub(crate) async fn with(
        gossip: MemoryGossip,
        identity: &'static str,
        genesis: &Block,
        config: Config,
        store: Arc<MemoryStore>,
    ) -> Self {
        let service = DeliverService::new(config, Arc::new(gossip.clone())).unwrap();
        let channel = TestChain::new("ch").channel();
        let below = store.info().first.previous();
        let trusted = below.and_then(|below| store.config_at(below));
        let verifier = trusted.map_or_else(TestVerifier::strict, TestVerifier::trusting);
        let verifier = Arc::new(verifier);
        let orderer = Arc::new(ScriptedSource::new(&[ORDERER]));
        let node = Self {
            gossip,
            store,
            verifier,
            orderer,
            service,
            channel,
            identity,
        };
        node.service
            .join_channel(node.parts(genesis))
            .await
            .unwrap();
        node
    }

    pub(crate) fn parts(&self, genesis: &Block) -> ChannelParts {
        ChannelParts {
            channel: self.channel.clone(),
            genesis: genesis.header_hash(),
            store: self.store.clone(),
            verifier: self.verifier.clone() as Arc<dyn BlockVerifier>,
            readers: Arc::new(OpenReaders),
            signer: Arc::new(TestSigner(self.identity)),
            organisation: Arc::new(TestOrganisation("node")),
            source: self.orderer.clone(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.gossip.node_id()
    }

    /// Has the orderer's next stream give these blocks and then do this.
    pub(crate) fn orders(&self, blocks: &[Block], then: Step) {
        let steps = blocks
            .iter()
            .cloned()
            .map(Step::Block)
            .chain([then])
            .collect();
        self.orderer.script(ORDERER, Opening::Stream(steps));
    }

    pub(crate) async fn pull(&self) {
        self.service
            .start_deliver_for_channel(&self.channel, self.store.clone())
            .await
            .unwrap();
    }

    /// Has it pull while its place asks for it.
    pub(crate) async fn elect(&self) {
        self.service
            .elect_for_channel(&self.channel, self.store.clone())
            .await
            .unwrap();
    }

    pub(crate) async fn reaches(&self, height: u64) {
        let what = format!("height {height} of {}", self.id());
        let reached = self
            .service
            .wait_for_height(&self.channel, Height::new(height));
        assert!(
            within(&what, reached).await,
            "the channel ended before {what}"
        );
    }

    pub(crate) fn state(&self) -> ChannelState {
        self.service.state(&self.channel).unwrap()
    }

    /// Waits until it has found so many pairs of signed blocks of one number.
    pub(crate) async fn finds(&self, pairs: usize) -> Vec<Equivocation> {
        let found = async {
            loop {
                let state = self.state();
                if state.evidence.len() >= pairs {
                    assert_eq!(state.stats.equivocations, state.evidence.len() as u64);
                    assert!(!state.health.is_well(), "{:?}", state.health);
                    return state.evidence;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        within("the evidence", found).await
    }

    /// Waits until it has heard of so many neighbours.
    pub(crate) async fn meets(&self, neighbours: usize) {
        let met = self.service.wait_for_peers(&self.channel, neighbours);
        assert!(within("meeting the neighbours", met).await);
    }

    pub(crate) async fn stop(self) {
        within("stopping the service", self.service.stop()).await;
        within("stopping gossip", self.gossip.stop()).await;
    }
}

/// The blocks of a chain whose every fifth one is a config block.
pub(crate) fn chain(count: usize, bytes: usize) -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    (0..count)
        .map(|index| {
            if index % 5 == 0 {
                chain.config()
            } else {
                chain.data(bytes)
            }
        })
        .collect()
}

/// A network of nodes that are all linked, each with the genesis block, who have heard each other.
pub(crate) async fn network(
    count: usize,
    genesis: &Block,
    link: Link,
) -> (MemoryNetwork, Vec<Node>) {
    let network = MemoryNetwork::new(11);
    let mut nodes = Vec::new();
    for index in 0..count {
        nodes.push(
            Node::start(
                &network,
                &format!("node-{index}"),
                genesis,
                Config::default(),
            )
            .await,
        );
    }
    network.link_all(link);
    for node in &nodes {
        node.meets(count - 1).await;
    }
    (network, nodes)
}

pub(crate) fn endpoint() -> Endpoint {
    ORDERER.parse().unwrap()
}

pub(crate) fn count(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

/// Checks that a node has these blocks, byte for byte as far as orderers signed them.
pub(crate) async fn has(node: &Node, blocks: &[Block]) {
    let limits = block_api::ReadLimits::new(blocks.len(), usize::MAX);
    let read = node.store.read(0.into(), limits).await.unwrap();
    assert_eq!(read.len(), blocks.len());
    for (read, block) in read.into_iter().zip(blocks) {
        let read = Block::parse(read).unwrap();
        assert_eq!(read.header_hash(), block.header_hash());
        assert!(read.data().eq(block.data()));
        assert_eq!(read.signatures_slot(), block.signatures_slot());
        assert_eq!(read.slot_count(), 5, "a block is kept with five slots");
    }
}

/// Stores blocks beside the service, as a test's shortcut to a height.
pub(crate) async fn fill(store: &MemoryStore, blocks: &[Block]) {
    store
        .append(blocks.iter().map(TestChain::verified).collect())
        .await
        .unwrap();
}
