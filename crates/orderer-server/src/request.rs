// SPDX-License-Identifier: Apache-2.0
//! A request as it came, and the checks that need nothing but its bytes (semantics §3.10).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use protos::common::{ChannelHeader, Envelope, Payload, SignatureHeader};

use crate::session::Signed;

/// A request with its headers decoded. Who sent it is not known yet.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) header: ChannelHeader,
    pub(crate) signed: Signed,
    /// The bytes of the SeekInfo.
    pub(crate) seek: Bytes,
}

/// Why a request is malformed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MalformedRequest {
    #[error("the {part} does not parse: {source}")]
    Part {
        part: &'static str,
        source: DecodeError,
    },
    #[error("the payload has no header")]
    NoHeader,
    #[error("the channel header has no timestamp")]
    NoTimestamp,
    #[error("the timestamp is {} s off, and {} s are allowed", off.as_secs(), window.as_secs())]
    TimeOff { off: Duration, window: Duration },
}

impl Request {
    /// Decodes the headers of an envelope.
    pub(crate) fn open(envelope: Envelope) -> Result<Self, MalformedRequest> {
        let malformed = |part| move |source| MalformedRequest::Part { part, source };
        let payload = Payload::decode(envelope.payload.clone()).map_err(malformed("payload"))?;
        let header = payload.header.ok_or(MalformedRequest::NoHeader)?;
        let channel_header =
            ChannelHeader::decode(header.channel_header).map_err(malformed("channel header"))?;
        let signature_header = SignatureHeader::decode(header.signature_header)
            .map_err(malformed("signature header"))?;
        let signed = Signed {
            creator: signature_header.creator,
            message: envelope.payload,
            signature: envelope.signature,
        };
        Ok(Self {
            header: channel_header,
            signed,
            seek: payload.data,
        })
    }

    /// Checks that the request was made not long ago, nor far in the future.
    pub(crate) fn check_time(
        &self,
        now: SystemTime,
        window: Duration,
    ) -> Result<(), MalformedRequest> {
        let stamp = self
            .header
            .timestamp
            .as_ref()
            .ok_or(MalformedRequest::NoTimestamp)?;
        // In whole nanoseconds, which no timestamp can overflow.
        let made = i128::from(stamp.seconds) * 1_000_000_000 + i128::from(stamp.nanos);
        let now = match now.duration_since(UNIX_EPOCH) {
            Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX / 2),
            Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX / 2),
        };
        let off = now.abs_diff(made);
        if off > window.as_nanos() {
            let seconds = u64::try_from(off / 1_000_000_000).unwrap_or(u64::MAX);
            return Err(MalformedRequest::TimeOff {
                off: Duration::from_secs(seconds),
                window,
            });
        }
        Ok(())
    }
}

/// What a fuzz target does with foreign bytes: they are taken for an envelope and answered in full,
/// but for the channel and the rights.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_request(data: &[u8]) {
    use block_api::{BlockNumber, ChainInfo, Height};
    use protos::orderer::SeekInfo;

    use crate::position::Span;

    let Ok(envelope) = Envelope::decode(data) else {
        return;
    };
    let Ok(request) = Request::open(envelope) else {
        return;
    };
    let in_time = request
        .check_time(UNIX_EPOCH, Duration::from_secs(900))
        .is_ok();
    let Ok(seek) = SeekInfo::decode(request.seek) else {
        return;
    };
    for (first, height) in [(0, 0), (0, 66), (40, 66), (66, 66), (0, u64::MAX)] {
        let chain = ChainInfo {
            first: BlockNumber::new(first),
            height: Height::new(height),
            tip_hash: None,
        };
        if let Ok(span) = Span::resolve(&seek, &chain) {
            assert!(
                (first..=height).contains(&span.first),
                "{span:?} of {chain:?}, in time: {in_time}"
            );
            assert!(span.remaining(span.first) > 0, "{span:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protos::{
        common::Header,
        orderer::{SeekInfo, SeekPosition, SeekSpecified, seek_position::Type},
    };

    use super::*;

    fn at(number: u64) -> Option<SeekPosition> {
        Some(SeekPosition {
            r#type: Some(Type::Specified(SeekSpecified { number })),
        })
    }

    fn envelope(seconds: i64, nanos: i32, start: u64, stop: u64) -> Envelope {
        let mut channel_header = ChannelHeader {
            channel_id: "ch".to_owned(),
            timestamp: Some(UNIX_EPOCH.into()),
            ..ChannelHeader::default()
        };
        if let Some(timestamp) = &mut channel_header.timestamp {
            (timestamp.seconds, timestamp.nanos) = (seconds, nanos);
        }
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: Bytes::new(),
        };
        let seek = SeekInfo {
            start: at(start),
            stop: at(stop),
            ..SeekInfo::default()
        };
        let payload = Payload {
            header: Some(header),
            data: seek.encode_to_vec().into(),
        };
        Envelope {
            payload: payload.encode_to_vec().into(),
            signature: Bytes::from_static(b"signature"),
        }
    }

    #[test]
    fn the_window_is_closed_at_both_ends() {
        let window = Duration::from_secs(900);
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        for (seconds, nanos, in_time) in [
            (10_000, 0, true),
            (9_100, 0, true),
            (9_099, 999_999_999, false),
            (10_900, 0, true),
            (10_900, 1, false),
            (i64::MIN, i32::MIN, false),
            (i64::MAX, i32::MAX, false),
        ] {
            let request = Request::open(envelope(seconds, nanos, 0, 0)).unwrap();
            assert_eq!(
                request.check_time(now, window).is_ok(),
                in_time,
                "{seconds} {nanos}"
            );
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_do_no_harm(data in prop::collection::vec(any::<u8>(), 0..512)) {
            fuzz_request(&data);
        }

        #[test]
        fn a_request_with_any_byte_changed_does_no_harm(
            seconds in any::<i64>(),
            nanos in any::<i32>(),
            start in any::<u64>(),
            stop in any::<u64>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut data = envelope(seconds, nanos, start, stop).encode_to_vec();
            fuzz_request(&data);
            let at = at.index(data.len());
            data[at] = byte;
            fuzz_request(&data);
        }

        #[test]
        fn a_request_is_opened_as_it_was_made(seconds in any::<i64>(), start in any::<u64>(), stop in any::<u64>()) {
            let envelope = envelope(seconds, 5, start, stop);
            let request = Request::open(envelope.clone()).unwrap();
            prop_assert_eq!(&request.header.channel_id, "ch");
            prop_assert_eq!(request.signed.message, envelope.payload);
            prop_assert_eq!(request.signed.signature, envelope.signature);
            let seek = SeekInfo::decode(request.seek).unwrap();
            prop_assert_eq!((seek.start, seek.stop), (at(start), at(stop)));
        }
    }
}
