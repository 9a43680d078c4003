// SPDX-License-Identifier: Apache-2.0
//! Bodies between nodes: each is brought by the scheduler of `gossip-libp2p`.

use std::{collections::BTreeMap, time::Duration};

use gossip_libp2p::{BodyPlan, BodyStep, sizes};

use super::{
    Bringing, Spread,
    events::{Answer, Event},
    giving::Asker,
    latency, mixed,
};

impl Spread<'_> {
    pub(super) fn size(&self) -> u32 {
        self.terms.wire.data
    }

    /// A node begins to bring the body.
    pub(super) fn bring(&mut self, node: usize) {
        let first = mixed(node as u64 ^ 0x5eed) as u32;
        self.nodes[node].bringing = Some(Bringing {
            plan: BodyPlan::new(self.size(), first, self.instant()),
            links: BTreeMap::new(),
            have: Vec::new(),
            bytes: 0,
            wakes: 0,
        });
        self.drive(node);
    }

    /// Has the scheduler of a node decide, and does what it says.
    pub(super) fn drive(&mut self, node: usize) {
        let now = self.instant();
        let announcers = &self.nodes[node].announcers;
        let others = self.graph.neighbours[node].iter();
        let others = others.filter(|other| !announcers.contains(other));
        let order: Vec<u32> = announcers.iter().chain(others).copied().collect();
        let Some(bringing) = &mut self.nodes[node].bringing else {
            return;
        };
        bringing.plan.nodes(&order, now);
        let steps = bringing.plan.next(now);
        for step in steps {
            self.step(node, step);
        }
        let Some(bringing) = &mut self.nodes[node].bringing else {
            return;
        };
        bringing.wakes += 1;
        let at = bringing.plan.wake_at(now).duration_since(self.begin);
        let wakes = bringing.wakes;
        // A time that has come already is looked at with the next millisecond.
        let at = at.max(self.now + Duration::from_millis(1));
        self.queue.put(at, Event::Wake { node, wakes });
        self.refuse_each_other(node);
    }

    fn step(&mut self, node: usize, step: BodyStep) {
        let (now, wire) = (self.instant(), self.terms.wire);
        match step {
            BodyStep::Open { node: to, eager } => {
                self.nodes[node].serial += 1;
                let serial = self.nodes[node].serial;
                if let Some(bringing) = &mut self.nodes[node].bringing {
                    bringing.links.insert(to, (serial, false));
                    bringing.plan.opened(to, now);
                }
                let to = to as usize;
                let at = self.send(node, to, wire.ask + wire.stream);
                let asker = Asker {
                    from: node,
                    serial,
                    first: mixed(node as u64 ^ 0x5eed) as u32,
                    eager,
                };
                self.queue.put(at, Event::Ask { to, asker });
            }
            BodyStep::Want { node: to, chunks } => {
                if let Some(serial) = self.link(node, to as usize) {
                    let to = to as usize;
                    let at = self.send(node, to, sizes::want(&chunks) as u64);
                    let from = node;
                    let want = Event::Want {
                        to,
                        from,
                        serial,
                        chunks,
                    };
                    self.queue.put(at, want);
                }
            }
            BodyStep::Begin if BodyPlan::in_chunks(self.size()) => {
                for asker in std::mem::take(&mut self.nodes[node].waiting) {
                    self.offer(node, asker);
                }
            }
            BodyStep::Close(to) => {
                if let Some(bringing) = &mut self.nodes[node].bringing
                    && let Some((serial, _)) = bringing.links.remove(&to)
                {
                    self.close(node, to as usize, serial);
                }
            }
            // Others find nothing of a short body before all of it is there.
            BodyStep::Begin | _ => {}
        }
    }

    /// The serial of the stream to a node, where there is one.
    fn link(&self, node: usize, to: usize) -> Option<u32> {
        let bringing = self.nodes[node].bringing.as_ref()?;
        bringing.links.get(&(to as u32)).map(|(serial, _)| *serial)
    }

    fn close(&mut self, from: usize, to: usize, serial: u32) {
        let at = self.now + latency(from, to);
        self.queue.put(at, Event::Close { to, from, serial });
    }

    /// Those that wait for this node and are asked by it hear at once that it has nothing.
    fn refuse_each_other(&mut self, node: usize) {
        let waiting = std::mem::take(&mut self.nodes[node].waiting);
        for asker in waiting {
            match self.waits_for(node, asker.from) {
                true => self.not_yet(node, asker),
                false => self.nodes[node].waiting.push(asker),
            }
        }
    }

    pub(super) fn waits_for(&self, node: usize, other: usize) -> bool {
        let Some(bringing) = &self.nodes[node].bringing else {
            return false;
        };
        let link = bringing.links.get(&(other as u32));
        !bringing.plan.follows() && link.is_some_and(|(_, offered)| !offered)
    }

    pub(super) fn answered(&mut self, node: usize, from: usize, serial: u32, answer: Answer) {
        if self.link(node, from) != Some(serial) {
            return;
        }
        let (now, size, peer) = (self.instant(), self.size(), from as u32);
        let Some(bringing) = &mut self.nodes[node].bringing else {
            return;
        };
        let followed = bringing.plan.follows();
        match answer {
            Answer::Offer(have) => {
                bringing.plan.offered(peer, &have, now);
                bringing.links.insert(peer, (serial, true));
            }
            Answer::Have(chunks) => bringing.plan.has(peer, &chunks),
            Answer::NotYet => {
                bringing.plan.later(peer, now);
                bringing.links.remove(&peer);
            }
            Answer::Piece { chunk, bytes, hops } => {
                let taken = bringing.plan.came(peer, chunk, bytes, now);
                let fresh = !BodyPlan::in_chunks(size) || !bringing.have.contains(&chunk);
                if taken && fresh {
                    bringing.bytes += u64::from(bytes);
                    if BodyPlan::in_chunks(size) {
                        bringing.have.push(chunk);
                    }
                    self.nodes[node].chunk_hops.insert(chunk, hops + 1);
                    if BodyPlan::in_chunks(size) {
                        self.tell(node, &[chunk]);
                    }
                }
            }
        }
        let Some(bringing) = &mut self.nodes[node].bringing else {
            return;
        };
        if followed && !bringing.plan.follows() {
            bringing.have.clear();
            bringing.bytes = 0;
        }
        if bringing.bytes >= u64::from(size) {
            let hops = self.nodes[node].chunk_hops.values().max().copied();
            self.nodes[node].counts.signature_sets += 1;
            return self.hold(node, hops.unwrap_or(0));
        }
        self.drive(node);
    }

    /// Nothing more is wanted of others, and everybody can have everything.
    pub(super) fn let_go(&mut self, node: usize) {
        if let Some(bringing) = self.nodes[node].bringing.take() {
            let missing: Vec<u32> = (0..BodyPlan::chunks(self.size()))
                .filter(|chunk| !bringing.have.contains(chunk))
                .collect();
            if BodyPlan::in_chunks(self.size()) && !missing.is_empty() {
                self.tell(node, &missing);
            }
            for (to, (serial, _)) in bringing.links {
                self.close(node, to as usize, serial);
            }
        }
        self.nodes[node].told.clear();
        for asker in std::mem::take(&mut self.nodes[node].waiting) {
            self.offer(node, asker);
        }
    }
}
