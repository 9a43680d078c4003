// SPDX-License-Identifier: Apache-2.0
//! What one holds of a node, and of a channel that it joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::resume_unwind,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockSource, BoxError, Capabilities, ChannelId, Fault, FetchError, Gossip,
    GossipChannel, GossipError, GossipEvent, JoinRequest, Membership, NodeId, VerifiedBlock,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, metrics::Registry};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::warn;

use crate::{
    bodies::{Bodies, BodyId, Fetcher, Network},
    channels::Shared,
    config::{Config, INLINE_CONFIG},
    error::{AddPeerError, OpenError, StartError},
    event_loop::{Command, EventLoop, Published},
    identity::{peer_address, peer_id},
    score::{Ban, Bans, Offence},
    source::PeerSource,
    stats::{Counters, Stats},
    streams::{BODIES, Opened},
    wire::{Form, MAX_ANNOUNCEMENT, encode},
};

/// A node of a libp2p gossip network. Cloning gives another handle of the same node, which stops
/// when it is told to or when the last handle, of it or of its channels, is dropped.
#[derive(Debug, Clone)]
pub struct Libp2pGossip {
    inner: Arc<Inner>,
}

/// Asks the event loop for streams.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    commands: mpsc::Sender<Command>,
    patience: Duration,
}

#[derive(Debug)]
struct Inner {
    node: NodeId,
    config: Arc<Config>,
    commands: mpsc::Sender<Command>,
    bodies: Arc<Bodies>,
    peers: watch::Receiver<BTreeSet<NodeId>>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    bans: watch::Receiver<Bans>,
    counters: Arc<Counters>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    event_loop: Mutex<Option<JoinHandle<()>>>,
    _stops_when_dropped: DropGuard,
}

/// A channel that this node joined.
#[derive(Debug)]
struct JoinedChannel {
    inner: Arc<Inner>,
    channel: ChannelId,
    shared: Shared,
    max_message: usize,
}

impl Libp2pGossip {
    /// Starts a node. On return it listens, and dials its static peers.
    ///
    /// # Errors
    ///
    /// When the configuration does not hold together, or an address cannot be listened on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_in(config, None).await
    }

    /// Starts a node whose gossipsub is measured: its metrics are in the registry from here on, their
    /// names beginning with `libp2p_gossipsub`. The number of their labels is bounded by
    /// [`Config::max_topics`].
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops what was started. The metrics stay in the registry.
    pub async fn start_with_metrics(
        config: Config,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        Self::start_in(config, Some(registry)).await
    }

    async fn start_in(config: Config, registry: Option<&mut Registry>) -> Result<Self, StartError> {
        let valid = config.into_valid()?;
        let cancel = CancellationToken::new();
        let stops_when_dropped = cancel.clone().drop_guard();
        let tasks = TaskTracker::new();
        let config = Arc::new(valid.config.clone());
        let (commands, wishes) = mpsc::channel(config.command_queue.get());
        let opener = Opener {
            commands: commands.clone(),
            patience: config.open_timeout,
        };
        let (mut event_loop, views) = EventLoop::new(
            valid,
            wishes,
            opener,
            tasks.clone(),
            cancel.clone(),
            registry,
        )?;
        event_loop.listen().await?;
        let event_loop = tasks.spawn(Box::new(event_loop).run());
        let inner = Inner {
            node: config.identity.node_id(),
            config,
            commands,
            bodies: views.bodies,
            peers: views.peers,
            addresses: views.addresses,
            bans: views.bans,
            counters: views.counters,
            tasks,
            cancel,
            event_loop: Mutex::new(Some(event_loop)),
            _stops_when_dropped: stops_when_dropped,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where it listens, with the ports that it got.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner.addresses.borrow().clone()
    }

    /// The same addresses with the id of this node, as other nodes need them.
    pub fn peer_addrs(&self) -> Vec<Multiaddr> {
        let own = self.inner.config.identity.peer_id();
        self.listen_addrs()
            .into_iter()
            .filter_map(|address| address.with_p2p(own).ok())
            .collect()
    }

    /// The connected nodes, and their coming and going.
    pub fn peers(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.inner.peers.clone()
    }

    /// Who is banned, and the coming and going of bans.
    pub fn bans(&self) -> watch::Receiver<BTreeMap<NodeId, Ban>> {
        self.inner.bans.clone()
    }

    /// What was counted until now.
    pub fn stats(&self) -> Stats {
        self.inner.counters.snapshot()
    }

    /// Admits a node and keeps a connection to it from here on, as to a static peer.
    ///
    /// # Errors
    ///
    /// When the address does not end with `/p2p/ID`, or the node was stopped.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have added the peer or not.
    pub async fn add_peer(&self, address: Multiaddr) -> Result<(), AddPeerError> {
        let (peer, address) = peer_address(&address)?;
        let command = Command::AddPeer { peer, address };
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| AddPeerError::Closed)
    }

    async fn join_channel(
        &self,
        request: JoinRequest,
    ) -> Result<(JoinedChannel, mpsc::Receiver<GossipEvent>), GossipError> {
        let channel = request.channel.clone();
        let (reply, joined) = oneshot::channel();
        self.inner.send(Command::Join { request, reply }).await?;
        let (shared, events) = joined.await.map_err(|_| GossipError::Closed)??;
        let max_message = self.inner.config.wire_limits().message;
        let channel = JoinedChannel {
            inner: self.inner.clone(),
            channel,
            shared,
            max_message,
        };
        Ok((channel, events))
    }
}

#[async_trait]
impl Gossip for Libp2pGossip {
    fn node_id(&self) -> NodeId {
        self.inner.node.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError> {
        let (channel, events) = self.join_channel(request).await?;
        Ok(Membership {
            channel: Arc::new(channel),
            events,
        })
    }

    async fn stop(&self) {
        let Inner {
            tasks,
            cancel,
            event_loop,
            config,
            ..
        } = &*self.inner;
        cancel.cancel();
        tasks.close();
        let stopped = async {
            if let Some(event_loop) = event_loop.lock().await.take()
                && let Err(error) = event_loop.await
                && error.is_panic()
            {
                resume_unwind(error.into_panic());
            }
            tasks.wait().await;
        };
        if timeout(config.stop_timeout, stopped).await.is_err() {
            warn!(
                tasks = tasks.len(),
                "gossip tasks outlived the time for stopping"
            );
        }
    }
}

impl JoinedChannel {
    /// The message about a block: itself if it is short, else what it is announced by, and its body is
    /// kept for those who come for it. Empty when it cannot be announced.
    fn message(&self, block: &VerifiedBlock, attestation: &Block) -> Vec<u8> {
        let whole = block.block().relay();
        let mut inline_limit = self.inner.config.inline_limit.get();
        if block.is_config() {
            // Everyone needs it at once, to judge what comes after it.
            inline_limit = inline_limit.max(INLINE_CONFIG);
        }
        let (mut message, limit) = if whole.len() <= inline_limit {
            (encode(Form::Whole, whole.len(), &whole), self.max_message)
        } else {
            let id = BodyId {
                topic: self.shared.topic,
                number: block.number(),
                hash: block.header_hash(),
            };
            // Those who hear of it come for it at once.
            self.inner.bodies.keep(id, block.block());
            let announcement = encode(Form::Announcement, whole.len(), &attestation.relay());
            (announcement, MAX_ANNOUNCEMENT)
        };
        if message.len() > limit {
            // Peers see by the status that there is a new block, and fetch it.
            warn!(
                channel = %self.channel, block.number = %block.number(), bytes = message.len(),
                "signatures too long to be announced"
            );
            self.inner.counters.publish_dropped.increment();
            message.clear();
        }
        message
    }

    /// Has the event loop publish this.
    async fn put(&self, message: Vec<u8>, attestation: Block) -> Result<(), GossipError> {
        let (reply, published) = oneshot::channel();
        let Shared {
            topic, generation, ..
        } = self.shared;
        let block = Published {
            topic,
            generation,
            message,
            attestation,
        };
        self.inner.send(Command::Publish { block, reply }).await?;
        published.await.map_err(|_| GossipError::Closed)?
    }
}

#[async_trait]
impl GossipChannel for JoinedChannel {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        if self.shared.left.is_cancelled() {
            return Err(GossipError::Closed);
        }
        let attestation = block.block().without_data().with_signatures_slot_only();
        // Whoever comes later learns of it by status. A node that is alone reads a chain of thousands of
        // blocks without making a message of each.
        let is_alone = self.shared.members.borrow().is_empty();
        let message = match is_alone {
            true => Vec::new(),
            false => self.message(block, &attestation),
        };
        self.put(message, attestation).await
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        let fetcher = Fetcher {
            bodies: &self.inner.bodies,
            shared: &self.shared,
            network: self.inner.opener(),
            config: &self.inner.config,
            counters: &self.inner.counters,
        };
        fetcher.fetch(announcement).await
    }

    fn set_pulling(&self, pulling: bool) {
        if self.shared.pulling.swap(pulling, Ordering::Relaxed) != pulling {
            let topic = self.shared.topic;
            // Others wait for it. Where there is no room for a command, the next tick sees it.
            let _ = self.inner.commands.try_send(Command::Look { topic });
        }
    }

    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>> {
        let peer = peer_id(node)?;
        let connected =
            !self.shared.left.is_cancelled() && self.shared.members.borrow().contains(&peer);
        connected.then(|| {
            Arc::new(PeerSource {
                peer,
                channel: self.channel.clone(),
                topic: self.shared.topic,
                opener: self.inner.opener(),
                config: self.inner.config.clone(),
            }) as Arc<dyn BlockSource>
        })
    }

    fn blame(&self, node: &NodeId, fault: Fault) {
        // Whatever else there is was done, and not left undone.
        let offence = match fault == Fault::Stalled {
            true => Offence::Stalled,
            false => Offence::Invalid,
        };
        if let Some(peer) = peer_id(node) {
            self.inner.opener().blame(peer, offence);
        }
    }

    async fn leave(&self) {
        let (reply, left) = oneshot::channel();
        let Shared {
            topic, generation, ..
        } = self.shared;
        // A network that was stopped has left every channel.
        if self
            .inner
            .send(Command::Leave {
                topic,
                generation,
                reply,
            })
            .await
            .is_ok()
        {
            let _ = left.await;
        }
    }
}

impl Inner {
    async fn send(&self, command: Command) -> Result<(), GossipError> {
        if self.cancel.is_cancelled() {
            return Err(GossipError::Closed);
        }
        self.commands
            .send(command)
            .await
            .map_err(|_| GossipError::Closed)
    }

    fn opener(&self) -> Opener {
        Opener {
            commands: self.commands.clone(),
            patience: self.config.open_timeout,
        }
    }
}

impl Opener {
    /// Holds something against a peer. Where there is no room for a command it is let off: whoever
    /// does such things does more of them.
    pub(crate) fn blame(&self, peer: PeerId, offence: Offence) {
        let _ = self.commands.try_send(Command::Blame { peer, offence });
    }

    /// Opens a stream to a connected peer.
    pub(crate) async fn open(
        &self,
        peer: PeerId,
        protocol: StreamProtocol,
    ) -> Result<Stream, OpenError> {
        let (opened, stream): (Opened, _) = oneshot::channel();
        let asked = async {
            let command = Command::Open {
                peer,
                protocol,
                opened,
            };
            self.commands
                .send(command)
                .await
                .map_err(|_| OpenError::Closed)?;
            // Whoever drops the answer unsent is a connection that closed.
            stream.await.map_err(|_| OpenError::NotConnected)?
        };
        timeout(self.patience, asked)
            .await
            .map_err(|_| OpenError::TimedOut)?
    }
}

impl Network for Opener {
    type Stream = Stream;

    fn open(&self, peer: PeerId) -> impl Future<Output = Result<Stream, OpenError>> + Send {
        Self::open(self, peer, BODIES)
    }

    fn blame(&self, peer: PeerId, offence: Offence) {
        Self::blame(self, peer, offence);
    }
}

/// An error of this backend, as callers see it.
pub(crate) fn backend(channel: &ChannelId, source: impl Into<BoxError>) -> GossipError {
    GossipError::Backend {
        channel: channel.clone(),
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use block_api::{
        BlockStore as _, Height,
        testing::{MemoryStore, OpenReaders, TestChain, TestSigner, within},
    };

    use super::*;
    use crate::{Admission, Keypair, bodies::shelf::Found, topic::TopicId};

    /// A node that admits another one, and tells by itself once an hour how its chain stands.
    async fn node(own: u8, other: u8, peers: Vec<Multiaddr>) -> Libp2pGossip {
        let [own, other] = [own, other].map(|seed| Keypair::from_seed([seed; 32]));
        let config = Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            peers,
            admission: Admission::AllowList([other.node_id()].into()),
            status_interval: Duration::from_secs(3600),
            ..Config::new(own, Arc::new(TestSigner("both")))
        };
        Libp2pGossip::start(config).await.unwrap()
    }

    /// What a node has of a channel.
    struct Member {
        store: Arc<MemoryStore>,
        channel: JoinedChannel,
        events: mpsc::Receiver<GossipEvent>,
    }

    /// Joins the channel of a chain, of which the node has the genesis block.
    async fn join(node: &Libp2pGossip, chain: &TestChain, genesis: &VerifiedBlock) -> Member {
        let store = Arc::new(MemoryStore::with(vec![genesis.clone()]).await);
        let request = JoinRequest {
            channel: chain.channel(),
            genesis: genesis.header_hash(),
            reader: store.clone(),
            readers: Arc::new(OpenReaders),
        };
        let joined = within("joining", node.join_channel(request)).await;
        let (channel, events) = joined.unwrap();
        Member {
            store,
            channel,
            events,
        }
    }

    /// Waits for a status of this height.
    async fn told(member: &mut Member, height: Height) {
        let heard = async {
            while let Some(event) = member.events.recv().await {
                if matches!(event, GossipEvent::Status { status, .. } if status.height == height) {
                    return true;
                }
            }
            false
        };
        assert!(within("a status", heard).await);
    }

    #[tokio::test]
    async fn a_node_that_is_alone_makes_no_message_of_what_it_publishes() {
        let gossip = node(1, 2, Vec::new()).await;
        let mut chain = TestChain::new("ch");
        let genesis = TestChain::verified(&chain.config());
        let long = gossip.inner.config.inline_limit.get() + 1;
        let block = TestChain::verified(&chain.data(long));
        let member = join(&gossip, &chain, &genesis).await;
        member.store.append(vec![block.clone()]).await.unwrap();
        let published = member.channel.publish(&block);
        within("publishing", published).await.unwrap();

        let id = BodyId {
            topic: TopicId::of_channel(&chain.channel(), &genesis.header_hash()),
            number: block.number(),
            hash: block.header_hash(),
        };
        assert!(matches!(gossip.inner.bodies.find(&id), Found::Nothing));
        gossip.stop().await;
    }

    #[tokio::test]
    async fn who_comes_while_a_node_that_was_alone_publishes_is_told_at_once() {
        let first = node(1, 2, Vec::new()).await;
        let second = node(2, 1, first.peer_addrs()).await;
        let mut chain = TestChain::new("ch");
        let genesis = TestChain::verified(&chain.config());
        let block = TestChain::verified(&chain.data(10));
        let here = join(&first, &chain, &genesis).await;
        let mut there = join(&second, &chain, &genesis).await;
        told(&mut there, Height::new(1)).await;

        // As when the other one joined after this one had looked who is there.
        here.store.append(vec![block.clone()]).await.unwrap();
        let attestation = block.block().without_data().with_signatures_slot_only();
        let published = here.channel.put(Vec::new(), attestation);
        within("publishing", published).await.unwrap();
        told(&mut there, Height::new(2)).await;
        first.stop().await;
        second.stop().await;
    }
}
