// SPDX-License-Identifier: Apache-2.0
//! A node that takes part by way of a broker.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockSource, BoxError, Candidate, Capabilities, Fault, FetchError, Gossip,
    GossipChannel, GossipError, GossipEvent, JoinRequest, Membership, NodeId, VerifiedBlock,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::MAX_FRAME;
use crate::{
    seen::Seen,
    wire::{Frame, Topic, read_frame},
};

/// How many frames wait to be sent to the broker; while so many do, whoever publishes waits.
const QUEUE: usize = 256;
/// How many candidates of a channel wait for their reader; further ones are dropped.
const EVENTS: usize = 256;
/// How many messages of a channel are remembered.
const SEEN: usize = 1024;
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node that takes part by way of a broker. Cloning gives another handle to the same node.
///
/// It knows no other nodes, and blocks come before anybody judged them. When the broker is gone, so
/// are the events; it does not come back by itself.
#[derive(Debug, Clone)]
pub struct BrokerGossip {
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    frames: mpsc::Sender<Bytes>,
    tasks: TaskTracker,
    stopped: CancellationToken,
    channels: Mutex<BTreeMap<Topic, Channel>>,
}

#[derive(Debug)]
struct Channel {
    events: mpsc::Sender<GossipEvent>,
    seen: Seen,
    /// Where it is told that the broker knows of the subscription.
    subscribed: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct JoinedChannel {
    node: Arc<Node>,
    topic: Topic,
    left: CancellationToken,
}

impl BrokerGossip {
    /// Connects a node of this name to a broker.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect(id: NodeId, broker: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        let (from, mut to) = stream.into_split();
        let (frames, mut to_send) = mpsc::channel::<Bytes>(QUEUE);
        let node = Arc::new(Node {
            id,
            frames,
            tasks: TaskTracker::new(),
            stopped: CancellationToken::new(),
            channels: Mutex::default(),
        });
        let (here, stopped) = (node.clone(), node.stopped.clone());
        node.tasks.spawn(async move {
            let sending = async {
                while let Some(frame) = to_send.recv().await {
                    if to.write_all(&frame).await.is_err() {
                        return;
                    }
                }
            };
            let both = async {
                tokio::select! {
                    () = sending => {}
                    () = here.take_all(from) => {}
                }
            };
            if stopped.run_until_cancelled(both).await.is_some() {
                warn!(node = %here.id, "the broker hung up");
                here.close();
            }
        });
        Ok(Self { node })
    }
}

#[async_trait]
impl Gossip for BrokerGossip {
    fn node_id(&self) -> NodeId {
        self.node.id.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::broker()
    }

    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError> {
        let topic = (request.channel.clone(), request.genesis);
        let (events, receiver) = mpsc::channel(EVENTS);
        let (subscribed, answer) = oneshot::channel();
        let left = self.node.stopped.child_token();
        let channel = Channel {
            events,
            seen: Seen::new(SEEN),
            subscribed: Some(subscribed),
        };
        {
            let mut channels = self.node.channels();
            if left.is_cancelled() {
                return Err(GossipError::Closed);
            }
            if channels.contains_key(&topic) {
                return Err(GossipError::AlreadyJoined {
                    channel: request.channel,
                });
            }
            channels.insert(topic.clone(), channel);
        }
        let joined = JoinedChannel {
            node: self.node.clone(),
            topic: topic.clone(),
            left,
        };
        let answered = async {
            joined.node.send(&Frame::Subscribe(topic)).await?;
            answer.await.map_err(|_| GossipError::Closed)
        };
        let failed = |source: BoxError| GossipError::Backend {
            channel: request.channel,
            source,
        };
        let answered = timeout(PATIENCE, answered).await;
        match answered.unwrap_or_else(|_| Err(failed("the broker does not answer".into()))) {
            Ok(()) => Ok(Membership {
                channel: Arc::new(joined),
                events: receiver,
            }),
            Err(error) => {
                joined.leave().await;
                Err(error)
            }
        }
    }

    async fn stop(&self) {
        self.node.close();
        self.node.tasks.close();
        self.node.tasks.wait().await;
    }
}

#[async_trait]
impl GossipChannel for JoinedChannel {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        if self.left.is_cancelled() {
            return Err(GossipError::Closed);
        }
        // Nobody could be asked for what was announced only.
        let block = block.block().relay().to_bytes();
        if let Some(channel) = self.node.channels().get_mut(&self.topic) {
            // Another node may publish it, too.
            channel.seen.remember(&block);
        }
        let topic = self.topic.clone();
        let frame = Frame::Block { topic, block };
        self.node.send(&frame).await
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        match self.left.is_cancelled() {
            true => Err(FetchError::Closed),
            false => Err(FetchError::Backend {
                number: announcement.number(),
                source: "a broker brings blocks whole, and has none of them".into(),
            }),
        }
    }

    // Nobody would hear of it.
    fn set_pulling(&self, _: bool) {}

    fn source(&self, _: &NodeId) -> Option<Arc<dyn BlockSource>> {
        None
    }

    // Who sent what, only the broker knows.
    fn blame(&self, _: &NodeId, _: Fault) {}

    async fn leave(&self) {
        // A channel that was joined again has another token.
        let mut channels = self.node.channels();
        if !self.left.is_cancelled() {
            channels.remove(&self.topic);
            self.left.cancel();
        }
    }
}

impl Node {
    async fn send(&self, frame: &Frame) -> Result<(), GossipError> {
        let sent = self.frames.send(frame.encode()).await;
        sent.map_err(|_| GossipError::Closed)
    }

    async fn take_all(&self, from: OwnedReadHalf) {
        let mut from = BufReader::new(from);
        while let Ok(frame) = read_frame(&mut from, MAX_FRAME).await {
            match frame {
                Frame::Subscribe(topic) => {
                    let mut channels = self.channels();
                    let channel = channels.get_mut(&topic);
                    let subscribed = channel.and_then(|channel| channel.subscribed.take());
                    if let Some(subscribed) = subscribed {
                        let _ = subscribed.send(());
                    }
                }
                Frame::Block { topic, block } => self.take(&topic, &block),
                Frame::Unknown => {}
                Frame::Hello(_)
                | Frame::Proof { .. }
                | Frame::Status { .. }
                | Frame::Range { .. }
                | Frame::Item(_)
                | Frame::End(_) => return,
            }
        }
    }

    /// Hands a block out, to be judged like any other; what is thought of it goes nowhere.
    fn take(&self, topic: &Topic, bytes: &Bytes) {
        let mut channels = self.channels();
        let Some(channel) = channels.get_mut(topic) else {
            return;
        };
        if !channel.seen.remember(bytes) {
            return;
        }
        match Block::parse(bytes.clone()) {
            Ok(block) => {
                let (candidate, _) = Candidate::new(block, NodeId::new("broker"));
                let event = GossipEvent::Candidate(candidate);
                if channel.events.try_send(event).is_err() {
                    debug!(channel = %topic.0, "no room for a candidate");
                }
            }
            Err(error) => debug!(channel = %topic.0, %error, "malformed message"),
        }
    }

    /// Ends everything; what was joined is closed.
    fn close(&self) {
        let mut channels = self.channels();
        self.stopped.cancel();
        channels.clear();
    }

    fn channels(&self) -> MutexGuard<'_, BTreeMap<Topic, Channel>> {
        self.channels
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}
