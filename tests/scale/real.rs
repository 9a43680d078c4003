// SPDX-License-Identifier: Apache-2.0
//! Real delivery services, connected as a graph of the model, with counters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use block_api::{
    Block, BlockNumber, BlockVerifier, Gossip, Height, Rejection, Standing, Verdict, VerifiedBlock,
    testing::{
        GullibleVerifier, LiveChain, Manner, MemoryStore, OpenReaders, ScriptedSource, TestChain,
        TestOrganisation, TestSigner, within,
    },
};
use deliver_service::{ChannelParts, Config, DeliverService};
use e2e_tests::scale::{Graph, identity, latency, orderer_of};
use gossip_libp2p::{Admission, Keypair, Libp2pGossip, Registry};
use gossip_memory::{Link, MemoryNetwork};
use tokio::time::timeout;

const ORDERER: &str = "orderer:7050";

/// How many blocks are counted, one after the other.
const BLOCKS: u64 = 5;

/// How long an election may take: each node may wait for those before it, one after the other.
const ELECTION: Duration = Duration::from_secs(120);

/// The prefixes of the identities of organisations.
const ORGANISATIONS: [&str; 3] = ["org0.", "org1.", "org2."];

/// What was counted.
pub(crate) struct Counted {
    /// How often signatures were verified for the blocks that are counted.
    pub(crate) verified: u64,
    pub(crate) blocks: u64,
}

/// Counts what it judges, and takes each copy of a block for signed.
#[derive(Debug)]
struct Counting {
    inner: GullibleVerifier,
    count: Arc<AtomicU64>,
}

/// Nodes over TCP, to read their counters once they have stopped.
pub(crate) struct Nodes {
    gossips: Vec<Libp2pGossip>,
    registries: Vec<Registry>,
}

impl BlockVerifier for Counting {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.verify(block, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        self.inner.apply_config(stored)
    }
}

impl Nodes {
    /// Bytes of bodies that all of them served.
    pub(crate) fn bodies(&self) -> u64 {
        let stats = self.gossips.iter().map(Libp2pGossip::stats);
        stats.map(|stats| stats.body_bytes_served).sum()
    }

    /// Messages that came to all of them, second copies among them.
    pub(crate) fn messages(&self) -> u64 {
        let of_one = |registry: &Registry| -> u64 {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
            let lines = text.lines();
            let counts = lines.filter(|line| {
                line.starts_with("libp2p_gossipsub_topic_msg_recv_counts_unfiltered")
            });
            counts
                .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                .sum()
        };
        self.registries.iter().map(of_one).sum()
    }
}

/// Nodes of the network in memory.
pub(crate) fn in_memory(graph: &Graph) -> Vec<Arc<dyn Gossip>> {
    let network = MemoryNetwork::new(5);
    let nodes: Vec<_> = (0..graph.nodes())
        .map(|node| {
            let identity = identity(graph, node);
            network.node_of(&identity.clone(), identity.into())
        })
        .collect();
    for (one, others) in graph.neighbours.iter().enumerate() {
        for other in others.iter().map(|other| *other as usize) {
            let link = Link {
                latency: latency(one, other),
                ..Link::default()
            };
            network.link(&nodes[one].node_id(), &nodes[other].node_id(), link);
        }
    }
    let shared = |node| Arc::new(node) as Arc<dyn Gossip>;
    nodes.into_iter().map(shared).collect()
}

/// Nodes of libp2p on loopback, connected by nothing but the graph.
pub(crate) async fn over_tcp(graph: &Graph) -> (Vec<Arc<dyn Gossip>>, Nodes) {
    let keys: Vec<Keypair> = (0..graph.nodes())
        .map(|node| Keypair::from_seed([node as u8 + 1; 32]))
        .collect();
    let admitted = || keys.iter().map(Keypair::node_id).collect();
    let (mut gossips, mut registries) = (Vec::new(), Vec::new());
    for (node, key) in keys.iter().enumerate() {
        let config = gossip_libp2p::Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            admission: Admission::AllowList(admitted()),
            target_peers: 0,
            ..gossip_libp2p::Config::new(key.clone(), signer(graph, node))
        };
        let mut registry = Registry::default();
        let gossip = Libp2pGossip::start_with_metrics(config, &mut registry).await;
        gossips.push(gossip.unwrap());
        registries.push(registry);
    }
    for (one, others) in graph.neighbours.iter().enumerate() {
        for other in others.iter().map(|other| *other as usize) {
            if one < other {
                let address = gossips[other].peer_addrs().remove(0);
                gossips[one].add_peer(address).await.unwrap();
            }
        }
    }
    let shared = |node: &Libp2pGossip| Arc::new(node.clone()) as Arc<dyn Gossip>;
    let network = gossips.iter().map(shared).collect();
    let nodes = Nodes {
        gossips,
        registries,
    };
    (network, nodes)
}

fn signer(graph: &Graph, node: usize) -> Arc<TestSigner> {
    // It lives as long as the test.
    Arc::new(TestSigner(identity(graph, node).leak()))
}

/// Has nodes elect who pulls until it is these, and then gives them some blocks, one after the other,
/// which have to leave the pullers as they are.
pub(crate) async fn run(
    graph: &Graph,
    network: Vec<Arc<dyn Gossip>>,
    pulling: &[usize],
    (orderers, bytes): (usize, usize),
) -> Counted {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let live: Vec<LiveChain> = (0..orderers)
        .map(|_| LiveChain::new(vec![genesis.clone()]))
        .collect();
    let count = Arc::default();
    let channel = chain.channel();
    let mut services = Vec::new();
    for (node, gossip) in network.iter().enumerate() {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
        let orderer = Arc::new(ScriptedSource::new(&[ORDERER]));
        let served = &live[orderer_of(node, orderers)];
        orderer.serve(ORDERER, served, Manner::HONEST);
        let service = DeliverService::new(Config::default(), gossip.clone()).unwrap();
        let parts = ChannelParts {
            channel: channel.clone(),
            genesis: genesis.header_hash(),
            store: store.clone(),
            verifier: Arc::new(Counting {
                inner: GullibleVerifier {
                    judged_by: BlockNumber::GENESIS,
                },
                count: Arc::clone(&count),
            }),
            readers: Arc::new(OpenReaders),
            signer: signer(graph, node),
            organisation: Arc::new(TestOrganisation(
                ORGANISATIONS[graph.organisation[node] as usize],
            )),
            source: orderer.clone(),
        };
        service.join_channel(parts).await.unwrap();
        services.push((service, store, orderer));
    }
    let met = async {
        for (node, (service, ..)) in services.iter().enumerate() {
            let neighbours = graph.neighbours[node].len();
            assert!(service.wait_for_peers(&channel, neighbours).await);
        }
    };
    within("meeting", met).await;
    for (service, store, _) in &services {
        let elected = service.elect_for_channel(&channel, store.clone());
        elected.await.unwrap();
    }
    let elected = || -> Vec<usize> {
        let pulls = |node: &usize| services[*node].2.open_streams() > 0;
        (0..services.len()).filter(pulls).collect()
    };
    let settled = async {
        // One that is as it should be may change while another is waited for.
        while elected() != *pulling {
            for (node, (.., orderer)) in services.iter().enumerate() {
                let pulls = pulling.contains(&node);
                let mut streams = orderer.watch_open_streams();
                streams.wait_for(|open| (*open > 0) == pulls).await.unwrap();
            }
        }
    };
    let settled = timeout(ELECTION, settled).await;
    assert!(
        settled.is_ok(),
        "{:?} pull, and by the model {pulling:?}",
        elected()
    );
    let before = count.load(Ordering::Relaxed);
    for number in 1..=BLOCKS {
        let block = chain.data(bytes);
        for (orderer, live) in live.iter().enumerate() {
            live.grow([copy_of(&block, orderer)]);
        }
        for (service, ..) in &services {
            let reached = service.wait_for_height(&channel, Height::new(number + 1));
            assert!(within("the block", reached).await);
        }
    }
    assert_eq!(elected(), pulling, "the pullers after the blocks");
    for (service, ..) in services {
        within("stopping", service.stop()).await;
    }
    for gossip in network {
        within("stopping", gossip.stop()).await;
    }
    Counted {
        verified: count.load(Ordering::Relaxed) - before,
        blocks: BLOCKS,
    }
}

/// The copy of a block that this orderer signed.
fn copy_of(block: &Block, orderer: usize) -> Block {
    let header = block.header();
    let entries: Vec<&[u8]> = block.data().collect();
    let signature = format!("of orderer {orderer}");
    let slots = [signature.as_bytes(), &[], &[], &[], &[]];
    Block::assemble(header.number, header.previous_hash, &entries, &slots)
}
