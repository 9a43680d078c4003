// SPDX-License-Identifier: Apache-2.0
//! The seam to the network among nodes.

mod capabilities;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use self::capabilities::Capabilities;
use crate::{
    Block, BlockNumber, BlockReader, BlockSource, BoxError, ChannelId, HeaderHash, Height, NodeId,
    Readers, VerifiedBlock,
};

/// A network among nodes, over which the blocks of channels spread.
///
/// What a node proves itself with, a backend is given when it is made.
///
/// A backend brings bytes and never judges blocks: what it received goes out as a [`Candidate`],
/// and is passed on only after the answer [`Answer::Accept`]. What a backend cannot do, as a broker
/// cannot hold anything back, it says by its [`Capabilities`].
#[async_trait]
pub trait Gossip: Send + Sync + fmt::Debug {
    /// The id of this node.
    fn node_id(&self) -> NodeId;

    /// What callers may rely on. It is the same at all times.
    fn capabilities(&self) -> Capabilities;

    /// Takes part in a channel: announces, hears and serves its blocks from here on.
    ///
    /// # Errors
    ///
    /// [`GossipError::AlreadyJoined`], [`GossipError::Closed`], or what the backend says.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may leave the channel joined; [`GossipChannel::leave`] is then missing, so
    /// let it finish.
    async fn join(&self, request: JoinRequest) -> Result<Membership, GossipError>;

    /// Leaves every channel and closes every connection. Returns when all tasks have ended. Safe
    /// to repeat.
    async fn stop(&self);
}

/// What a backend needs to know of a channel.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// The channel.
    pub channel: ChannelId,
    /// The header hash of its genesis block: networks whose channels have one name stay apart.
    pub genesis: HeaderHash,
    /// What this node serves to others.
    pub reader: Arc<dyn BlockReader>,
    /// Who may have blocks of the channel.
    pub readers: Arc<dyn Readers>,
}

/// A channel that was joined.
#[derive(Debug)]
pub struct Membership {
    /// What one can do in it.
    pub channel: Arc<dyn GossipChannel>,
    /// What happens in it. The queue is bounded by the backend: while it is full, candidates are
    /// dropped as if answered [`Answer::Ignore`], and of the statuses of one node the newest stays.
    pub events: mpsc::Receiver<GossipEvent>,
}

/// The part of a node in the gossip of one channel.
#[async_trait]
pub trait GossipChannel: Send + Sync + fmt::Debug {
    /// Hands a block that is in the reader to the network. Success does not say that anybody
    /// received it; without any peer it is a success as well.
    ///
    /// # Errors
    ///
    /// [`GossipError::Closed`] after the channel was left, or what the backend says.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have published the block or not.
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError>;

    /// Fetches the body of an announcement that was accepted: the whole block in its relay form, with
    /// header and signatures as announced and the data that the header stands for
    /// ([`Block::has_claimed_data`]), from whichever node has it. Nodes pass an announcement on before
    /// they hold the body, so that nobody may have it for a moment more: they are asked again and
    /// again until one gives it. The caller limits the time by dropping the future, and judges what
    /// came.
    ///
    /// # Errors
    ///
    /// [`FetchError::Closed`] after the channel was left, [`FetchError::TooLarge`], or what the backend
    /// says.
    ///
    /// # Cancel safety
    ///
    /// Safe: what came until then is thrown away, and a later call begins anew.
    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError>;

    /// Tells the others, with the next status, whether this node has a Deliver stream open.
    fn set_pulling(&self, pulling: bool);

    /// What a node of the channel gives: ranges of blocks by [`BlockSource::open`] with
    /// [`Endpoint::of_node`](crate::Endpoint::of_node). `None` when it is not connected.
    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>>;

    /// Holds something against a node of the channel that the backend could not see itself. A backend
    /// that keeps no standing of nodes does nothing, and says so by writing that down.
    fn blame(&self, node: &NodeId, fault: Fault);

    /// Leaves the channel; its events end. Safe to repeat.
    async fn leave(&self);
}

/// Something that happened in a channel.
#[derive(Debug)]
pub enum GossipEvent {
    /// A block or an announcement came.
    Candidate(Candidate),
    /// A node told how it stands: at first when both sides have joined the channel and what is
    /// published from then on reaches it, and after every change, within about a second.
    Status {
        /// The node.
        from: NodeId,
        /// Its identity (the bytes of a `msp.SerializedIdentity`), where it proved to the backend that
        /// it holds it and that it may read the channel.
        identity: Option<Bytes>,
        /// What it says; nothing of it is proven but a tip whose signatures are verified.
        status: ChannelStatus,
    },
    /// A node is no longer connected, or nothing was heard of it for longer than the backend's
    /// limit on silence. Its next status says that it is back.
    Left(NodeId),
}

/// How a node stands in a channel.
#[derive(Debug, Clone)]
pub struct ChannelStatus {
    /// The oldest block that it gives.
    pub first: BlockNumber,
    /// Its height.
    pub height: Height,
    /// Header and signatures of its newest block.
    pub tip: Option<Block>,
    /// Whether it has a Deliver stream open.
    pub pulling: bool,
}

/// A block from the network that waits to be judged. Dropping it answers [`Answer::Ignore`].
#[derive(Debug)]
pub struct Candidate {
    block: Block,
    from: NodeId,
    answer: oneshot::Sender<Answer>,
}

/// What becomes of a candidate, and of its sender's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is verified: pass it on.
    Accept,
    /// Nothing is known against it (old, too far ahead, a second copy, not to be judged yet): do
    /// not pass it on.
    Ignore,
    /// It breaks a rule: do not pass it on, and hold it against its sender.
    Reject,
}

/// What a node did beside the topic, as whoever judges blocks found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It gave a block, or a range of them, that breaks a rule.
    Invalid,
    /// It promised blocks and did not give them in time.
    Stalled,
}

/// Why the network did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The channel was joined before and not left.
    #[error("channel {channel} is joined already; leave it first")]
    AlreadyJoined {
        /// The channel.
        channel: ChannelId,
    },
    /// The network was stopped, or the channel left.
    #[error("the gossip network is closed")]
    Closed,
    /// The backend failed.
    #[error("gossip on channel {channel} failed: {source}")]
    Backend {
        /// The channel.
        channel: ChannelId,
        /// What the backend said.
        source: BoxError,
    },
}

/// Why the body of an announced block does not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The network was stopped, or the channel left.
    #[error("the gossip network is closed")]
    Closed,
    /// Every node that has it says that it is longer than this one takes.
    #[error("block {number} has {size} bytes, and at most {limit} are taken from a node")]
    TooLarge {
        /// The block.
        number: BlockNumber,
        /// How long it is said to be.
        size: u64,
        /// What is taken.
        limit: u64,
    },
    /// The backend failed.
    #[error("the body of block {number} was not fetched: {source}")]
    Backend {
        /// The block.
        number: BlockNumber,
        /// What the backend said.
        source: BoxError,
    },
}

impl Candidate {
    /// A candidate and where its answer will come. A receiver whose sender is gone means
    /// [`Answer::Ignore`].
    pub fn new(block: Block, from: NodeId) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (
            Self {
                block,
                from,
                answer,
            },
            answered,
        )
    }

    /// The block; without data it is an announcement, and [`GossipChannel::fetch`] brings the body.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Who sent it.
    pub fn from(&self) -> &NodeId {
        &self.from
    }

    /// Says what becomes of it, and gives the block back.
    pub fn answer(self, answer: Answer) -> Block {
        // Nobody waits any more when the network was stopped meanwhile.
        let _ = self.answer.send(answer);
        self.block
    }
}

impl GossipError {
    /// Whether the same call may go well later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Backend { .. } => true,
            Self::AlreadyJoined { .. } | Self::Closed => false,
        }
    }
}
