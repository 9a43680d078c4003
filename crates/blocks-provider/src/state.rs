// SPDX-License-Identifier: Apache-2.0
//! What the pull loop is doing, for health, status and logs.

use std::time::Duration;

use block_api::{BlockNumber, DeliverStatus, Endpoint, HeaderHash, SourceError};

use crate::HandleError;

/// What the pull loop is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullState {
    /// It has not begun, or has ended.
    Idle,
    /// It opens a stream.
    Connecting(Endpoint),
    /// A stream is open. It may be silent: whether it gives blocks is told by the height.
    Streaming(Endpoint),
    /// Nobody gave anything; it pauses.
    BackingOff {
        /// For so long.
        pause: Duration,
        /// Why the last attempt failed; `None` when there was no endpoint to try.
        last_failure: Option<String>,
    },
}

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source sent a status. A stream without an end has no good one, SUCCESS included
    /// (CFT-30, CFT-31).
    #[error("{endpoint} ended the stream with {status}")]
    Status {
        /// The endpoint.
        endpoint: Endpoint,
        /// The status.
        status: DeliverStatus,
    },
    /// The source hung up without a status.
    #[error("{endpoint} hung up without a status")]
    HungUp {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The block is not the next one (VER-16).
    #[error("{endpoint} sent block {actual} where block {expected} was due")]
    WrongNumber {
        /// The endpoint.
        endpoint: Endpoint,
        /// The number that was due.
        expected: BlockNumber,
        /// The number that came.
        actual: BlockNumber,
    },
    /// The block names another predecessor (VER-18).
    #[error(
        "{endpoint} sent block {number}, whose previous hash is not the header hash {expected} of the block before"
    )]
    WrongPreviousHash {
        /// The endpoint.
        endpoint: Endpoint,
        /// The block.
        number: BlockNumber,
        /// The header hash of the block before.
        expected: HeaderHash,
    },
    /// The handler did not take the block.
    #[error("a block from {endpoint}: {source}")]
    Handler {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the handler said.
        source: HandleError,
    },
    /// The source was told to be changed.
    #[error("{endpoint} was given up on request")]
    Changed {
        /// The endpoint.
        endpoint: Endpoint,
    },
}

impl Failure {
    /// Whether another endpoint may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Handler { source, .. } => source.is_retryable(),
            Self::Status { .. }
            | Self::HungUp { .. }
            | Self::WrongNumber { .. }
            | Self::WrongPreviousHash { .. }
            | Self::Changed { .. } => true,
        }
    }
}
