// SPDX-License-Identifier: Apache-2.0
//! The cases of the tables.

use anyhow::Result;
use block_api::{ChannelId, HeaderHash};

use super::{
    Cost, Graph, Mean, Mode, Spread, Terms, Wiring, every_peer_pulls, pullers, push, wire::Wire,
};

/// A block of this size is carried while the number of nodes grows.
const BLOCK: u32 = 1_000_000;

/// How often each channel has a block; statuses go out once a second at most.
const BLOCKS_A_SECOND: f64 = 1.0;

/// How many orderers sign their own copies; pullers are spread over them.
const ORDERERS: usize = 5;

/// Its hash goes into the order of the nodes of a channel.
const GENESIS: HeaderHash = HeaderHash::new([0; 32]);

/// With which number graphs are drawn.
const SEED: u64 = 1;

/// So many organisations with so many nodes each, as the number of nodes grows.
pub const NODES: [Case; 7] = [
    Case::of(2, 5),
    Case::of(3, 10),
    Case::of(10, 10),
    Case::of(10, 30),
    Case::of(20, 50),
    Case::of(30, 100),
    Case::of(100, 100),
];

/// 1,000 nodes, as blocks grow.
pub const SIZES: [Case; 5] = [
    Case::of(20, 50).with(1000),
    Case::of(20, 50).with(100_000),
    Case::of(20, 50).with(1_000_000),
    Case::of(20, 50).with(10_000_000),
    Case::of(20, 50).with(100_000_000),
];

/// The same nodes where none is listed.
pub const DISCOVERED: [Case; 7] = NODES;

/// 100 nodes of ten organisations, as channels grow.
pub const CHANNELS: [usize; 5] = [1, 10, 100, 1000, 2000];

/// One line of what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// How many organisations there are.
    pub organisations: usize,
    /// How many nodes each of them has.
    pub each: usize,
    /// How many bytes of data a block has.
    pub block: u32,
}

/// How blocks come to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As ours do.
    Blockcast,
    /// Each node from an orderer.
    EveryPeerPulls,
    /// Fabric's gossip with leaders.
    FabricPush,
    /// gossipsub with whole blocks, between the same nodes with the same pullers.
    GossipsubPush,
}

/// A case, and what a block costs each way.
pub type Costs = (Case, [(Way, Cost); 4]);

/// What many channels cost in streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Channels {
    /// How many there are.
    pub channels: usize,
    /// Streams of all orderers.
    pub orderer_streams: u64,
    /// The same where every peer pulls.
    pub orderer_streams_fabric: u64,
    /// Streams from orderers that a node has.
    pub pulled: Mean,
    /// The same where every peer pulls.
    pub pulled_fabric: Mean,
    /// Connections of a node to other nodes, for all channels.
    pub connections: Mean,
}

/// What an election comes to where nodes only find each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The nodes.
    pub case: Case,
    /// How many of its organisation a node is connected to.
    pub mates: f64,
    /// How many nodes pull.
    pub pullers: usize,
    /// How many would by the formula.
    pub expected: f64,
    /// What a block costs then.
    pub cost: Cost,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Blockcast,
        Self::EveryPeerPulls,
        Self::FabricPush,
        Self::GossipsubPush,
    ];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blockcast => "blockcast",
            Self::EveryPeerPulls => "every peer pulls",
            Self::FabricPush => "Fabric push",
            Self::GossipsubPush => "gossipsub push",
        }
    }
}

impl Case {
    const fn of(organisations: usize, each: usize) -> Self {
        Self {
            organisations,
            each,
            block: BLOCK,
        }
    }

    const fn with(self, block: u32) -> Self {
        Self { block, ..self }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.organisations * self.each
    }

    /// What a block costs, each way.
    ///
    /// # Errors
    ///
    /// When the recorded block cannot be read.
    pub fn run(&self) -> Result<[(Way, Cost); 4]> {
        let graph = Graph::new(self.organisations, self.each, Wiring::Listed, SEED);
        let pulling = pullers(&graph, (&channel(0)?, &GENESIS), |_| true);
        let wire = Wire::of(self.block)?;
        let spread = |mode| Spread::run(&graph, &pulling, terms(wire, mode)).cost();
        Ok([
            (Way::Blockcast, spread(Mode::Announce)),
            (Way::EveryPeerPulls, every_peer_pulls(&graph, wire.block)),
            (
                Way::FabricPush,
                push(&graph, wire.block, BLOCKS_A_SECOND, SEED),
            ),
            (Way::GossipsubPush, spread(Mode::Push)),
        ])
    }

    /// Who pulls, and what that costs, where nodes only find each other.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn discover(&self) -> Result<Found> {
        let graph = Graph::new(self.organisations, self.each, Wiring::Discovered, SEED);
        let pulling = pullers(&graph, (&channel(0)?, &GENESIS), |_| true);
        let degrees = graph.neighbours.iter().enumerate().map(|(node, others)| {
            let own =
                |other: &&u32| graph.organisation[**other as usize] == graph.organisation[node];
            others.iter().filter(own).count()
        });
        let mates = degrees.sum::<usize>() as f64 / self.nodes() as f64;
        // Where each is connected to each, the first one is enough.
        let expected = match mates + 1.0 < self.each as f64 {
            true => self.nodes() as f64 * (1.0 + mates).ln() / mates,
            false => self.organisations as f64,
        };
        let wire = Wire::of(self.block)?;
        Ok(Found {
            case: *self,
            mates,
            pullers: pulling.len(),
            expected,
            cost: Spread::run(&graph, &pulling, terms(wire, Mode::Announce)).cost(),
        })
    }
}

impl Channels {
    /// So many channels over 100 nodes of ten organisations. Each is one of five of them, which are
    /// others for each channel, with all their nodes.
    ///
    /// # Errors
    ///
    /// When a channel cannot be named, which does not happen.
    pub fn run(channels: usize) -> Result<Self> {
        let graph = Graph::new(10, 10, Wiring::Listed, SEED);
        let nodes = graph.nodes();
        let (mut pulled, mut joined) = (vec![0_u32; nodes], vec![0_u32; nodes]);
        for index in 0..channels {
            let is_in =
                |node: usize| (graph.organisation[node] as usize + 10 - index % 10) % 10 < 5;
            for puller in pullers(&graph, (&channel(index)?, &GENESIS), is_in) {
                pulled[puller] += 1;
            }
            for node in (0..nodes).filter(|node| is_in(*node)) {
                joined[node] += 1;
            }
        }
        let sum = |streams: &[u32]| streams.iter().map(|count| u64::from(*count)).sum();
        let mean = |streams: &[u32]| Mean::of(streams.iter().map(|count| f64::from(*count)));
        Ok(Self {
            channels,
            orderer_streams: sum(&pulled),
            orderer_streams_fabric: sum(&joined),
            pulled: mean(&pulled),
            pulled_fabric: mean(&joined),
            connections: Mean::of(graph.neighbours.iter().map(|links| links.len() as f64)),
        })
    }
}

fn terms(wire: Wire, mode: Mode) -> Terms {
    Terms {
        wire,
        mode,
        orderers: ORDERERS,
        blocks_a_second: BLOCKS_A_SECOND,
    }
}

fn channel(index: usize) -> Result<ChannelId> {
    Ok(format!("channel{index}").parse()?)
}
