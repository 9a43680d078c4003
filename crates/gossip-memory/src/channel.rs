// SPDX-License-Identifier: Apache-2.0
//! A channel that a node joined: what came in it and was not read yet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use block_api::{
    Block, BlockNumber, BlockReader, Candidate, ChannelId, ChannelStatus, Clock as _, GossipEvent,
    HeaderHash, Height, NodeId, ReadLimits, Readers, SystemClock,
};
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Of how many blocks it is remembered that one node announced them.
const ANNOUNCED: usize = 256;

/// An announced block.
type Announced = (BlockNumber, HeaderHash);

/// A channel in this network: two chains of one name with different genesis blocks are apart.
pub(crate) type Topic = (ChannelId, HeaderHash);

/// A channel that a node joined.
pub(crate) struct Channel {
    pub(crate) topic: Topic,
    pub(crate) reader: Arc<dyn BlockReader>,
    /// `None` where everybody may read.
    readers: Option<Arc<dyn Readers>>,
    /// `None` where the node proves none.
    pub(crate) identity: Option<Bytes>,
    pub(crate) pulling: AtomicBool,
    pub(crate) status_changed: Notify,
    pub(crate) left: CancellationToken,
    inbox: Mutex<Inbox>,
    room: Notify,
}

/// What has come in a channel and was not read yet.
struct Inbox {
    events: mpsc::Sender<GossipEvent>,
    /// The newest status of each node that found the queue full.
    parked: BTreeMap<NodeId, Parked>,
    /// When each neighbour told its status last, and its height then.
    heard: BTreeMap<NodeId, (Instant, Height)>,
    /// Who announced a block, in the order in which they did.
    announced: BTreeMap<Announced, Vec<NodeId>>,
    /// What each node announced, the oldest first: what one makes up displaces nothing of others.
    announced_by: BTreeMap<NodeId, VecDeque<Announced>>,
    seen: BTreeSet<Bytes>,
    seen_order: VecDeque<Bytes>,
}

/// The newest word of a node.
pub(crate) enum Parked {
    Status(Option<Bytes>, ChannelStatus),
    Left,
}

impl Channel {
    pub(crate) fn new(
        topic: Topic,
        reader: Arc<dyn BlockReader>,
        readers: Option<Arc<dyn Readers>>,
        identity: Option<Bytes>,
        events: mpsc::Sender<GossipEvent>,
        left: CancellationToken,
    ) -> Self {
        Self {
            topic,
            reader,
            readers,
            identity,
            pulling: AtomicBool::new(false),
            status_changed: Notify::new(),
            left,
            inbox: Mutex::new(Inbox {
                events,
                parked: BTreeMap::new(),
                heard: BTreeMap::new(),
                announced: BTreeMap::new(),
                announced_by: BTreeMap::new(),
                seen: BTreeSet::new(),
                seen_order: VecDeque::new(),
            }),
            room: Notify::new(),
        }
    }

    /// Whether a node of this identity may have the blocks of the channel.
    pub(crate) fn may_be_read_by(&self, identity: Option<&Bytes>) -> bool {
        let Some(readers) = &self.readers else {
            return true;
        };
        let may_read = |identity| {
            readers
                .may_read(identity, &[], &[], SystemClock.now())
                .is_ok()
        };
        identity.is_some_and(|identity| may_read(identity))
    }

    /// Queues a candidate; `false` when there is no room.
    pub(crate) fn offer(&self, candidate: Candidate) -> bool {
        let event = GossipEvent::Candidate(candidate);
        self.inbox().events.try_send(event).is_ok()
    }

    /// Remembers a message; `false` when it was known.
    pub(crate) fn remember(&self, bytes: &Bytes, limit: usize) -> bool {
        let mut inbox = self.inbox();
        if !inbox.seen.insert(bytes.clone()) {
            return false;
        }
        inbox.seen_order.push_back(bytes.clone());
        if inbox.seen_order.len() > limit
            && let Some(oldest) = inbox.seen_order.pop_front()
        {
            inbox.seen.remove(&oldest);
        }
        true
    }

    /// Notes who announced a block.
    pub(crate) fn announced(&self, block: &Block, from: &NodeId) {
        let inbox = &mut *self.inbox();
        let key = (block.number(), block.header_hash());
        let announcers = inbox.announced.entry(key).or_default();
        if announcers.contains(from) {
            return;
        }
        announcers.push(from.clone());
        let of_node = inbox.announced_by.entry(from.clone()).or_default();
        of_node.push_back(key);
        if of_node.len() > ANNOUNCED
            && let Some(oldest) = of_node.pop_front()
        {
            inbox.forget(&oldest, from);
        }
    }

    /// Who may have the body of an announced block: who announced it, then who is as high.
    pub(crate) fn holders(&self, block: &Block) -> Vec<NodeId> {
        let inbox = self.inbox();
        let announced = inbox.announced.get(&(block.number(), block.header_hash()));
        let mut holders = announced.cloned().unwrap_or_default();
        for (node, (_, height)) in &inbox.heard {
            if height.next_block() > block.number() && !holders.contains(node) {
                holders.push(node.clone());
            }
        }
        holders
    }

    /// Queues the newest word of a node, in place of an older one that was not read.
    pub(crate) fn park(&self, node: NodeId, news: Parked) {
        let mut inbox = self.inbox();
        match &news {
            Parked::Status(_, status) => {
                let heard = (Instant::now(), status.height);
                inbox.heard.insert(node.clone(), heard);
            }
            Parked::Left => {
                inbox.heard.remove(&node);
                for announced in inbox.announced_by.remove(&node).unwrap_or_default() {
                    inbox.forget(&announced, &node);
                }
            }
        }
        inbox.parked.insert(node, news);
        drop(inbox);
        self.room.notify_one();
    }

    /// Waits until a neighbour has been silent for so long. While there is none, or none is left, it
    /// is to be called again after every status that is told.
    pub(crate) async fn fell_silent(&self, limit: Duration) -> NodeId {
        loop {
            let oldest = {
                let inbox = self.inbox();
                let oldest = inbox.heard.iter().min_by_key(|(_, (heard, _))| *heard);
                oldest.map(|(node, (heard, _))| (node.clone(), *heard + limit))
            };
            match oldest {
                Some((node, until)) if until <= Instant::now() => return node,
                Some((_, until)) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Ends the events: the sender goes, and the queue is closed once it was read.
    pub(crate) fn close(&self) {
        self.left.cancel();
        let mut inbox = self.inbox();
        inbox.parked.clear();
        inbox.events = mpsc::channel(1).0;
    }

    pub(crate) async fn status(&self) -> ChannelStatus {
        let info = self.reader.info();
        let tip = match info.height.tip() {
            Some(number) if number >= info.first => {
                self.reader.read(number, ReadLimits::one()).await.ok()
            }
            _ => None,
        };
        let tip = tip
            .and_then(|blocks| blocks.into_iter().next())
            .and_then(|bytes| Block::parse(bytes).ok());
        ChannelStatus {
            first: info.first,
            height: info.height,
            tip: tip.map(|block| block.without_data().with_signatures_slot_only()),
            pulling: self.pulling.load(Ordering::SeqCst),
        }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

impl Inbox {
    fn forget(&mut self, announced: &Announced, from: &NodeId) {
        if let Some(announcers) = self.announced.get_mut(announced) {
            announcers.retain(|announcer| announcer != from);
            if announcers.is_empty() {
                self.announced.remove(announced);
            }
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Moves parked news into the event queue whenever it has room.
pub(crate) async fn unpark(channel: Arc<Channel>) {
    loop {
        tokio::select! {
            biased;
            () = channel.left.cancelled() => return,
            () = channel.room.notified() => {}
        }
        loop {
            let events = channel.inbox().events.clone();
            let permit = tokio::select! {
                biased;
                () = channel.left.cancelled() => return,
                permit = events.reserve() => permit,
            };
            let (Ok(permit), Some((from, news))) = (permit, channel.inbox().parked.pop_first())
            else {
                break;
            };
            permit.send(match news {
                Parked::Status(identity, status) => GossipEvent::Status {
                    from,
                    // In one process nobody lies about who they are.
                    identity,
                    status,
                },
                Parked::Left => GossipEvent::Left(from),
            });
        }
    }
}
