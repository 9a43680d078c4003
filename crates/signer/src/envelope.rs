// SPDX-License-Identifier: Apache-2.0
//! Signed envelopes: what a client sends to an orderer or a peer.

mod opened;
mod seek;

use std::time::SystemTime;

use aws_lc_rs::{digest, rand};
use block_api::{ChannelId, SignError, Signer};
use bytes::Bytes;
use prost::Message as _;
use protos::common::{ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader};

pub use self::{
    opened::{OpenEnvelopeError, OpenedEnvelope, SignedData},
    seek::{seek_envelope, seek_envelope_best_effort, seek_info, seek_info_best_effort},
};

/// The bytes of a nonce.
const NONCE_BYTES: usize = 24;

/// Bytes that make a message unlike every other (PRC-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; NONCE_BYTES]);

/// What the channel header of an envelope says. Version and epoch are 0, as they are everywhere in
/// Fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// What the payload holds.
    pub kind: HeaderType,
    /// The channel.
    pub channel: ChannelId,
    /// When it was made, by the sender's clock.
    pub timestamp: SystemTime,
    /// The SHA-256 of the client's TLS certificate, where the server asks for one: see
    /// [`tls_cert_hash`].
    pub tls_cert_hash: Option<[u8; 32]>,
    /// The transaction's id; empty in all but transactions.
    pub tx_id: String,
    /// A `ChaincodeHeaderExtension` in transactions, else empty.
    pub extension: Bytes,
}

impl Nonce {
    /// The nonce with these bytes.
    pub fn new(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }

    /// A nonce from the secure generator.
    ///
    /// # Panics
    ///
    /// When the operating system has no random bytes to give.
    pub fn random() -> Self {
        let mut bytes = [0; NONCE_BYTES];
        rand::fill(&mut bytes).expect("invariant: the secure generator does not fail");
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl EnvelopeHeader {
    /// A header without the parts that only some envelopes have.
    pub fn new(kind: HeaderType, channel: ChannelId, timestamp: SystemTime) -> Self {
        Self {
            kind,
            channel,
            timestamp,
            tls_cert_hash: None,
            tx_id: String::new(),
            extension: Bytes::new(),
        }
    }

    fn encode(&self) -> Bytes {
        let header = ChannelHeader {
            r#type: self.kind.into(),
            version: 0,
            timestamp: Some(self.timestamp.into()),
            channel_id: self.channel.to_string(),
            tx_id: self.tx_id.clone(),
            epoch: 0,
            extension: self.extension.clone(),
            tls_cert_hash: self
                .tls_cert_hash
                .map(|hash| Bytes::copy_from_slice(&hash))
                .unwrap_or_default(),
        };
        header.encode_to_vec().into()
    }
}

/// An envelope that a signer signed (PRT-01).
///
/// # Errors
///
/// When the signer does not sign.
///
/// # Cancel safety
///
/// Dropping the future abandons the envelope and nothing else.
pub async fn signed_envelope(
    signer: &dyn Signer,
    header: &EnvelopeHeader,
    data: Bytes,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let signature_header = SignatureHeader {
        creator: signer.identity(),
        nonce: Bytes::copy_from_slice(nonce.as_bytes()),
    };
    let payload = payload(header, &signature_header, data);
    let signature = signer.sign(&payload).await?;
    Ok(Envelope { payload, signature })
}

/// An envelope that nobody made or signed (PRT-01).
pub fn unsigned_envelope(header: &EnvelopeHeader, data: Bytes) -> Envelope {
    Envelope {
        payload: payload(header, &SignatureHeader::default(), data),
        signature: Bytes::new(),
    }
}

/// A transaction: its id is computed from nonce and creator (PRT-02). `kind` is
/// [`HeaderType::EndorserTransaction`] or [`HeaderType::Message`]; a `tx_id` in the header is
/// replaced.
///
/// # Errors
///
/// When the signer does not sign.
///
/// # Cancel safety
///
/// Dropping the future abandons the envelope and nothing else.
pub async fn transaction_envelope(
    signer: &dyn Signer,
    header: EnvelopeHeader,
    data: Bytes,
    nonce: Nonce,
) -> Result<Envelope, SignError> {
    let header = EnvelopeHeader {
        tx_id: transaction_id(nonce.as_bytes(), &signer.identity()),
        ..header
    };
    signed_envelope(signer, &header, data, nonce).await
}

/// The id of the transaction that a creator makes with a nonce: the hexadecimal SHA-256 of both
/// (PRT-02).
pub fn transaction_id(nonce: &[u8], creator: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(nonce);
    context.update(creator);
    hex::encode(context.finish())
}

/// What a channel header says of the TLS certificate that the client shows: the SHA-256 of its DER.
pub fn tls_cert_hash(certificate_der: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, certificate_der);
    hash.as_ref()
        .try_into()
        .expect("invariant: a SHA-256 has 32 bytes")
}

fn payload(header: &EnvelopeHeader, signature_header: &SignatureHeader, data: Bytes) -> Bytes {
    let header = Header {
        channel_header: header.encode(),
        signature_header: signature_header.encode_to_vec().into(),
    };
    Payload {
        header: Some(header),
        data,
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::{Ed25519Signer, Identity};

    fn signer() -> (Ed25519Signer, Identity) {
        let identity = Identity::new("Org1MSP", include_str!("../tests/data/ed25519.crt")).unwrap();
        let signer =
            Ed25519Signer::new(identity.clone(), include_str!("../tests/data/ed25519.key"))
                .unwrap();
        (signer, identity)
    }

    fn header(kind: HeaderType) -> EnvelopeHeader {
        let timestamp = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        EnvelopeHeader::new(kind, "ch-raft".parse().unwrap(), timestamp)
    }

    /// Covers: PRC-01
    #[test]
    fn nonces_have_24_bytes_and_differ() {
        let nonces: HashSet<_> = (0..1000)
            .map(|_| Nonce::random().as_bytes().to_vec())
            .collect();
        assert_eq!(nonces.len(), 1000);
        assert!(nonces.iter().all(|nonce| nonce.len() == 24));
    }

    /// Covers: PRT-01, PRS-01
    #[tokio::test]
    async fn a_signed_envelope_has_header_hash_and_signature() {
        let (signer, identity) = signer();
        let header = EnvelopeHeader {
            tls_cert_hash: Some(tls_cert_hash(identity.certificate())),
            tx_id: "tx".to_owned(),
            extension: Bytes::from_static(b"extension"),
            ..header(HeaderType::EndorserTransaction)
        };
        let nonce = Nonce::random();
        let envelope = signed_envelope(&signer, &header, Bytes::from_static(b"data"), nonce)
            .await
            .unwrap();

        let opened = OpenedEnvelope::open(&envelope).unwrap();
        let channel_header = &opened.channel_header;
        assert_eq!(channel_header.r#type, 3);
        assert_eq!((channel_header.version, channel_header.epoch), (0, 0));
        assert_eq!(
            (
                channel_header.channel_id.as_str(),
                channel_header.tx_id.as_str()
            ),
            ("ch-raft", "tx")
        );
        assert_eq!(channel_header.extension, "extension");
        let hash = digest::digest(&digest::SHA256, identity.certificate());
        assert_eq!(channel_header.tls_cert_hash, hash.as_ref());
        let timestamp = channel_header.timestamp.unwrap();
        assert_eq!((timestamp.seconds, timestamp.nanos), (1_700_000_000, 5));
        assert_eq!(opened.signature_header.creator, identity.serialized());
        assert_eq!(opened.signature_header.nonce, nonce.as_bytes());
        assert_eq!(opened.data, "data");

        let signed = SignedData::of(&envelope).unwrap();
        assert_eq!(
            (&signed.message, &signed.identity),
            (&envelope.payload, &identity.serialized())
        );
        let key = UnparsedPublicKey::new(&ED25519, identity.public_key());
        key.verify(&signed.message, &signed.signature).unwrap();
    }

    /// Covers: PRT-01
    #[test]
    fn an_unsigned_envelope_names_nobody() {
        let envelope = unsigned_envelope(&header(HeaderType::Message), Bytes::from_static(b"data"));
        let opened = OpenedEnvelope::open(&envelope).unwrap();
        assert_eq!(opened.signature_header, SignatureHeader::default());
        assert_eq!(opened.channel_header.tls_cert_hash, "");
        assert_eq!(
            (envelope.signature, opened.data),
            (Bytes::new(), Bytes::from_static(b"data"))
        );
    }

    /// Covers: PRT-02
    #[tokio::test]
    async fn a_transaction_has_the_id_of_nonce_and_creator() {
        let (signer, identity) = signer();
        let nonce = Nonce::new([9; NONCE_BYTES]);
        let with_id = EnvelopeHeader {
            tx_id: "another".to_owned(),
            ..header(HeaderType::EndorserTransaction)
        };
        let envelope = transaction_envelope(&signer, with_id, Bytes::new(), nonce)
            .await
            .unwrap();
        let mut preimage = nonce.as_bytes().to_vec();
        preimage.extend_from_slice(&identity.serialized());
        let expected = hex::encode(digest::digest(&digest::SHA256, &preimage));
        let opened = OpenedEnvelope::open(&envelope).unwrap();
        assert_eq!(opened.channel_header.tx_id, expected);
        assert_eq!(opened.transaction_id().unwrap(), expected);

        // Absent in the header, it is computed; what is there counts as it is.
        let without = signed_envelope(&signer, &header(HeaderType::Message), Bytes::new(), nonce)
            .await
            .unwrap();
        let mut opened = OpenedEnvelope::open(&without).unwrap();
        assert_eq!(opened.transaction_id().unwrap(), expected);
        opened.channel_header.tx_id = "named".to_owned();
        assert_eq!(opened.transaction_id().unwrap(), "named");
    }
}
