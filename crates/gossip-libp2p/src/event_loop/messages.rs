// SPDX-License-Identifier: Apache-2.0
//! What goes on the topics and what comes on them: nothing passes on before it was accepted.

use block_api::{Answer, Candidate, ChannelId, GossipError};
use futures::FutureExt;
#[cfg(feature = "mdns")]
use libp2p::mdns;
use libp2p::{
    PeerId,
    gossipsub::{self, MessageAcceptance, MessageId, PublishError, TopicHash},
    ping,
};
use tokio::time::timeout;
use tracing::{debug, trace, warn};

use super::{EventLoop, Published, Validated};
use crate::{
    behaviour::BehaviourEvent,
    handle::backend,
    identity::node_id,
    score::Offence,
    seen::Fate,
    topic::{TopicId, message_id},
    wire::{COPY_AT, parse},
};

impl EventLoop {
    pub(super) fn publish(&mut self, block: Published) -> Result<(), GossipError> {
        let Published {
            topic,
            generation,
            mut message,
            attestation,
        } = block;
        // A block does not go to those whom the configuration before it has removed.
        if self.access.changed_in(&topic) {
            self.check_rights();
        }
        let Some(channel) = self
            .channels
            .get_mut(&topic)
            .filter(|channel| channel.generation == generation)
        else {
            return Err(GossipError::Closed);
        };
        channel.published(attestation);
        if message.is_empty() {
            // Somebody may have come since it was decided that there is nobody to hear it, and was told
            // how the chain stood before.
            if !channel.members().is_empty() {
                self.look(topic);
            }
            return Ok(());
        }
        let name = channel.request.channel.clone();
        let hash = topic.topic().hash();
        // gossipsub sends no message twice. One that came, and that this node did not pass on, is
        // passed on all the same when it is published: as another copy.
        for copy in 0..=1 {
            let Some(place) = message.get_mut(COPY_AT) else {
                return Ok(());
            };
            *place = copy;
            let id = message_id(&hash, &message);
            match self.seen.fate(&id) {
                None => return self.put_on_topic(&name, hash, id, message),
                Some(Fate::Passed) => return Ok(()),
                Some(Fate::Pending { .. }) => {
                    self.seen.note(&id, Fate::Pending { wanted: true });
                    return Ok(());
                }
                Some(Fate::Held) => {}
            }
        }
        Ok(())
    }

    fn put_on_topic(
        &mut self,
        channel: &ChannelId,
        topic: TopicHash,
        id: MessageId,
        message: Vec<u8>,
    ) -> Result<(), GossipError> {
        match self.swarm.behaviour_mut().gossipsub.publish(topic, message) {
            Ok(_) => {
                self.counters.published.increment();
                self.seen.note(&id, Fate::Passed);
                Ok(())
            }
            // Nobody is there, who will learn of it by status.
            Err(PublishError::NoPeersSubscribedToTopic) => Ok(()),
            Err(PublishError::Duplicate) => Ok(()),
            Err(error @ (PublishError::AllQueuesFull(_) | PublishError::MessageTooLarge)) => {
                debug!(%channel, %error, "block not on the topic, peers learn of it by status");
                self.counters.publish_dropped.increment();
                Ok(())
            }
            Err(error @ (PublishError::SigningError(_) | PublishError::TransformFailed(_))) => {
                Err(backend(channel, error))
            }
        }
    }

    pub(super) fn handle_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossipsub(event) => self.handle_gossipsub_event(event),
            BehaviourEvent::Streams(incoming) => self.incoming(incoming),
            BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result,
            }) => match result {
                Ok(_) => self.lives(&peer, connection),
                Err(error) => debug!(%peer, %error, "ping failed"),
            },
            BehaviourEvent::Identify(event) => trace!(?event, "identify"),
            #[cfg(feature = "mdns")]
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.found_nearby(found),
            // Who is not seen any more is dialled in vain and given up.
            #[cfg(feature = "mdns")]
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) => {}
            BehaviourEvent::Bans(never)
            | BehaviourEvent::Door(never)
            | BehaviourEvent::Limits(never)
            | BehaviourEvent::Memory(never) => match never {},
        }
    }

    fn handle_gossipsub_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                self.handle_message(propagation_source, message_id, message);
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } => {
                let Some(topic) = TopicId::from_name(topic.as_str()) else {
                    return;
                };
                let Some(peer) = self.peers.get_mut(&peer_id) else {
                    return;
                };
                if peer.topics.insert(topic) {
                    self.add_member(peer_id, topic);
                }
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                let Some(topic) = TopicId::from_name(topic.as_str()) else {
                    return;
                };
                let Some(peer) = self.peers.get_mut(&peer_id) else {
                    return;
                };
                if peer.topics.remove(&topic) {
                    peer.outbox
                        .send_if_modified(|outbox| outbox.remove(&topic).is_some());
                    self.remove_member(peer_id, topic);
                }
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                warn!(peer = %peer_id, "peer does not speak gossipsub");
            }
            gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            } => {
                debug!(peer = %peer_id, ?failed_messages, "peer is slow, messages were dropped");
            }
        }
    }

    /// A message came: it becomes a candidate, and goes on when that is accepted.
    fn handle_message(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        // Before anything of it is looked at.
        if !self.takes_message(&source) {
            self.counters.messages_limited.increment();
            self.offends(source, Offence::Flood);
            return self.report(&id, &source, MessageAcceptance::Ignore);
        }
        let topic = TopicId::from_name(message.topic.as_str());
        let joined = topic.and_then(|topic| Some((topic, self.channels.get(&topic)?)));
        let Some((topic, channel)) = joined else {
            return self.report(&id, &source, MessageAcceptance::Ignore);
        };
        let bytes = message.data.len();
        let block = match parse(message.data.into()) {
            Ok((_, block)) => block,
            Err(error) if error.is_fault() => {
                debug!(peer = %source, %error, "message rejected");
                self.counters.malformed.increment();
                self.offends(source, Offence::Malformed);
                return self.report(&id, &source, MessageAcceptance::Reject);
            }
            Err(error) => {
                warn!(peer = %source, %error, "message of another release ignored");
                return self.report(&id, &source, MessageAcceptance::Ignore);
            }
        };
        // Of those that take part it is forgotten when they leave.
        if !block.has_data() && channel.members().contains(&source) {
            channel.holders.announced(&block, source);
        }
        let (candidate, answer) = Candidate::new(block, node_id(&source));
        let has_room = self.validations.len() < self.config.max_validations.get()
            && self.validation_bytes.saturating_add(bytes)
                <= self.config.max_validation_bytes.get();
        if !has_room || !self.has_share(&source) || !channel.offer(candidate) {
            self.counters.candidates_dropped.increment();
            self.seen.note(&id, Fate::Held);
            return self.report(&id, &source, MessageAcceptance::Ignore);
        }
        self.counters.candidates.increment();
        if let Some(state) = self.peers.get_mut(&source) {
            state.waiting += 1;
        }
        self.seen.note(&id, Fate::Pending { wanted: false });
        let patience = self.config.validation_timeout;
        let answered = timeout(patience, answer).map(move |answer| {
            // Neither a candidate that was dropped nor one that takes too long is passed on.
            let answer = answer.ok().and_then(Result::ok).unwrap_or(Answer::Ignore);
            Validated {
                id,
                source,
                topic,
                answer,
                bytes,
            }
        });
        self.validation_bytes += bytes;
        self.validations.push(answered.boxed());
    }

    pub(super) fn handle_validated(&mut self, validated: Validated) {
        let Validated {
            id,
            source,
            topic,
            answer,
            bytes,
        } = validated;
        if self.access.changed_in(&topic) {
            self.check_rights();
        }
        self.validation_bytes -= bytes;
        // What this node published meanwhile it holds for true.
        let wanted = self.seen.fate(&id) == Some(Fate::Pending { wanted: true });
        let (acceptance, fate, counter) = match answer {
            Answer::Accept => (
                MessageAcceptance::Accept,
                Fate::Passed,
                &self.counters.accepted,
            ),
            Answer::Ignore | Answer::Reject if wanted => (
                MessageAcceptance::Accept,
                Fate::Passed,
                &self.counters.accepted,
            ),
            Answer::Ignore => (
                MessageAcceptance::Ignore,
                Fate::Held,
                &self.counters.ignored,
            ),
            Answer::Reject => (
                MessageAcceptance::Reject,
                Fate::Held,
                &self.counters.rejected,
            ),
        };
        counter.increment();
        self.seen.note(&id, fate);
        self.report(&id, &source, acceptance);
        self.judged(source, answer);
    }

    fn report(&mut self, id: &MessageId, source: &PeerId, acceptance: MessageAcceptance) {
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        if !gossipsub.report_message_validation_result(id, source, acceptance) {
            debug!(peer = %source, "a message was forgotten before it was judged");
        }
    }
}
