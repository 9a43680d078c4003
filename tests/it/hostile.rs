// SPDX-License-Identifier: Apache-2.0
//! Members of the network that spread what orderers sign who were removed from the channel.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, Clock as _, Endpoint, Gossip as _, GossipEvent,
    Height, JoinRequest, Membership, ReadError, ReadLimits, Signer, Standing, SystemClock,
    VerifiedBlock, header_der,
    testing::{GullibleVerifier, within},
};
use bytes::Bytes;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{
    ChainMaker, Change, Consensus, DevOrderer, Fault, NetworkConfig, NodesConfig, OrdererNode,
    OrganizationSpec, Pace, RecordedChain, Script, When,
};
use gossip_libp2p::Libp2pGossip;
use prost::Message as _;
use protos::common::{
    IdentifierHeader, LastConfig, Metadata, MetadataSignature, OrdererBlockMetadata,
    SignatureHeader,
};
use signer::envelope::Nonce;

use crate::{
    harness::{self, Common, Node},
    watched::Judged,
};

/// The config block by which `Right` becomes a quorum by itself.
const GROWN: u64 = 2;

/// The config block by which `Right` orders no longer.
const REMOVED: u64 = 4;

/// A chain, and the orderers who were removed on the way.
struct Chain {
    consensus: Consensus,
    blocks: Vec<Block>,
    removed: Vec<OrdererNode>,
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
        let organization = || "Right".to_owned();
        let more = || Change::AddNode {
            organization: organization(),
        };
        let mut removed = Vec::new();
        let mut blocks = vec![maker.network().genesis().clone()];
        for number in 1..=10 {
            blocks.push(match number {
                // Five of seven nodes are a quorum on BFT.
                GROWN => maker.change(&[more(), more(), more()]).await.unwrap(),
                REMOVED => {
                    removed = maker.network().nodes().to_vec();
                    let organization = organization();
                    let change = [Change::RemoveOrderers { organization }];
                    maker.change(&change).await.unwrap()
                }
                _ => maker.block(&[100]).await.unwrap(),
            });
        }
        removed.retain(|node| node.organization() == "Right");
        Self {
            consensus,
            blocks,
            removed,
            client: maker.network().client().signer(),
        }
    }

    fn block(&self, number: u64) -> &Block {
        &self.blocks[usize::try_from(number).unwrap()]
    }

    /// A block that links to the chain, with the data of another one, which the removed sign. They
    /// say that this is the newest config block.
    async fn forged(&self, number: u64, data_of: u64, last_config: u64) -> Block {
        let previous = self.block(number - 1).header_hash();
        let entries: Vec<&[u8]> = self.block(data_of).data().collect();
        let assemble =
            |slots: &[Vec<u8>]| Block::assemble(number.into(), previous.as_ref(), &entries, slots);
        let unsigned = assemble(&[]);
        let header = unsigned.header();
        let header = header_der(header.number, header.previous_hash, header.data_hash);
        let value = OrdererBlockMetadata {
            last_config: Some(LastConfig { index: last_config }),
            ..OrdererBlockMetadata::default()
        }
        .encode_to_vec();
        let mut signatures = Vec::new();
        for node in &self.removed {
            let (mut signature, signer) = (MetadataSignature::default(), node.member().signer());
            let nonce = Bytes::copy_from_slice(Nonce::random().as_bytes());
            let signed_by = match self.consensus {
                Consensus::Raft => {
                    let creator = signer.identity();
                    let header = SignatureHeader { creator, nonce }.encode_to_vec();
                    signature.signature_header = header.clone().into();
                    header
                }
                Consensus::Bft => {
                    let identifier = node.id();
                    let header = IdentifierHeader { identifier, nonce }.encode_to_vec();
                    signature.identifier_header = header.clone().into();
                    header
                }
            };
            let signed = [&value[..], &signed_by, &header].concat();
            signature.signature = signer.sign(&signed).await.unwrap();
            signatures.push(signature);
        }
        let value = value.into();
        assemble(&[Metadata { value, signatures }.encode_to_vec()])
    }

    /// The blocks from a number up to another one, without that.
    fn between(&self, first: u64, end: u64) -> Vec<Block> {
        let [first, end] = [first, end].map(|number| usize::try_from(number).unwrap());
        self.blocks[first..end].to_vec()
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
    /// Joins with this chain, and waits until what it publishes reaches these nodes.
    async fn join(
        gossip: Libp2pGossip,
        common: &Common,
        chain: Vec<Block>,
        nodes: &[Node],
    ) -> Self {
        let joined = gossip.join(JoinRequest {
            channel: "ch".parse().unwrap(),
            genesis: common.genesis.header_hash(),
            reader: Arc::new(Claimed(chain)),
            readers: common.readers.clone(),
        });
        let mut membership = within("joining", joined).await.unwrap();
        let mut missing: BTreeSet<_> = nodes.iter().map(|node| node.gossip.node_id()).collect();
        while !missing.is_empty() {
            let event = within("a status", membership.events.recv()).await;
            if let GossipEvent::Status { from, .. } = event.unwrap() {
                missing.remove(&from);
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
        let raw = chain.blocks.iter().map(|block| block.raw().clone());
        let recorded = RecordedChain::new(raw.collect()).unwrap();
        let verifier = ChannelVerifier::from_genesis(&chain.blocks[0]).unwrap();
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
        let mut members = harness::gossip(2 + strangers, &common.signer).await;
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
        Liar::join(gossip, &self.common, chain, &self.nodes).await
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
        self.reach(self.chain.blocks.len() as u64).await;
        for node in &self.nodes {
            let kept = node.blocks().await;
            let hashes =
                |blocks: &[Block]| blocks.iter().map(Block::header_hash).collect::<Vec<_>>();
            assert_eq!(hashes(&kept), hashes(&self.chain.blocks));
            assert!(kept.iter().zip(&self.chain.blocks).all(|(kept, honest)| {
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
        let genesis = scene.chain.between(0, 1);
        let due = REMOVED + 1;
        // With the data of another block, and with the very header of the real one.
        let mut liars = Vec::new();
        for data_of in [1, due] {
            let forged = scene.chain.forged(due, data_of, REMOVED).await;
            let liar = scene.liar(genesis.clone()).await;
            liar.publishes(&forged).await;
            scene.all_judge(&forged, signatures).await;
            liars.push(liar);
        }

        let ahead = scene.chain.forged(due + 2, 1, GROWN).await;
        let liar = scene.liar(genesis).await;
        liar.publishes(&ahead).await;
        scene
            .all_judge(&ahead, Judged::Rejected("last-config"))
            .await;
        liars.push(liar);

        let forged = scene.chain.forged(due, 3, REMOVED).await;
        let mut longer = scene.chain.between(0, due);
        longer.extend([forged.clone(), ahead]);
        liars.push(scene.liar(longer).await);
        scene.all_judge(&forged, signatures).await;
        for node in &scene.nodes {
            assert_eq!(node.state().chain.height, Height::new(due));
        }
        scene.honest_blocks_arrive(liars).await;
    }
}

/// Nodes that are behind have to believe the removed, until they hear of the removal.
///
/// Covers: VER-21, NEW-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_removed_orderers_sign_is_dropped_once_their_removal_is_known() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let mut scene = Scene::new(consensus, REMOVED - 1, 1).await;
        let turn = REMOVED + 3;
        let ahead = scene.chain.forged(turn, 1, GROWN).await;
        let liar = scene.liar(scene.chain.between(0, GROWN + 1)).await;
        liar.publishes(&ahead).await;
        scene.all_judge(&ahead, Judged::Accepted).await;
        // What comes up to its turn is genuine, whoever brings it.
        for block in scene.chain.between(REMOVED, turn) {
            liar.publishes(&block).await;
        }
        scene
            .all_judge(&ahead, Judged::Rejected("signatures"))
            .await;
        scene.reach(turn).await;
        scene.honest_blocks_arrive(vec![liar]).await;
    }
}
