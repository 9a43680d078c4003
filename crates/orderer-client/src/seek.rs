// SPDX-License-Identifier: Apache-2.0
//! The signed request for a stream.

use std::time::SystemTime;

use block_api::{SignError, Signer, StreamRequest};
use protos::common::Envelope;
use signer::envelope::{Nonce, seek_envelope, seek_envelope_best_effort};

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
            seek_envelope_best_effort(signer, request, tls_cert_hash, now, nonce).await
        }
    }
}
