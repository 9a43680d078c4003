// SPDX-License-Identifier: Apache-2.0
//! The nodes, orderers and links of a run, and what faults do to them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use block_api::{BlockReader as _, NodeId};
use gossip_memory::{Link, MemoryNetwork};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use turmoil::Sim;

use crate::{
    node::{Node, Setting},
    orderer::{Orderer, Served},
    run::Broken,
    scene::{BLOCK_EVERY, BLOCKS, CHANNELS, NODES, ORDERERS, epoch, node_name, orderer_name},
    schedule::{Culprits, What},
    source::Asked,
    trace::Trace,
};

/// How long a step of the simulation is, within which the hosts run one after the other.
const TICK: Duration = Duration::from_millis(20);

/// Everything that takes part in a run.
pub(crate) struct World {
    sim: Sim<'static>,
    gossip: MemoryNetwork,
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) orderers: Vec<Arc<Orderer>>,
    pub(crate) trace: Trace,
    /// What was asked of the orderers of each channel.
    pub(crate) asked: Vec<Asked>,
    /// Which orderers each trouble is about, where that was found out when it began.
    culprits: BTreeMap<usize, Vec<usize>>,
    /// How long messages take between two nodes, and between a node and an orderer, in peace.
    gossip_latency: Vec<Vec<Duration>>,
    latency: Vec<Vec<Duration>>,
    /// How many faults keep each node and each orderer down, and each orderer without a leader.
    nodes_down: Vec<usize>,
    orderers_down: Vec<usize>,
    leaderless: Vec<Vec<usize>>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Trace, broken: Broken) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed);
        let mut latency = |most: u64| Duration::from_millis(rng.random_range(1..most));
        let mut table = |others: usize, most| -> Vec<Vec<Duration>> {
            let row = |_| (0..others).map(|_| latency(most)).collect();
            (0..NODES).map(row).collect()
        };
        let (gossip_latency, latency) = (table(NODES, 60), table(ORDERERS, 60));
        let gossip = MemoryNetwork::new(seed);
        let asked = (0..CHANNELS).map(|_| Asked::default()).collect::<Vec<_>>();
        let mut sim = turmoil::Builder::new()
            .tick_duration(TICK)
            .epoch(epoch())
            .rng_seed(seed)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::ZERO)
            .tcp_capacity(4096)
            .build();
        let orderers: Vec<_> = (0..ORDERERS).map(Orderer::new).collect();
        for (index, orderer) in orderers.iter().enumerate() {
            let orderer = orderer.clone();
            sim.host(orderer_name(index), move || orderer.clone().run());
        }
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let mut nodes = Vec::new();
        for index in 0..NODES {
            let setting = Setting {
                seed,
                gossip: gossip.clone(),
                trace: trace.clone(),
                asked: asked.clone(),
                broken,
            };
            let node = runtime.block_on(Node::new(index, setting));
            nodes.push(node.clone());
            sim.host(node_name(index), move || node.clone().run());
        }
        let world = Self {
            sim,
            gossip,
            nodes,
            orderers,
            trace,
            asked,
            culprits: BTreeMap::new(),
            gossip_latency,
            latency,
            nodes_down: vec![0; NODES],
            orderers_down: vec![0; ORDERERS],
            leaderless: vec![vec![0; CHANNELS]; ORDERERS],
        };
        for a in 0..NODES {
            for b in 0..a {
                world.set_link(a, b, 0.0, Duration::ZERO);
            }
            for orderer in 0..ORDERERS {
                world.set_latency(a, orderer, Duration::ZERO);
            }
        }
        world
    }

    pub(crate) fn now(&self) -> Duration {
        self.sim.elapsed()
    }

    /// Lets time go on by a step.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        let ordered = 1 + self.now().as_millis() / BLOCK_EVERY.as_millis();
        let ordered = u64::try_from(ordered).unwrap().min(BLOCKS as u64);
        for served in self.orderers.iter().flat_map(|orderer| &orderer.channels) {
            served.ledger.grow_to(ordered);
        }
        match self.sim.step() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("a host ended: {error}")),
        }
    }

    /// Whether every node has everything that was ordered in the run.
    pub(crate) fn all_at_the_tip(&self) -> bool {
        let mut stores = self.nodes.iter().flat_map(|node| &node.stores);
        stores.all(|store| store.info().height.get() == BLOCKS as u64)
    }

    /// Lets the trouble of this index begin.
    pub(crate) fn begin(&mut self, index: usize, what: &What) {
        self.trace.tell_at(self.now(), "fault", format!("{what:?}"));
        match what {
            What::CutNodes(a, b) => self.gossip.cut(&id(*a), &id(*b)),
            What::CutNodesOneWay(from, to) => self.gossip.cut_one_way(&id(*from), &id(*to)),
            What::LossyNodes(a, b, loss) => self.set_link(*a, *b, *loss, Duration::ZERO),
            What::SlowNodes(a, b, late) => self.set_link(*a, *b, 0.0, *late),
            What::SplitNodes(at) => pairs(*at).for_each(|(a, b)| self.gossip.cut(&id(a), &id(b))),
            What::Isolate(node) => {
                for other in others(*node) {
                    self.gossip.cut(&id(*node), &id(other));
                }
                for orderer in 0..ORDERERS {
                    self.begin_cut(*node, orderer, true, true);
                }
            }
            What::CutOrderer(node, orderer) => self.begin_cut(*node, *orderer, true, true),
            What::DeafOrderer(node, orderer) => self.begin_cut(*node, *orderer, true, false),
            What::MuteOrderer(node, orderer) => self.begin_cut(*node, *orderer, false, true),
            What::SlowOrderer(node, orderer, late) => self.set_latency(*node, *orderer, *late),
            What::CrashNode(node) => {
                self.nodes_down[*node] += 1;
                if self.nodes_down[*node] == 1 {
                    self.sim.crash(node_name(*node));
                    self.gossip.remove(&id(*node));
                }
            }
            What::CrashOrderer(orderer) => {
                self.orderers_down[*orderer] += 1;
                self.sim.crash(orderer_name(*orderer));
            }
            What::StoreFails(node, channel, count) => {
                self.nodes[*node].stores[*channel]
                    .store
                    .fail_appends(*count);
            }
            What::Misbehave(culprits, channel, misdeed) => {
                let culprits = match culprits {
                    Culprits::These(orderers) => orderers.clone(),
                    Culprits::Used => vec![self.asked[*channel].most_used().unwrap_or(0)],
                };
                for orderer in &culprits {
                    self.served(*orderer, *channel).begin(misdeed);
                }
                let what = format!("it is about the orderers {culprits:?}");
                self.trace.tell_at(self.now(), "fault", what);
                self.culprits.insert(index, culprits);
            }
            What::NoLeader(orderer, channel) => {
                self.leaderless[*orderer][*channel] += 1;
                self.served(*orderer, *channel).set_leader(false);
            }
            What::FallBehind(orderer, channel) => {
                self.served(*orderer, *channel).ledger.fall_behind(true)
            }
        }
    }

    pub(crate) fn end(&mut self, index: usize, what: &What) {
        self.trace
            .tell_at(self.now(), "fault", format!("{what:?} ends"));
        match what {
            What::CutNodes(a, b) | What::CutNodesOneWay(a, b) => self.gossip.heal(&id(*a), &id(*b)),
            What::LossyNodes(a, b, _) | What::SlowNodes(a, b, _) => {
                self.set_link(*a, *b, 0.0, Duration::ZERO)
            }
            What::SplitNodes(at) => pairs(*at).for_each(|(a, b)| self.gossip.heal(&id(a), &id(b))),
            What::Isolate(node) => {
                for other in others(*node) {
                    self.gossip.heal(&id(*node), &id(other));
                }
                for orderer in 0..ORDERERS {
                    self.end_cut(*node, orderer);
                }
            }
            What::CutOrderer(node, orderer)
            | What::DeafOrderer(node, orderer)
            | What::MuteOrderer(node, orderer) => self.end_cut(*node, *orderer),
            What::SlowOrderer(node, orderer, _) => {
                self.set_latency(*node, *orderer, Duration::ZERO)
            }
            What::CrashNode(node) => {
                self.nodes_down[*node] -= 1;
                if self.nodes_down[*node] == 0 {
                    self.sim.bounce(node_name(*node));
                }
            }
            What::CrashOrderer(orderer) => {
                self.orderers_down[*orderer] -= 1;
                if self.orderers_down[*orderer] == 0 {
                    self.sim.bounce(orderer_name(*orderer));
                }
            }
            What::StoreFails(node, channel, _) => {
                self.nodes[*node].stores[*channel].store.fail_appends(0);
            }
            What::Misbehave(_, channel, misdeed) => {
                for orderer in self.culprits.remove(&index).unwrap_or_default() {
                    self.served(orderer, *channel).end(misdeed);
                }
            }
            What::NoLeader(orderer, channel) => {
                self.leaderless[*orderer][*channel] -= 1;
                if self.leaderless[*orderer][*channel] == 0 {
                    self.served(*orderer, *channel).set_leader(true);
                }
            }
            What::FallBehind(orderer, channel) => {
                self.served(*orderer, *channel).ledger.fall_behind(false)
            }
        }
    }

    /// The simulated TCP sends nothing again, so that a connection over a link that was cut is broken
    /// for good: the node is told of it, as TCP tells of a connection that gets no answers.
    pub(crate) fn break_connections(&self, what: &What) {
        match what {
            What::Isolate(node) => {
                (0..ORDERERS).for_each(|orderer| self.nodes[*node].break_connections(orderer));
            }
            What::CutOrderer(node, orderer)
            | What::DeafOrderer(node, orderer)
            | What::MuteOrderer(node, orderer) => self.nodes[*node].break_connections(*orderer),
            What::CutNodes(..)
            | What::CutNodesOneWay(..)
            | What::LossyNodes(..)
            | What::SlowNodes(..)
            | What::SplitNodes(_)
            | What::SlowOrderer(..)
            | What::CrashNode(_)
            | What::CrashOrderer(_)
            | What::StoreFails(..)
            | What::Misbehave(..)
            | What::NoLeader(..)
            | What::FallBehind(..) => {}
        }
    }

    fn begin_cut(&self, node: usize, orderer: usize, there: bool, back: bool) {
        let (node, orderer) = (node_name(node), orderer_name(orderer));
        if there {
            self.sim.partition_oneway(node.as_str(), orderer.as_str());
        }
        if back {
            self.sim.partition_oneway(orderer, node);
        }
    }

    fn end_cut(&self, node: usize, orderer: usize) {
        self.sim.repair(node_name(node), orderer_name(orderer));
        self.nodes[node].break_connections(orderer);
    }

    fn set_link(&self, a: usize, b: usize, loss: f64, late: Duration) {
        let latency = self.gossip_latency[a][b] + late;
        let link = Link {
            latency,
            jitter: latency / 4,
            loss,
        };
        self.gossip.link(&id(a), &id(b), link);
    }

    fn set_latency(&self, node: usize, orderer: usize, late: Duration) {
        let latency = self.latency[node][orderer] + late;
        self.sim
            .set_link_latency(node_name(node), orderer_name(orderer), latency);
    }

    fn served(&self, orderer: usize, channel: usize) -> &Served {
        &self.orderers[orderer].channels[channel]
    }
}

fn id(node: usize) -> NodeId {
    NodeId::new(node_name(node))
}

fn others(node: usize) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |other| *other != node)
}

/// Every pair of nodes of which one is below an index and the other is not.
fn pairs(at: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..at).flat_map(move |a| (at..NODES).map(move |b| (a, b)))
}
