// SPDX-License-Identifier: Apache-2.0
//! A node: the channels that it joined, and the tasks that take in what neighbours send it.
//!
//! All that happens to a node happens in tasks of its own, on the runtime on which it joined its
//! channels: the runtimes of two nodes may have clocks of their own, so that a message carries how
//! long it takes and not when it is due.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Answer, Block, BlockNumber, Candidate, Capabilities, ChannelId, ChannelStatus, Fault, Gossip,
    GossipError, JoinRequest, Membership, NodeId,
};
use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, trace};

use crate::{
    MemoryNetwork, NodeConfig,
    channel::{Channel, Parked, Topic, unpark},
    joined::Joined,
    network::Kind,
};

/// How many faults are kept; of further ones nothing is.
const BLAMES: usize = 1024;

/// A node of a [`MemoryNetwork`]. Cloning gives another handle to the same node.
#[derive(Debug, Clone)]
pub struct MemoryGossip {
    network: MemoryNetwork,
    node: Arc<Node>,
}

/// What the network and the handles share of a node.
pub(crate) struct Node {
    id: NodeId,
    config: NodeConfig,
    tasks: TaskTracker,
    stopped: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<Topic, Arc<Channel>>,
    /// What neighbours sent, towards the task that waits until it is due; none before the first
    /// channel was joined.
    arriving: Option<mpsc::Sender<Arrival>>,
    blamed: Vec<(NodeId, Fault)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Message {
    Block {
        topic: Topic,
        number: BlockNumber,
        bytes: Bytes,
    },
    Status {
        topic: Topic,
        identity: Option<Bytes>,
        status: ChannelStatus,
    },
}

/// A message, who sent it, and how long it is on its way.
#[derive(Debug)]
struct Arrival {
    from: Arc<Node>,
    takes: Duration,
    message: Message,
}

impl MemoryGossip {
    pub(crate) fn new(network: MemoryNetwork, id: NodeId, config: NodeConfig) -> Self {
        let node = Arc::new(Node {
            id,
            config,
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            state: Mutex::default(),
        });
        Self { network, node }
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// What its channels held against others, by
    /// [`GossipChannel::blame`](block_api::GossipChannel::blame). Nothing comes of it here.
    pub fn blamed(&self) -> Vec<(NodeId, Fault)> {
        self.node.state().blamed.clone()
    }
}

#[async_trait]
impl Gossip for MemoryGossip {
    fn node_id(&self) -> NodeId {
        self.node.id.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError> {
        if self.node.stopped.is_cancelled() {
            return Err(GossipError::Closed);
        }
        let topic = (request.channel.clone(), request.genesis);
        let (events, receiver) = mpsc::channel(self.node.config.event_queue.get());
        let identity = self.node.identity_in(&request.channel);
        let channel = Arc::new(Channel::new(
            topic.clone(),
            request.reader,
            self.node.config.asks_readers.then_some(request.readers),
            identity.cloned(),
            events,
            self.node.stopped.child_token(),
        ));
        {
            let mut state = self.node.state();
            if state.channels.contains_key(&topic) {
                return Err(GossipError::AlreadyJoined {
                    channel: request.channel,
                });
            }
            state.channels.insert(topic, channel.clone());
            if state.arriving.is_none() {
                let (sender, arriving) = mpsc::channel(self.node.config.inbox.get());
                state.arriving = Some(sender);
                let (network, node) = (self.network.clone(), self.node.clone());
                self.node.tasks.spawn(take_in(network, node, arriving));
            }
        }
        let (network, node) = (self.network.clone(), self.node.clone());
        self.node
            .tasks
            .spawn(tell_status(network, node, channel.clone()));
        self.node.tasks.spawn(unpark(channel.clone()));
        let handle = Joined {
            network: self.network.clone(),
            node: self.node.clone(),
            channel,
        };
        Ok(Membership {
            channel: Arc::new(handle),
            events: receiver,
        })
    }

    async fn stop(&self) {
        self.node.stopped.cancel();
        let channels = {
            let mut state = self.node.state();
            state.arriving = None;
            std::mem::take(&mut state.channels)
        };
        for channel in channels.into_values() {
            channel.close();
        }
        for neighbour in self.network.neighbours(&self.node.id) {
            neighbour.neighbour_left(&self.node.id);
        }
        self.node.tasks.close();
        self.node.tasks.wait().await;
    }
}

impl Node {
    pub(crate) fn id(&self) -> &NodeId {
        &self.id
    }

    pub(crate) fn channel(&self, topic: &Topic) -> Option<Arc<Channel>> {
        self.state().channels.get(topic).cloned()
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Forgets a channel, unless it was joined again under a newer handle.
    pub(crate) fn forget(&self, channel: &Arc<Channel>) {
        let mut state = self.state();
        let current = state.channels.get(&channel.topic);
        if current.is_some_and(|current| Arc::ptr_eq(current, channel)) {
            state.channels.remove(&channel.topic);
        }
    }

    pub(crate) fn note_blame(&self, node: &NodeId, fault: Fault) {
        let mut state = self.state();
        if state.blamed.len() < BLAMES {
            state.blamed.push((node.clone(), fault));
        }
    }

    /// The identity that it proves in a channel.
    fn identity_in(&self, channel: &ChannelId) -> Option<&Bytes> {
        let own = self.config.identities.get(channel);
        own.or(self.config.identity.as_ref())
    }

    /// Whether another node may have what there is in a channel of this one.
    pub(crate) fn lets_read(&self, topic: &Topic, other: &Self) -> bool {
        let channel = self.channel(topic);
        channel.is_some_and(|channel| channel.may_be_read_by(other.identity_in(&topic.0)))
    }

    /// Tells every channel that a node is out of reach.
    pub(crate) fn neighbour_left(&self, neighbour: &NodeId) {
        let channels: Vec<_> = self.state().channels.values().cloned().collect();
        for channel in channels {
            channel.park(neighbour.clone(), Parked::Left);
        }
    }

    pub(crate) fn send_to_all(
        self: &Arc<Self>,
        network: &MemoryNetwork,
        message: &Message,
        except: Option<&NodeId>,
    ) {
        if !network.is_there(self) {
            return;
        }
        for neighbour in network.neighbours(&self.id) {
            if Some(neighbour.id()) != except {
                self.send(network, &neighbour, message.clone());
            }
        }
    }

    fn send(self: &Arc<Self>, network: &MemoryNetwork, to: &Self, message: Message) {
        if self.stopped.is_cancelled() || !self.lets_read(message.topic(), to) {
            return;
        }
        let Some(takes) = network.draw(&self.id, to.id(), message.channel(), message.kind()) else {
            return;
        };
        let arrival = Arrival {
            from: self.clone(),
            takes,
            message,
        };
        let arriving = to.state().arriving.clone();
        if arriving.is_some_and(|arriving| arriving.try_send(arrival).is_err()) {
            // Too much is on its way: the message is lost, as on any congested link.
            trace!(from = %self.id, to = %to.id(), "inbox is full");
        }
    }

    /// Takes in what a neighbour sent.
    fn receive(self: &Arc<Self>, network: &MemoryNetwork, from: &NodeId, message: Message) {
        match message {
            Message::Status {
                topic,
                identity,
                status,
            } => {
                if let Some(channel) = self.channel(&topic) {
                    channel.park(from.clone(), Parked::Status(identity, status));
                }
            }
            Message::Block { topic, bytes, .. } => {
                let Some(channel) = self.channel(&topic) else {
                    return;
                };
                let block = Block::parse(bytes.clone());
                if let Ok(block) = &block
                    && !block.has_data()
                {
                    // Whoever brings a second copy has the body as well.
                    channel.announced(block, from);
                }
                if !channel.remember(&bytes, self.config.seen_messages.get()) {
                    return;
                }
                match block {
                    Ok(block) => self.offer(network, &channel, from, block, bytes),
                    Err(error) => debug!(%error, from = %from, "malformed message"),
                }
            }
        }
    }

    /// Hands a candidate to the channel's reader, and passes its bytes on if it is accepted.
    fn offer(
        self: &Arc<Self>,
        network: &MemoryNetwork,
        channel: &Arc<Channel>,
        from: &NodeId,
        block: Block,
        bytes: Bytes,
    ) {
        let number = block.number();
        let (candidate, answer) = Candidate::new(block, from.clone());
        if !channel.offer(candidate) {
            trace!(node = %self.id, "event queue is full");
            return;
        }
        let (network, node, from) = (network.clone(), self.clone(), from.clone());
        let (left, topic) = (channel.left.clone(), channel.topic.clone());
        // As many such tasks as candidates wait in the bounded queue or are being judged.
        self.tasks.spawn(async move {
            let answer = tokio::select! {
                biased;
                () = left.cancelled() => return,
                answer = answer => answer.unwrap_or(Answer::Ignore),
            };
            if answer == Answer::Accept {
                node.send_to_all(
                    &network,
                    &Message::Block {
                        topic,
                        number,
                        bytes,
                    },
                    Some(&from),
                );
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

impl Message {
    fn topic(&self) -> &Topic {
        let (Self::Block { topic, .. } | Self::Status { topic, .. }) = self;
        topic
    }

    fn channel(&self) -> &ChannelId {
        &self.topic().0
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Block { number, .. } => Kind::Block(*number),
            Self::Status { .. } => Kind::Status,
        }
    }
}

/// Tells the neighbours how this node stands, regularly: a link may lose a status.
async fn tell_status(network: MemoryNetwork, node: Arc<Node>, channel: Arc<Channel>) {
    let mut ticks = interval(node.config.status_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = channel.left.cancelled() => return,
            _ = ticks.tick() => {}
            () = channel.status_changed.notified() => {}
            silent = channel.fell_silent(node.config.silence_limit) => {
                channel.park(silent, Parked::Left);
                continue;
            }
        }
        let status = channel.status().await;
        node.send_to_all(
            &network,
            &Message::Status {
                topic: channel.topic.clone(),
                identity: channel.identity.clone(),
                status,
            },
            None,
        );
    }
}

/// Takes in what neighbours sent when it is due. A status is never overtaken by a later one.
async fn take_in(network: MemoryNetwork, node: Arc<Node>, mut arriving: mpsc::Receiver<Arrival>) {
    let mut on_their_way: BTreeMap<(Instant, u64), (Arc<Node>, Message)> = BTreeMap::new();
    let mut latest: BTreeMap<(NodeId, ChannelId), Instant> = BTreeMap::new();
    let mut count = 0;
    loop {
        let next = on_their_way.first_key_value().map(|((due, _), _)| *due);
        let room = on_their_way.len() < node.config.inbox.get();
        tokio::select! {
           biased;
            () = node.stopped.cancelled() => return,
            arrival = arriving.recv(), if room => {
                let Some(Arrival { from, takes, message }) = arrival else {
                    return;
                };
                let mut due = Instant::now() + takes;
                if message.kind() == Kind::Status {
                    let latest = latest
                        .entry((from.id.clone(), message.channel().clone()))
                        .or_insert(due);
                    due = due.max(*latest);
                    *latest = due;
                }
                on_their_way.insert((due, count), (from, message));
                count += 1;
            }
            () = until(next) => {
                // The link may have been cut, or the sender removed, while it was on its way: who
                // was said to have left is not heard after that. Nor is who may not read.
                if let Some((_, (from, message))) = on_their_way.pop_first()
                    && network.passes(&from.id, node.id())
                    && network.is_there(&from)
                    && node.lets_read(message.topic(), &from)
                {
                    node.receive(&network, &from.id, message);
                }
            }
        }
    }
}

/// Waits until a moment, for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
