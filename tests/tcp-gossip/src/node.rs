// SPDX-License-Identifier: Apache-2.0
//! A node: the channels that it joined, and the connections to others.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use block_api::{
    BlockReader, Capabilities, Clock, Gossip, GossipError, JoinRequest, Membership, NodeId,
    Readers, Signer, SystemClock,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config,
    channel::{Input, JoinedChannel, Task},
    handshake::Peer,
    link::{Link, accept_all, keep_linked},
    wire::Topic,
};

/// How much from links and handles waits for the task of a channel, which never waits for anybody.
/// While it is full, whoever sends waits.
const INPUTS: usize = 256;

/// A node of a network over TCP. Cloning gives another handle to the same node.
#[derive(Debug, Clone)]
pub struct TcpGossip {
    node: Arc<Node>,
}

/// What handles, channels and connections share of a node.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopped: CancellationToken,
    /// One for each connection that may be about to prove itself; further ones wait to be taken.
    pub(crate) unproven: Arc<Semaphore>,
    /// One for each range that may be served.
    pub(crate) serving: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<Topic, Channel>,
    links: BTreeMap<NodeId, Arc<Link>>,
}

/// A channel that the node joined, as its connections see it.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) reader: Arc<dyn BlockReader>,
    pub(crate) readers: Arc<dyn Readers>,
    left: CancellationToken,
}

impl TcpGossip {
    /// Starts a node that listens here and proves itself with this signer. It returns before any
    /// other node is connected.
    pub fn start(config: Config, listener: TcpListener, signer: Arc<dyn Signer>) -> Self {
        let node = Arc::new(Node {
            unproven: Arc::new(Semaphore::new(config.max_unproven.get())),
            serving: Semaphore::new(config.max_serving.get()),
            config,
            signer,
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            state: Mutex::default(),
        });
        node.tasks.spawn(accept_all(node.clone(), listener));
        for (peer, address) in &node.config.peers {
            if node.config.node < *peer {
                let dialled = keep_linked(node.clone(), peer.clone(), *address);
                node.tasks.spawn(dialled);
            }
        }
        Self { node }
    }
}

#[async_trait]
impl Gossip for TcpGossip {
    fn node_id(&self) -> NodeId {
        self.node.config.node.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError> {
        let topic = (request.channel.clone(), request.genesis);
        let (inputs, received) = mpsc::channel(INPUTS);
        let (events, receiver) = mpsc::channel(self.node.config.event_queue.get());
        let (pulling, pulls) = watch::channel(false);
        let channel = Channel {
            inputs,
            reader: request.reader,
            readers: request.readers,
            left: self.node.stopped.child_token(),
        };
        self.node.add(&topic, &channel)?;
        let task = Task::new(self.node.clone(), topic.clone(), &channel, events);
        let left = channel.left.clone();
        self.node.tasks.spawn(async move {
            left.run_until_cancelled(task.run(received, pulls)).await;
        });
        let channel = JoinedChannel {
            node: self.node.clone(),
            topic,
            left: channel.left,
            inputs: channel.inputs,
            pulling,
        };
        Ok(Membership {
            channel: Arc::new(channel),
            events: receiver,
        })
    }

    async fn stop(&self) {
        // Under the lock, so that nothing is joined or linked behind it.
        {
            let mut state = self.node.state();
            self.node.stopped.cancel();
            state.channels.clear();
            state.links.clear();
        }
        self.node.tasks.close();
        self.node.tasks.wait().await;
    }
}

impl Node {
    fn add(&self, topic: &Topic, channel: &Channel) -> Result<(), GossipError> {
        let mut state = self.state();
        if self.stopped.is_cancelled() {
            return Err(GossipError::Closed);
        }
        if state.channels.contains_key(topic) {
            return Err(GossipError::AlreadyJoined {
                channel: topic.0.clone(),
            });
        }
        state.channels.insert(topic.clone(), channel.clone());
        Ok(())
    }

    /// Takes a channel away, unless it was joined again under a newer handle.
    pub(crate) fn remove(&self, topic: &Topic, inputs: &mpsc::Sender<Input>) {
        let mut state = self.state();
        let current = state.channels.get(topic);
        if current.is_some_and(|current| current.inputs.same_channel(inputs)) {
            state.channels.remove(topic);
        }
    }

    pub(crate) fn channel(&self, topic: &Topic) -> Option<Channel> {
        self.state().channels.get(topic).cloned()
    }

    pub(crate) fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.state().links.get(node).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.state().links.values().cloned().collect()
    }

    /// Notes a connection. An older one to the same node is given up: it is dead, or soon.
    pub(crate) fn linked(&self, link: &Arc<Link>) {
        let mut state = self.state();
        if self.stopped.is_cancelled() {
            return;
        }
        let older = state.links.insert(link.peer.node.clone(), link.clone());
        if let Some(older) = older {
            older.closed.cancel();
        }
    }

    /// Forgets a connection, and tells every channel unless there is a newer one.
    pub(crate) async fn unlinked(&self, link: &Arc<Link>) {
        let channels: Vec<Channel> = {
            let mut state = self.state();
            let current = state.links.get(&link.peer.node);
            if !current.is_some_and(|current| Arc::ptr_eq(current, link)) {
                return;
            }
            state.links.remove(&link.peer.node);
            state.channels.values().cloned().collect()
        };
        for channel in channels {
            let gone = Input::Gone(link.peer.node.clone());
            // A channel that ended meanwhile misses nobody.
            let _ = channel.inputs.send(gone).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

impl Channel {
    /// Whether who is at the other end of a connection may have what there is in the channel.
    pub(crate) fn lets_read(&self, peer: &Peer) -> bool {
        peer.may_read(&*self.readers, SystemClock.now()).is_ok()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("node", &self.config.node)
            .finish_non_exhaustive()
    }
}
