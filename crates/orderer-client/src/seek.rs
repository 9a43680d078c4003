// SPDX-License-Identifier: Apache-2.0
//! The signed request for a stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use block_api::{SignError, Signer, StreamRequest};
use prost::Message as _;
use protos::common::{Envelope, HeaderType};
use signer::envelope::{
    EnvelopeHeader, Nonce, seek_envelope, seek_info_best_effort, signed_envelope,
};

use crate::config::ErrorResponse;

/// Signs a request (REQ-05, REQ-06); with mutual TLS it is bound to the client's certificate.
pub(crate) async fn signed_request(
    signer: &dyn Signer,
    request: &StreamRequest,
    error_response: ErrorResponse,
    tls_cert_hash: Option<[u8; 32]>,
    now: SystemTime,
) -> Result<Envelope, SignError> {
    let nonce = Nonce::random();
    match error_response {
        ErrorResponse::Strict => seek_envelope(signer, request, tls_cert_hash, now, nonce).await,
        ErrorResponse::BestEffort => {
            let header = EnvelopeHeader {
                tls_cert_hash,
                ..EnvelopeHeader::new(
                    HeaderType::DeliverSeekInfo,
                    request.channel.clone(),
                    whole_seconds(now),
                )
            };
            let data = seek_info_best_effort(request).encode_to_vec();
            signed_envelope(signer, &header, data.into(), nonce).await
        }
    }
}

/// The time without its fraction, as Fabric's own clients send it.
fn whole_seconds(time: SystemTime) -> SystemTime {
    time.duration_since(UNIX_EPOCH).map_or(time, |since| {
        UNIX_EPOCH + Duration::from_secs(since.as_secs())
    })
}
