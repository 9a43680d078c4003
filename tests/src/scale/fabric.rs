// SPDX-License-Identifier: Apache-2.0
//! What the same costs with Fabric: each peer pulls for itself, or the leader of an organisation
//! pulls and pushes to the others of it.

use rand::{SeedableRng as _, rngs::StdRng, seq::IteratorRandom as _};

use super::{Cost, Graph, spread::Mean};

/// `peer.gossip.propagatePeerNum`.
const FAN_OUT: usize = 3;

/// What a pull of Fabric's gossip asks: so many peers, every four seconds.
const PULL_PEERS: usize = 3;

/// Hello, digest and request of one pull, each an envelope with a few numbers.
const PULL_BYTES: u64 = 3 * 60;

/// What `gossip.Envelope` and `DataMessage` put around a block.
const ENVELOPE: u64 = 40;

/// Each peer has its own stream.
pub fn every_peer_pulls(graph: &Graph, block: u64) -> Cost {
    let nodes = graph.nodes() as u64;
    let one = Mean {
        mean: 1.0,
        max: 1.0,
    };
    Cost {
        orderer_bytes: nodes * block,
        orderer_streams: nodes,
        bytes_in: one.times(block as f64),
        bytes_out: one.times(0.0),
        connections: one,
        signature_sets: one,
        hops: 1,
    }
}

/// One leader in each organisation pulls, and blocks are pushed within organisations: whoever has
/// a block anew sends it to three others of its organisation, by lot. Who is left out gets it by
/// the pull that comes every four seconds.
pub fn push(graph: &Graph, block: u64, blocks_a_second: f64, seed: u64) -> Cost {
    let mut rng = StdRng::seed_from_u64(seed);
    let nodes = graph.nodes();
    let each = graph.organisation.iter().filter(|of| **of == 0).count();
    let organisations = nodes / each.max(1);
    let size = block + ENVELOPE;
    let (mut bytes_in, mut bytes_out) = (vec![0_u64; nodes], vec![0_u64; nodes]);
    let mut hops = 1;
    for organisation in 0..organisations {
        let members = organisation * each..(organisation + 1) * each;
        let leader = members.start;
        bytes_in[leader] += block;
        let mut has = vec![false; nodes];
        has[leader] = true;
        // Who has it anew, and from whom: that one is spared.
        let mut fresh = vec![(leader, leader)];
        let mut round = 1;
        while !fresh.is_empty() {
            round += 1;
            let mut next = Vec::new();
            for (node, from) in fresh {
                let others = members
                    .clone()
                    .filter(|other| *other != node && *other != from);
                for other in others.sample(&mut rng, FAN_OUT) {
                    bytes_out[node] += size;
                    bytes_in[other] += size;
                    if !has[other] {
                        has[other] = true;
                        next.push((other, node));
                        hops = hops.max(round);
                    }
                }
            }
            fresh = next;
        }
        for node in members.clone() {
            // What the pulls of four seconds cost, per block.
            let pulls = PULL_PEERS.min(each - 1) as f64 / (4.0 * blocks_a_second);
            let digest = (pulls * PULL_BYTES as f64) as u64;
            bytes_in[node] += digest;
            bytes_out[node] += digest;
            if !has[node] {
                let giver = members.clone().filter(|other| has[*other]).choose(&mut rng);
                bytes_in[node] += size;
                bytes_out[giver.unwrap_or(leader)] += size;
                hops = hops.max(round);
            }
        }
    }
    let one = Mean {
        mean: 1.0,
        max: 1.0,
    };
    Cost {
        orderer_bytes: organisations as u64 * block,
        orderer_streams: organisations as u64,
        bytes_in: Mean::of(bytes_in.iter().map(|bytes| *bytes as f64)),
        bytes_out: Mean::of(bytes_out.iter().map(|bytes| *bytes as f64)),
        connections: one.times(each as f64 - 1.0),
        signature_sets: one,
        hops,
    }
}
