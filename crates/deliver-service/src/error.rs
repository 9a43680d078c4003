// SPDX-License-Identifier: Apache-2.0
//! Why a channel was not joined, or its pull loop not started or stopped.

use block_api::{ChannelId, GossipError, ReadError, Rejection, VerifyError};

/// A channel was not joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It was joined before and not left.
    #[error("channel {channel} is joined already")]
    AlreadyJoined {
        /// The channel.
        channel: ChannelId,
    },
    /// The service was stopped.
    #[error("channel {channel} was not joined: the delivery service is stopping")]
    Stopping {
        /// The channel.
        channel: ChannelId,
    },
    /// The gossip network refused.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// A stored config block could not be read.
    #[error("the configuration of channel {channel} cannot be read from its store: {source}")]
    Read {
        /// The channel.
        channel: ChannelId,
        /// What the store said.
        source: ReadError,
    },
    /// A stored config block is no block.
    #[error("the configuration of channel {channel} cannot be read from its store: {source}")]
    Parse {
        /// The channel.
        channel: ChannelId,
        /// What is wrong with it.
        source: block_api::ParseBlockError,
    },
    /// A stored config block is not accepted by the verifier.
    #[error("the store of channel {channel} does not belong to this genesis block: {source}")]
    Verify {
        /// The channel.
        channel: ChannelId,
        /// What the verifier said.
        source: VerifyError,
    },
    /// The configuration of a stored config block could not be taken into force.
    #[error("the configuration of channel {channel} cannot be restored: {source}")]
    Config {
        /// The channel.
        channel: ChannelId,
        /// What the verifier said.
        source: Rejection,
    },
}

/// The pull loop of a channel was not started (semantics §1.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It runs (SVC-04).
    #[error("delivery for channel {channel} already exists: stop it before starting it again")]
    AlreadyRunning {
        /// The channel.
        channel: ChannelId,
    },
    /// The service was stopped (SVC-05).
    #[error("delivery for channel {channel} was not started: the delivery service is stopping")]
    Stopping {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel was not joined.
    #[error("delivery for channel {channel} was not started: join the channel first")]
    NotJoined {
        /// The channel.
        channel: ChannelId,
    },
}

/// The pull loop of a channel was not stopped (semantics §1.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// There is none (SVC-09).
    #[error("there is no delivery for channel {channel} to stop")]
    NotRunning {
        /// The channel.
        channel: ChannelId,
    },
    /// The service was stopped, and this with it (SVC-08).
    #[error("delivery for channel {channel} is already stopped, with the whole service")]
    Stopped {
        /// The channel.
        channel: ChannelId,
    },
}
