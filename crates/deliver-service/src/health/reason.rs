// SPDX-License-Identifier: Apache-2.0
//! Why a channel is stuck, and what an operator can do about it.

use std::fmt;

use block_api::BlockNumber;

use crate::Task;

/// Why a channel does not go on. Its text says what is wrong; [`remedy`](Self::remedy) what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StuckReason {
    /// The disk of the block store is full. The channel goes on by itself when there is room.
    DiskFull,
    /// The block store failed; it is tried again.
    StoreFailed,
    /// The block store has not returned from an append for a long time.
    StoreHangs,
    /// The block store takes no more blocks until it is opened anew.
    StoreUnusable,
    /// A stored configuration cannot be taken into force.
    ConfigNotApplied,
    /// A task of the channel dies again and again.
    TaskDies {
        /// The task.
        task: Task,
    },
    /// The certificate of this node's identity has expired, and orderers refuse it. The delivery
    /// service knows no certificates: whoever does puts this in the place of
    /// [`IdentityRefused`](Self::IdentityRefused).
    IdentityExpired,
    /// Orderers refuse the identity of this node (403).
    IdentityRefused,
    /// Orderers refuse the request (400). The client forms it as they want it, so that what is left
    /// is its time, which may be off by 15 minutes at most; or that something between this node and
    /// the orderer ends TLS, so that the request names another client certificate.
    ClockSkew,
    /// The signer signs nothing.
    NotSigned,
    /// Orderers do not know the channel (404).
    UnknownChannel,
    /// Orderers say that the channel is not there (404), of which this node has blocks: they join it
    /// still, or have fewer blocks than this node.
    OrdererOnboarding,
    /// Orderers have no leader, or no quorum (503).
    NoQuorum,
    /// Orderers send what breaks the channel's rules, or is no block.
    InvalidBlocks,
    /// Blocks of orderers are not taken over, for no fault of theirs: what is stored is another chain.
    NotTaken,
    /// Orderers can be reached, and their streams fail.
    OrderersFail,
    /// No orderer can be reached.
    NoOrdererReachable,
    /// No orderer is known.
    NoOrderer,
    /// Orderers signed two blocks of one number. The channel goes on with the one that is stored, but
    /// which of them holds is not for a node to say.
    Equivocation,
    /// A block is proven to be there, and nobody gives it.
    Withheld {
        /// The block.
        number: BlockNumber,
    },
    /// This node does not pull, and no node that it is connected with says that it does.
    NobodyPulls,
    /// This node does not pull, and is connected with nobody.
    NoPeer,
}

impl StuckReason {
    /// Every reason once; what those carry that carry something has no meaning here.
    pub const ALL: [Self; 22] = [
        Self::DiskFull,
        Self::StoreFailed,
        Self::StoreHangs,
        Self::StoreUnusable,
        Self::ConfigNotApplied,
        Self::TaskDies { task: Task::Writer },
        Self::IdentityExpired,
        Self::IdentityRefused,
        Self::ClockSkew,
        Self::NotSigned,
        Self::UnknownChannel,
        Self::OrdererOnboarding,
        Self::NoQuorum,
        Self::InvalidBlocks,
        Self::NotTaken,
        Self::OrderersFail,
        Self::NoOrdererReachable,
        Self::NoOrderer,
        Self::Equivocation,
        Self::Withheld {
            number: BlockNumber::GENESIS,
        },
        Self::NobodyPulls,
        Self::NoPeer,
    ];

    /// A short name, the same in every message and metric.
    pub fn as_str(&self) -> &'static str {
        self.texts().0
    }

    /// What an operator can do about it.
    pub fn remedy(&self) -> &'static str {
        self.texts().2
    }

    /// The place among several: the lowest is told. What names a mistake goes before what may have
    /// any cause.
    pub(super) fn rank(&self) -> usize {
        let order = [
            Self::IdentityExpired,
            Self::IdentityRefused,
            Self::ClockSkew,
            Self::NotSigned,
            Self::NotTaken,
            Self::InvalidBlocks,
            Self::UnknownChannel,
            Self::OrdererOnboarding,
            Self::NoQuorum,
            Self::OrderersFail,
            Self::NoOrdererReachable,
        ];
        let place = order.iter().position(|reason| reason == self);
        place.unwrap_or(order.len())
    }

    /// Name, what is wrong, and what to do.
    fn texts(&self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::DiskFull => (
                "disk-full",
                "the disk of the block store is full",
                "make room; the channel goes on by itself",
            ),
            Self::StoreFailed => (
                "store-failed",
                "the block store fails",
                "check the disk and the rights on the store's folder; it is tried again",
            ),
            Self::StoreHangs => (
                "store-hangs",
                "the block store does not return from an append",
                "check the disk and the file system; the node cannot be stopped in order before it returns",
            ),
            Self::StoreUnusable => (
                "store-unusable",
                "the block store takes no more blocks",
                "check the disk, then start the node anew",
            ),
            Self::ConfigNotApplied => (
                "config-not-applied",
                "a stored configuration cannot be taken into force",
                "compare the configuration with other nodes; a newer release may know its capabilities",
            ),
            Self::TaskDies { task } => (
                "task-dies",
                match task {
                    Task::Writer => "the task that stores blocks dies again and again",
                    Task::Publisher => "the task that publishes blocks dies again and again",
                    Task::Topic => "the task that listens to other nodes dies again and again",
                    Task::CatchUp => {
                        "the task that fetches blocks from other nodes dies again and again"
                    }
                    Task::Evidence => {
                        "the task that examines blocks signed twice dies again and again"
                    }
                    Task::Election => "the task that decides who pulls dies again and again",
                    Task::Pull => "the task that pulls from the orderers dies again and again",
                },
                "this is a defect: report it with the log",
            ),
            Self::IdentityExpired => (
                "identity-expired",
                "the certificate of this node's identity has expired, and orderers refuse it",
                "enrol the identity anew, then start the node anew",
            ),
            Self::IdentityRefused => (
                "identity-refused",
                "orderers refuse this node's identity",
                "check that its organisation is in the channel and that it satisfies /Channel/Readers",
            ),
            Self::ClockSkew => (
                "clock-skew",
                "orderers refuse the request, as they do when a clock is off by more than 15 minutes",
                "set this node's clock; if it is right, the orderer's, and look for a proxy that ends TLS",
            ),
            Self::NotSigned => (
                "not-signed",
                "requests to orderers are not signed",
                "check the signer and its key",
            ),
            Self::UnknownChannel => (
                "unknown-channel",
                "orderers do not know the channel",
                "check the channel's id and its orderers; one that has just joined knows it later",
            ),
            Self::OrdererOnboarding => (
                "orderer-onboarding",
                "orderers do not have the channel, or not as many of its blocks as this node",
                "wait until they have joined it, or name other orderers",
            ),
            Self::NoQuorum => (
                "no-quorum",
                "orderers have no leader or no quorum",
                "bring enough of the ordering service's nodes back",
            ),
            Self::InvalidBlocks => (
                "invalid-blocks",
                "orderers send what breaks the channel's rules",
                "compare the chain with other nodes; the log names the rule",
            ),
            Self::NotTaken => (
                "not-taken",
                "blocks of the orderers do not fit the chain that is stored",
                "compare the chain with other nodes; the log names the block",
            ),
            Self::OrderersFail => (
                "orderers-fail",
                "orderers are reached, and their streams fail",
                "look at the orderers' logs",
            ),
            Self::NoOrdererReachable => (
                "no-orderer-reachable",
                "no orderer can be reached",
                "check that the orderers run, their addresses, and the TLS roots and certificates",
            ),
            Self::NoOrderer => (
                "no-orderer",
                "no orderer is known",
                "name some under [[channel.orderers]]",
            ),
            Self::Equivocation => (
                "equivocation",
                "orderers signed two blocks of one number",
                "compare the chain with other nodes; the log has both headers, and a restart ends the alarm",
            ),
            Self::Withheld { .. } => (
                "withheld",
                "blocks are proven to be there, and nobody gives them",
                "look at the orderers and at the nodes that pull",
            ),
            Self::NobodyPulls => (
                "nobody-pulls",
                "this node does not pull, and no connected node does that has proven its identity",
                "let a node of the organisation pull, and look at the health of those that should",
            ),
            Self::NoPeer => (
                "no-peer",
                "this node does not pull, and no node is connected",
                "check gossip.peers and gossip.admission here and there, and that both nodes may read the channel",
            ),
        }
    }
}

impl fmt::Display for StuckReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.texts().1)
    }
}
