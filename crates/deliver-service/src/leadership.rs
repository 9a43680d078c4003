// SPDX-License-Identifier: Apache-2.0
//! Who of an organisation pulls a channel: the first of its nodes in an order that all of them find.

#[cfg(any(test, feature = "testing"))]
mod elector;
mod probe;
mod rank;
mod ranking;
mod task;

use std::sync::Arc;

use block_api::{ChannelId, HeaderHash, Kinship, NodeId, OwnOrganisation};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[cfg(any(test, feature = "testing"))]
pub use self::elector::{Elector, Place};
use self::{rank::Rank, ranking::Seen};
pub(crate) use self::{ranking::Settings, task::run};
use crate::peers::Candidate;

/// How this node stands among those of its organisation that may pull a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// What it does about it.
    pub role: Role,
    /// How many nodes come before it in the order; the first ones pull.
    pub rank: usize,
    /// How many nodes are in the order, this one among them.
    pub candidates: usize,
}

/// What a node does about its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It has begun a moment ago, and waits whether better ones appear.
    Waiting,
    /// It pulls.
    Puller,
    /// Others pull, and it would take over.
    Standby,
    /// Others pull but kept a block back, so that it pulls beside them for a while.
    Beside,
}

/// An election under way.
#[derive(Debug)]
pub(crate) struct Election {
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

/// What ranks the nodes of a channel.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) channel: ChannelId,
    pub(crate) genesis: HeaderHash,
    pub(crate) organisation: Arc<dyn OwnOrganisation>,
    pub(crate) node: NodeId,
    pub(crate) identity: Bytes,
}

impl Role {
    /// Whether the node has its own stream from the ordering service.
    pub fn pulls(self) -> bool {
        match self {
            Self::Puller | Self::Beside => true,
            Self::Waiting | Self::Standby => false,
        }
    }
}

impl Leadership {
    /// Before anything is known.
    pub(crate) const BEGINNING: Self = Self {
        role: Role::Waiting,
        rank: 0,
        candidates: 1,
    };
}

impl Candidates {
    /// The place of this node. It always has one: where it may not pull by the channel's
    /// configuration it comes after all that may.
    fn own(&self) -> Rank {
        let rank = self.rank(&self.identity, &self.node);
        match self.organisation.kinship(&self.identity) {
            Kinship::Puller => rank,
            Kinship::Member | Kinship::Stranger => rank.behind_all(),
        }
    }

    /// The others that have a place: the backend proved who they are, and they may pull for the
    /// organisation. What anybody else says counts for nothing.
    fn others(&self, known: Vec<Candidate>) -> Vec<Seen> {
        let seen = |known: Candidate| {
            let identity = known.identity?;
            let rank = (self.organisation.kinship(&identity) == Kinship::Puller)
                .then(|| self.rank(&identity, &known.node))?;
            Some(Seen {
                rank,
                pulling: known.pulling,
                height: known.height,
            })
        };
        known.into_iter().filter_map(seen).collect()
    }

    fn rank(&self, identity: &[u8], node: &NodeId) -> Rank {
        Rank::of(&self.channel, &self.genesis, identity, node)
    }
}
