// SPDX-License-Identifier: Apache-2.0
//! The scheduler of one body without a network, for models of many nodes, which are numbers there.

use std::sync::Arc;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    Bits, Hints, Manifest,
    hedges::Hedges,
    hints::{CHUNK, HintsId, WHOLE},
    scheduler::{Action, Ended, Scheduler, eager_chunks},
};

/// How one node brings one body.
#[derive(Debug)]
pub struct BodyPlan {
    scheduler: Scheduler,
    hedges: Arc<Hedges>,
    hints: HintsId,
    size: u32,
    /// Whether the hints of somebody are followed.
    follows: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyStep {
    /// Open a stream; whoever is asked first sends at once, the others only say what they have.
    Open {
        /// To this node.
        node: u32,
        /// Whether it sends at once.
        eager: bool,
    },
    /// Ask a node for chunks; for all of a body without manifest where none is named.
    Want {
        /// This node.
        node: u32,
        /// These chunks.
        chunks: Vec<u32>,
    },
    /// A body was begun: from here on others find what there is of it.
    Begin,
    /// Close the stream to this node.
    Close(u32),
}

impl BodyPlan {
    /// A node that brings a body of so many bytes and begins with this chunk.
    pub fn new(size: u32, first: u32, now: Instant) -> Self {
        let hedges: Arc<Hedges> = Arc::default();
        let hints = Hints {
            size,
            manifest: None,
        };
        Self {
            scheduler: Scheduler::new(first, hedges.clone(), now),
            hedges,
            hints: hints.id(),
            size,
            follows: false,
        }
    }

    /// How many chunks a body has.
    pub fn chunks(size: u32) -> u32 {
        size.div_ceil(CHUNK as u32)
    }

    /// How many bytes a chunk of a body has.
    pub fn chunk_bytes(size: u32, chunk: u32) -> u32 {
        let begin = (chunk as usize).saturating_mul(CHUNK);
        let left = (size as usize).saturating_sub(begin).min(CHUNK);
        u32::try_from(left).unwrap_or_default()
    }

    /// Whether a body comes in chunks that are passed on before all of it is there.
    pub fn in_chunks(size: u32) -> bool {
        size as usize > WHOLE
    }

    /// Which of the chunks that it has a node sends with its hints to one that begins with `first`.
    pub fn sent_first(size: u32, first: u32, have: &[u32]) -> Vec<u32> {
        eager_chunks(first, &bits(size, have)).collect()
    }

    /// These nodes may have the body, the likeliest first.
    pub fn nodes(&mut self, order: &[u32], now: Instant) {
        let order: Vec<PeerId> = order.iter().map(|node| peer(*node)).collect();
        self.scheduler.nodes(&order, now);
    }

    /// The stream to a node is open.
    pub fn opened(&mut self, node: u32, now: Instant) {
        self.scheduler.opened(&peer(node), now);
    }

    /// A node told its hints, and what it has.
    pub fn offered(&mut self, node: u32, have: &[u32], now: Instant) {
        let have = bits(self.size, have);
        let manifest = Self::in_chunks(self.size);
        let (node, hints) = (peer(node), self.hints);
        self.scheduler.offered(&node, hints, manifest, have, now);
    }

    /// More chunks came to a node.
    pub fn has(&mut self, node: u32, chunks: &[u32]) {
        self.scheduler.has(&peer(node), chunks);
    }

    /// A chunk came, or a piece of a body without manifest. `false` when nothing was done with it.
    pub fn came(&mut self, node: u32, chunk: u32, bytes: u32, now: Instant) -> bool {
        self.hedges.came(bytes as usize);
        let peer = peer(node);
        let in_chunks = Self::in_chunks(self.size);
        let taken = self.follows && (in_chunks || self.scheduler.source() == Some(peer));
        if taken {
            self.scheduler.came(&peer, chunk, bytes as usize, now);
        } else if !self.scheduler.dropped(&peer, chunk, now) {
            self.later(node, now);
        }
        taken
    }

    /// A node has nothing yet, or its stream ended. `true` when what came is void.
    pub fn later(&mut self, node: u32, now: Instant) -> bool {
        let void = !self
            .scheduler
            .ended(&peer(node), Ended::Later, now)
            .is_empty();
        self.follows &= !void;
        void
    }

    /// What is to be done now.
    pub fn next(&mut self, now: Instant) -> Vec<BodyStep> {
        let actions = self.scheduler.next(now);
        let mut steps = Vec::new();
        for action in actions {
            steps.push(match action {
                Action::Open { peer, eager } => BodyStep::Open {
                    node: number(&peer),
                    eager,
                },
                Action::Want { peer, chunks } => BodyStep::Want {
                    node: number(&peer),
                    chunks,
                },
                Action::WantAll { peer } => BodyStep::Want {
                    node: number(&peer),
                    chunks: Vec::new(),
                },
                Action::Begin { .. } => {
                    self.follows = true;
                    BodyStep::Begin
                }
                Action::Close { peer } => BodyStep::Close(number(&peer)),
                Action::Abandon => {
                    self.follows = false;
                    continue;
                }
                Action::Stalled { .. } => continue,
            });
        }
        steps
    }

    /// Whether the hints of somebody are followed.
    pub fn follows(&self) -> bool {
        self.follows
    }

    /// When to look again, if nothing comes until then.
    pub fn wake_at(&self, now: Instant) -> Instant {
        self.scheduler.wake_at(now)
    }
}

/// How many bytes go over a connection, by the encoders themselves.
pub mod sizes {
    use block_api::{Block, ChannelStatus};

    use super::*;
    use crate::{
        bodies::BodyId,
        frames::HEAD,
        topic::TopicId,
        wire::{Ask, Form, Offer, PIECE_HEAD, StatusMessage, Want, encode, put_have},
    };

    const TOPIC: TopicId = TopicId::new([0; 32]);

    /// A block on the topic, whole.
    pub fn whole(block: &Block) -> usize {
        encode(Form::Whole, 0, &block.relay()).len()
    }

    /// A block on the topic, announced.
    pub fn announcement(block: &Block) -> usize {
        encode(Form::Announcement, 0, &block.without_data().relay()).len()
    }

    /// A status.
    pub fn status(status: ChannelStatus) -> usize {
        let topic = TOPIC;
        HEAD + StatusMessage { topic, status }.encode().len()
    }

    /// The question for the body of a block.
    pub fn ask(block: &Block) -> usize {
        let ask = Ask {
            id: BodyId {
                topic: TOPIC,
                number: block.number(),
                hash: block.header_hash(),
            },
            max_size: u32::MAX.into(),
            first: u32::MAX,
            count: 1,
        };
        HEAD + ask.encode().len()
    }

    /// What a node says of a body of so many bytes of which it has these chunks.
    pub fn offer(size: u32, have: &[u32]) -> usize {
        let manifest = BodyPlan::in_chunks(size).then(|| Manifest {
            hashes: vec![[0; 32]; BodyPlan::chunks(size) as usize],
            maker: peer(0),
            signature: vec![0; 64],
        });
        let hints = Hints { size, manifest };
        let have = bits(size, have);
        // A node has an id of 38 bytes, that of a number is shorter.
        let id = 38 - peer(0).to_bytes().len();
        let id = if hints.manifest.is_some() { id } else { 0 };
        HEAD + Offer { hints, have }.encode().len() + id
    }

    /// What is wanted; all of a body without manifest where no chunk is named.
    pub fn want(chunks: &[u32]) -> usize {
        let want = Want {
            chunks: chunks.to_vec(),
            all: chunks.is_empty(),
        };
        HEAD + want.encode().len()
    }

    /// The chunks that came to a node.
    pub fn have(chunks: &[u32]) -> usize {
        HEAD + put_have(chunks).len()
    }

    /// What a piece has beside its bytes, and what an answer without any is.
    pub const PIECE: usize = HEAD + PIECE_HEAD;
    /// The word that there is nothing yet.
    pub const NOT_YET: usize = HEAD;
}

fn bits(size: u32, have: &[u32]) -> Bits {
    let mut bits = Bits::none(BodyPlan::chunks(size));
    for chunk in have {
        bits.insert(*chunk);
    }
    bits
}

/// The id of a numbered node: an identity hash, which any few bytes can be.
fn peer(node: u32) -> PeerId {
    let [a, b, c, d] = node.to_be_bytes();
    PeerId::from_bytes(&[0, 4, a, b, c, d]).expect("invariant: four bytes are an identity hash")
}

fn number(peer: &PeerId) -> u32 {
    let bytes = peer.to_bytes();
    let last = bytes.last_chunk().copied();
    last.map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_short_body_comes_from_the_first_node_that_offers_it() {
        let now = Instant::now();
        let mut plan = BodyPlan::new(1000, 0, now);
        plan.nodes(&[7, 70_000], now);
        let open = BodyStep::Open {
            node: 7,
            eager: true,
        };
        assert_eq!(plan.next(now), [open]);
        plan.opened(7, now);
        plan.offered(7, &[0], now);
        assert_eq!(plan.next(now), [BodyStep::Begin]);
        assert!(plan.came(7, 0, 1000, now));
        assert!(!plan.came(70_000, 0, 1000, now));
    }

    #[test]
    fn numbers_are_ids_and_an_offer_is_as_long_as_its_hashes() {
        for node in [0, 7, 70_000, u32::MAX] {
            assert_eq!(number(&peer(node)), node);
        }
        let (five, six) = (5 << 20, 6 << 20);
        assert_eq!(sizes::offer(six, &[]) - sizes::offer(five, &[]), 32);
        assert_eq!(BodyPlan::chunk_bytes(five + 1, 5), 1);
        assert_eq!(BodyPlan::sent_first(five, 3, &[0, 3, 4]), [3, 4, 0]);
    }
}
