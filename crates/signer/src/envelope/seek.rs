// SPDX-License-Identifier: Apache-2.0
//! The request for blocks: a SeekInfo and the envelope around it.

use std::time::{Duration, SystemTime};

use block_api::{Content, SignError, Signer, Start, Stop, StreamRequest, WhenMissing};
use prost::Message as _;
use protos::{
    common::{Envelope, HeaderType},
    orderer::{
        SeekInfo, SeekNewest, SeekOldest, SeekPosition, SeekSpecified,
        seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse},
        seek_position::Type,
    },
};

use super::{EnvelopeHeader, Nonce, signed_envelope};

/// A stream without end, as a number of a block (semantics §1.6).
const NEVER: u64 = u64::MAX;

/// What a request asks for, on the wire. An orderer whose consenter is in error refuses it
/// (REQ-05, REQ-06).
pub fn seek_info(request: &StreamRequest) -> SeekInfo {
    with_error_response(request, SeekErrorResponse::Strict)
}

/// The same for whoever wants what is there even while the consenter is in error.
pub fn seek_info_best_effort(request: &StreamRequest) -> SeekInfo {
    with_error_response(request, SeekErrorResponse::BestEffort)
}

/// The signed request for a stream, of whole seconds as Fabric's are (REQ-05, REQ-06,
/// semantics §1.6).
///
/// # Errors
///
/// When the signer does not sign.
///
/// # Cancel safety
///
/// Dropping the future abandons the envelope and nothing else.
pub async fn seek_envelope(
    signer: &dyn Signer,
    request: &StreamRequest,
    tls_cert_hash: Option<[u8; 32]>,
    now: SystemTime,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let data = seek_info(request);
    signed_request(signer, request, data, tls_cert_hash, now, nonce).await
}

/// The same for whoever wants what is there even while the consenter is in error.
///
/// # Errors
///
/// When the signer does not sign.
///
/// # Cancel safety
///
/// Dropping the future abandons the envelope and nothing else.
pub async fn seek_envelope_best_effort(
    signer: &dyn Signer,
    request: &StreamRequest,
    tls_cert_hash: Option<[u8; 32]>,
    now: SystemTime,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let data = seek_info_best_effort(request);
    signed_request(signer, request, data, tls_cert_hash, now, nonce).await
}

async fn signed_request(
    signer: &dyn Signer,
    request: &StreamRequest,
    data: SeekInfo,
    tls_cert_hash: Option<[u8; 32]>,
    now: SystemTime,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let (kind, channel) = (HeaderType::DeliverSeekInfo, request.channel.clone());
    let header = EnvelopeHeader {
        tls_cert_hash,
        ..EnvelopeHeader::new(kind, channel, whole_seconds(now))
    };
    signed_envelope(signer, &header, data.encode_to_vec().into(), nonce).await
}

fn with_error_response(request: &StreamRequest, error_response: SeekErrorResponse) -> SeekInfo {
    let at = |number| Type::Specified(SeekSpecified { number });
    let position = |r#type| {
        Some(SeekPosition {
            r#type: Some(r#type),
        })
    };
    SeekInfo {
        start: position(match request.start {
            Start::Oldest => Type::Oldest(SeekOldest {}),
            Start::Newest => Type::Newest(SeekNewest {}),
            Start::At(number) => at(number.get()),
        }),
        stop: position(match request.stop {
            Stop::Newest => Type::Newest(SeekNewest {}),
            Stop::At(number) => at(number.get()),
            Stop::Never => at(NEVER),
        }),
        behavior: match request.when_missing {
            WhenMissing::Wait => SeekBehavior::BlockUntilReady,
            WhenMissing::Fail => SeekBehavior::FailIfNotReady,
        }
        .into(),
        error_response: error_response.into(),
        content_type: match request.content {
            Content::Blocks => SeekContentType::Block,
            Content::Headers => SeekContentType::HeaderWithSig,
        }
        .into(),
    }
}

/// The time without its part of a second; a time before 1970 becomes 1970.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_their_part_of_a_second() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        assert_eq!(whole_seconds(at(7, 999_999_999)), at(7, 0));
        assert_eq!(whole_seconds(at(7, 0)), at(7, 0));
        assert_eq!(
            whole_seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            at(0, 0)
        );
    }
}
