// SPDX-License-Identifier: Apache-2.0
//! Broadcast: what is submitted for ordering goes to a handler.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::{self, Stream};
use protos::{
    common::{Envelope, Status},
    orderer::BroadcastResponse,
};
use tonic::Streaming;

use crate::{peer::Peer, server::stopping, stats::DeliverStats};

/// Takes envelopes for ordering.
#[async_trait]
pub trait BroadcastHandler: Send + Sync + fmt::Debug {
    /// Takes an envelope, or says why not. The envelopes of one call come one after the other; after
    /// an answer that is not SUCCESS the call ends.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client goes away.
    async fn submit(&self, envelope: Envelope) -> BroadcastAnswer;
}

/// What a handler says of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastAnswer {
    /// SUCCESS says that the envelope was taken for ordering, not that it was ordered.
    pub status: Status,
    /// A text for people.
    pub info: String,
}

/// A call: its envelopes are answered in order.
struct Submitting {
    handler: Option<Arc<dyn BroadcastHandler>>,
    stats: Arc<DeliverStats>,
    peer: Peer,
    envelopes: Streaming<Envelope>,
}

impl BroadcastAnswer {
    /// An answer with a text.
    pub fn new(status: Status, info: impl Into<String>) -> Self {
        Self {
            status,
            info: info.into(),
        }
    }

    /// The envelope was taken.
    pub fn success() -> Self {
        Self::new(Status::Success, "")
    }
}

/// Answers the envelopes of a call.
pub(crate) fn answers(
    handler: Option<Arc<dyn BroadcastHandler>>,
    stats: Arc<DeliverStats>,
    peer: Peer,
    envelopes: Streaming<Envelope>,
) -> impl Stream<Item = Result<BroadcastResponse, tonic::Status>> + Send {
    let submitting = Submitting {
        handler,
        stats,
        peer,
        envelopes,
    };
    stream::unfold(
        Some(submitting),
        |submitting: Option<Submitting>| async move {
            let mut submitting = submitting?;
            let answer = submitting.next().await?;
            let goes_on = answer
                .as_ref()
                .is_ok_and(|answer| answer.status == Status::Success);
            let response = answer.map(|BroadcastAnswer { status, info }| BroadcastResponse {
                status: status.into(),
                info,
            });
            Some((response, goes_on.then_some(submitting)))
        },
    )
}

impl Submitting {
    async fn next(&mut self) -> Option<Result<BroadcastAnswer, tonic::Status>> {
        let stop = self.peer.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => Some(Err(stopping())),
            answer = self.answer() => answer,
        }
    }

    async fn answer(&mut self) -> Option<Result<BroadcastAnswer, tonic::Status>> {
        let envelope = match self.envelopes.message().await {
            Ok(envelope) => envelope?,
            Err(status) => return Some(Err(status)),
        };
        self.stats.submitted();
        Some(Ok(match &self.handler {
            Some(handler) => handler.submit(envelope).await,
            None => BroadcastAnswer::new(Status::NotImplemented, "this server does not order"),
        }))
    }
}
