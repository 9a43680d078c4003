// SPDX-License-Identifier: Apache-2.0
//! An ordering service that changes while it runs, and nodes as they are run or embedded.

use std::{fs, sync::Arc};

use async_trait::async_trait;
use block_api::{
    Block, BlockReader, ChannelId, Endpoint, Gossip as _, Height, SignError, Signer, SystemClock,
    testing::within,
};
use blockcast::{
    ChannelState, ChannelStats, Node, NodeConfig,
    config::{ChannelSection, HumanDuration, Pull},
};
use blocks_provider::PullState;
use bytes::Bytes;
use dev_orderer::{Change, Config, Consensus, DevOrderer, OrganizationSpec, Pace};
use gossip_libp2p::Libp2pGossip;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness;

/// The file of the genesis block.
const GENESIS: &str = "genesis.block";

/// An ordering service, and nodes of which the first one pulls.
pub(crate) struct Live {
    pub(crate) orderer: DevOrderer,
    pub(crate) nodes: Nodes,
    /// A member of the network whose node does not run yet.
    pub(crate) spare: Libp2pGossip,
}

/// Nodes of one channel, and what starts more of them.
pub(crate) struct Nodes {
    pub(crate) all: Vec<LiveNode>,
    pub(crate) signer: Arc<CountingSigner>,
    channel: ChannelId,
    dir: TempDir,
}

/// A node of the product, over real libp2p.
pub(crate) struct LiveNode {
    pub(crate) gossip: Libp2pGossip,
    node: Node,
    channel: ChannelId,
}

/// A client's signer that counts its signatures: a node makes one for each Deliver request.
#[derive(Debug)]
pub(crate) struct CountingSigner {
    inner: Arc<dyn Signer>,
    signed: watch::Sender<u64>,
}

/// The configuration of a service whose organisations `Left` and `Right` have two nodes each.
fn left_and_right(consensus: Consensus) -> Config {
    let mut config = Config::new("live".parse().unwrap(), Arc::new(SystemClock));
    config.network.consensus = consensus;
    config.network.orderers = ["Left", "Right"].map(OrganizationSpec::orderer).to_vec();
    config.nodes.count = 4.try_into().unwrap();
    config
}

impl Live {
    /// Four orderers of `Left` (1 and 3) and `Right` (2 and 4), and three nodes.
    pub(crate) async fn start(consensus: Consensus) -> Self {
        let orderer = DevOrderer::start(left_and_right(consensus)).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(GENESIS), orderer.genesis().raw()).unwrap();
        let client = orderer.client().unwrap().signer();
        let signer = CountingSigner {
            inner: client.clone(),
            signed: watch::Sender::new(0),
        };
        let mut nodes = Nodes {
            all: Vec::new(),
            signer: Arc::new(signer),
            channel: orderer.channel().clone(),
            dir,
        };
        let mut members = harness::gossip(4, &client).await;
        harness::all_met(&members).await;
        let spare = members.pop().unwrap();
        for (index, gossip) in members.into_iter().enumerate() {
            let pulls = index == 0;
            nodes.all.push(nodes.start(index, pulls, gossip).await);
        }
        Self {
            orderer,
            nodes,
            spare,
        }
    }

    /// Blocks, a config block with these changes, and blocks, without waiting for anybody.
    pub(crate) async fn change(&mut self, changes: &[Change]) {
        self.blocks(3).await;
        self.orderer.change(changes).await.unwrap();
        self.blocks(3).await;
    }

    pub(crate) async fn blocks(&self, count: usize) {
        let ordered = self.orderer.generate(count, 2_000, Pace::AllAtOnce).await;
        ordered.unwrap();
    }

    /// The chain of the ordering service.
    pub(crate) fn ordered(&self) -> Arc<dyn BlockReader> {
        let node = self.orderer.nodes().iter().find(|node| !node.has_left());
        node.unwrap().reader()
    }

    /// Waits until every node has what was ordered.
    pub(crate) async fn spread(&self) {
        self.nodes.reach(self.ordered().info().height).await;
    }

    /// The orderer that the first node has its blocks from, by its endpoint in the configuration in
    /// force and its organisation.
    pub(crate) fn source(&self) -> (Endpoint, String) {
        let state = self.nodes.all[0].state();
        let Some(PullState::Streaming(endpoint)) = state.pull else {
            panic!("the first node has no stream: {state:?}")
        };
        let nodes = self.orderer.network().unwrap().nodes();
        let of = nodes.iter().find(|node| *node.endpoint() == endpoint);
        let of = of.unwrap_or_else(|| panic!("{endpoint} is not in the configuration"));
        (endpoint, of.organization().to_owned())
    }

    /// Stops the ordering service when every node has its chain, which is given.
    pub(crate) async fn stop_orderers(self) -> (Nodes, Libp2pGossip, Vec<Block>) {
        self.spread().await;
        let ordered = harness::blocks(&*self.ordered()).await;
        within("the stop of the orderers", self.orderer.stop()).await;
        (self.nodes, self.spare, ordered)
    }

    /// Checks that every node has the chain of the ordering service, and stops all.
    pub(crate) async fn end(self) {
        let (nodes, spare, ordered) = self.stop_orderers().await;
        nodes.end(&ordered).await;
        within("the stop of gossip", spare.stop()).await;
    }
}

impl Nodes {
    /// A node on the folder of this index.
    pub(crate) async fn start(&self, index: usize, pulls: bool, gossip: Libp2pGossip) -> LiveNode {
        let mut config = NodeConfig::new(self.dir.path().join(index.to_string()));
        config.orderer.longest_back_off = HumanDuration::from_millis(200);
        config.delivery.catch_up_patience = HumanDuration::from_millis(200);
        let genesis = self.dir.path().join(GENESIS);
        let mut section = ChannelSection::new(self.channel.clone(), genesis);
        section.pull = if pulls { Pull::Always } else { Pull::Never };
        config.channels.push(section);
        let builder = Node::builder(config).signer(self.signer.clone());
        let node = builder.gossip(Arc::new(gossip.clone())).start();
        LiveNode {
            gossip,
            node: within("the start", node).await.unwrap(),
            channel: self.channel.clone(),
        }
    }

    pub(crate) async fn reach(&self, height: Height) {
        for node in &self.all {
            let reached = node.node.wait_for_height(&self.channel, height);
            assert!(within(&format!("height {height}"), reached).await);
        }
    }

    /// Checks that every node has exactly these blocks, that the first one alone has some from an
    /// orderer, and that nobody refused any. Then all stop.
    pub(crate) async fn end(self, ordered: &[Block]) {
        let mut chains = Vec::new();
        for (index, node) in self.all.iter().enumerate() {
            let kept = node.blocks().await;
            assert_eq!(kept.len(), ordered.len(), "node {index}");
            for (kept, ordered) in kept.iter().zip(ordered) {
                let number = ordered.number();
                assert_eq!(kept.header(), ordered.header(), "node {index}");
                assert!(
                    kept.data().eq(ordered.data()),
                    "node {index}, block {number}"
                );
                // The number of the last config block.
                assert_eq!(kept.slots().nth(1), ordered.slots().nth(1));
            }
            let signatures = kept.iter().map(Block::signatures_slot);
            chains.push(
                signatures
                    .map(|slot| slot.map(<[u8]>::to_vec))
                    .collect::<Vec<_>>(),
            );
            let stats = node.stats();
            assert_eq!(
                (stats.rejected, stats.unlinked, stats.failed_appends),
                (0, 0, 0),
                "node {index}: {stats:?}"
            );
            assert_eq!(
                stats.from_orderer > 0,
                index == 0,
                "node {index}: {stats:?}"
            );
        }
        assert!(
            chains.windows(2).all(|pair| pair[0] == pair[1]),
            "all have the signatures that the first node was given"
        );
        for node in self.all {
            node.stop().await;
        }
    }
}

impl LiveNode {
    pub(crate) fn state(&self) -> ChannelState {
        self.node.channel_state(&self.channel).unwrap()
    }

    pub(crate) fn stats(&self) -> ChannelStats {
        self.state().stats
    }

    pub(crate) async fn stop(self) {
        within("the stop of a node", self.node.stop()).await;
    }

    async fn blocks(&self) -> Vec<Block> {
        harness::blocks(&*self.node.reader(&self.channel).unwrap()).await
    }
}

impl CountingSigner {
    /// Waits for so many more signatures.
    pub(crate) async fn signs(&self, more: u64) {
        let mut signed = self.signed.subscribe();
        let wanted = *signed.borrow() + more;
        within("asking again", signed.wait_for(|signed| *signed >= wanted))
            .await
            .unwrap();
    }
}

#[async_trait]
impl Signer for CountingSigner {
    fn identity(&self) -> Bytes {
        self.inner.identity()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.signed.send_modify(|signed| *signed += 1);
        self.inner.sign(message).await
    }
}
