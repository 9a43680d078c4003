// SPDX-License-Identifier: Apache-2.0
//! One block from the orderers to every node: events in the order of their times, with bytes counted
//! where they leave and where they come.

mod bodies;
mod events;
mod giving;
mod topic;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gossip_libp2p::BodyPlan;
use tokio::time::Instant;

use self::{
    events::{Event, Queue},
    giving::{Asker, Job},
};
use super::{Cost, Graph, wire::Wire};

/// What a node sends in a second, 1 Gbit.
const UPLINK: u64 = 125_000_000;

/// How far an orderer is away, and how long a block takes to be durable.
const TO_ORDERER: Duration = Duration::from_millis(20);
const DURABLE: Duration = Duration::from_millis(5);

/// How blocks go from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As ours do: small ones whole, of others an announcement.
    Announce,
    /// Always whole, to the mesh alone, as push gossip does.
    Push,
}

/// What the nodes have in common.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long things are.
    pub wire: Wire,
    /// How blocks go.
    pub mode: Mode,
    /// How many orderers sign their own copies; pullers are spread over them.
    pub orderers: usize,
    /// How often there is one.
    pub blocks_a_second: f64,
}

/// The mean of all nodes, and the most of one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The most.
    pub max: f64,
}

/// What is counted of a node.
#[derive(Debug, Default, Clone)]
struct Counts {
    bytes_in: u64,
    bytes_out: u64,
    body_out: u64,
    signature_sets: u32,
    messages: u64,
}

#[derive(Debug, Default)]
struct Node {
    counts: Counts,
    /// The copies of the block that came on the topic, by who signed them.
    seen: BTreeSet<usize>,
    /// Who wants no further copy.
    spared: BTreeSet<(u32, usize)>,
    /// Who sent an announcement, in the order in which they did.
    announcers: Vec<u32>,
    /// How many announcements are worked on.
    announced: usize,
    /// Over how many transfers the block came, once it is here.
    held: Option<u32>,
    /// The same of each chunk of its body; of a body without manifest, of the first.
    chunk_hops: BTreeMap<u32, u32>,
    bringing: Option<Bringing>,
    /// Who waits for something of the body.
    waiting: Vec<Asker>,
    /// Who is told of further chunks.
    told: Vec<(u32, u32)>,
    uplink: std::collections::VecDeque<Job>,
    sends: bool,
    serial: u32,
}

/// A body that a node brings.
#[derive(Debug)]
struct Bringing {
    plan: BodyPlan,
    /// The streams that are open, and whether their hints came.
    links: BTreeMap<u32, (u32, bool)>,
    have: Vec<u32>,
    bytes: u64,
    wakes: u32,
}

/// What happened to one block.
#[derive(Debug)]
pub struct Spread<'a> {
    graph: &'a Graph,
    terms: Terms,
    begin: Instant,
    now: Duration,
    queue: Queue,
    nodes: Vec<Node>,
    pullers: usize,
    last: Duration,
}

/// What the parts of a spread came to, for those who hold it against real nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Bytes of bodies that were served, by all nodes.
    pub bodies: u64,
    /// The most that one node served.
    pub most_of_one: u64,
    /// Bytes of messages on the topic that came to all nodes, second copies among them.
    pub messages: u64,
    /// Sets of signatures that all nodes verified.
    pub signature_sets: u64,
}

impl Mean {
    /// Of these values.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut sum, mut count, mut max) = (0.0, 0.0_f64, 0.0_f64);
        for value in values {
            sum += value;
            count += 1.0;
            max = max.max(value);
        }
        Self {
            mean: sum / count.max(1.0),
            max,
        }
    }

    /// So many times as much.
    pub fn times(self, factor: f64) -> Self {
        Self {
            mean: self.mean * factor,
            max: self.max * factor,
        }
    }
}

impl<'a> Spread<'a> {
    /// Lets the orderers give one block to these pullers, and goes on until nothing is left to do.
    ///
    /// # Panics
    ///
    /// When a node did not get it.
    pub fn run(graph: &'a Graph, pullers: &[usize], terms: Terms) -> Self {
        let nodes = (0..graph.nodes()).map(|_| Node::default()).collect();
        let mut spread = Self {
            graph,
            terms,
            begin: Instant::now(),
            now: Duration::ZERO,
            queue: Queue::default(),
            nodes,
            pullers: pullers.len(),
            last: Duration::ZERO,
        };
        for node in pullers {
            let at = TO_ORDERER + spread.on_wire(spread.terms.wire.block) + jitter(*node as u64, 1);
            spread.queue.put(at, Event::FromOrderer { node: *node });
        }
        while let Some((at, event)) = spread.queue.take() {
            spread.now = at;
            spread.handle(event);
        }
        let without = spread.nodes.iter().position(|node| node.held.is_none());
        assert_eq!(without, None, "a node did not get the block");
        spread
    }

    /// What it cost, with what the rhythm of blocks adds: statuses, and announcements of what was
    /// seen to those outside the mesh.
    pub fn cost(&self) -> Cost {
        let wire = &self.terms.wire;
        let rhythm = |node: usize| {
            let connections = self.graph.neighbours[node].len() as f64;
            let outside = connections - self.graph.mesh[node].len() as f64;
            let statuses = connections * (1.0 / self.terms.blocks_a_second).min(1.0);
            let statuses = match self.terms.mode {
                Mode::Announce => statuses * wire.status as f64,
                Mode::Push => 0.0,
            };
            statuses + wire.lazy(outside)
        };
        let each = |part: fn(&Counts) -> f64| self.nodes.iter().map(move |node| part(&node.counts));
        let with_rhythm = |part: fn(&Counts) -> f64| {
            let parts = each(part).enumerate();
            Mean::of(parts.map(|(node, bytes)| bytes + rhythm(node)))
        };
        let hops = self.nodes.iter().filter_map(|node| node.held);
        Cost {
            orderer_bytes: self.pullers as u64 * wire.block,
            orderer_streams: self.pullers as u64,
            bytes_in: with_rhythm(|counts| counts.bytes_in as f64),
            bytes_out: with_rhythm(|counts| counts.bytes_out as f64),
            connections: Mean::of(self.graph.neighbours.iter().map(|links| links.len() as f64)),
            signature_sets: Mean::of(each(|counts| f64::from(counts.signature_sets))),
            hops: hops.max().unwrap_or(0),
        }
    }

    /// When the last node had it.
    pub fn last(&self) -> Duration {
        self.last
    }

    /// What its parts came to.
    pub fn parts(&self) -> Parts {
        let counts = || self.nodes.iter().map(|node| &node.counts);
        Parts {
            bodies: counts().map(|counts| counts.body_out).sum(),
            most_of_one: counts().map(|counts| counts.body_out).max().unwrap_or(0),
            messages: counts().map(|counts| counts.messages).sum(),
            signature_sets: counts()
                .map(|counts| u64::from(counts.signature_sets))
                .sum(),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::FromOrderer { node } => self.ordered(node),
            Event::Publish { node } => self.publish(node),
            Event::Message {
                to,
                from,
                copy,
                hops,
            } => self.message(to, from, copy, hops),
            Event::Spare { to, from, copy } => self.spare(to, from, copy),
            Event::Ask { to, asker } => self.asked(to, asker),
            Event::PatienceEnds { node, asker } => self.patience_ends(node, asker),
            Event::Want {
                to,
                from,
                serial,
                chunks,
            } => self.wanted(to, (from, serial), chunks),
            Event::Answer {
                to,
                from,
                serial,
                answer,
            } => self.answered(to, from, serial, answer),
            Event::Close { to, from, serial } => self.closed(to, from, serial),
            Event::Uplink { node } => self.uplink(node),
            Event::Wake { node, wakes } => {
                let bringing = self.nodes[node].bringing.as_ref();
                if bringing.is_some_and(|bringing| bringing.wakes == wakes) {
                    self.drive(node);
                }
            }
        }
    }

    /// A node has all of the block.
    fn hold(&mut self, node: usize, hops: u32) {
        self.nodes[node].held = Some(hops);
        self.last = self.now;
        self.let_go(node);
    }

    /// Sends so many bytes at once, and says when they come.
    fn send(&mut self, from: usize, to: usize, bytes: u64) -> Duration {
        self.nodes[from].counts.bytes_out += bytes;
        self.nodes[to].counts.bytes_in += bytes;
        self.now + latency(from, to) + self.on_wire(bytes)
    }

    fn on_wire(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 1_000_000_000 / UPLINK)
    }

    fn instant(&self) -> Instant {
        self.begin + self.now
    }
}

/// How long something takes between two nodes: from 5 to 45 ms, the same in both directions.
pub fn latency(one: usize, other: usize) -> Duration {
    let (low, high) = (one.min(other) as u64, one.max(other) as u64);
    Duration::from_millis(5) + jitter(low, high) * 10
}

/// Up to 4 ms, always the same for the same numbers.
fn jitter(one: u64, other: u64) -> Duration {
    Duration::from_micros(mixed(one << 32 | other) % 4000)
}

/// From which of so many orderers a node pulls.
pub fn orderer_of(node: usize, orderers: usize) -> usize {
    mixed(node as u64) as usize % orderers
}

/// A number that looks like chance (the finalizer of MurmurHash3).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}
