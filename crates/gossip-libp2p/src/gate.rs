// SPDX-License-Identifier: Apache-2.0
//! gossipsub behind a gate: of what a node sends, only what is about channels that it may have is
//! seen by gossipsub, so that nothing of another channel goes to it by any way.
//!
//! A subscription that a node may not have, or of which that is not known yet, is kept beside, and
//! heard once it may: a node says once
//! what it subscribes to. It is the same with one to a channel that this node joins later.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::{self, Write as _},
    ops::{Deref, DerefMut},
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, behaviour::ConnectionClosed,
    },
};
// By its own name, so that its version is the one that was read: see `asked`.
use libp2p_gossipsub::{self as gossipsub, MessageId, PublishError, TopicHash};
use tracing::debug;

use self::judge::Judge;
use crate::{access::Access, behaviour::Gossipsub, stats::Counters, topic::TopicId};

/// How many messages are known by their topics. Of one that was forgotten nobody gets a copy who asks
/// for it by its id.
const KNOWN: usize = 16 * 1024;

/// The kinds of control messages that ask for no message, as they print.
const ASK_NOTHING: [&str; 5] = ["IHave", "Graft", "Prune", "IDontWant", "Extensions"];

/// So many letters tell any of them, and the bracket behind it.
const LONGEST_KIND: usize = "Extensions(".len();

/// What gossipsub's handlers report; the library does not name the type itself.
type Report = THandlerOutEvent<Gossipsub>;

/// gossipsub, and who may have what of it.
pub(crate) struct Behaviour {
    inner: Gossipsub,
    judge: Judge,
    counters: Arc<Counters>,
    max_topics: usize,
    peers: BTreeMap<PeerId, Peer>,
    /// A subscription as some node has sent it, to tell gossipsub later of others.
    pattern: Option<Report>,
    topics: Topics,
}

/// A connected node.
#[derive(Debug)]
struct Peer {
    connection: ConnectionId,
    endpoint: ConnectedPoint,
    /// What it subscribed to and may not have, or not yet.
    held: BTreeSet<TopicId>,
    /// Whether gossipsub was told that it is gone.
    is_cut: bool,
}

/// The topics of recent messages.
#[derive(Debug, Default)]
struct Topics {
    known: BTreeMap<MessageId, TopicId>,
    order: VecDeque<MessageId>,
}

/// What a subscription says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Subscribe,
    Unsubscribe,
}

/// What a control message asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// No message.
    Nothing,
    /// The messages with these ids.
    Messages(Vec<MessageId>),
    /// Nobody here can tell.
    Unknown,
}

/// Takes the first letters of a text, and no more.
struct Head {
    text: String,
    limit: usize,
}

impl Behaviour {
    pub(crate) fn new(
        inner: Gossipsub,
        access: Access,
        counters: Arc<Counters>,
        max_topics: usize,
    ) -> Self {
        Self {
            inner,
            judge: Judge::new(access),
            counters,
            max_topics,
            peers: BTreeMap::new(),
            pattern: None,
            topics: Topics::default(),
        }
    }

    /// As gossipsub does it; and the message is known by its topic.
    pub(crate) fn publish(
        &mut self,
        topic: TopicHash,
        message: Vec<u8>,
    ) -> Result<MessageId, PublishError> {
        let id = self.inner.publish(topic.clone(), message)?;
        self.topics.note(&id, &topic);
        Ok(id)
    }

    /// Hears the subscriptions that were held back and are not to be any more.
    pub(crate) fn look_again(&mut self) {
        let mut due = Vec::new();
        for (peer, state) in &self.peers {
            for topic in &state.held {
                if self.judge.may_have(peer, *topic) {
                    due.push((*peer, *topic));
                }
            }
        }
        self.hear(due);
    }

    /// The same for one topic, which was joined.
    pub(crate) fn look_again_at(&mut self, topic: TopicId) {
        let mut due = Vec::new();
        for (peer, state) in &self.peers {
            if state.held.contains(&topic) && self.judge.may_have(peer, topic) {
                due.push((*peer, topic));
            }
        }
        self.hear(due);
    }

    /// Hears the subscriptions to these topics that were held back.
    fn hear(&mut self, due: Vec<(PeerId, TopicId)>) {
        for (peer, topic) in due {
            let Some(subscription) = self.subscription(topic) else {
                continue;
            };
            let Some(state) = self.peers.get_mut(&peer) else {
                continue;
            };
            // It may have taken the word back.
            if !state.held.remove(&topic) {
                continue;
            }
            debug!(%peer, %topic, "a node may have a channel");
            self.inner
                .on_connection_handler_event(peer, state.connection, subscription);
        }
    }

    /// Has gossipsub forget a node whose connection is about to be closed: nothing is queued for it
    /// from here on.
    pub(crate) fn cut(&mut self, peer: &PeerId) {
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        if std::mem::replace(&mut state.is_cut, true) {
            return;
        }
        state.held.clear();
        let gone = FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: *peer,
            connection_id: state.connection,
            endpoint: &state.endpoint,
            cause: None,
            remaining_established: 0,
        });
        self.inner.on_swarm_event(gone);
    }

    /// A subscription to a topic, as if it came.
    fn subscription(&self, topic: TopicId) -> Option<Report> {
        let Some(Report::Message { rpc, .. }) = &self.pattern else {
            return None;
        };
        let mut rpc = rpc.clone();
        for subscription in &mut rpc.subscriptions {
            subscription.topic_hash = topic.topic().hash();
        }
        Some(Report::Message {
            rpc,
            invalid_messages: Vec::new(),
        })
    }

    /// Takes out of what came whatever this node may not say or ask.
    fn pass(&mut self, peer: PeerId, report: Report) -> Report {
        let Report::Message {
            mut rpc,
            invalid_messages,
        } = report
        else {
            return report;
        };
        let (judge, counters) = (&mut self.judge, &self.counters);
        let before = rpc.messages.len() + rpc.control_msgs.len();
        rpc.messages.retain(|message| {
            is_topic(&message.topic).is_some_and(|topic| judge.may_have(&peer, topic))
        });
        let topics = &self.topics;
        rpc.control_msgs.retain(|control| match asked(control) {
            Asked::Nothing => true,
            Asked::Messages(ids) => ids.iter().all(|id| {
                topics
                    .of(id)
                    .is_some_and(|topic| judge.may_have(&peer, topic))
            }),
            Asked::Unknown => false,
        });
        let dropped = before - rpc.messages.len() - rpc.control_msgs.len();
        if dropped > 0 {
            counters.not_entitled.add(dropped);
            debug!(%peer, dropped, "messages about channels that a node may not have ignored");
        }
        if rpc.subscriptions.is_empty() {
            return Report::Message {
                rpc,
                invalid_messages,
            };
        }
        if self.pattern.is_none() {
            let mut pattern = rpc.clone();
            pattern.messages.clear();
            pattern.control_msgs.clear();
            pattern
                .subscriptions
                .retain(|subscription| word(&subscription.action) == Some(Word::Subscribe));
            pattern.subscriptions.truncate(1);
            self.pattern = (!pattern.subscriptions.is_empty()).then_some(Report::Message {
                rpc: pattern,
                invalid_messages: Vec::new(),
            });
        }
        // More than that gossipsub refuses altogether.
        if rpc.subscriptions.len() <= self.max_topics
            && let Some(state) = self.peers.get_mut(&peer)
        {
            let max_topics = self.max_topics;
            rpc.subscriptions.retain(|subscription| {
                let Some(topic) = is_topic(&subscription.topic_hash) else {
                    return false;
                };
                match word(&subscription.action) {
                    Some(Word::Subscribe) => {}
                    Some(Word::Unsubscribe) => return !state.held.remove(&topic),
                    None => return false,
                }
                if judge.may_have(&peer, topic) {
                    return true;
                }
                if state.held.len() < max_topics {
                    state.held.insert(topic);
                }
                false
            });
        }
        Report::Message {
            rpc,
            invalid_messages,
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Gossipsub as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(there) = &event {
            // One connection per node, as the limits have it.
            let peer = Peer {
                connection: there.connection_id,
                endpoint: there.endpoint.clone(),
                held: BTreeSet::new(),
                is_cut: false,
            };
            self.judge.connected(there.peer_id, there.connection_id);
            self.peers.insert(there.peer_id, peer);
        } else if let FromSwarm::ConnectionClosed(gone) = &event {
            self.judge.disconnected(&gone.peer_id);
            let peer = self.peers.remove(&gone.peer_id);
            if peer.is_some_and(|peer| peer.is_cut) {
                return;
            }
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        if self.peers.get(&peer).is_none_or(|state| state.is_cut) {
            return;
        }
        let report = self.pass(peer, report);
        self.inner
            .on_connection_handler_event(peer, connection, report);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready((peer, topics)) = self.judge.poll(cx) {
            self.hear(topics.into_iter().map(|topic| (peer, topic)).collect());
        }
        let event = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::GenerateEvent(gossipsub::Event::Message {
            message_id,
            message,
            ..
        })) = &event
        {
            self.topics.note(message_id, &message.topic);
        }
        event
    }
}

impl Deref for Behaviour {
    type Target = Gossipsub;

    fn deref(&self) -> &Gossipsub {
        &self.inner
    }
}

impl DerefMut for Behaviour {
    fn deref_mut(&mut self) -> &mut Gossipsub {
        &mut self.inner
    }
}

impl Topics {
    fn note(&mut self, id: &MessageId, topic: &TopicHash) {
        let Some(topic) = is_topic(topic) else {
            return;
        };
        if self.known.insert(id.clone(), topic).is_none() {
            self.order.push_back(id.clone());
        }
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn of(&self, id: &MessageId) -> Option<TopicId> {
        self.known.get(id).copied()
    }
}

impl fmt::Write for Head {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        self.text.extend(text.chars().take(room));
        // The rest is not made.
        (self.text.len() < self.limit)
            .then_some(())
            .ok_or(fmt::Error)
    }
}

fn is_topic(name: &TopicHash) -> Option<TopicId> {
    TopicId::from_name(name.as_str())
}

/// What a subscription says; `None` when it is not understood.
fn word(action: &impl fmt::Debug) -> Option<Word> {
    match format!("{action:?}").as_str() {
        "Subscribe" => Some(Word::Subscribe),
        "Unsubscribe" => Some(Word::Unsubscribe),
        _ => None,
    }
}

/// What a control message asks for.
///
/// gossipsub gives a message that it remembers to whoever asks for it by its id, and keeps these
/// types to itself but for how they print. What prints in another way than the pinned version does
/// is not let through.
fn asked(control: &impl fmt::Debug) -> Asked {
    let mut head = Head {
        text: String::new(),
        limit: LONGEST_KIND,
    };
    // It ends with an error as soon as there is enough.
    let _ = write!(head, "{control:?}");
    match head.text.split_once('(') {
        Some((kind, _)) if ASK_NOTHING.contains(&kind) => Asked::Nothing,
        Some(("IWant", _)) => {
            wanted(&format!("{control:?}")).map_or(Asked::Unknown, Asked::Messages)
        }
        Some(_) | None => Asked::Unknown,
    }
}

/// The ids in a wish for messages, as it prints.
fn wanted(text: &str) -> Option<Vec<MessageId>> {
    let text = text.strip_prefix("IWant(IWant { message_ids: [")?;
    let ids = text.strip_suffix("] })")?;
    if ids.is_empty() {
        return Some(Vec::new());
    }
    let ids = ids.split(", ").map(|id| {
        let id = id.strip_prefix("MessageId(")?.strip_suffix(')')?;
        Some(MessageId::new(&hex::decode(id).ok()?))
    });
    ids.collect()
}

#[cfg(test)]
mod tests;
