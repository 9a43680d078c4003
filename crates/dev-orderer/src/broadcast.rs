// SPDX-License-Identifier: Apache-2.0
//! Broadcast: which envelopes are taken for ordering (semantics §6.6).

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use block_api::{ChannelId, Clock};
use channel_config::{AccessError, ChannelAccess, ChannelVerifier, ConsensusState};
use orderer_server::{BroadcastAnswer, BroadcastHandler};
use prost::Message as _;
use protos::common::{Envelope, HeaderType, Status};
use signer::envelope::{OpenEnvelopeError, OpenedEnvelope};

use crate::{
    cutter::Message,
    ordering::{OrderingHandle, Stopped},
};

/// An envelope was not taken for ordering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The envelope does not open.
    #[error(transparent)]
    Malformed(#[from] OpenEnvelopeError),
    /// The envelope is for a channel that is not here.
    #[error("channel {found:?} is not ordered here, only {served}")]
    UnknownChannel {
        /// The channel that the envelope names.
        found: String,
        /// The one that there is.
        served: ChannelId,
    },
    /// The envelope is of a type that clients do not send.
    #[error("an envelope of type {kind} cannot be ordered: send a transaction")]
    UnsupportedType {
        /// The type, by its number.
        kind: i32,
    },
    /// The envelope asks for another configuration.
    #[error(
        "the dev orderer does not take config updates: start one with the configuration that is wanted"
    )]
    ConfigUpdate,
    /// The envelope is too large.
    #[error("the envelope has {size} bytes, and the channel takes {max} at most")]
    TooLarge {
        /// Its size: payload and signature.
        size: usize,
        /// What the channel takes.
        max: u32,
    },
    /// The certificate of who made the envelope has expired.
    #[error("{0}")]
    Expired(AccessError),
    /// Who made the envelope may not write, or did not sign it.
    #[error("no right to write to the channel: {0}; use the identity of one of its clients")]
    Denied(AccessError),
    /// The channel is being moved to another kind of consensus.
    #[error("the channel is in maintenance, and takes no transactions until that ends")]
    Maintenance,
    /// The ordering service does not order: it replays a recorded chain.
    #[error("a recorded chain is replayed here, and nothing is ordered")]
    Replaying,
    /// The ordering service has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl SubmitError {
    /// The status that a client of Broadcast gets.
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed(_)
            | Self::UnknownChannel { .. }
            | Self::UnsupportedType { .. }
            | Self::TooLarge { .. }
            | Self::Expired(_) => Status::BadRequest,
            Self::ConfigUpdate | Self::Replaying => Status::NotImplemented,
            Self::Denied(_) => Status::Forbidden,
            Self::Maintenance | Self::Stopped(_) => Status::ServiceUnavailable,
        }
    }
}

/// Filters envelopes by the channel's configuration, and has those that pass ordered.
pub(crate) struct Admission {
    verifier: Arc<ChannelVerifier>,
    writers: ChannelAccess,
    clock: Arc<dyn Clock>,
    ordering: OrderingHandle,
}

impl Admission {
    /// Filters by the newest configuration of a verifier.
    pub(crate) fn new(
        verifier: Arc<ChannelVerifier>,
        clock: Arc<dyn Clock>,
        ordering: OrderingHandle,
    ) -> Self {
        let writers = ChannelAccess::writers(&verifier).respecting_maintenance();
        Self {
            verifier,
            writers,
            clock,
            ordering,
        }
    }

    /// Filters an envelope, and puts it in the queue.
    pub(crate) async fn admit(&self, envelope: &Envelope) -> Result<(), SubmitError> {
        let size = self.check(envelope)?;
        self.ordering
            .enqueue(Message {
                envelope: envelope.encode_to_vec().into(),
                size,
            })
            .await?;
        Ok(())
    }

    /// The filters, in Fabric's order (ORD-10, ORD-11). The size that counts is returned.
    fn check(&self, envelope: &Envelope) -> Result<usize, SubmitError> {
        let opened = OpenedEnvelope::open(envelope)?;
        let header = &opened.channel_header;
        if header.channel_id != self.verifier.channel().as_str() {
            return Err(SubmitError::UnknownChannel {
                found: header.channel_id.clone(),
                served: self.verifier.channel().clone(),
            });
        }
        match HeaderType::try_from(header.r#type) {
            Ok(HeaderType::ConfigUpdate) => return Err(SubmitError::ConfigUpdate),
            Ok(
                HeaderType::Config | HeaderType::OrdererTransaction | HeaderType::DeliverSeekInfo,
            )
            | Err(_) => {
                return Err(SubmitError::UnsupportedType {
                    kind: header.r#type,
                });
            }
            Ok(
                HeaderType::Message
                | HeaderType::EndorserTransaction
                | HeaderType::ChaincodePackage,
            ) => {}
        }
        let config = self.verifier.config();
        if config.orderer().state() == ConsensusState::Maintenance {
            return Err(SubmitError::Maintenance);
        }
        let size = envelope
            .payload
            .len()
            .saturating_add(envelope.signature.len());
        let max = config.orderer().batch_size().absolute_max_bytes;
        if u32::try_from(size).map_or(true, |size| size > max) {
            return Err(SubmitError::TooLarge { size, max });
        }
        let creator = &opened.signature_header.creator;
        let checked = self.writers.check(
            creator,
            &envelope.payload,
            &envelope.signature,
            self.clock.now(),
        );
        checked.map_err(|error| {
            if matches!(error, AccessError::Expired { .. }) {
                SubmitError::Expired(error)
            } else {
                SubmitError::Denied(error)
            }
        })?;
        Ok(size)
    }
}

#[async_trait]
impl BroadcastHandler for Admission {
    async fn submit(&self, envelope: Envelope) -> BroadcastAnswer {
        match self.admit(&envelope).await {
            Ok(()) => BroadcastAnswer::success(),
            Err(err) => BroadcastAnswer::new(err.status(), err.to_string()),
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("channel", self.verifier.channel())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
