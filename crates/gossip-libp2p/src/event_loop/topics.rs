// SPDX-License-Identifier: Apache-2.0
//! The channels of a node: who takes part in them, and what others are told of them.

use block_api::{Block, BlockNumber, BlockReader, GossipError, JoinRequest, ReadLimits};
use futures::FutureExt;
use libp2p::PeerId;
use tracing::{Instrument, debug, debug_span};

use super::{EventLoop, Joined, Report, Room};
use crate::{
    channels::{Channel, Heard, Outlook, Told},
    handle::backend,
    status::Entry,
    topic::TopicId,
};

impl EventLoop {
    pub(super) fn join(&mut self, request: JoinRequest) -> Result<Joined, GossipError> {
        let name = request.channel.clone();
        let topic = TopicId::of_channel(&name, &request.genesis);
        if self.channels.contains_key(&topic) {
            return Err(GossipError::AlreadyJoined { channel: name });
        }
        if self.channels.len() >= self.config.max_topics.get() {
            return Err(backend(
                &name,
                "no more channels can be joined; raise max_topics",
            ));
        }
        self.access.join(topic, request.readers.clone());
        // Who subscribed when this node was in the channel before may have lost the right since.
        self.check_right(topic);
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        if let Err(error) = gossipsub.subscribe(&topic.topic()) {
            self.access.leave(topic);
            return Err(backend(&name, error));
        }
        let generation = self.next_version();
        let left = self.cancel.child_token();
        let reader = request.reader.clone();
        let queue = self.config.event_queue.get();
        let (channel, shared, events) = Channel::new(topic, generation, request, left, queue);
        self.channels.insert(topic, channel);
        self.library
            .send_modify(|library| drop(library.insert(topic, reader)));
        let there: Vec<PeerId> = self
            .peers
            .iter()
            .filter_map(|(peer, state)| state.topics.contains(&topic).then_some(*peer))
            .collect();
        for peer in there {
            self.add_member(peer, topic);
        }
        // Those that had subscribed before this node joined.
        self.swarm.behaviour_mut().gossipsub.look_again_at(topic);
        // The others hear of it at once, not with the next tick.
        self.look(topic);
        Ok((shared, events))
    }

    pub(super) fn leave(&mut self, topic: TopicId, generation: u64) {
        if self
            .channels
            .get(&topic)
            .is_none_or(|channel| channel.generation != generation)
        {
            return;
        }
        self.channels.remove(&topic);
        self.access.leave(topic);
        self.library
            .send_modify(|library| drop(library.remove(&topic)));
        self.swarm
            .behaviour_mut()
            .gossipsub
            .unsubscribe(&topic.topic());
        for peer in self.peers.values_mut() {
            drop(peer.early.take(&topic));
            peer.outbox
                .send_if_modified(|outbox| outbox.remove(&topic).is_some());
        }
    }

    /// A node takes part in a channel: it is told of this node's status, and it is heard.
    pub(super) fn add_member(&mut self, peer: PeerId, topic: TopicId) {
        let version = self.next_version();
        let Some(channel) = self.channels.get_mut(&topic) else {
            return;
        };
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        channel.add_member(peer);
        if let Some(status) = &channel.status {
            // The version is new, so that a node that comes back is told again.
            let entry = Entry {
                version,
                status: status.clone(),
            };
            state
                .outbox
                .send_modify(|outbox| drop(outbox.insert(topic, entry)));
        }
        if let Some(status) = state.early.take(&topic) {
            let identity = self.access.identity(&peer, topic);
            channel.tell(peer, Heard { identity, status });
        }
        self.wait_for_room(topic);
        self.introduce(peer, topic);
    }

    pub(super) fn remove_member(&mut self, peer: PeerId, topic: TopicId) {
        if let Some(channel) = self.channels.get_mut(&topic) {
            channel.remove_member(peer);
            self.wait_for_room(topic);
        }
    }

    /// Looks at a chain, and tells the members of the channel what changed.
    pub(super) fn look(&mut self, topic: TopicId) {
        let Some(channel) = self.channels.get_mut(&topic) else {
            return;
        };
        match channel.look() {
            Outlook::Same => {}
            Outlook::New => self.tell_members(topic),
            Outlook::Read(number, seen) => {
                let (reader, generation) = (channel.request.reader.clone(), channel.generation);
                let reporting = self.reporting.clone();
                let read = async move {
                    let tip = attestation(&*reader, number).await;
                    // The event loop is gone when the node stops.
                    let _ = reporting
                        .send(Report::Tip {
                            topic,
                            generation,
                            seen,
                            tip,
                        })
                        .await;
                };
                let read = self.cancel.clone().run_until_cancelled_owned(read);
                self.tasks.spawn(read.instrument(debug_span!("tip")));
            }
        }
    }

    pub(super) fn handle_tip(
        &mut self,
        topic: TopicId,
        generation: u64,
        seen: Told,
        tip: Option<Block>,
    ) {
        if let Some(channel) = self
            .channels
            .get_mut(&topic)
            .filter(|channel| channel.generation == generation)
        {
            channel.read(seen, tip);
            self.tell_members(topic);
        }
    }

    fn tell_members(&mut self, topic: TopicId) {
        let version = self.next_version();
        let Some(status) = self
            .channels
            .get(&topic)
            .and_then(|channel| channel.status.clone())
        else {
            return;
        };
        for peer in self
            .peers
            .values()
            .filter(|peer| peer.topics.contains(&topic))
        {
            let entry = Entry {
                version,
                status: status.clone(),
            };
            peer.outbox
                .send_modify(|outbox| drop(outbox.insert(topic, entry)));
        }
    }

    /// Waits for room in the queue of a channel, if events wait for it.
    pub(super) fn wait_for_room(&mut self, topic: TopicId) {
        let Some(channel) = self.channels.get_mut(&topic) else {
            return;
        };
        if channel.has_waiting() && !std::mem::replace(&mut channel.awaits_room, true) {
            let generation = channel.generation;
            let room = channel.events().reserve_owned().map(move |permit| Room {
                topic,
                generation,
                permit: permit.ok(),
            });
            self.room.push(room.boxed());
        }
    }

    pub(super) fn handle_room(&mut self, room: Room) {
        let Room {
            topic,
            generation,
            permit,
        } = room;
        let Some(channel) = self
            .channels
            .get_mut(&topic)
            .filter(|channel| channel.generation == generation)
        else {
            return;
        };
        channel.awaits_room = false;
        match (permit, channel.next_waiting()) {
            (Some(permit), Some(event)) => drop(permit.send(event)),
            (None, _) => channel.forget_waiting(),
            (Some(_), None) => {}
        }
        self.wait_for_room(topic);
    }
}

/// Header and signatures of a block of the chain.
async fn attestation(reader: &dyn BlockReader, number: BlockNumber) -> Option<Block> {
    let raw = match reader.read(number, ReadLimits::one()).await {
        Ok(blocks) => blocks.into_iter().next()?,
        Err(error) => {
            debug!(block.number = %number, %error, "tip not read, status goes without it");
            return None;
        }
    };
    let block = Block::parse(raw)
        .ok()
        .filter(|block| block.number() == number)?;
    Some(block.without_data().with_signatures_slot_only())
}
