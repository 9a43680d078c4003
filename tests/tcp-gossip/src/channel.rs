// SPDX-License-Identifier: Apache-2.0
//! A channel: what its task hears of other nodes, hands out, and passes on.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use block_api::{
    Answer, Block, BlockReader, BlockSource, Candidate, ChannelStatus, Clock as _, Fault,
    FetchError, GossipChannel, GossipError, GossipEvent, NodeId, ReadLimits, SystemClock,
    VerifiedBlock,
};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    link::Link,
    node::{Channel, Node},
    seen::Seen,
    source::PeerSource,
    wire::{Frame, Topic},
};

/// How long to wait before the nodes are asked again for an announced block; it doubles each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// What the wait never exceeds.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What a channel hears.
#[derive(Debug)]
pub(crate) enum Input {
    Publish(Bytes),
    Block(Arc<Link>, Bytes),
    Status(Arc<Link>, ChannelStatus),
    Gone(NodeId),
}

/// The handle of a joined channel.
#[derive(Debug)]
pub(crate) struct JoinedChannel {
    pub(crate) node: Arc<Node>,
    pub(crate) topic: Topic,
    pub(crate) left: CancellationToken,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) pulling: watch::Sender<bool>,
}

/// What the task of a channel knows.
pub(crate) struct Task {
    node: Arc<Node>,
    topic: Topic,
    channel: Channel,
    events: mpsc::Sender<GossipEvent>,
    /// The newest word of each node that was not handed out yet.
    parked: BTreeMap<NodeId, GossipEvent>,
    /// When each node told its status last.
    heard: BTreeMap<NodeId, Instant>,
    rights: Vec<Right>,
    seen: Seen,
    /// The messages that wait for an answer: as many as candidates are queued or being judged.
    judged: JoinSet<(Answer, NodeId, Bytes)>,
}

/// Whether a node may read, as it was judged last.
struct Right {
    link: Arc<Link>,
    generation: u64,
    until: Option<SystemTime>,
    may_read: bool,
}

#[async_trait]
impl GossipChannel for JoinedChannel {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        if self.left.is_cancelled() {
            return Err(GossipError::Closed);
        }
        // Everyone needs a config block at once, to judge what comes after it.
        let (is_config, block) = (block.is_config(), block.block());
        let relay = match is_config || block.raw().len() <= self.node.config.inline_limit {
            true => block.relay(),
            false => block.without_data().relay(),
        };
        let published = self.inputs.send(Input::Publish(relay.to_bytes())).await;
        published.map_err(|_| GossipError::Closed)
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        let mut pause = SHORTEST_PAUSE;
        while !self.left.is_cancelled() {
            for link in self.node.links() {
                if let Some(source) = self.peer(&link.peer.node)
                    && let Some(block) = source.body(announcement).await
                {
                    return Ok(block);
                }
            }
            self.left.run_until_cancelled(sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(FetchError::Closed)
    }

    fn set_pulling(&self, pulling: bool) {
        self.pulling.send_if_modified(|told| {
            let is_news = *told != pulling;
            *told = pulling;
            is_news
        });
    }

    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>> {
        Some(Arc::new(self.peer(node)?))
    }

    // It keeps no standing of nodes.
    fn blame(&self, _: &NodeId, _: Fault) {}

    async fn leave(&self) {
        self.node.remove(&self.topic, &self.inputs);
        self.left.cancel();
        // The events end with the task, which holds their queue.
        self.inputs.closed().await;
    }
}

impl JoinedChannel {
    fn peer(&self, node: &NodeId) -> Option<PeerSource> {
        self.node.link(node)?;
        PeerSource::new(self.node.clone(), self.topic.clone(), node.clone())
    }
}

impl Task {
    pub(crate) fn new(
        node: Arc<Node>,
        topic: Topic,
        channel: &Channel,
        events: mpsc::Sender<GossipEvent>,
    ) -> Self {
        Self {
            seen: Seen::new(node.config.seen_messages.get()),
            node,
            topic,
            channel: channel.clone(),
            events,
            parked: BTreeMap::new(),
            heard: BTreeMap::new(),
            rights: Vec::new(),
            judged: JoinSet::new(),
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut pulling: watch::Receiver<bool>,
    ) {
        let mut ticks = interval(self.node.config.status_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (events, reader) = (self.events.clone(), self.channel.reader.clone());
        loop {
            let next = reader.info().height.next_block().height();
            let pulls = *pulling.borrow_and_update();
            tokio::select! {
                biased;
                Some(Ok((answer, from, bytes))) = self.judged.join_next() => {
                    if answer == Answer::Accept {
                        self.send_to_all(&self.block(bytes), Some(&from));
                    }
                }
                Ok(room) = events.reserve(), if !self.parked.is_empty() => {
                    if let Some((_, news)) = self.parked.pop_first() {
                        room.send(news);
                    }
                }
                input = inputs.recv() => match input {
                    Some(input) => self.take(input, pulls).await,
                    None => return,
                },
                _ = ticks.tick() => {
                    self.miss_the_silent();
                    self.tell_all(pulls).await;
                }
                // A store that closed is told of by the ticks alone.
                Ok(_) = reader.wait_for(next) => self.tell_all(pulls).await,
                Ok(()) = pulling.changed() => {
                    let pulls = *pulling.borrow();
                    self.tell_all(pulls).await;
                }
            }
        }
    }

    async fn take(&mut self, input: Input, pulls: bool) {
        match input {
            Input::Publish(bytes) => {
                self.seen.remember(&bytes);
                let frame = self.block(bytes);
                self.send_to_all(&frame, None);
            }
            // Who may not have the blocks of a channel is not heard there either.
            Input::Block(link, bytes) => {
                if self.may_read(&link) && self.seen.remember(&bytes) {
                    self.offer(&link.peer.node, bytes);
                }
            }
            Input::Status(link, status) => {
                if self.may_read(&link) {
                    let from = link.peer.node.clone();
                    if self.heard.insert(from.clone(), Instant::now()).is_none() {
                        // Whoever joined just now waits for a status.
                        link.send(self.status(pulls).await);
                    }
                    let news = GossipEvent::Status {
                        from: from.clone(),
                        identity: Some(link.peer.identity.clone()),
                        status,
                    };
                    self.parked.insert(from, news);
                }
            }
            Input::Gone(node) => self.miss(node),
        }
    }

    /// Hands a block out as a candidate, and waits for the answer beside everything else.
    fn offer(&mut self, from: &NodeId, bytes: Bytes) {
        let block = match Block::parse(bytes.clone()) {
            Ok(block) => block,
            Err(error) => {
                debug!(channel = %self.topic.0, %from, %error, "malformed message");
                return;
            }
        };
        let (candidate, answer) = Candidate::new(block, from.clone());
        let event = GossipEvent::Candidate(candidate);
        if self.events.try_send(event).is_ok() {
            let from = from.clone();
            self.judged.spawn(async move {
                let answer = answer.await.unwrap_or(Answer::Ignore);
                (answer, from, bytes)
            });
        }
    }

    fn miss_the_silent(&mut self) {
        let limit = self.node.config.silence_limit;
        let silent = self
            .heard
            .iter()
            .filter(|(_, heard)| heard.elapsed() > limit);
        let silent: Vec<NodeId> = silent.map(|(node, _)| node.clone()).collect();
        for node in silent {
            self.miss(node);
        }
    }

    fn miss(&mut self, node: NodeId) {
        if self.heard.remove(&node).is_some() {
            let left = GossipEvent::Left(node.clone());
            self.parked.insert(node, left);
        }
    }

    /// Whether a node may read the channel: judged anew for each connection, for each generation of
    /// readers, and when its identity has expired.
    fn may_read(&mut self, link: &Arc<Link>) -> bool {
        let (generation, now) = (self.channel.readers.generation(), SystemClock.now());
        self.rights.retain(|right| {
            let ended = right.until.is_some_and(|until| until < now);
            !right.link.closed.is_cancelled() && right.generation == generation && !ended
        });
        let mut known = self.rights.iter();
        if let Some(known) = known.find(|known| Arc::ptr_eq(&known.link, link)) {
            return known.may_read;
        }
        let may_read = self.channel.lets_read(&link.peer);
        self.rights.push(Right {
            link: link.clone(),
            generation,
            // One that has expired is refused until the readers change.
            until: self
                .channel
                .readers
                .expires(&link.peer.identity)
                .filter(|_| may_read),
            may_read,
        });
        may_read
    }

    fn send_to_all(&mut self, frame: &Bytes, except: Option<&NodeId>) {
        for link in self.node.links() {
            if Some(&link.peer.node) != except && self.may_read(&link) {
                link.send(frame.clone());
            }
        }
    }

    async fn tell_all(&mut self, pulling: bool) {
        let status = self.status(pulling).await;
        self.send_to_all(&status, None);
    }

    fn block(&self, block: Bytes) -> Bytes {
        let topic = self.topic.clone();
        Frame::Block { topic, block }.encode()
    }

    async fn status(&self, pulling: bool) -> Bytes {
        let info = self.channel.reader.info();
        let status = ChannelStatus {
            first: info.first,
            height: info.height,
            tip: tip(&*self.channel.reader).await,
            pulling,
        };
        let topic = self.topic.clone();
        Frame::Status { topic, status }.encode()
    }
}

/// Header and signatures of the newest block, where it is kept.
async fn tip(reader: &dyn BlockReader) -> Option<Block> {
    let number = reader.info().height.tip()?;
    let blocks = reader.read(number, ReadLimits::one()).await.ok()?;
    let block = Block::parse(blocks.into_iter().next()?).ok()?;
    Some(block.without_data().with_signatures_slot_only())
}
