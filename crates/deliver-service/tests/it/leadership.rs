// SPDX-License-Identifier: Apache-2.0
//! Who pulls, among nodes that find it out by themselves.

mod claims;
mod order;
mod outages;

use std::{sync::Arc, time::Duration};

use block_api::{
    Block, BlockReader, DeliverStatus, Endpoint, Gossip as _, Height, Membership, NodeId, Start,
    Stop,
    testing::{LiveChain, Manner, MemoryStore, Opening, ScriptedSource, Step, TestChain, within},
};
use blockcast_deliver_service::{
    ChannelParts, Config, Leadership, Origin, Role, StartError, StopError,
};
use blocks_provider::PullState;
use gossip_memory::{Link, MemoryGossip, MemoryNetwork, NodeConfig};
use tokio::time::{Instant, sleep};

use crate::harness::{Node, ORDERER, chain, count, endpoint, has};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);

/// Nodes of one organisation whose orderer serves one chain. They have one identity, so that their
/// names are their order.
struct Group {
    network: MemoryNetwork,
    chain: LiveChain,
    blocks: Vec<Block>,
    nodes: Vec<Node>,
}

impl Group {
    /// So many nodes that know each other and have begun to find out who pulls.
    async fn start(names: usize) -> Self {
        let mut group = Self::prepare(names).await;
        group.elect().await;
        group
    }

    async fn prepare(names: usize) -> Self {
        let mut group = Self::empty();
        for index in 0..names {
            // What is drawn by lot, as whom to ask after a failure, is the same in each run.
            let mut config = Config::default();
            config.provider.seed = Some(index as u64);
            group.add(&format!("node-{index}"), config).await;
        }
        group
    }

    fn empty() -> Self {
        let blocks = chain(60, 100);
        Self {
            network: MemoryNetwork::new(7),
            chain: LiveChain::new(blocks[..1].to_vec()),
            blocks,
            nodes: Vec::new(),
        }
    }

    async fn add(&mut self, name: &str, config: Config) {
        self.add_on(self.network.node(name), config).await;
    }

    async fn add_on(&mut self, gossip: MemoryGossip, config: Config) {
        let genesis = &self.blocks[0];
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await);
        let node = Node::with(gossip, "node", genesis, config, store).await;
        node.orderer.serve(ORDERER, &self.chain, Manner::HONEST);
        self.nodes.push(node);
        self.network.link_all(Link::default());
    }

    async fn elect(&mut self) {
        for node in &self.nodes {
            node.elect().await;
        }
    }

    /// The orderer of the node that comes first gives only so many blocks.
    fn first_orderer_withholds(&self, blocks: u64) {
        let withholding = Manner::withholding_blocks(blocks);
        self.nodes[0]
            .orderer
            .serve(ORDERER, &self.chain, withholding);
    }

    /// Has the orderer make the next blocks, up to this height.
    fn order_up_to(&self, height: usize) {
        let made = self.made();
        self.chain.grow(self.blocks[made..height].iter().cloned());
    }

    fn made(&self) -> usize {
        self.chain.height()
    }

    async fn all_reach(&self, height: usize) {
        for node in &self.nodes {
            node.reaches(height as u64).await;
        }
    }

    /// The nodes that have a stream of blocks.
    fn streaming(&self) -> Vec<usize> {
        let mut streaming = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if matches!(node.state().pull, Some(PullState::Streaming(_))) {
                streaming.push(index);
            }
        }
        streaming
    }

    async fn settles(&self, expected: &[usize]) {
        let what = format!("streams of {expected:?}");
        let settled = async {
            while self.streaming() != expected {
                sleep(STEP).await;
            }
        };
        within(&what, settled).await;
    }

    /// For so long, these nodes have streams and no others.
    async fn stays(&self, expected: &[usize], time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert_eq!(self.streaming(), expected);
            sleep(STEP).await;
        }
    }

    /// Nothing is heard of a node any more, and nobody is told why: it hangs, or its machine is gone.
    fn silence(&self, node: usize) {
        let silent = self.nodes[node].id();
        for other in &self.nodes {
            if other.id() != silent {
                self.network.cut_one_way(&silent, &other.id());
                self.network.cut_one_way(&other.id(), &silent);
            }
        }
    }

    async fn stop(self) {
        for node in &self.nodes {
            has(
                node,
                &self.blocks[..node.store.info().height.get() as usize],
            )
            .await;
        }
        for node in self.nodes {
            node.stop().await;
        }
    }
}

fn leadership(node: &Node) -> Leadership {
    node.state().leadership.unwrap()
}

fn requests(node: &Node) -> usize {
    node.orderer.requests().len()
}

/// How often a node opened a stream to pull.
fn pulls(node: &Node) -> usize {
    let requests = node.orderer.requests();
    requests
        .iter()
        .filter(|(_, request)| request.stop == Stop::Never)
        .count()
}
