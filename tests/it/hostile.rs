// SPDX-License-Identifier: Apache-2.0
//! Members of the network that spread what orderers sign who were removed from the channel.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, Clock as _, Endpoint, Gossip as _, GossipEvent,
    Height, JoinRequest, Membership, ReadError, ReadLimits, Signer, Standing, SystemClock,
    VerifiedBlock,
    testing::{GullibleVerifier, within},
};
use bytes::Bytes;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{
    ChainMaker, Change, Consensus, DevOrderer, Fault, NetworkConfig, NodesConfig, OrdererNode,
    OrganizationSpec, Pace, RecordedChain, Script, When,
};
use gossip_libp2p::Libp2pGossip;

use crate::{
    harness::{self, Common, Node},
    watched::Judged,
};

/// The config block by which `Right` becomes a quorum by itself.
const GROWN: u64 = 2;

/// The config block by which `Right` orders no longer.
const REMOVED: u64 = 4;

/// A chain, and what those sign who were removed on the way.
struct Chain {
    honest: Vec<Block>,
    /// As the next block after the removal, linked to it.
    next: Block,
    /// As another one in the same place.
    also_next: Block,
    /// Of a number above that, on a chain that never heard of the removal.
    ahead: Block,
    /// A reader of the channel.
    client: Arc<dyn Signer>,
}

impl Chain {
    async fn new(consensus: Consensus) -> Self {
        let config = NetworkConfig {
            consensus,
            orderers: ["Left", "Right"].map(OrganizationSpec::orderer).to_vec(),
            ..NetworkConfig::new("ch".parse().unwrap())
        };
        let endpoints: Vec<Endpoint> = (1..=4)
            .map(|port| format!("127.0.0.1:{port}").parse().unwrap())
            .collect();
        let mut maker = ChainMaker::new(config, &endpoints, SystemClock.now()).unwrap();
        let mut honest = vec![maker.network().genesis().clone()];
        honest.push(maker.block(&[100]).await.unwrap());
        // Five of seven nodes are a quorum on BFT.
        let right = || "Right".to_owned();
        let more = || Change::AddNode {
            organization: right(),
        };
        honest.push(maker.change(&[more(), more(), more()]).await.unwrap());
        honest.push(maker.block(&[100]).await.unwrap());
        let mut removed: Vec<OrdererNode> = maker.network().nodes().to_vec();
        removed.retain(|node| node.organization() == "Right");
        let mut fork = maker.clone();
        let organization = right();
        honest.push(
            maker
                .change(&[Change::RemoveOrderers { organization }])
                .await
                .unwrap(),
        );
        let next = maker.block_signed_by(&removed, &[66]).await.unwrap();
        let also_next = maker.block_signed_by(&removed, &[67]).await.unwrap();
        for _ in 0..3 {
            fork.block(&[100]).await.unwrap();
        }
        let ahead = fork.block_signed_by(&removed, &[68]).await.unwrap();
        for _ in 0..6 {
            honest.push(maker.block(&[100]).await.unwrap());
        }
        Self {
            honest,
            next,
            also_next,
            ahead,
            client: maker.network().client().signer(),
        }
    }

    /// The blocks up to this one.
    fn up_to(&self, last: u64) -> Vec<Block> {
        let last = usize::try_from(last).unwrap();
        self.honest[..=last].to_vec()
    }
}

/// Whatever somebody says that its chain is.
#[derive(Debug)]
struct Claimed(Vec<Block>);

#[async_trait]
impl BlockReader for Claimed {
    fn info(&self) -> ChainInfo {
        ChainInfo {
            first: BlockNumber::GENESIS,
            height: Height::new(self.0.len() as u64),
            tip_hash: self.0.last().map(Block::header_hash),
        }
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let skip = usize::try_from(from.get()).unwrap();
        let blocks = self.0.iter().skip(skip).take(limits.blocks.get());
        Ok(blocks.map(|block| block.raw().clone()).collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        if height > self.info().height {
            std::future::pending::<()>().await;
        }
        Ok(self.info())
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        Some(BlockNumber::GENESIS)
    }
}

/// A member of the network that a test drives.
struct Liar {
    gossip: Libp2pGossip,
    membership: Membership,
}

impl Liar {
    /// Joins with this chain, and knows how so many others stand.
    async fn join(gossip: Libp2pGossip, common: &Common, chain: Vec<Block>, others: usize) -> Self {
        let joined = gossip.join(JoinRequest {
            channel: "ch".parse().unwrap(),
            genesis: common.genesis.header_hash(),
            reader: Arc::new(Claimed(chain)),
            readers: common.readers.clone(),
            signer: common.signer.clone(),
        });
        let mut membership = within("joining", joined).await.unwrap();
        let mut met = BTreeSet::new();
        while met.len() < others {
            let event = within("a status", membership.events.recv()).await;
            if let GossipEvent::Status { from, .. } = event.unwrap() {
                met.insert(from);
            }
        }
        Self { gossip, membership }
    }

    async fn publishes(&self, block: &Block) {
        let believed = VerifiedBlock::new(
            block.clone(),
            &GullibleVerifier::default(),
            Standing::Linked,
        );
        let published = self.membership.channel.publish(&believed.unwrap()).await;
        published.unwrap();
    }
}

/// An orderer that withholds what is above a block for the time being, a node that pulls, one that
/// does not, and members of the network that are not to be trusted.
struct Scene {
    chain: Chain,
    orderer: DevOrderer,
    script: Script,
    common: Common,
    nodes: Vec<Node>,
    strangers: Vec<Libp2pGossip>,
    _dirs: Vec<tempfile::TempDir>,
}

impl Scene {
    async fn new(consensus: Consensus, withheld_above: u64, strangers: u8) -> Self {
        let chain = Chain::new(consensus).await;
        let raw = chain.honest.iter().map(|block| block.raw().clone());
        let recorded = RecordedChain::new(raw.collect()).unwrap();
        let verifier = ChannelVerifier::from_genesis(&chain.honest[0]).unwrap();
        let readers = Arc::new(ChannelAccess::readers(&verifier));
        let script = Script::new().with(
            When::Always,
            Fault::Withhold {
                after: withheld_above.into(),
            },
        );
        let mut config = NodesConfig::new(Arc::new(SystemClock));
        config.faults = vec![script.clone()];
        let orderer = DevOrderer::replay(recorded, Pace::AllAtOnce, readers.clone(), config);
        let orderer = orderer.await.unwrap();
        let common = Common::replayed(&orderer, readers, chain.client.clone());
        let mut members = harness::gossip(2 + strangers).await;
        harness::all_met(&members).await;
        let strangers = members.split_off(2);
        let (mut dirs, mut nodes) = (Vec::new(), Vec::new());
        for gossip in members {
            let dir = tempfile::tempdir().unwrap();
            nodes.push(Node::start(&common, &dir.path().join("chain"), gossip).await);
            dirs.push(dir);
        }
        nodes[0].pull().await;
        let scene = Self {
            chain,
            orderer,
            script,
            common,
            nodes,
            strangers,
            _dirs: dirs,
        };
        scene.reach(withheld_above + 1).await;
        scene
    }

    async fn liar(&mut self, chain: Vec<Block>) -> Liar {
        let gossip = self.strangers.pop().unwrap();
        Liar::join(gossip, &self.common, chain, self.nodes.len()).await
    }

    async fn reach(&self, height: u64) {
        for node in &self.nodes {
            node.reaches(height).await;
        }
    }

    async fn all_judge(&self, block: &Block, judged: Judged) {
        for node in &self.nodes {
            node.verdicts.has(block, judged).await;
        }
    }

    /// The orderer gives everything, and all have that and nothing else.
    async fn honest_blocks_arrive(self, liars: Vec<Liar>) {
        self.script.clear();
        self.reach(self.chain.honest.len() as u64).await;
        for node in &self.nodes {
            let kept = node.blocks().await;
            let hashes =
                |blocks: &[Block]| blocks.iter().map(Block::header_hash).collect::<Vec<_>>();
            assert_eq!(hashes(&kept), hashes(&self.chain.honest));
            assert!(kept.iter().zip(&self.chain.honest).all(|(kept, honest)| {
                kept.signatures_slot() == honest.signatures_slot() && kept.data().eq(honest.data())
            }));
        }
        for liar in liars {
            within("the stop of a liar", liar.gossip.stop()).await;
        }
        for node in self.nodes {
            node.stop().await;
        }
        self.orderer.stop().await;
    }
}

/// Nodes that know of the removal refuse what the removed sign, by whatever way it comes.
///
/// Covers: VER-19, VER-21, NEW-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_removed_orderers_sign_is_refused_by_every_way() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let mut scene = Scene::new(consensus, REMOVED, 4).await;
        let signatures = Judged::Rejected("signatures");
        let genesis = scene.chain.up_to(0);
        let [next, also_next, ahead] = [
            scene.chain.next.clone(),
            scene.chain.also_next.clone(),
            scene.chain.ahead.clone(),
        ];
        let by_topic = scene.liar(genesis.clone()).await;
        by_topic.publishes(&next).await;
        scene.all_judge(&next, signatures).await;

        // The real block, so that there is no other header, with signatures of the removed.
        let other_signatures = scene.liar(genesis.clone()).await;
        let real = &scene.chain.honest[usize::try_from(REMOVED + 1).unwrap()];
        let entries: Vec<&[u8]> = real.data().collect();
        let slots = [next.signatures_slot().unwrap()];
        let real = Block::assemble(real.number(), real.header().previous_hash, &entries, &slots);
        other_signatures.publishes(&real).await;
        scene.all_judge(&real, signatures).await;

        let above = scene.liar(genesis).await;
        above.publishes(&ahead).await;
        scene
            .all_judge(&ahead, Judged::Rejected("last-config"))
            .await;

        let mut longer = scene.chain.up_to(REMOVED);
        longer.extend([also_next.clone(), ahead]);
        let by_range = scene.liar(longer).await;
        scene.all_judge(&also_next, signatures).await;
        for node in &scene.nodes {
            assert_eq!(node.state().await.chain.height, Height::new(REMOVED + 1));
        }
        scene
            .honest_blocks_arrive(vec![by_topic, other_signatures, above, by_range])
            .await;
    }
}

/// Nodes that are behind have to believe the removed, until they hear of the removal.
///
/// Covers: VER-21, NEW-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_removed_orderers_sign_is_dropped_once_their_removal_is_known() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let mut scene = Scene::new(consensus, REMOVED - 1, 1).await;
        let ahead = scene.chain.ahead.clone();
        let liar = scene.liar(scene.chain.up_to(GROWN)).await;
        liar.publishes(&ahead).await;
        scene.all_judge(&ahead, Judged::Accepted).await;
        scene.honest_blocks_arrive(vec![liar]).await;
    }
}
