// SPDX-License-Identifier: Apache-2.0
//! The answers to a call, and the stream of blocks made of them.

use std::{
    future::{self, Future},
    mem,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use block_api::{
    Block, BlockStream, DeliverStatus, Delivery, Endpoint, Phase, SourceError, Start,
    StreamRequest, WhenMissing,
};
use bytes::Bytes;
use futures::stream;
use protos::{
    common::Envelope,
    deliver::{DeliverMessage, RawDeliverResponse},
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{Response, Status, Streaming};

use crate::{config::Config, connection::Connection};

/// So many bytes of a message may be something else than its block, and beside that one for each
/// [`EIGHTH`] bytes of the block, before the block is copied out.
const PADDING: usize = 4 << 10;
const EIGHTH: usize = 8;

/// The answers of a streaming call. An orderer sends the head of its response with the first
/// answer, which may be hours away, so the head is waited for together with it.
pub(crate) enum Answers<T> {
    Head(Pin<Box<dyn Future<Output = Head<T>> + Send>>),
    Failed(Status),
    Body(Box<Streaming<T>>),
    Over,
}

type Head<T> = Result<Response<Streaming<T>>, Status>;

/// How long to wait for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) first: Limit,
    pub(crate) following: Limit,
}

/// A limit, and what to say when it is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) phase: Phase,
    pub(crate) after: Option<Duration>,
}

/// A message whose oneof is not set, or is set to what this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the message is of an unknown type: it has neither a block nor a status")]
struct UnknownType;

struct Receiving {
    endpoint: Endpoint,
    connection: Connection,
    answers: Answers<RawDeliverResponse>,
    limit: Limit,
    following: Limit,
}

impl<T> Answers<T> {
    /// Makes a call: on return it is on its way.
    pub(crate) async fn call(head: impl Future<Output = Head<T>> + Send + 'static) -> Self {
        let mut head = Box::pin(head);
        // Until the first poll nothing is sent.
        match future::poll_fn(|cx| Poll::Ready(head.as_mut().poll(cx))).await {
            Poll::Pending => Self::Head(head),
            Poll::Ready(Ok(response)) => Self::Body(Box::new(response.into_inner())),
            Poll::Ready(Err(status)) => Self::Failed(status),
        }
    }

    /// The next answer; `None` when the call ended well.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Status> {
        if let Self::Head(head) = self {
            *self = match head.await {
                Ok(response) => Self::Body(Box::new(response.into_inner())),
                Err(status) => Self::Failed(status),
            };
        }
        if let Self::Body(body) = self {
            return body.message().await;
        }
        match mem::replace(self, Self::Over) {
            Self::Failed(status) => Err(status),
            Self::Head(_) | Self::Body(_) | Self::Over => Ok(None),
        }
    }
}

impl Limits {
    /// The limits of a request. What an orderer has at hand must come within the initial limit;
    /// what may have to be ordered first is held to the idle limit.
    pub(crate) fn of(request: &StreamRequest, config: &Config) -> Self {
        let never_waits = request.when_missing == WhenMissing::Fail;
        let answered_at_once = never_waits || !matches!(request.start, Start::At(_));
        let idle = match (config.idle_timeout, never_waits) {
            (None, true) => config.initial_timeout,
            (idle, _) => idle,
        };
        let first = if answered_at_once {
            config.initial_timeout
        } else {
            idle
        };
        Self {
            first: Limit {
                phase: Phase::Initial,
                after: first,
            },
            following: Limit {
                phase: Phase::Idle,
                after: idle,
            },
        }
    }
}

impl Limit {
    /// Waits as long as the limit allows.
    pub(crate) async fn hold<T>(
        &self,
        endpoint: &Endpoint,
        what: impl Future<Output = T>,
    ) -> Result<T, SourceError> {
        let Some(after) = self.after else {
            return Ok(what.await);
        };
        timeout(after, what)
            .await
            .map_err(|_| SourceError::TimedOut {
                endpoint: endpoint.clone(),
                phase: self.phase,
                after,
            })
    }
}

/// Sends a request on its connection, and makes a stream of what comes back.
pub(crate) async fn deliver(
    endpoint: Endpoint,
    connection: Connection,
    request: Envelope,
    limits: Limits,
) -> BlockStream {
    let mut client = connection.client();
    // The sending side stays open: an orderer takes its end for the end of the stream.
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let answers = Answers::call(async move { client.deliver(requests).await }).await;
    let receiving = Receiving {
        endpoint,
        connection,
        answers,
        limit: limits.first,
        following: limits.following,
    };
    Box::pin(stream::unfold(
        Some(receiving),
        |receiving: Option<Receiving>| async move {
            let mut receiving = receiving?;
            let delivery = receiving.next().await?;
            // Nothing comes after a status or an error; the connection is closed with it.
            let goes_on = matches!(delivery, Ok(Delivery::Block(_)));
            Some((delivery, goes_on.then_some(receiving)))
        },
    ))
}

impl Receiving {
    async fn next(&mut self) -> Option<Result<Delivery, SourceError>> {
        let received = self.limit.hold(&self.endpoint, self.answers.next()).await;
        self.limit = self.following;
        match received {
            Err(expired) => Some(Err(expired)),
            Ok(Ok(None)) => None,
            Ok(Ok(Some(message))) => Some(self.read(message)),
            Ok(Err(status)) => Some(Err(SourceError::Broken {
                endpoint: self.endpoint.clone(),
                source: self.connection.explain(&status).into(),
            })),
        }
    }

    fn read(&self, message: RawDeliverResponse) -> Result<Delivery, SourceError> {
        let endpoint = || self.endpoint.clone();
        let length = message.encoded_len();
        match message.parse() {
            Ok(DeliverMessage::Block(raw)) => Block::parse(on_its_own(raw, length))
                .map(Delivery::Block)
                .map_err(|source| SourceError::MalformedBlock {
                    endpoint: endpoint(),
                    source,
                }),
            Ok(DeliverMessage::Status(code)) => {
                Ok(Delivery::Status(DeliverStatus::from_code(code)))
            }
            Ok(DeliverMessage::Unset) => Err(SourceError::Malformed {
                endpoint: endpoint(),
                source: UnknownType.into(),
            }),
            Err(source) => Err(SourceError::Malformed {
                endpoint: endpoint(),
                source: source.into(),
            }),
        }
    }
}

/// A block without the message of this length that it came in, if that is much longer: a slice keeps
/// all of it, and whoever holds blocks counts only their own bytes.
fn on_its_own(block: Bytes, message: usize) -> Bytes {
    let padding = message.saturating_sub(block.len());
    match padding > PADDING + block.len() / EIGHTH {
        true => Bytes::copy_from_slice(&block),
        false => block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_does_not_keep_a_message_that_is_mostly_padding() {
        for (block, padding, is_copied) in [
            (1000, 2, false),
            (1000, PADDING, false),
            (1000, PADDING + 126, true),
            (1000, 1 << 20, true),
            (80_000, PADDING + 10_000, false),
            (80_000, PADDING + 10_001, true),
        ] {
            let message = Bytes::from(vec![7; block + padding]);
            let slice = message.slice(padding..);
            let own = on_its_own(slice.clone(), message.len());
            assert_eq!(own, slice);
            let copied = own.as_ptr() != slice.as_ptr();
            assert_eq!(copied, is_copied, "{block} bytes and {padding} others");
        }
    }
}
