// SPDX-License-Identifier: Apache-2.0
//! Who is connected to whom, and who passes messages of a topic on to whom.

use std::sync::Arc;

use block_api::testing::TestSigner;
use gossip_libp2p::{Config, Keypair};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// How many nodes of other organisations each node lists beside all of its own.
pub const STRANGERS: usize = 2;

/// After so many heartbeats a mesh that still changes is taken as it is.
const HEARTBEATS: usize = 50;

/// How the nodes came to be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// Each node has all nodes of its organisation as static peers, and [`STRANGERS`] others.
    Listed,
    /// Each node dials nodes that it was told of: of its organisation all that there are places for,
    /// and as many others as the configuration says by itself.
    Discovered,
}

/// Nodes, their organisations and their connections.
#[derive(Debug)]
pub struct Graph {
    /// Which organisation each node is of.
    pub organisation: Vec<u32>,
    /// The nodes that each node is connected to, in the order of their numbers.
    pub neighbours: Vec<Vec<u32>>,
    /// Those of them that it passes messages on to.
    pub mesh: Vec<Vec<u32>>,
}

/// The configuration of a node where nothing is set.
pub fn defaults() -> Config {
    Config::new(
        Keypair::from_seed([1; 32]),
        Arc::new(TestSigner("the MSP identity")),
    )
}

impl Graph {
    /// So many organisations with so many nodes each.
    pub fn new(organisations: usize, each: usize, wiring: Wiring, seed: u64) -> Self {
        let nodes = organisations * each;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut graph = Self {
            organisation: (0..nodes).map(|node| (node / each) as u32).collect(),
            neighbours: vec![Vec::new(); nodes],
            mesh: vec![Vec::new(); nodes],
        };
        match wiring {
            Wiring::Listed => graph.list(each, &mut rng),
            Wiring::Discovered => graph.discover(each, &mut rng),
        }
        for neighbours in &mut graph.neighbours {
            neighbours.sort_unstable();
        }
        graph.settle(&mut rng);
        graph
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.organisation.len()
    }

    fn connect(&mut self, one: usize, other: usize) -> bool {
        if one == other || self.neighbours[one].contains(&(other as u32)) {
            return false;
        }
        self.neighbours[one].push(other as u32);
        self.neighbours[other].push(one as u32);
        true
    }

    fn list(&mut self, each: usize, rng: &mut StdRng) {
        let nodes = self.nodes();
        for node in 0..nodes {
            let end = (node / each + 1) * each;
            for mate in node + 1..end {
                self.connect(node, mate);
            }
        }
        let elsewhere = nodes - each;
        for node in 0..nodes {
            let mut left = STRANGERS.min(elsewhere);
            // The draws that hit one that is connected already are repeated, but not for ever.
            for _ in 0..10 * STRANGERS {
                let stranger = rng.random_range(0..nodes);
                let is_mate = self.organisation[stranger] == self.organisation[node];
                if left > 0 && !is_mate && self.connect(node, stranger) {
                    left -= 1;
                }
            }
        }
    }

    /// Each in turn dials nodes by lot, while it has fewer peers of other organisations than it wants.
    /// Then they tell each other of those that they are connected to, until nobody finds one more of
    /// its organisation.
    fn discover(&mut self, each: usize, rng: &mut StdRng) {
        let config = defaults();
        let (nodes, most) = (self.nodes(), config.max_peers.get());
        let target = config.target_peers.min(nodes - each);
        let mut order: Vec<usize> = (0..nodes).collect();
        order.shuffle(rng);
        for node in &order {
            while self.neighbours[*node].len() - self.mates(*node) < target {
                let other = rng.random_range(0..nodes);
                if self.neighbours[other].len() < most {
                    self.connect(*node, other);
                }
            }
        }
        let half = config.max_peers.get().div_ceil(2);
        let places = config.max_peers_per_org.map_or(half, |places| places.get());
        let mut changed = true;
        while changed {
            changed = false;
            order.shuffle(rng);
            for node in &order {
                let mut told = self.told_of(*node);
                let mut mates = self.mates(*node);
                // The rule of its directory: all, unless they are too many for that.
                let wanted = match mates + told.len() <= places - places / 8 {
                    true => places - places / 8,
                    false => places.div_ceil(2),
                };
                told.shuffle(rng);
                for other in told.into_iter().map(|other| other as usize) {
                    let has_room =
                        self.neighbours[other].len() < most && self.mates(other) < places;
                    if mates < wanted && has_room && self.connect(*node, other) {
                        mates += 1;
                        changed = true;
                    }
                }
            }
        }
    }

    /// How many nodes of its organisation a node is connected to.
    fn mates(&self, node: usize) -> usize {
        let own = |other: &&u32| self.organisation[**other as usize] == self.organisation[node];
        self.neighbours[node].iter().filter(own).count()
    }

    /// The nodes of its organisation that the neighbours of a node are connected to and it is not.
    fn told_of(&self, node: usize) -> Vec<u32> {
        let own = self.organisation[node];
        let neighbours = self.neighbours[node].iter();
        let mut told: Vec<u32> = neighbours
            .flat_map(|neighbour| &self.neighbours[*neighbour as usize])
            .copied()
            .filter(|other| self.organisation[*other as usize] == own && *other as usize != node)
            .collect();
        told.sort_unstable();
        told.dedup();
        told.retain(|other| !self.neighbours[node].contains(other));
        told
    }

    /// Goes through heartbeats of gossipsub until every mesh has a size within its bounds: one that
    /// is too small grafts, one that is too large prunes, each by lot and back to the target.
    fn settle(&mut self, rng: &mut StdRng) {
        let size = defaults().mesh;
        for _ in 0..HEARTBEATS {
            let mut order: Vec<usize> = (0..self.nodes()).collect();
            order.shuffle(rng);
            let mut changed = false;
            for node in order {
                let have = self.mesh[node].len();
                if have < size.low {
                    let mut others = self.neighbours[node].clone();
                    others.retain(|other| {
                        // A full mesh refuses.
                        !self.mesh[node].contains(other)
                            && self.mesh[*other as usize].len() < size.high
                    });
                    others.shuffle(rng);
                    for other in others.into_iter().take(size.target - have) {
                        self.mesh[node].push(other);
                        self.mesh[other as usize].push(node as u32);
                        changed = true;
                    }
                } else if have > size.high {
                    self.mesh[node].shuffle(rng);
                    for other in self.mesh[node].split_off(size.target) {
                        self.mesh[other as usize].retain(|back| *back != node as u32);
                    }
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_go_both_ways_and_meshes_stay_within_their_bounds() {
        let size = defaults().mesh;
        for wiring in [Wiring::Listed, Wiring::Discovered] {
            let graph = Graph::new(5, 12, wiring, 7);
            for node in 0..graph.nodes() {
                let back = |links: &[Vec<u32>]| {
                    let mut others = links[node].iter();
                    others.all(|other| links[*other as usize].contains(&(node as u32)))
                };
                assert!(back(&graph.neighbours) && back(&graph.mesh));
                assert!((size.low..=size.high).contains(&graph.mesh[node].len()));
                let least = match wiring {
                    Wiring::Listed => 11 + STRANGERS,
                    Wiring::Discovered => 11 + defaults().target_peers,
                };
                assert!(graph.neighbours[node].len() >= least);
                assert_eq!(graph.mates(node), 11);
            }
        }
    }
}
