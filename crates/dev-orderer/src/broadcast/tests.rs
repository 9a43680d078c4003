// SPDX-License-Identifier: Apache-2.0
//! Every filter, and the status that its refusal has.

use std::time::{Duration, SystemTime};

use block_api::{BlockReader as _, FixedClock, Height, testing::within};
use bytes::Bytes;
use signer::envelope::{EnvelopeHeader, Nonce, signed_envelope, unsigned_envelope};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Member, Network, NetworkConfig, OrganizationSpec, chain::MemoryChain, ordering::Ordering,
};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const MAX_BYTES: u32 = 10_000;

struct Fixture {
    network: Network,
    admission: Admission,
    ordering: Ordering,
    chain: Arc<MemoryChain>,
}

fn fixture(now: SystemTime) -> Fixture {
    let mut config = NetworkConfig::new("ch".parse().unwrap());
    config
        .applications
        .push(OrganizationSpec::application("Org2"));
    config.batch.absolute_max_bytes = MAX_BYTES.try_into().unwrap();
    config.batch.preferred_max_bytes = MAX_BYTES.try_into().unwrap();
    config.batch.max_message_count = 1.try_into().unwrap();
    let network = Network::generate(config, &["localhost:7050".parse().unwrap()], NOW).unwrap();
    let chain = Arc::new(MemoryChain::new());
    chain.append(network.genesis());
    let (ordering, handle) = Ordering::new(
        &network.config().batch,
        100_000,
        network.writer(),
        vec![chain.clone()],
    );
    let verifier = Arc::new(ChannelVerifier::from_genesis(network.genesis()).unwrap());
    let admission = Admission::new(verifier, Arc::new(FixedClock(now)), handle);
    Fixture {
        network,
        admission,
        ordering,
        chain,
    }
}

async fn envelope(member: &Member, kind: HeaderType, channel: &str, bytes: usize) -> Envelope {
    let header = EnvelopeHeader::new(kind, channel.parse().unwrap(), NOW);
    signed_envelope(
        &*member.signer(),
        &header,
        vec![7; bytes].into(),
        Nonce::random(),
    )
    .await
    .unwrap()
}

/// An envelope of exactly this size, payload and signature together.
async fn of_size(member: &Member, size: usize) -> Envelope {
    let mut bytes = size - 1000;
    loop {
        let envelope = envelope(member, HeaderType::Message, "ch", bytes).await;
        let actual = envelope.payload.len() + envelope.signature.len();
        // Signatures differ in length by a byte or two.
        if actual == size {
            return envelope;
        }
        bytes = bytes + size - actual;
    }
}

/// Covers: ORD-04, ORD-07, ORD-10, ORD-11
#[tokio::test]
async fn each_refusal_has_its_status() {
    let Fixture {
        network, admission, ..
    } = fixture(NOW);
    let client = network.client();
    let of = async |kind| envelope(client, kind, "ch", 10).await;
    let good = of(HeaderType::Message).await;
    let mut forged = good.clone();
    forged.signature = of(HeaderType::Message).await.signature;
    let mut unsigned = good.clone();
    unsigned.signature = Bytes::new();
    let no_creator = unsigned_envelope(
        &EnvelopeHeader::new(HeaderType::Message, "ch".parse().unwrap(), NOW),
        Bytes::new(),
    );
    let stranger = Network::generate(
        network.config().clone(),
        &["localhost:7050".parse().unwrap()],
        NOW,
    )
    .unwrap();
    let peer = network.applications()[0].member("peer0").unwrap();
    let garbage = Envelope {
        payload: Bytes::from_static(b"\xff\xff"),
        signature: Bytes::new(),
    };

    let rows = [
        (
            "empty",
            Envelope::default(),
            Status::BadRequest,
            "has no payload",
        ),
        ("garbage", garbage, Status::BadRequest, "does not parse"),
        (
            "unknown channel",
            envelope(client, HeaderType::Message, "other", 1).await,
            Status::BadRequest,
            "\"other\"",
        ),
        (
            "config",
            of(HeaderType::Config).await,
            Status::BadRequest,
            "type 1",
        ),
        (
            "orderer transaction",
            of(HeaderType::OrdererTransaction).await,
            Status::BadRequest,
            "type 4",
        ),
        (
            "seek",
            of(HeaderType::DeliverSeekInfo).await,
            Status::BadRequest,
            "type 5",
        ),
        (
            "config update",
            of(HeaderType::ConfigUpdate).await,
            Status::NotImplemented,
            "config updates",
        ),
        (
            "one byte too large",
            of_size(client, MAX_BYTES as usize + 1).await,
            Status::BadRequest,
            "10001 bytes",
        ),
        ("forged", forged, Status::Forbidden, "no right to write"),
        ("unsigned", unsigned, Status::Forbidden, "no right to write"),
        (
            "no creator",
            no_creator,
            Status::Forbidden,
            "no right to write",
        ),
        (
            "stranger",
            envelope(stranger.client(), HeaderType::Message, "ch", 1).await,
            Status::Forbidden,
            "no right to write",
        ),
        (
            "a peer only reads",
            envelope(peer, HeaderType::Message, "ch", 1).await,
            Status::Forbidden,
            "no right to write",
        ),
    ];
    for (name, envelope, status, text) in rows {
        let answer = admission.submit(envelope).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.info);
        assert!(answer.info.contains(text), "{name}: {}", answer.info);
    }
}

/// Covers: ORD-03, ORD-10, ORD-11
#[tokio::test]
async fn what_passes_is_ordered_as_it_came() {
    let Fixture {
        network,
        admission,
        ordering,
        chain,
    } = fixture(NOW);
    let org2 = network.applications()[1].member("user1").unwrap();
    let orderer = network.orderers()[0].member("orderer0").unwrap();
    let envelopes = [
        envelope(network.client(), HeaderType::Message, "ch", 10).await,
        envelope(org2, HeaderType::EndorserTransaction, "ch", 10).await,
        envelope(orderer, HeaderType::Message, "ch", 0).await,
        of_size(network.client(), MAX_BYTES as usize).await,
        of_size(network.client(), MAX_BYTES as usize - 1).await,
    ];
    let stop = CancellationToken::new();
    let submitting = async {
        for envelope in &envelopes {
            assert_eq!(
                admission.submit(envelope.clone()).await,
                BroadcastAnswer::success()
            );
        }
        within("ordering", chain.wait_for(Height::new(6)))
            .await
            .unwrap();
        stop.cancel();
    };
    tokio::join!(submitting, ordering.run(stop.clone()));
    let limits = block_api::ReadLimits::new(100, 1_000_000);
    let blocks = chain
        .read(block_api::BlockNumber::new(1), limits)
        .await
        .unwrap();
    for (raw, envelope) in blocks.into_iter().zip(&envelopes) {
        let block = block_api::Block::parse(raw).unwrap();
        assert_eq!(block.data().collect::<Vec<_>>(), [envelope.encode_to_vec()]);
    }
}

/// Covers: ORD-10
#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let years = |n: u64| NOW + Duration::from_secs(n * 366 * 86_400);
    let late = fixture(years(11));
    let envelope = envelope(late.network.client(), HeaderType::Message, "ch", 1).await;
    let answer = late.admission.submit(envelope).await;
    assert_eq!(answer.status, Status::BadRequest);
    assert!(answer.info.contains("expired"), "{}", answer.info);
}

/// Covers: ORD-06
#[tokio::test]
async fn a_stopped_service_is_unavailable() {
    let Fixture {
        network,
        admission,
        ordering,
        ..
    } = fixture(NOW);
    drop(ordering);
    let answer = admission
        .submit(envelope(network.client(), HeaderType::Message, "ch", 1).await)
        .await;
    assert_eq!(answer.status, Status::ServiceUnavailable);
}

#[test]
fn each_error_has_a_status() {
    let expired = AccessError::Expired {
        subject: String::new(),
    };
    let denied = AccessError::Denied {
        subject: String::new(),
        policy: "/Channel/Writers".to_owned(),
    };
    let rows = [
        (
            SubmitError::Malformed(OpenEnvelopeError::NoPayload),
            Status::BadRequest,
        ),
        (
            SubmitError::UnknownChannel {
                found: String::new(),
                served: "ch".parse().unwrap(),
            },
            Status::BadRequest,
        ),
        (SubmitError::UnsupportedType { kind: 1 }, Status::BadRequest),
        (SubmitError::ConfigUpdate, Status::NotImplemented),
        (
            SubmitError::TooLarge { size: 2, max: 1 },
            Status::BadRequest,
        ),
        (SubmitError::Expired(expired), Status::BadRequest),
        (SubmitError::Denied(denied), Status::Forbidden),
        (SubmitError::Maintenance, Status::ServiceUnavailable),
        (SubmitError::Replaying, Status::NotImplemented),
        (SubmitError::Stopped(Stopped), Status::ServiceUnavailable),
    ];
    for (error, status) in rows {
        assert_eq!(error.status(), status, "{error}");
    }
}
