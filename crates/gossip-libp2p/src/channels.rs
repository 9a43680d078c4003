// SPDX-License-Identifier: Apache-2.0
//! A channel as the event loop sees it: who is in it, what is told of it, and the queue of its
//! events.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use block_api::{
    Block, BlockNumber, Candidate, ChainInfo, ChannelStatus, GossipEvent, HeaderHash, Height,
    JoinRequest,
};
use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};
use tokio_util::sync::CancellationToken;

use crate::{bodies::Holders, identity::node_id, topic::TopicId, wire::StatusMessage};

/// The longest status on the wire. A tip whose signatures need more is left out of it.
pub(crate) const MAX_STATUS: usize = 256 * 1024;

/// What a channel's handle shares with the event loop.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) topic: TopicId,
    /// Tells this joining apart from an earlier one of the same channel.
    pub(crate) generation: u64,
    /// The connected nodes that take part.
    pub(crate) members: watch::Receiver<BTreeSet<PeerId>>,
    pub(crate) holders: Holders,
    pub(crate) pulling: Arc<AtomicBool>,
    /// Ends when the channel is left or the network stops.
    pub(crate) left: CancellationToken,
}

/// A channel that was joined.
pub(crate) struct Channel {
    topic: TopicId,
    pub(crate) generation: u64,
    pub(crate) request: JoinRequest,
    events: mpsc::Sender<GossipEvent>,
    /// What could not be queued: per node the newest only, so that it is bounded by their number.
    waiting: BTreeMap<PeerId, Waiting>,
    members: watch::Sender<BTreeSet<PeerId>>,
    /// Who has what, for those who fetch.
    pub(crate) holders: Holders,
    pulling: Arc<AtomicBool>,
    left: CancellationToken,
    /// Header and signatures of a recent block, as a rule of the newest one.
    tip: Option<Block>,
    told: Option<Told>,
    /// The status as it is told.
    pub(crate) status: Option<Bytes>,
    /// Whether a task reads the newest block to tell of it.
    pub(crate) reading: bool,
    /// Whether room in the queue is being waited for.
    pub(crate) awaits_room: bool,
}

/// What changes a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    first: BlockNumber,
    height: Height,
    tip_hash: Option<HeaderHash>,
    pulling: bool,
}

/// What a look at the chain calls for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Nothing changed.
    Same,
    /// There is a new status.
    New,
    /// There is one once this block was read.
    Read(BlockNumber, Told),
}

/// Events of one node that wait for room.
#[derive(Debug, Default)]
struct Waiting {
    left: bool,
    status: Option<Heard>,
}

/// A status, and who it is from.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The identity that the node proved.
    pub(crate) identity: Option<Bytes>,
    pub(crate) status: ChannelStatus,
}

impl Channel {
    /// A channel, what its handle shares with it, and its events.
    pub(crate) fn new(
        topic: TopicId,
        generation: u64,
        request: JoinRequest,
        left: CancellationToken,
        queue: usize,
    ) -> (Self, Shared, mpsc::Receiver<GossipEvent>) {
        let (events, receiver) = mpsc::channel(queue);
        let (members, members_seen) = watch::channel(BTreeSet::new());
        let holders = Holders::default();
        let pulling = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            topic,
            generation,
            members: members_seen,
            holders: holders.clone(),
            pulling: pulling.clone(),
            left: left.clone(),
        };
        let channel = Self {
            topic,
            generation,
            request,
            events,
            waiting: BTreeMap::new(),
            members,
            holders,
            pulling,
            left,
            tip: None,
            told: None,
            status: None,
            reading: false,
            awaits_room: false,
        };
        (channel, shared, receiver)
    }

    /// A node takes part from here on.
    pub(crate) fn add_member(&self, peer: PeerId) {
        self.members
            .send_if_modified(|members| members.insert(peer));
    }

    /// The connected nodes that take part.
    pub(crate) fn members(&self) -> watch::Ref<'_, BTreeSet<PeerId>> {
        self.members.borrow()
    }

    /// A node takes part no longer.
    pub(crate) fn remove_member(&mut self, peer: PeerId) {
        if !self
            .members
            .send_if_modified(|members| members.remove(&peer))
        {
            return;
        }
        self.holders.left(&peer);
        self.tell_left(peer);
    }

    /// Nothing is heard of a node any more, or it takes part no longer.
    pub(crate) fn tell_left(&mut self, peer: PeerId) {
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            // What it told before is of no use any more.
            *waiting = Waiting {
                left: true,
                status: None,
            };
        } else if let Err(TrySendError::Full(_)) =
            self.events.try_send(GossipEvent::Left(node_id(&peer)))
        {
            self.waiting.insert(
                peer,
                Waiting {
                    left: true,
                    status: None,
                },
            );
        }
    }

    /// Queues the status of a node.
    pub(crate) fn tell(&mut self, peer: PeerId, heard: Heard) {
        self.holders.is_at(peer, heard.status.height);
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            waiting.status = Some(heard);
            return;
        }
        let event = heard.from(peer);
        if let Err(TrySendError::Full(GossipEvent::Status {
            identity, status, ..
        })) = self.events.try_send(event)
        {
            self.waiting.insert(
                peer,
                Waiting {
                    left: false,
                    status: Some(Heard { identity, status }),
                },
            );
        }
    }

    /// Queues a candidate; `false` when there is no room.
    pub(crate) fn offer(&self, candidate: Candidate) -> bool {
        self.events
            .try_send(GossipEvent::Candidate(candidate))
            .is_ok()
    }

    /// The queue, to wait for room in it.
    pub(crate) fn events(&self) -> mpsc::Sender<GossipEvent> {
        self.events.clone()
    }

    /// Takes one event that waits.
    pub(crate) fn next_waiting(&mut self) -> Option<GossipEvent> {
        let mut entry = self.waiting.first_entry()?;
        let peer = *entry.key();
        if std::mem::take(&mut entry.get_mut().left) {
            if entry.get().status.is_none() {
                entry.remove();
            }
            return Some(GossipEvent::Left(node_id(&peer)));
        }
        let heard = entry.remove().status?;
        Some(heard.from(peer))
    }

    /// Whether events wait for room.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets what waits: nobody reads the events any more.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Keeps what proves a block that was published, as it is as a rule the next one to tell of.
    pub(crate) fn published(&mut self, attestation: Block) {
        if self
            .tip
            .as_ref()
            .is_none_or(|tip| tip.number() < attestation.number())
        {
            self.tip = Some(attestation);
        }
    }

    /// Looks at the chain.
    pub(crate) fn look(&mut self) -> Outlook {
        let ChainInfo {
            first,
            height,
            tip_hash,
        } = self.request.reader.info();
        let pulling = self.pulling.load(Ordering::Relaxed);
        let now = Told {
            first,
            height,
            tip_hash,
            pulling,
        };
        if self.told == Some(now) {
            return Outlook::Same;
        }
        let known = self.tip.as_ref().map(Block::header_hash);
        match height.tip() {
            // The hash of the tip is known, and the block is not kept.
            Some(tip) if tip < first => self.set_status(now, None),
            Some(tip) if tip_hash != known => {
                if self.reading {
                    return Outlook::Same;
                }
                self.reading = true;
                return Outlook::Read(tip, now);
            }
            Some(_) => self.set_status(now, self.tip.clone()),
            None => self.set_status(now, None),
        }
        Outlook::New
    }

    /// The newest block was read for a status, or could not be.
    pub(crate) fn read(&mut self, seen: Told, tip: Option<Block>) {
        self.reading = false;
        if let Some(tip) = &tip {
            self.published(tip.clone());
        }
        self.set_status(seen, tip);
    }

    fn set_status(&mut self, told: Told, tip: Option<Block>) {
        let Told {
            first,
            height,
            pulling,
            ..
        } = told;
        let mut message = StatusMessage {
            topic: self.topic,
            status: ChannelStatus {
                first,
                height,
                tip,
                pulling,
            },
        };
        let mut encoded = message.encode();
        if encoded.len() > MAX_STATUS {
            message.status.tip = None;
            encoded = message.encode();
        }
        self.told = Some(told);
        self.status = Some(encoded.into());
    }
}

impl Heard {
    fn from(self, peer: PeerId) -> GossipEvent {
        GossipEvent::Status {
            from: node_id(&peer),
            identity: self.identity,
            status: self.status,
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.left.cancel();
    }
}

#[cfg(test)]
mod tests {
    use block_api::{
        BlockStore,
        testing::{MemoryStore, OpenReaders, TestChain},
    };

    use super::*;
    use crate::Keypair;

    struct Fixture {
        channel: Channel,
        shared: Shared,
        events: mpsc::Receiver<GossipEvent>,
        store: Arc<MemoryStore>,
        chain: TestChain,
    }

    async fn fixture(queue: usize) -> Fixture {
        let (chain, blocks) = TestChain::of_blocks("ch", 1, 0);
        let store =
            Arc::new(MemoryStore::with(blocks.iter().map(TestChain::verified).collect()).await);
        let request = JoinRequest {
            channel: chain.channel(),
            genesis: blocks[0].header_hash(),
            reader: store.clone(),
            readers: Arc::new(OpenReaders),
        };
        let topic = TopicId::of_channel(&request.channel, &request.genesis);
        let (channel, shared, events) =
            Channel::new(topic, 1, request, CancellationToken::new(), queue);
        Fixture {
            channel,
            shared,
            events,
            store,
            chain,
        }
    }

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed([n; 32]).peer_id()
    }

    fn status(height: u64) -> Heard {
        let status = ChannelStatus {
            first: BlockNumber::GENESIS,
            height: Height::new(height),
            tip: None,
            pulling: false,
        };
        Heard {
            identity: None,
            status,
        }
    }

    fn told(channel: &Channel) -> ChannelStatus {
        StatusMessage::parse(channel.status.as_ref().unwrap())
            .unwrap()
            .status
    }

    #[tokio::test]
    async fn while_the_queue_is_full_the_newest_status_of_each_node_stays() {
        let Fixture {
            mut channel,
            mut events,
            ..
        } = fixture(1).await;
        channel.tell(peer(1), status(1));
        for height in 2..100 {
            channel.tell(peer(1), status(height));
            channel.tell(peer(2), status(height));
        }
        assert_eq!(channel.waiting.len(), 2);
        assert!(
            matches!(events.try_recv(), Ok(GossipEvent::Status { status, .. }) if status.height.get() == 1)
        );
        for _ in 0..2 {
            assert!(
                matches!(channel.next_waiting(), Some(GossipEvent::Status { status, .. }) if status.height.get() == 99)
            );
        }
        assert!(!channel.has_waiting() && channel.next_waiting().is_none());
    }

    #[tokio::test]
    async fn leaving_is_never_lost_and_ends_what_was_told_before() {
        let Fixture {
            mut channel,
            shared,
            events: _unread,
            ..
        } = fixture(1).await;
        channel.add_member(peer(1));
        assert!(shared.members.borrow().contains(&peer(1)));
        channel.tell(peer(1), status(1));
        channel.tell(peer(1), status(2));
        channel.remove_member(peer(1));
        channel.remove_member(peer(1));
        assert!(shared.members.borrow().is_empty());
        // It came back before anybody read that it had left.
        channel.add_member(peer(1));
        channel.tell(peer(1), status(3));
        assert!(matches!(channel.next_waiting(), Some(GossipEvent::Left(_))));
        assert!(
            matches!(channel.next_waiting(), Some(GossipEvent::Status { status, .. }) if status.height.get() == 3)
        );
        assert!(!channel.has_waiting());
        drop(channel);
        assert!(shared.left.is_cancelled());
    }

    #[tokio::test]
    async fn nothing_waits_for_a_receiver_that_is_gone() {
        let Fixture {
            mut channel,
            events,
            ..
        } = fixture(1).await;
        drop(events);
        channel.add_member(peer(1));
        channel.tell(peer(1), status(1));
        channel.remove_member(peer(1));
        assert!(!channel.has_waiting());
    }

    /// Covers: GCH-02, GCH-05
    #[tokio::test]
    async fn a_status_follows_the_chain() {
        let Fixture {
            mut channel,
            shared,
            store,
            mut chain,
            ..
        } = fixture(1).await;
        let Outlook::Read(number, seen) = channel.look() else {
            panic!("the tip is not known yet")
        };
        assert_eq!(number, BlockNumber::GENESIS);
        assert_eq!(channel.look(), Outlook::Same, "one task reads at a time");
        channel.read(seen, None);
        assert_eq!(
            (told(&channel).height, told(&channel).tip.is_some()),
            (Height::new(1), false)
        );
        assert_eq!(channel.look(), Outlook::Same);

        let block = chain.data(100);
        store
            .append(vec![TestChain::verified(&block)])
            .await
            .unwrap();
        channel.published(block.without_data().with_signatures_slot_only());
        assert_eq!(
            channel.look(),
            Outlook::New,
            "what was published need not be read"
        );
        let status = told(&channel);
        assert_eq!((status.height, status.pulling), (Height::new(2), false));
        assert_eq!(status.tip.unwrap().header_hash(), block.header_hash());

        shared.pulling.store(true, Ordering::Relaxed);
        assert_eq!(channel.look(), Outlook::New);
        assert!(told(&channel).pulling);
    }

    #[tokio::test]
    async fn a_tip_with_too_many_signatures_is_left_out() {
        let Fixture { mut channel, .. } = fixture(1).await;
        let Outlook::Read(_, seen) = channel.look() else {
            panic!("the tip is not known yet")
        };
        let tip =
            Block::assemble::<&[u8], _>(BlockNumber::GENESIS, &[], &[], &[vec![7; MAX_STATUS]]);
        channel.read(seen, Some(tip.without_data()));
        assert_eq!(
            (told(&channel).height, told(&channel).tip.is_none()),
            (Height::new(1), true)
        );
    }
}
