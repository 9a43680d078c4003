// SPDX-License-Identifier: Apache-2.0
//! Broadcast: envelopes are submitted for ordering, and each is acknowledged.

use std::fmt;

use block_api::{DeliverStatus, Endpoint, Phase, SourceError};
use protos::{common::Envelope, orderer::BroadcastResponse};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    config::Config,
    connection::Connection,
    stream::{Answers, Limit},
};

/// So many envelopes wait to be sent; [`BroadcastSession::submit`] waits while there are more.
const QUEUE: usize = 16;

/// A session in which envelopes are submitted. Dropping it closes its connection.
pub struct BroadcastSession {
    endpoint: Endpoint,
    connection: Connection,
    envelopes: mpsc::Sender<Envelope>,
    answers: Answers<BroadcastResponse>,
    limit: Limit,
}

/// What the orderer says of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastAck {
    /// SUCCESS says that the envelope was taken for ordering, not that it was ordered. After any
    /// other status the orderer ends the session.
    pub status: DeliverStatus,
    /// A text for people.
    pub info: String,
}

/// The orderer ended the session.
#[derive(Debug, thiserror::Error)]
#[error("the orderer ended the session without an acknowledgement")]
struct Ended;

impl BroadcastSession {
    pub(crate) async fn start(endpoint: Endpoint, connection: Connection, config: &Config) -> Self {
        let (envelopes, queue) = mpsc::channel(QUEUE);
        let mut client = connection.client();
        // The orderer ends the session itself when this side is dropped.
        let queue = ReceiverStream::new(queue).chain(tokio_stream::pending());
        let answers = Answers::call(async move { client.broadcast(queue).await }).await;
        let limit = Limit {
            phase: Phase::Idle,
            after: config.idle_timeout.or(config.initial_timeout),
        };
        Self {
            endpoint,
            connection,
            envelopes,
            answers,
            limit,
        }
    }

    /// Submits an envelope and waits for its acknowledgement.
    ///
    /// # Errors
    ///
    /// When the session ended or broke, or no acknowledgement came in time.
    ///
    /// # Cancel safety
    ///
    /// None: the envelope may have been submitted, and the next acknowledgement may be its own.
    pub async fn send(&mut self, envelope: Envelope) -> Result<BroadcastAck, SourceError> {
        self.submit(envelope).await?;
        self.ack().await
    }

    /// Submits an envelope without waiting for its acknowledgement; acknowledgements come in the
    /// order of the envelopes.
    ///
    /// # Errors
    ///
    /// When the session ended or broke.
    ///
    /// # Cancel safety
    ///
    /// Safe: an envelope whose future is dropped is not submitted.
    pub async fn submit(&mut self, envelope: Envelope) -> Result<(), SourceError> {
        if self.envelopes.send(envelope).await.is_ok() {
            return Ok(());
        }
        // The call is over; its end says why.
        match self.answers.next().await {
            Err(status) => Err(self.broken(&status)),
            Ok(_) => Err(self.ended()),
        }
    }

    /// Waits for the next acknowledgement.
    ///
    /// # Errors
    ///
    /// When the session ended or broke, or no acknowledgement came in time.
    ///
    /// # Cancel safety
    ///
    /// Safe: no acknowledgement is lost.
    pub async fn ack(&mut self) -> Result<BroadcastAck, SourceError> {
        match self.limit.hold(&self.endpoint, self.answers.next()).await? {
            Ok(Some(BroadcastResponse { status, info })) => Ok(BroadcastAck {
                status: DeliverStatus::from_code(status),
                info,
            }),
            Ok(None) => Err(self.ended()),
            Err(status) => Err(self.broken(&status)),
        }
    }

    fn ended(&self) -> SourceError {
        SourceError::Broken {
            endpoint: self.endpoint.clone(),
            source: Ended.into(),
        }
    }

    fn broken(&self, status: &tonic::Status) -> SourceError {
        SourceError::Broken {
            endpoint: self.endpoint.clone(),
            source: self.connection.explain(status).into(),
        }
    }
}

impl fmt::Debug for BroadcastSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastSession")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
