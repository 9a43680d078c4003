// SPDX-License-Identifier: Apache-2.0
//! Giving bodies as the server of `gossip-libp2p` gives them, over an uplink that requesters share.

use std::time::Duration;

use gossip_libp2p::{BodyPlan, sizes};

use super::{
    Bringing, Spread,
    events::{Answer, Event},
};

/// How long a requester waits for a body of which nothing can be given yet.
const NOT_YET_AFTER: Duration = Duration::from_millis(800);

/// What leaves before it is another one's turn on the uplink.
const TURN: u64 = 256 * 1024;

/// A message that is longer than so many turns leaves in longer ones, to save events.
const TURNS: u64 = 16;

/// Who asks for a body on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    pub(super) from: usize,
    pub(super) serial: u32,
    pub(super) first: u32,
    pub(super) eager: bool,
}

/// What waits for its turn on the uplink of a node.
#[derive(Debug)]
pub(super) enum Job {
    Message {
        to: usize,
        copy: usize,
        left: u64,
    },
    /// A body without manifest.
    Whole {
        to: usize,
        serial: u32,
        left: u32,
    },
    Chunk {
        to: usize,
        serial: u32,
        chunk: u32,
        left: u32,
    },
}

impl Spread<'_> {
    pub(super) fn asked(&mut self, node: usize, asker: Asker) {
        let follows = |bringing: &Bringing| bringing.plan.follows();
        let begun = self.nodes[node].bringing.as_ref().is_some_and(follows);
        if self.nodes[node].held.is_some() || begun && BodyPlan::in_chunks(self.size()) {
            self.offer(node, asker);
        } else if self.waits_for(node, asker.from) {
            self.not_yet(node, asker);
        } else {
            self.nodes[node].waiting.push(asker);
            let at = self.now + NOT_YET_AFTER;
            self.queue.put(at, Event::PatienceEnds { node, asker });
        }
    }

    pub(super) fn patience_ends(&mut self, node: usize, asker: Asker) {
        let waiting = &mut self.nodes[node].waiting;
        if let Some(place) = waiting.iter().position(|waits| *waits == asker) {
            waiting.remove(place);
            self.not_yet(node, asker);
        }
    }

    pub(super) fn not_yet(&mut self, node: usize, asker: Asker) {
        self.answer(node, (asker.from, asker.serial), Answer::NotYet);
    }

    pub(super) fn answer(&mut self, from: usize, (to, serial): (usize, u32), answer: Answer) {
        let bytes = match &answer {
            Answer::Offer(have) => self.terms.wire.stream + sizes::offer(self.size(), have) as u64,
            Answer::Have(chunks) => sizes::have(chunks) as u64,
            Answer::Piece { .. } => sizes::PIECE as u64,
            Answer::NotYet => sizes::NOT_YET as u64,
        };
        let at = self.send(from, to, bytes);
        let answer = Event::Answer {
            to,
            from,
            serial,
            answer,
        };
        self.queue.put(at, answer);
    }

    /// What a node has of the body.
    fn has(&self, node: usize) -> Vec<u32> {
        let here = &self.nodes[node];
        match (&here.held, &here.bringing) {
            (Some(_), _) => (0..BodyPlan::chunks(self.size())).collect(),
            (None, Some(bringing)) => bringing.have.clone(),
            (None, None) => Vec::new(),
        }
    }

    pub(super) fn offer(&mut self, node: usize, asker: Asker) {
        let (have, stream) = (self.has(node), (asker.from, asker.serial));
        self.answer(node, stream, Answer::Offer(have.clone()));
        if self.nodes[node].held.is_none() {
            self.nodes[node]
                .told
                .push((asker.from as u32, asker.serial));
        }
        if asker.eager && BodyPlan::in_chunks(self.size()) {
            let chunks = BodyPlan::sent_first(self.size(), asker.first, &have);
            self.give(node, stream, chunks);
        } else if asker.eager {
            self.give(node, stream, Vec::new());
        }
    }

    pub(super) fn wanted(&mut self, node: usize, stream: (usize, u32), chunks: Vec<u32>) {
        self.give(node, stream, chunks);
    }

    fn give(&mut self, node: usize, (to, serial): (usize, u32), chunks: Vec<u32>) {
        let size = self.size();
        if !BodyPlan::in_chunks(size) {
            let left = size;
            return self.enqueue(node, Job::Whole { to, serial, left });
        }
        for chunk in chunks {
            let left = BodyPlan::chunk_bytes(size, chunk);
            let job = Job::Chunk {
                to,
                serial,
                chunk,
                left,
            };
            self.enqueue(node, job);
        }
    }

    pub(super) fn closed(&mut self, node: usize, from: usize, serial: u32) {
        let here = &mut self.nodes[node];
        here.waiting
            .retain(|asker| (asker.from, asker.serial) != (from, serial));
        here.told.retain(|told| *told != (from as u32, serial));
        here.uplink.retain(|job| match job {
            Job::Message { .. } => true,
            Job::Whole { to, serial: of, .. } | Job::Chunk { to, serial: of, .. } => {
                (*to, *of) != (from, serial)
            }
        });
    }

    pub(super) fn enqueue(&mut self, node: usize, job: Job) {
        self.nodes[node].uplink.push_back(job);
        if !std::mem::replace(&mut self.nodes[node].sends, true) {
            self.queue.put(self.now, Event::Uplink { node });
        }
    }

    /// The uplink is free: whoever waits is served a turn, and comes last again for the rest.
    pub(super) fn uplink(&mut self, node: usize) {
        let Some(job) = self.nodes[node].uplink.pop_front() else {
            self.nodes[node].sends = false;
            return;
        };
        let held = self.nodes[node].held.unwrap_or(0);
        let of_chunk = &self.nodes[node].chunk_hops;
        // What the orderer gave came in one.
        let hops = |chunk: u32| of_chunk.get(&chunk).copied().unwrap_or(held);
        let hops = match job {
            Job::Message { .. } => held,
            Job::Whole { .. } => hops(0),
            Job::Chunk { chunk, .. } => hops(chunk),
        };
        let turn = |left: u32| u64::from(left).min(TURN) as u32;
        let (to, bytes, rest, done) = match job {
            Job::Message { to, copy, left } => {
                let longest = TURN.max(self.terms.wire.whole / TURNS);
                let bytes = left.min(longest);
                let left = left - bytes;
                let (from, rest) = (node, Job::Message { to, copy, left });
                let message = Event::Message {
                    to,
                    from,
                    copy,
                    hops,
                };
                match left {
                    0 => (to, bytes, None, Some(message)),
                    _ => (to, bytes, Some(rest), None),
                }
            }
            Job::Whole { to, serial, left } => {
                let bytes = turn(left);
                let left = left - bytes;
                let rest = (left > 0).then_some(Job::Whole { to, serial, left });
                let piece = self.piece(node, (to, serial), (0, bytes), hops);
                (to, u64::from(bytes), rest, Some(piece))
            }
            Job::Chunk {
                to,
                serial,
                chunk,
                left,
            } => {
                let bytes = turn(left);
                let left = left - bytes;
                let rest = Job::Chunk {
                    to,
                    serial,
                    chunk,
                    left,
                };
                let whole = BodyPlan::chunk_bytes(self.size(), chunk);
                match left {
                    0 => {
                        let piece = self.piece(node, (to, serial), (chunk, whole), hops);
                        (to, u64::from(bytes), None, Some(piece))
                    }
                    _ => (to, u64::from(bytes), Some(rest), None),
                }
            }
        };
        let at = self.send(node, to, bytes);
        self.nodes[node].uplink.extend(rest);
        if let Some(done) = done {
            self.queue.put(at, done);
        }
        let free = self.now + self.on_wire(bytes);
        self.queue.put(free, Event::Uplink { node });
    }

    fn piece(
        &mut self,
        from: usize,
        (to, serial): (usize, u32),
        (chunk, bytes): (u32, u32),
        hops: u32,
    ) -> Event {
        self.nodes[from].counts.body_out += u64::from(bytes);
        for (node, out) in [(from, true), (to, false)] {
            let counts = &mut self.nodes[node].counts;
            let sum = if out {
                &mut counts.bytes_out
            } else {
                &mut counts.bytes_in
            };
            *sum += sizes::PIECE as u64;
        }
        let answer = Answer::Piece { chunk, bytes, hops };
        Event::Answer {
            to,
            from,
            serial,
            answer,
        }
    }

    /// Tells those who want to know what came.
    pub(super) fn tell(&mut self, node: usize, chunks: &[u32]) {
        for (to, serial) in self.nodes[node].told.clone() {
            let have = Answer::Have(chunks.to_vec());
            self.answer(node, (to as usize, serial), have);
        }
    }
}
