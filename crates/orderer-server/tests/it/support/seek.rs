// SPDX-License-Identifier: Apache-2.0
//! Requests made to order, the wrong ones too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;
use protos::{
    common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader},
    msp::SerializedIdentity,
    orderer::{
        SeekInfo, SeekNewest, SeekNextCommit, SeekOldest, SeekPosition, SeekSpecified,
        seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse},
        seek_position::Type,
    },
};

use super::{CHANNEL, now, signer};

pub(crate) const MAX: u64 = u64::MAX;

/// A request, every part of which can be changed.
#[derive(Debug, Clone)]
pub(crate) struct Seek {
    pub(crate) signer: &'static str,
    pub(crate) header: ChannelHeader,
    pub(crate) creator: Option<Bytes>,
    pub(crate) nonce: Bytes,
    pub(crate) info: SeekInfo,
    pub(crate) data: Option<Bytes>,
    pub(crate) signature: Signature,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Signature {
    Good,
    Empty,
    Flipped,
    HighS,
}

pub(crate) fn at(number: u64) -> Option<SeekPosition> {
    position(Type::Specified(SeekSpecified { number }))
}

pub(crate) fn oldest() -> Option<SeekPosition> {
    position(Type::Oldest(SeekOldest {}))
}

pub(crate) fn newest() -> Option<SeekPosition> {
    position(Type::Newest(SeekNewest {}))
}

pub(crate) fn next_commit() -> Option<SeekPosition> {
    position(Type::NextCommit(SeekNextCommit {}))
}

/// A position with an empty oneof.
pub(crate) fn nowhere() -> Option<SeekPosition> {
    Some(SeekPosition { r#type: None })
}

fn position(r#type: Type) -> Option<SeekPosition> {
    Some(SeekPosition {
        r#type: Some(r#type),
    })
}

impl Seek {
    /// A good request by `org1/user1`.
    pub(crate) fn new(start: Option<SeekPosition>, stop: Option<SeekPosition>) -> Self {
        Self {
            signer: "org1/user1",
            header: ChannelHeader {
                r#type: HeaderType::DeliverSeekInfo.into(),
                timestamp: Some(now().into()),
                channel_id: CHANNEL.to_owned(),
                ..ChannelHeader::default()
            },
            creator: None,
            nonce: Bytes::from_static(&[7; 24]),
            info: SeekInfo {
                start,
                stop,
                ..SeekInfo::default()
            },
            data: None,
            signature: Signature::Good,
        }
    }

    pub(crate) fn signer(self, signer: &'static str) -> Self {
        Self { signer, ..self }
    }

    pub(crate) fn channel(mut self, channel: &str) -> Self {
        self.header.channel_id = channel.to_owned();
        self
    }

    /// A timestamp so many seconds off.
    pub(crate) fn off(mut self, seconds: i64) -> Self {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let time: SystemTime = if seconds < 0 { now() - by } else { now() + by };
        self.header.timestamp = Some(time.into());
        self
    }

    pub(crate) fn time(mut self, seconds: i64, nanos: i32) -> Self {
        let mut timestamp = self.header.timestamp.unwrap_or_else(|| UNIX_EPOCH.into());
        (timestamp.seconds, timestamp.nanos) = (seconds, nanos);
        self.header.timestamp = Some(timestamp);
        self
    }

    pub(crate) fn header(mut self, change: impl FnOnce(&mut ChannelHeader)) -> Self {
        change(&mut self.header);
        self
    }

    pub(crate) fn fail(mut self) -> Self {
        self.info.behavior = SeekBehavior::FailIfNotReady.into();
        self
    }

    pub(crate) fn best_effort(mut self) -> Self {
        self.info.error_response = SeekErrorResponse::BestEffort.into();
        self
    }

    pub(crate) fn headers(mut self) -> Self {
        self.info.content_type = SeekContentType::HeaderWithSig.into();
        self
    }

    pub(crate) fn data(self, data: &'static [u8]) -> Self {
        Self {
            data: Some(Bytes::from_static(data)),
            ..self
        }
    }

    pub(crate) fn no_nonce(self) -> Self {
        Self {
            nonce: Bytes::new(),
            ..self
        }
    }

    pub(crate) fn creator(self, creator: impl Into<Bytes>) -> Self {
        Self {
            creator: Some(creator.into()),
            ..self
        }
    }

    /// Claims another MSP for the signer's certificate.
    pub(crate) fn claiming(self, msp_id: &str) -> Self {
        let mut identity = SerializedIdentity::decode(signer(self.signer).identity()).unwrap();
        identity.mspid = msp_id.to_owned();
        self.creator(identity.encode_to_vec())
    }

    pub(crate) fn signature(self, signature: Signature) -> Self {
        Self { signature, ..self }
    }

    /// The signed envelope.
    pub(crate) async fn envelope(self) -> Envelope {
        let signer = signer(self.signer);
        let signature_header = SignatureHeader {
            creator: self.creator.unwrap_or_else(|| signer.identity()),
            nonce: self.nonce,
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: self.header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: self
                .data
                .unwrap_or_else(|| self.info.encode_to_vec().into()),
        };
        let payload: Bytes = payload.encode_to_vec().into();
        let signature = signer.sign(&payload).await.unwrap();
        let signature = match self.signature {
            Signature::Good => signature,
            Signature::Empty => Bytes::new(),
            Signature::Flipped => {
                let mut bytes = signature.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                bytes.into()
            }
            Signature::HighS => high_s(&signature),
        };
        Envelope { payload, signature }
    }
}

/// The other ECDSA signature over the same message: it verifies, but for Fabric's rule.
fn high_s(der: &[u8]) -> Bytes {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let r_end = 4 + usize::from(der[3]);
    let s = &der[r_end + 2..];
    let mut padded = [0; 32];
    let significant = &s[s.len().saturating_sub(32)..];
    padded[32 - significant.len()..].copy_from_slice(significant);
    let mut other = [0_u8; 32];
    let mut borrow = 0;
    for i in (0..32).rev() {
        let difference = i16::from(ORDER[i]) - i16::from(padded[i]) - borrow;
        borrow = i16::from(difference < 0);
        other[i] = difference.rem_euclid(256) as u8;
    }
    let mut integer = vec![0];
    integer.extend(other);
    let mut out = vec![0x30, 0];
    out.extend_from_slice(&der[2..r_end]);
    out.extend([0x02, integer.len() as u8]);
    out.extend(integer);
    out[1] = (out.len() - 2) as u8;
    out.into()
}

/// When a request was made.
pub(crate) fn made_at(envelope: &Envelope) -> SystemTime {
    let payload = Payload::decode(envelope.payload.clone()).unwrap();
    let header = ChannelHeader::decode(payload.header.unwrap().channel_header).unwrap();
    header.timestamp.unwrap().try_into().unwrap()
}
