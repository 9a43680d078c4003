// SPDX-License-Identifier: Apache-2.0
//! The nodes, the links between them, and the dice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use block_api::{BlockNumber, ChannelId, NodeId};
use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use crate::{
    Link, NodeConfig,
    node::{MemoryGossip, Node},
};

/// A network in this process. Cloning gives another handle to the same network.
#[derive(Debug, Clone)]
pub struct MemoryNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    /// How many messages of each kind went over each direction of each link, for each channel. The
    /// fate of a message follows from its place in this count and not from what else was sent
    /// before: tasks that wait for one thing send in any order.
    sent: BTreeMap<(NodeId, NodeId, ChannelId, Kind), u64>,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Each direction of each link.
    links: BTreeMap<(NodeId, NodeId), Link>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// What is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A block, or an announcement of it.
    Block(BlockNumber),
    Status,
    /// A piece of a stream, which is never lost on a link that carries anything.
    Stream,
}

impl MemoryNetwork {
    /// A network without nodes. What it draws by lot follows from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                seed,
                sent: BTreeMap::new(),
                nodes: BTreeMap::new(),
                links: BTreeMap::new(),
                cut: BTreeSet::new(),
            })),
        }
    }

    /// Adds a node with the default configuration, linked to nobody. A node of the same name is
    /// replaced, as when a process starts again.
    pub fn node(&self, name: &str) -> MemoryGossip {
        self.node_with(name, NodeConfig::default())
    }

    /// Adds a node that proves this identity to the others, otherwise with the default configuration.
    pub fn node_of(&self, name: &str, identity: Bytes) -> MemoryGossip {
        let config = NodeConfig {
            identity: Some(identity),
            ..NodeConfig::default()
        };
        self.node_with(name, config)
    }

    /// Adds a node.
    pub fn node_with(&self, name: &str, config: NodeConfig) -> MemoryGossip {
        let gossip = MemoryGossip::new(self.clone(), NodeId::new(name), config);
        self.state().nodes.insert(NodeId::new(name), gossip.node());
        gossip
    }

    /// Links two nodes in both directions, or gives their link other properties.
    pub fn link(&self, a: &NodeId, b: &NodeId, link: Link) {
        let mut state = self.state();
        state.links.insert((a.clone(), b.clone()), link);
        state.links.insert((b.clone(), a.clone()), link);
    }

    /// Links every node to every other.
    pub fn link_all(&self, link: Link) {
        let ids: Vec<NodeId> = self.state().nodes.keys().cloned().collect();
        for (index, a) in ids.iter().enumerate() {
            for b in ids.iter().skip(index + 1) {
                self.link(a, b, link);
            }
        }
    }

    /// Cuts the link between two nodes: nothing passes, streams break, and each hears that the
    /// other left.
    pub fn cut(&self, a: &NodeId, b: &NodeId) {
        let (one, other) = {
            let mut state = self.state();
            state.cut.insert((a.clone(), b.clone()));
            state.cut.insert((b.clone(), a.clone()));
            (state.nodes.get(a).cloned(), state.nodes.get(b).cloned())
        };
        if let Some(one) = one {
            one.neighbour_left(b);
        }
        if let Some(other) = other {
            other.neighbour_left(a);
        }
    }

    /// Cuts one direction of a link: nothing passes from the one to the other, and neither is told.
    /// Streams in either direction break, since each needs both.
    pub fn cut_one_way(&self, from: &NodeId, to: &NodeId) {
        self.state().cut.insert((from.clone(), to.clone()));
    }

    /// Takes a node out without its own doing, as when its process dies: nothing reaches it any more,
    /// streams from it break, and its neighbours hear that it left. [`node_with`](Self::node_with)
    /// brings one of the same name back, with the same links.
    pub fn remove(&self, node: &NodeId) {
        let neighbours = self.neighbours(node);
        if self.state().nodes.remove(node).is_some() {
            for neighbour in neighbours {
                neighbour.neighbour_left(node);
            }
        }
    }

    /// Heals the link between two nodes, in both directions.
    pub fn heal(&self, a: &NodeId, b: &NodeId) {
        let mut state = self.state();
        state.cut.remove(&(a.clone(), b.clone()));
        state.cut.remove(&(b.clone(), a.clone()));
    }

    /// The nodes that a message from `from` reaches over one link.
    pub(crate) fn neighbours(&self, from: &NodeId) -> Vec<Arc<Node>> {
        let state = self.state();
        let reachable = state
            .links
            .keys()
            .filter(|link| link.0 == *from && !state.cut.contains(link));
        reachable
            .filter_map(|(_, to)| state.nodes.get(to).cloned())
            .collect()
    }

    /// The neighbour of this name, if a message reaches it.
    pub(crate) fn neighbour(&self, from: &NodeId, to: &NodeId) -> Option<Arc<Node>> {
        self.neighbours(from)
            .into_iter()
            .find(|node| node.id() == to)
    }

    /// Whether messages pass from one node to another.
    pub(crate) fn passes(&self, from: &NodeId, to: &NodeId) -> bool {
        let (state, key) = (self.state(), (from.clone(), to.clone()));
        state.links.contains_key(&key) && !state.cut.contains(&key)
    }

    /// Whether this very node is still the one of its name.
    pub(crate) fn is_there(&self, node: &Arc<Node>) -> bool {
        let state = self.state();
        let current = state.nodes.get(node.id());
        current.is_some_and(|current| Arc::ptr_eq(current, node))
    }

    /// How long the next message takes on its way; `None` when it is lost.
    pub(crate) fn draw(
        &self,
        from: &NodeId,
        to: &NodeId,
        channel: &ChannelId,
        kind: Kind,
    ) -> Option<Duration> {
        let mut state = self.state();
        let key = (from.clone(), to.clone());
        if state.cut.contains(&key) {
            return None;
        }
        let link = *state.links.get(&key)?;
        let seed = state.seed;
        let sent = (key.0, key.1, channel.clone(), kind);
        let count = state.sent.entry(sent).or_default();
        let of = format!("{from}>{to} {channel} {kind:?} {count}");
        *count += 1;
        let mut dice = StdRng::seed_from_u64(seed_of(seed, &of));
        let lost = dice.random_bool(link.loss.clamp(0.0, 1.0));
        let jitter = link
            .jitter
            .mul_f64(f64::from(dice.next_u32()) / f64::from(u32::MAX));
        let arrives = !lost || kind == Kind::Stream;
        arrives.then(|| link.latency + jitter)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

/// The seed of something by its name: FNV-1a, from the seed of the network on.
fn seed_of(seed: u64, name: &str) -> u64 {
    let first = seed ^ 0xcbf2_9ce4_8422_2325;
    name.bytes().fold(first, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
