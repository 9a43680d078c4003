// SPDX-License-Identifier: Apache-2.0
//! Our requests against those that Fabric's own client code made, and against a fixed snapshot.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey},
};
use block_api::{BlockNumber, ChannelId, Content, Start, Stop, StreamRequest, WhenMissing};
use blockcast_signer::{
    Ed25519Signer, Identity,
    envelope::{
        Nonce, OpenedEnvelope, SignedData, seek_envelope, seek_envelope_best_effort, seek_info,
        seek_info_best_effort,
    },
    load_msp_folder,
};
use bytes::Bytes;
use prost::Message as _;
use protos::{
    common::{ChannelHeader, Envelope, Header, Payload, SignatureHeader},
    msp::SerializedIdentity,
    orderer::SeekInfo,
};

/// When the fixtures were made.
const MADE_AT: u64 = 1_795_327_572;

/// The TLS certificate hash of the one fixture that has any.
const TLS_CERT_HASH: &str = "82b7fe4bb43fc10ac2db02ad58518a86b249fef35b89b0fd468ea0daccb204a0";

/// What a fixture asks for.
struct Row {
    file: &'static str,
    request: StreamRequest,
    best_effort: bool,
    tls_cert_hash: Option<[u8; 32]>,
}

/// Covers: REQ-05, REQ-06, PRT-01, PRS-01
#[tokio::test]
async fn our_requests_equal_those_of_fabric_field_by_field() {
    let folder = fixtures().join("msp/org1/user1/msp");
    let signer = load_msp_folder(&folder, "Org1MSP").unwrap();
    let certificate = fs::read(folder.join("signcerts/User1@org1.test-cert.pem")).unwrap();
    let identity = Identity::new("Org1MSP", &certificate).unwrap();
    let readme = fs::read_to_string(fixtures().join("seek/README.txt")).unwrap();

    for row in rows() {
        let file = row.file;
        let theirs = Envelope::decode(Bytes::from(
            fs::read(fixtures().join("seek").join(file)).unwrap(),
        ))
        .unwrap();
        let opened = OpenedEnvelope::open(&theirs).unwrap();
        let nonce = Nonce::new(opened.signature_header.nonce.as_ref().try_into().unwrap());
        // A part of a second that must not reach the wire.
        let now =
            SystemTime::UNIX_EPOCH + Duration::from_secs(MADE_AT) + Duration::from_millis(789);
        let hash = row.tls_cert_hash;
        let ours = if row.best_effort {
            seek_envelope_best_effort(signer.as_ref(), &row.request, hash, now, nonce).await
        } else {
            seek_envelope(signer.as_ref(), &row.request, hash, now, nonce).await
        };
        let ours = ours.unwrap();

        // The fields, decoded and as bytes.
        let (our_parts, their_parts) = (parts(&ours), parts(&theirs));
        assert_eq!(our_parts.1, their_parts.1, "{file}: channel header");
        assert_eq!(our_parts.2, their_parts.2, "{file}: signature header");
        assert_eq!(our_parts.3, their_parts.3, "{file}: seek info");
        assert_eq!(our_parts.0, their_parts.0, "{file}: header bytes");
        assert_eq!(ours.payload, theirs.payload, "{file}: payload");
        assert_eq!(
            opened.signature_header.creator,
            identity.serialized(),
            "{file}: creator"
        );

        // What Fabric's side wrote down about it.
        assert!(
            readme.contains(&hex::encode(digest(&SHA256, &ours.payload))),
            "{file}: payload hash"
        );
        assert!(
            readme.contains(&hex::encode(&our_parts.0.channel_header)),
            "{file}: channel header bytes"
        );
        assert!(
            readme.contains(&hex::encode(our_parts.3.encode_to_vec())),
            "{file}: seek info bytes"
        );

        // Both are signed by the key of the certificate.
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, identity.public_key());
        for envelope in [&ours, &theirs] {
            let signed = SignedData::of(envelope).unwrap();
            assert_eq!(signed.identity, signer.identity(), "{file}");
            key.verify(&signed.message, &signed.signature)
                .unwrap_or_else(|_| panic!("{file}: signature"));
            let mut message = signed.message.to_vec();
            message[file.len()] ^= 1;
            assert!(
                key.verify(&message, &signed.signature).is_err(),
                "{file}: a flipped bit"
            );
        }
    }
}

/// The snapshot was encoded from the wire format and signed with OpenSSL: see `data/README.md`.
///
/// Covers: REQ-06
#[tokio::test]
async fn a_request_is_bytes_exact() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let identity = Identity::new("Org1MSP", fs::read(data.join("ed25519.crt")).unwrap()).unwrap();
    let public_key = identity.public_key().to_vec();
    let signer = Ed25519Signer::new(identity, fs::read(data.join("ed25519.key")).unwrap()).unwrap();
    let request = StreamRequest::headers_from(channel(), Start::At(BlockNumber::new(7)));
    let nonce = Nonce::new(std::array::from_fn(|index| index as u8));
    let now = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 999_999_999);

    let envelope = seek_envelope(&signer, &request, Some([0xab; 32]), now, nonce)
        .await
        .unwrap();
    let expected = fs::read(data.join("seek_envelope.pb")).unwrap();
    assert_eq!(hex::encode(envelope.encode_to_vec()), hex::encode(expected));

    // aws-lc-rs agrees that the message was signed as it is, without a hash before it.
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&envelope.payload, &envelope.signature)
        .unwrap();
}

/// Covers: REQ-05, REQ-06
#[test]
fn every_field_of_a_request_reaches_the_wire() {
    let request = StreamRequest::blocks_from(channel(), Start::Oldest);
    let seven = BlockNumber::new(7);
    // The encoded SeekInfo, whose fields are told apart in the reference.
    let rows = [
        (request.clone(), "0a021200120d1a0b08ffffffffffffffffff01"),
        (
            StreamRequest {
                start: Start::Newest,
                ..request.clone()
            },
            "0a020a00120d1a0b08ffffffffffffffffff01",
        ),
        (
            StreamRequest {
                stop: Stop::Newest,
                ..request.clone()
            },
            "0a02120012020a00",
        ),
        (
            StreamRequest {
                stop: Stop::At(seven),
                ..request.clone()
            },
            "0a02120012041a020807",
        ),
        // Block 0 is a specified number that proto3 leaves out.
        (
            StreamRequest {
                start: Start::At(BlockNumber::GENESIS),
                stop: Stop::Newest,
                ..request.clone()
            },
            "0a021a0012020a00",
        ),
        (
            StreamRequest {
                content: Content::Headers,
                stop: Stop::Newest,
                ..request.clone()
            },
            "0a02120012020a002801",
        ),
        (
            StreamRequest {
                when_missing: WhenMissing::Fail,
                stop: Stop::Newest,
                ..request
            },
            "0a02120012020a001801",
        ),
        (
            StreamRequest::range(channel(), seven, seven),
            "0a041a02080712041a0208071801",
        ),
    ];
    for (request, expected) in rows {
        assert_eq!(
            hex::encode(seek_info(&request).encode_to_vec()),
            expected,
            "{request:?}"
        );
        let best_effort = seek_info_best_effort(&request);
        assert_eq!(
            SeekInfo {
                error_response: 0,
                ..best_effort
            },
            seek_info(&request)
        );
        assert_eq!(best_effort.error_response, 1);
    }
}

fn rows() -> Vec<Row> {
    let blocks =
        |number| StreamRequest::blocks_from(channel(), Start::At(BlockNumber::new(number)));
    let row = |file, request| Row {
        file,
        request,
        best_effort: false,
        tls_cert_hash: None,
    };
    let to_newest = |start, when_missing| StreamRequest {
        channel: channel(),
        start,
        stop: Stop::Newest,
        content: Content::Blocks,
        when_missing,
    };
    vec![
        row("peer_blocks_from_1.pb", blocks(1)),
        row("peer_blocks_from_300.pb", blocks(300)),
        row(
            "peer_headers_from_1.pb",
            StreamRequest::headers_from(channel(), Start::At(BlockNumber::new(1))),
        ),
        Row {
            tls_cert_hash: Some(hex::decode(TLS_CERT_HASH).unwrap().try_into().unwrap()),
            ..row("peer_blocks_from_1_tlshash.pb", blocks(1))
        },
        row(
            "cli_oldest_to_newest_fail_if_not_ready.pb",
            to_newest(Start::Oldest, WhenMissing::Fail),
        ),
        Row {
            best_effort: true,
            ..row(
                "cli_newest_besteffort.pb",
                to_newest(Start::Newest, WhenMissing::Wait),
            )
        },
    ]
}

fn parts(envelope: &Envelope) -> (Header, ChannelHeader, (SerializedIdentity, Bytes), SeekInfo) {
    let payload = Payload::decode(envelope.payload.clone()).unwrap();
    let header = payload.header.unwrap();
    let channel_header = ChannelHeader::decode(header.channel_header.clone()).unwrap();
    let signature_header = SignatureHeader::decode(header.signature_header.clone()).unwrap();
    let creator = SerializedIdentity::decode(signature_header.creator).unwrap();
    (
        header,
        channel_header,
        (creator, signature_header.nonce),
        SeekInfo::decode(payload.data).unwrap(),
    )
}

fn channel() -> ChannelId {
    "ch-raft".parse().unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}
