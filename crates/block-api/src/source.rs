// SPDX-License-Identifier: Apache-2.0
//! The seam to whoever gives blocks: orderers and peers alike.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use futures::Stream;
use tokio::sync::watch;

use crate::{Block, BlockNumber, BoxError, ChannelId, Endpoint, ParseBlockError, SignError};

/// Gives the blocks of channels from one of its endpoints.
#[async_trait]
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// Where blocks can be had, for now: a channel's configuration may change the list.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// Tells of changes: the number is another one whenever the endpoints, or the way to reach one
    /// of them, became others. `None` for a source of which they never do.
    fn endpoint_changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }

    /// Tells one way to reach an endpoint from another: the number is another one once the endpoint
    /// is reached otherwise than before. `None` when it is none of the endpoints.
    fn endpoint_version(&self, endpoint: &Endpoint) -> Option<u64> {
        self.endpoints().contains(endpoint).then_some(0)
    }

    /// Opens a stream on one endpoint. The answer says that the request was sent, not that it will
    /// be served: a refusal comes as a [`Delivery::Status`].
    ///
    /// # Errors
    ///
    /// When the request cannot be signed or the endpoint cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError>;
}

/// What comes from a source; dropping it ends the stream at the source. It ends without an item
/// when the source hung up without a status.
pub type BlockStream = Pin<Box<dyn Stream<Item = Result<Delivery, SourceError>> + Send>>;

/// One message of a source.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// A block, or header and metadata of one where headers were asked for. Nothing in it has been
    /// verified.
    Block(Block),
    /// How the request ended.
    Status(DeliverStatus),
}

/// What is asked of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// The channel.
    pub channel: ChannelId,
    /// The first block.
    pub start: Start,
    /// The last block.
    pub stop: Stop,
    /// Whole blocks or headers.
    pub content: Content,
    /// What to do at the tip.
    pub when_missing: WhenMissing,
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest block that the source has.
    Oldest,
    /// With the newest block.
    Newest,
    /// With this block.
    At(BlockNumber),
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After the block that is the newest when the request arrives.
    Newest,
    /// After this block.
    At(BlockNumber),
    /// Never.
    Never,
}

/// What of each block is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The whole block.
    Blocks,
    /// Header and metadata; config blocks come whole.
    Headers,
}

/// What a source does when the next block is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// It waits (BLOCK_UNTIL_READY).
    Wait,
    /// It ends the request with [`DeliverStatus::NotFound`] (FAIL_IF_NOT_READY).
    Fail,
}

/// The status that ends a request (`common.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliverStatus {
    /// 200: everything was sent.
    Success,
    /// 400: the request is malformed, or its time is off.
    BadRequest,
    /// 403: this identity may not read the channel.
    Forbidden,
    /// 404: no such channel or block here.
    NotFound,
    /// 413: the request is too large.
    TooLarge,
    /// 500: the source failed.
    InternalError,
    /// 501: the source does not do this.
    NotImplemented,
    /// 503: the source cannot serve at the moment; another one may.
    Unavailable,
    /// Any other number.
    Other(i32),
}

/// Why a source gave nothing, or nothing more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The endpoint is not one of the source.
    #[error("{endpoint} is no endpoint of this source")]
    UnknownEndpoint {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The request could not be signed.
    #[error("the request to {endpoint} was not signed: {source}")]
    Sign {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the signer said.
        source: SignError,
    },
    /// The endpoint could not be reached, or what answered there is not trusted.
    #[error("no connection to {endpoint}: {source}")]
    Connect {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the network or TLS said.
        source: BoxError,
    },
    /// Nothing came in time.
    #[error("{endpoint} sent nothing for {} ms ({phase})", after.as_millis())]
    TimedOut {
        /// The endpoint.
        endpoint: Endpoint,
        /// What was waited for.
        phase: Phase,
        /// How long.
        after: Duration,
    },
    /// The stream broke.
    #[error("the stream from {endpoint} broke: {source}")]
    Broken {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the transport said.
        source: BoxError,
    },
    /// The source sent a message that is neither a block nor a status.
    #[error("{endpoint} sent a message that does not parse: {source}")]
    Malformed {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: BoxError,
    },
    /// The source sent bytes that are no block.
    #[error("{endpoint} sent a block that does not parse: {source}")]
    MalformedBlock {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: ParseBlockError,
    },
    /// The source does not know how to serve such a request.
    #[error("{endpoint} cannot serve this request: {reason}")]
    Unsupported {
        /// The endpoint.
        endpoint: Endpoint,
        /// What it cannot do.
        reason: &'static str,
    },
}

/// What a time-out was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The connection, with TLS and HTTP/2.
    Connect,
    /// The answer to the request, or its first message.
    Initial,
    /// The next message.
    Idle,
}

impl StreamRequest {
    /// Every block from `start` on, for ever: what a puller asks (REQ-05).
    pub fn blocks_from(channel: ChannelId, start: Start) -> Self {
        Self {
            channel,
            start,
            stop: Stop::Never,
            content: Content::Blocks,
            when_missing: WhenMissing::Wait,
        }
    }

    /// Every header from `start` on, for ever (REQ-06).
    pub fn headers_from(channel: ChannelId, start: Start) -> Self {
        Self {
            content: Content::Headers,
            ..Self::blocks_from(channel, start)
        }
    }

    /// The blocks from `first` to `last`, both included, without waiting for one.
    pub fn range(channel: ChannelId, first: BlockNumber, last: BlockNumber) -> Self {
        Self {
            channel,
            start: Start::At(first),
            stop: Stop::At(last),
            content: Content::Blocks,
            when_missing: WhenMissing::Fail,
        }
    }
}

impl SourceError {
    /// Whether another attempt, here or at another endpoint, may go well.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Malformed { .. }
            | Self::MalformedBlock { .. }
            | Self::Unsupported { .. }
            | Self::UnknownEndpoint { .. } => true,
            // Every endpoint would be sent the same unsigned request (CFT-05, BFT-04).
            Self::Sign { .. } => false,
        }
    }
}

impl DeliverStatus {
    /// The status with this number.
    pub fn from_code(code: i32) -> Self {
        match code {
            200 => Self::Success,
            400 => Self::BadRequest,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            413 => Self::TooLarge,
            500 => Self::InternalError,
            501 => Self::NotImplemented,
            503 => Self::Unavailable,
            other => Self::Other(other),
        }
    }

    /// Its number.
    pub fn code(self) -> i32 {
        match self {
            Self::Success => 200,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::InternalError => 500,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for DeliverStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Success => "SUCCESS",
            Self::BadRequest => "BAD_REQUEST",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::TooLarge => "REQUEST_ENTITY_TOO_LARGE",
            Self::InternalError => "INTERNAL_SERVER_ERROR",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::Unavailable => "SERVICE_UNAVAILABLE",
            Self::Other(code) => return write!(f, "status {code}"),
        };
        write!(f, "{name} ({})", self.code())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "while connecting",
            Self::Initial => "before the first message",
            Self::Idle => "between two messages",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_whether_to_try_again() {
        let endpoint: Endpoint = "orderer:7050".parse().unwrap();
        let source = || BoxError::from("cause");
        let rows = [
            (
                SourceError::UnknownEndpoint {
                    endpoint: endpoint.clone(),
                },
                true,
            ),
            (
                SourceError::Sign {
                    endpoint: endpoint.clone(),
                    source: SignError::new("no key"),
                },
                false,
            ),
            (
                SourceError::Connect {
                    endpoint: endpoint.clone(),
                    source: source(),
                },
                true,
            ),
            (
                SourceError::TimedOut {
                    endpoint: endpoint.clone(),
                    phase: Phase::Idle,
                    after: Duration::from_secs(1),
                },
                true,
            ),
            (
                SourceError::Broken {
                    endpoint: endpoint.clone(),
                    source: source(),
                },
                true,
            ),
            (
                SourceError::Malformed {
                    endpoint: endpoint.clone(),
                    source: source(),
                },
                true,
            ),
            (
                SourceError::MalformedBlock {
                    endpoint: endpoint.clone(),
                    source: ParseBlockError::NoHeader,
                },
                true,
            ),
            (
                SourceError::Unsupported {
                    endpoint,
                    reason: "headers",
                },
                true,
            ),
        ];
        for (error, retryable) in rows {
            assert_eq!(error.is_retryable(), retryable, "{error}");
            assert!(error.to_string().contains("orderer:7050"), "{error}");
        }
    }

    #[test]
    fn statuses_keep_their_numbers() {
        for code in [0, 200, 400, 403, 404, 413, 500, 501, 503, 999] {
            assert_eq!(DeliverStatus::from_code(code).code(), code);
        }
        assert_eq!(
            DeliverStatus::Unavailable.to_string(),
            "SERVICE_UNAVAILABLE (503)"
        );
    }
}
