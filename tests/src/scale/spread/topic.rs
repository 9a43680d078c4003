// SPDX-License-Identifier: Apache-2.0
//! Blocks and announcements on the topic, as gossipsub passes them on and as the intake judges them.

use super::{DURABLE, Mode, Spread, events::Event, giving::Job, orderer_of};

/// How many announcements of one number are worked on at a time (`candidates_per_height`).
const AT_WORK: usize = 4;

/// From how many bytes on a node says that it wants no second copy.
const SPARED_FROM: u64 = 1000;

/// What leaves at once; longer messages share the uplink with others.
const AT_ONCE: u64 = 64 * 1024;

impl Spread<'_> {
    pub(super) fn ordered(&mut self, node: usize) {
        self.nodes[node].counts.bytes_in += self.terms.wire.block;
        if self.nodes[node].held.is_some() {
            return;
        }
        self.nodes[node].counts.signature_sets += 1;
        self.hold(node, 1);
        self.queue.put(self.now + DURABLE, Event::Publish { node });
    }

    /// The copy that a puller has from its orderer.
    pub(super) fn publish(&mut self, node: usize) {
        let copy = orderer_of(node, self.terms.orderers);
        // One that came on the topic is not published again.
        if !self.nodes[node].seen.insert(copy) {
            return;
        }
        let to = match self.terms.mode {
            Mode::Announce => &self.graph.neighbours[node],
            Mode::Push => &self.graph.mesh[node],
        };
        for to in to.clone() {
            self.pass_on(node, to as usize, copy);
        }
    }

    pub(super) fn message(&mut self, node: usize, from: usize, copy: usize, hops: u32) {
        let wire = self.terms.wire;
        self.nodes[node].counts.messages += self.message_bytes();
        let whole = self.is_whole();
        if !whole && !self.nodes[node].announcers.contains(&(from as u32)) {
            self.nodes[node].announcers.push(from as u32);
            if self.nodes[node].bringing.is_some() {
                self.drive(node);
            }
        }
        if !self.nodes[node].seen.insert(copy) {
            return;
        }
        let mesh = self.graph.mesh[node].clone();
        let mesh = || mesh.iter().map(|to| *to as usize).filter(|to| *to != from);
        if self.message_bytes() > SPARED_FROM {
            for to in mesh() {
                let at = self.send(node, to, wire.spare);
                let from = node;
                self.queue.put(at, Event::Spare { to, from, copy });
            }
        }
        // What is stored, or waits for that, is ignored.
        let here = &mut self.nodes[node];
        if here.held.is_some() || here.announced >= AT_WORK {
            return;
        }
        here.counts.signature_sets += 1;
        if whole {
            self.hold(node, hops + 1);
        } else {
            here.announced += 1;
        }
        for to in mesh() {
            self.pass_on(node, to, copy);
        }
        if !whole && self.nodes[node].bringing.is_none() {
            self.bring(node);
        }
    }

    /// A node wants no second copy: what has not begun to leave stays here.
    pub(super) fn spare(&mut self, node: usize, who: usize, copy: usize) {
        let whole = self.message_bytes();
        let here = &mut self.nodes[node];
        here.spared.insert((who as u32, copy));
        here.uplink.retain(|job| {
            !matches!(job, Job::Message { to, copy: of, left } if (*to, *of, *left) == (who, copy, whole))
        });
    }

    fn pass_on(&mut self, from: usize, to: usize, copy: usize) {
        let here = &self.nodes[from];
        if here.spared.contains(&(to as u32, copy)) {
            return;
        }
        // Over how many nodes an announcement came says nothing of the body.
        let hops = here.held.unwrap_or(0);
        let bytes = self.message_bytes();
        if bytes <= AT_ONCE {
            let at = self.send(from, to, bytes);
            let message = Event::Message {
                to,
                from,
                copy,
                hops,
            };
            self.queue.put(at, message);
        } else {
            let left = bytes;
            self.enqueue(from, Job::Message { to, copy, left });
        }
    }

    fn is_whole(&self) -> bool {
        let wire = &self.terms.wire;
        self.terms.mode == Mode::Push || wire.block <= wire.inline_limit
    }

    fn message_bytes(&self) -> u64 {
        let wire = &self.terms.wire;
        match self.is_whole() {
            true => wire.whole,
            false => wire.announcement,
        }
    }
}
