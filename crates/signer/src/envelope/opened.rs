// SPDX-License-Identifier: Apache-2.0
//! The parts of an envelope that somebody sent.

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use protos::common::{ChannelHeader, Envelope, Payload, SignatureHeader};

use super::transaction_id;

/// An envelope with its headers decoded. Nothing in it has been verified.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedEnvelope {
    /// What it is, for which channel, from when.
    pub channel_header: ChannelHeader,
    /// Who made it.
    pub signature_header: SignatureHeader,
    /// What it carries.
    pub data: Bytes,
}

/// Who claims to have signed which bytes (PRS-01).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedData {
    /// The bytes that are signed.
    pub message: Bytes,
    /// The signer, as a serialized identity.
    pub identity: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// Why an envelope does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenEnvelopeError {
    /// The envelope has no payload.
    #[error("the envelope has no payload")]
    NoPayload,
    /// The payload has no header.
    #[error("the payload of the envelope has no header")]
    NoHeader,
    /// A part does not decode.
    #[error("the {part} of the envelope does not parse: {source}")]
    Malformed {
        /// The part.
        part: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// There is neither a transaction id nor what it would be computed from.
    #[error(
        "the envelope has no transaction id, and its signature header lacks nonce or creator to compute one"
    )]
    NoTransactionId,
}

impl OpenedEnvelope {
    /// Decodes the headers of an envelope.
    ///
    /// # Errors
    ///
    /// When a part is missing or does not decode.
    pub fn open(envelope: &Envelope) -> Result<Self, OpenEnvelopeError> {
        if envelope.payload.is_empty() {
            return Err(OpenEnvelopeError::NoPayload);
        }
        let malformed = |part| move |source| OpenEnvelopeError::Malformed { part, source };
        let payload = Payload::decode(envelope.payload.clone()).map_err(malformed("payload"))?;
        let header = payload.header.ok_or(OpenEnvelopeError::NoHeader)?;
        Ok(Self {
            channel_header: ChannelHeader::decode(header.channel_header)
                .map_err(malformed("channel header"))?,
            signature_header: SignatureHeader::decode(header.signature_header)
                .map_err(malformed("signature header"))?,
            data: payload.data,
        })
    }

    /// The id of the transaction: what the header says, or else what nonce and creator give (PRT-02).
    ///
    /// # Errors
    ///
    /// When there is neither.
    pub fn transaction_id(&self) -> Result<String, OpenEnvelopeError> {
        if !self.channel_header.tx_id.is_empty() {
            return Ok(self.channel_header.tx_id.clone());
        }
        let SignatureHeader { creator, nonce } = &self.signature_header;
        if creator.is_empty() || nonce.is_empty() {
            return Err(OpenEnvelopeError::NoTransactionId);
        }
        Ok(transaction_id(nonce, creator))
    }
}

impl SignedData {
    /// What an envelope claims: its payload, the creator that the payload names, and its signature.
    ///
    /// # Errors
    ///
    /// When a part is missing or does not decode.
    pub fn of(envelope: &Envelope) -> Result<Self, OpenEnvelopeError> {
        let opened = OpenedEnvelope::open(envelope)?;
        Ok(Self {
            message: envelope.payload.clone(),
            identity: opened.signature_header.creator,
            signature: envelope.signature.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protos::common::Header;

    use super::*;

    fn envelope(payload: &Payload) -> Envelope {
        Envelope {
            payload: payload.encode_to_vec().into(),
            signature: Bytes::new(),
        }
    }

    fn with_headers(channel_header: &'static [u8], signature_header: &'static [u8]) -> Envelope {
        let header = Header {
            channel_header: channel_header.into(),
            signature_header: signature_header.into(),
        };
        envelope(&Payload {
            header: Some(header),
            data: Bytes::new(),
        })
    }

    /// Covers: PRS-01, PRT-02, PRC-02, PRC-06
    #[test]
    fn malformed_envelopes_name_the_part() {
        // A length that reaches beyond the end.
        let broken = b"\x0a\x7f";
        let rows = [
            (Envelope::default(), "has no payload"),
            (
                Envelope {
                    payload: Bytes::from_static(broken),
                    ..Envelope::default()
                },
                "the payload of",
            ),
            (
                envelope(&Payload {
                    header: None,
                    data: Bytes::from_static(b"x"),
                }),
                "has no header",
            ),
            (with_headers(broken, b""), "the channel header of"),
            (with_headers(b"", broken), "the signature header of"),
        ];
        for (envelope, words) in rows {
            let error = OpenedEnvelope::open(&envelope).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(SignedData::of(&envelope).unwrap_err(), error);
        }
        for headers in [&b""[..], b"\x0a\x01c", b"\x12\x01n"] {
            let opened = OpenedEnvelope::open(&with_headers(b"\x22\x02ch", headers)).unwrap();
            assert_eq!(
                opened.transaction_id(),
                Err(OpenEnvelopeError::NoTransactionId)
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_do_not_panic(payload: Vec<u8>, signature: Vec<u8>) {
            let envelope = Envelope { payload: payload.clone().into(), signature: signature.clone().into() };
            if let Ok(signed) = SignedData::of(&envelope) {
                prop_assert_eq!((signed.message, signed.signature), (Bytes::from(payload), Bytes::from(signature)));
            }
        }

        #[test]
        fn mutated_envelopes_do_not_panic(index: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let sent = include_bytes!("../../tests/data/seek_envelope.pb");
            let sent = Envelope::decode(&sent[..]).unwrap();
            let mut payload = sent.payload.to_vec();
            let index = index.index(payload.len());
            payload[index] = byte;
            let mutated = Envelope { payload: Bytes::from(payload.clone()), ..sent.clone() };
            if let Ok(signed) = SignedData::of(&mutated) {
                prop_assert_eq!(signed.message, &payload);
            }
            payload.truncate(cut.index(payload.len()));
            let _ = OpenedEnvelope::open(&Envelope { payload: payload.into(), ..sent });
        }
    }
}
