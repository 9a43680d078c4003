// SPDX-License-Identifier: Apache-2.0
//! What every run has in common: two channels, their chains as the orderers order them, and who
//! takes part. Made once for all runs, since keys and signatures take time.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use block_api::{
    Block, BlockVerifier as _, ChannelId, HeaderHash, Signer, Standing, VerifiedBlock,
};
use channel_config::ChannelVerifier;
use dev_orderer::{
    ChainMaker, Change, Consensus, KeyKind, Network, NetworkConfig, OrganizationSpec, Role,
};

/// So many orderers there are.
pub(crate) const ORDERERS: usize = 4;
/// So many nodes there are, the first ones of one organisation, the others of another.
pub(crate) const NODES: usize = 8;
/// So many channels there are: the first one is ordered by raft, the second one by BFT.
pub(crate) const CHANNELS: usize = 2;
/// So many organisations the nodes are of. One node of each is elected to pull.
pub(crate) const ORGANISATIONS: usize = 2;
/// The number of blocks of each channel, with the genesis block.
pub(crate) const BLOCKS: usize = 60;
/// A block is ordered so often on each channel.
pub(crate) const BLOCK_EVERY: Duration = Duration::from_millis(800);
/// When the last fault ends. Blocks are ordered a little longer.
pub(crate) const FAULTS_END: Duration = Duration::from_secs(45);
/// By then every node has every block.
pub(crate) const DEADLINE: Duration = Duration::from_secs(105);
/// Where orderers listen for the first channel; the port of the others follow.
pub(crate) const PORT: u16 = 7050;

/// The chains of all channels.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) channels: Vec<Chain>,
}

/// A channel and its chain.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) id: ChannelId,
    pub(crate) network: Network,
    pub(crate) genesis: VerifiedBlock,
    /// The copy that each orderer has of each block.
    pub(crate) copies: Vec<Vec<Block>>,
    /// Blocks that would be right in their place, had orderers of this channel signed them.
    pub(crate) forged: Vec<Block>,
    pub(crate) hashes: Vec<HeaderHash>,
    pub(crate) configs: Vec<u64>,
}

/// When simulations begin.
pub(crate) fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)
}

/// The name of a node.
pub(crate) fn node_name(index: usize) -> String {
    format!("node{index}")
}

/// The name of an orderer.
pub(crate) fn orderer_name(index: usize) -> String {
    format!("orderer{index}")
}

/// The port on which orderers serve a channel.
pub(crate) fn port(channel: usize) -> u16 {
    PORT + u16::try_from(channel).unwrap()
}

impl Scene {
    /// The one scene.
    pub(crate) fn get() -> &'static Self {
        static SCENE: OnceLock<Scene> = OnceLock::new();
        SCENE.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.build().unwrap();
            Self {
                channels: vec![
                    runtime.block_on(Chain::make("cft", Consensus::Raft, port(0))),
                    runtime.block_on(Chain::make("bft", Consensus::Bft, port(1))),
                ],
            }
        })
    }
}

impl Chain {
    async fn make(name: &str, consensus: Consensus, port: u16) -> Self {
        let mut maker = maker_of(name, consensus, port);
        let genesis = maker.network().genesis().clone();
        let mut copies = vec![vec![genesis.clone()]; ORDERERS];
        let mut forged = vec![genesis.clone()];
        let strangers = maker_of(name, consensus, port);
        let strangers = strangers.network().nodes();
        let strangers = match consensus {
            Consensus::Raft => &strangers[..1],
            Consensus::Bft => strangers,
        };
        let mut configs = vec![0];
        for number in 1..BLOCKS {
            forged.push(maker.block_signed_by(strangers, &[120]).await.unwrap());
            let blocks = match number % 25 {
                // From here on one orderer signs with another key.
                20 => {
                    configs.push(number as u64);
                    let change = Change::ReplaceCertificates { node: 2 };
                    vec![maker.change(&[change]).await.unwrap(); ORDERERS]
                }
                _ => maker.copies(&[120]).await.unwrap(),
            };
            for (copies, block) in copies.iter_mut().zip(blocks) {
                copies.push(block);
            }
        }
        let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
        assert_eq!(verifier.config_number(), 0.into());
        let genesis = VerifiedBlock::new(genesis, &verifier, Standing::Linked).unwrap();
        verifier.apply_config(&genesis).unwrap();
        Self {
            id: verifier.channel().clone(),
            network: maker.network().clone(),
            hashes: copies[0].iter().map(Block::header_hash).collect(),
            genesis,
            copies,
            forged,
            configs,
        }
    }

    /// The identity of a node in the channel.
    pub(crate) fn signer(&self, node: usize) -> Arc<dyn Signer> {
        let organization = &self.network.applications()[node / (NODES / ORGANISATIONS)];
        organization.member(&node_name(node)).unwrap().signer()
    }

    /// A verifier that knows the genesis block.
    pub(crate) fn verifier(&self) -> ChannelVerifier {
        ChannelVerifier::from_genesis(self.genesis.block()).unwrap()
    }
}

/// Who orders a channel. Each call makes keys of its own.
fn maker_of(name: &str, consensus: Consensus, port: u16) -> ChainMaker {
    let mut config = NetworkConfig::new(name.parse().unwrap());
    config.consensus = consensus;
    config.key_kind = KeyKind::Ed25519;
    config.applications = (0..ORGANISATIONS).map(organization).collect();
    let endpoints: Vec<_> = (0..ORDERERS)
        .map(|index| format!("{}:{port}", orderer_name(index)).parse().unwrap())
        .collect();
    ChainMaker::new(config, &endpoints, epoch()).unwrap()
}

fn organization(index: usize) -> OrganizationSpec {
    let nodes: Vec<String> = (0..NODES / ORGANISATIONS)
        .map(|node| node_name(index * NODES / ORGANISATIONS + node))
        .collect();
    let members = nodes
        .iter()
        .map(|name| (name.as_str(), Role::Peer))
        .chain([("user1", Role::Client), ("admin", Role::Admin)]);
    OrganizationSpec::new(&format!("Org{}", index + 1), members)
}
