// SPDX-License-Identifier: Apache-2.0
//! Every row of `deliver-status.md` that needs no change of the configuration, on the same chain.

use std::sync::Arc;

use block_api::{Readers, testing::OpenReaders};
use bytes::Bytes;
use orderer_server::{ConsenterState, OrdererServer, Peer, PeerTls, ServedChannel};
use prost::Message as _;
use protos::common::{Envelope, Payload, Status};
use tokio::sync::watch;

use crate::support::{
    HEIGHT, HandClock,
    access::channel_readers,
    ledger::Ledger,
    recorded,
    seek::{MAX, Seek, Signature, at, newest, next_commit, nowhere, oldest},
    server_of,
    talk::{Got, Talk, blocks, refused, served},
};

const TIP: u64 = HEIGHT - 1;

fn server_with(readers: Arc<dyn Readers>) -> OrdererServer {
    server_of(
        ServedChannel::new(Ledger::recorded(), readers),
        HandClock::new(),
    )
}

/// A server with the channel's own readers.
fn server() -> OrdererServer {
    server_with(channel_readers())
}

/// Sends a request, and half-closes after SUCCESS; the call must then end with OK, as it must by
/// itself after any other status.
async fn ask(server: &OrdererServer, peer: Peer, envelope: &Envelope) -> Vec<Got> {
    let mut talk = Talk::by(server, peer).await;
    talk.send(envelope).await;
    finish(&mut talk).await
}

async fn finish(talk: &mut Talk) -> Vec<Got> {
    let answer = talk.answer().await;
    if answer.last() == Some(&Got::Status(Status::Success)) {
        talk.half_close();
    }
    assert_eq!(talk.next().await, Got::End, "after {answer:?}");
    answer
}

async fn check(server: &OrdererServer, rows: Vec<(&str, Seek, Vec<Got>)>) {
    for (name, seek, expected) in rows {
        let answer = ask(server, Peer::default(), &seek.envelope().await).await;
        assert_eq!(answer, expected, "{name}");
    }
}

/// Covers: DLV-08, DLV-09, DLV-10, DLV-11, DLV-13, DLV-14
#[tokio::test]
async fn what_is_served() {
    let range = || Seek::new(at(0), at(2));
    let every_header = (0..HEIGHT).map(|number| match number {
        0 | 7 | 21 | 37 | 46 => Got::Block(number),
        _ => Got::Header(number),
    });
    let rows = vec![
        ("0..2 by a client of Org1", range(), blocks(0..=2)),
        (
            "0..2 by a peer of Org1",
            range().signer("org1/peer0"),
            blocks(0..=2),
        ),
        (
            "0..2 by an admin of Org1",
            range().signer("org1/admin"),
            blocks(0..=2),
        ),
        (
            "0..2 by an orderer node",
            range().signer("orderer/raft0"),
            blocks(0..=2),
        ),
        ("oldest..oldest", Seek::new(oldest(), oldest()), blocks([0])),
        (
            "newest..newest",
            Seek::new(newest(), newest()),
            blocks([TIP]),
        ),
        (
            "newest..oldest",
            Seek::new(newest(), oldest()),
            blocks([TIP]),
        ),
        (
            "oldest..newest",
            Seek::new(oldest(), newest()),
            blocks(0..HEIGHT),
        ),
        (
            "headers",
            Seek::new(oldest(), newest()).headers(),
            served(every_header),
        ),
        ("14 m 50 s late", range().off(-890), blocks(0..=2)),
        ("14 m 50 s early", range().off(890), blocks(0..=2)),
        (
            "any header type",
            range().header(|header| header.r#type = 99),
            blocks(0..=2),
        ),
        (
            "any version",
            range().header(|header| header.version = 7),
            blocks(0..=2),
        ),
        (
            "any epoch",
            range().header(|header| header.epoch = 12),
            blocks(0..=2),
        ),
        (
            "any tx_id",
            range().header(|header| header.tx_id = "deadbeef".to_owned()),
            blocks(0..=2),
        ),
        ("no nonce", range().no_nonce(), blocks(0..=2)),
        (
            "any tls_cert_hash",
            range().header(|header| header.tls_cert_hash = Bytes::from_static(b"any")),
            blocks(0..=2),
        ),
    ];
    check(&server(), rows).await;
}

/// Covers: DLV-06
#[tokio::test]
async fn a_call_serves_any_number_of_requests_and_the_same_one_again() {
    let server = server();
    let mut talk = Talk::with(&server).await;
    let first = Seek::new(at(0), at(2)).envelope().await;
    let second = Seek::new(at(5), at(6)).envelope().await;
    for (envelope, expected) in [
        (&first, blocks(0..=2)),
        (&second, blocks(5..=6)),
        (&first, blocks(0..=2)),
    ] {
        talk.send(envelope).await;
        assert_eq!(talk.answer().await, expected);
    }
    talk.half_close();
    assert_eq!(talk.next().await, Got::End);
    assert_eq!(
        ask(&server, Peer::default(), &first).await,
        blocks(0..=2),
        "again in a new call"
    );
}

#[tokio::test]
async fn a_half_close_without_a_request_ends_the_call() {
    let mut talk = Talk::with(&server()).await;
    talk.half_close();
    assert_eq!(talk.next().await, Got::End);
}

/// Covers: FLG-04
#[tokio::test]
async fn a_stream_at_the_tip_waits_for_the_next_block() {
    let rows = [
        ("start == height", at(HEIGHT - 2), at(HEIGHT - 2)),
        ("start == height, for ever", at(HEIGHT - 2), at(MAX)),
        ("next_commit..MAX", next_commit(), at(MAX)),
    ];
    for (name, start, stop) in rows {
        let ledger = Ledger::starting_at(0, (0..HEIGHT - 2).map(recorded).collect());
        let channel = ServedChannel::new(ledger.clone(), Arc::new(OpenReaders));
        let server = server_of(channel, HandClock::new());
        let mut talk = Talk::with(&server).await;
        talk.send(&Seek::new(start, stop).envelope().await).await;
        tokio::select! {
            biased;
            got = talk.next() => panic!("{name}: {got:?} before there was a block"),
            () = ledger.waited_for(HEIGHT - 1) => {}
        }
        ledger.append(recorded(HEIGHT - 2));
        assert_eq!(talk.next().await, Got::Block(HEIGHT - 2), "{name}");
    }
}

/// Covers: DLV-05, DLV-20, DLV-25, DLV-26, DLV-27
#[tokio::test]
async fn what_is_refused() {
    let range = || Seek::new(at(0), at(2));
    let rows = vec![
        (
            "unknown channel",
            range().channel("other"),
            Status::NotFound,
        ),
        ("empty channel", range().channel(""), Status::NotFound),
        (
            "a channel that no channel can be called",
            range().channel("No_Channel"),
            Status::NotFound,
        ),
        (
            "start > height",
            Seek::new(at(HEIGHT + 1), at(MAX)),
            Status::NotFound,
        ),
        (
            "start > height, not waiting",
            Seek::new(at(HEIGHT + 1), at(MAX)).fail(),
            Status::NotFound,
        ),
        ("start = MAX", Seek::new(at(MAX), at(MAX)), Status::NotFound),
        (
            "FAIL_IF_NOT_READY at the tip",
            Seek::new(at(HEIGHT), at(MAX)).fail(),
            Status::NotFound,
        ),
        (
            "next_commit, FAIL_IF_NOT_READY",
            Seek::new(next_commit(), at(MAX)).fail(),
            Status::NotFound,
        ),
        (
            "start is nowhere",
            Seek::new(nowhere(), at(2)),
            Status::NotFound,
        ),
        ("start > stop", Seek::new(at(3), at(2)), Status::BadRequest),
        ("no start", Seek::new(None, at(2)), Status::BadRequest),
        ("no stop", Seek::new(at(0), None), Status::BadRequest),
        ("empty SeekInfo", range().data(b""), Status::BadRequest),
        (
            "garbage SeekInfo",
            range().data(b"\xff\xff\xff garbage"),
            Status::BadRequest,
        ),
        (
            "no timestamp",
            range().header(|header| header.timestamp = None),
            Status::BadRequest,
        ),
        ("15 m 1 s late", range().off(-901), Status::BadRequest),
        ("15 m 1 s early", range().off(901), Status::BadRequest),
        (
            "a time before all times",
            range().time(i64::MIN, i32::MIN),
            Status::BadRequest,
        ),
        (
            "a time after all times",
            range().time(i64::MAX, i32::MAX),
            Status::BadRequest,
        ),
        (
            "bad signature",
            range().signature(Signature::Flipped),
            Status::Forbidden,
        ),
        (
            "empty signature",
            range().signature(Signature::Empty),
            Status::Forbidden,
        ),
        (
            "high-S signature",
            range().signature(Signature::HighS),
            Status::Forbidden,
        ),
        (
            "certificate of another organisation",
            range().claiming("Org2MSP"),
            Status::Forbidden,
        ),
        (
            "unknown MSP",
            range().claiming("Org9MSP"),
            Status::Forbidden,
        ),
        (
            "no creator",
            range().creator(Bytes::new()),
            Status::Forbidden,
        ),
        (
            "a creator that is none",
            range().creator(&b"\xff\xff\xff"[..]),
            Status::Forbidden,
        ),
    ];
    let rows = rows
        .into_iter()
        .map(|(name, seek, status)| (name, seek, refused([], status)))
        .collect();
    check(&server(), rows).await;
}

#[tokio::test]
async fn existing_blocks_are_sent_before_a_refusal_at_the_tip() {
    let rows = vec![
        (
            "FAIL_IF_NOT_READY past the tip",
            Seek::new(at(63), at(MAX)).fail(),
            refused(63..HEIGHT, Status::NotFound),
        ),
        (
            "stop is nowhere",
            Seek::new(at(63), nowhere()).fail(),
            refused(63..HEIGHT, Status::NotFound),
        ),
    ];
    check(&server(), rows).await;
}

/// Covers: DLV-20
#[tokio::test]
async fn what_is_no_request_is_a_bad_request() {
    let good = Seek::new(at(0), at(2)).envelope().await;
    let headless = Payload {
        header: None,
        ..Payload::decode(good.payload.clone()).unwrap()
    };
    let with_payload = |payload: Vec<u8>| {
        Envelope {
            payload: payload.into(),
            ..good.clone()
        }
        .encode_to_vec()
    };
    let broken_header = |channel_header: &'static [u8], signature_header: &'static [u8]| {
        let mut payload = Payload::decode(good.payload.clone()).unwrap();
        let header = payload.header.as_mut().unwrap();
        if !channel_header.is_empty() {
            header.channel_header = Bytes::from_static(channel_header);
        }
        if !signature_header.is_empty() {
            header.signature_header = Bytes::from_static(signature_header);
        }
        with_payload(payload.encode_to_vec())
    };
    let rows = [
        ("empty envelope", Vec::new()),
        ("garbage envelope", b"\xff\xff\xff garbage".to_vec()),
        ("empty payload", with_payload(Vec::new())),
        (
            "garbage payload",
            with_payload(b"\xff\xff\xff garbage".to_vec()),
        ),
        (
            "payload without header",
            with_payload(headless.encode_to_vec()),
        ),
        (
            "garbage channel header",
            broken_header(b"\xff\xff\xff", b""),
        ),
        (
            "garbage signature header",
            broken_header(b"", b"\xff\xff\xff"),
        ),
        (
            "a channel id that is no text",
            broken_header(b"\x22\x02\xff\xff", b""),
        ),
    ];
    let server = server();
    for (name, bytes) in rows {
        let mut talk = Talk::with(&server).await;
        talk.send_raw(bytes).await;
        assert_eq!(
            finish(&mut talk).await,
            refused([], Status::BadRequest),
            "{name}"
        );
    }
}

/// Covers: BND-01, BND-02, DLV-02, DLV-04
#[tokio::test]
async fn under_mutual_tls_a_request_is_bound_to_the_certificate() {
    const HASH: [u8; 32] = [9; 32];
    let bound = |hash: &'static [u8]| {
        Seek::new(at(0), at(2)).header(|header| header.tls_cert_hash = Bytes::from_static(hash))
    };
    let refused = || refused([], Status::BadRequest);
    let rows = [
        (
            "the certificate's hash",
            PeerTls::Mutual(Some(HASH)),
            bound(&HASH),
            blocks(0..=2),
        ),
        (
            "no hash",
            PeerTls::Mutual(Some(HASH)),
            bound(b""),
            refused(),
        ),
        (
            "a wrong hash",
            PeerTls::Mutual(Some(HASH)),
            bound(&[8; 32]),
            refused(),
        ),
        (
            "half a hash",
            PeerTls::Mutual(Some(HASH)),
            bound(&[9; 16]),
            refused(),
        ),
        (
            "no certificate",
            PeerTls::Mutual(None),
            bound(&HASH),
            refused(),
        ),
        (
            "neither certificate nor hash",
            PeerTls::Mutual(None),
            bound(b""),
            refused(),
        ),
        (
            "no mutual TLS",
            PeerTls::NotMutual,
            bound(&HASH),
            blocks(0..=2),
        ),
    ];
    let server = server();
    for (name, tls, seek, expected) in rows {
        let peer = Peer {
            tls,
            ..Peer::default()
        };
        assert_eq!(
            ask(&server, peer, &seek.envelope().await).await,
            expected,
            "{name}"
        );
    }
}

/// Covers: DLV-22, DLV-23
#[tokio::test]
async fn a_consenter_in_error_serves_best_effort_only() {
    let (consenter, state) = watch::channel(ConsenterState::InError);
    let ledger = Ledger::recorded();
    let channel = ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)).with_consenter(state);
    let server = server_of(channel, HandClock::new());
    let rows = vec![
        (
            "STRICT",
            Seek::new(at(0), at(2)),
            refused([], Status::ServiceUnavailable),
        ),
        (
            "BEST_EFFORT",
            Seek::new(at(0), at(2)).best_effort(),
            blocks(0..=2),
        ),
    ];
    check(&server, rows).await;

    consenter.send_replace(ConsenterState::Ready);
    let mut strict = Talk::with(&server).await;
    strict
        .send(&Seek::new(at(TIP), at(MAX)).envelope().await)
        .await;
    let mut lenient = Talk::with(&server).await;
    lenient
        .send(&Seek::new(at(TIP), at(MAX)).best_effort().envelope().await)
        .await;
    assert_eq!(strict.next().await, Got::Block(TIP));
    assert_eq!(lenient.next().await, Got::Block(TIP));
    consenter.send_replace(ConsenterState::InError);
    assert_eq!(
        finish(&mut strict).await,
        refused([], Status::ServiceUnavailable),
        "cut while it waits"
    );
    // A block that no chain has is enough here: whole blocks are not looked into.
    ledger.append(recorded(1));
    assert_eq!(lenient.next().await, Got::Block(1), "BEST_EFFORT goes on");
}

/// Covers: DLV-22
#[tokio::test]
async fn a_strict_stream_is_cut_between_blocks_too() {
    // Blocks so big that gRPC sends each by itself, before it asks for the next.
    let ledger = Ledger::starting_at(0, vec![recorded(20); 4]);
    let (consenter, state) = watch::channel(ConsenterState::Ready);
    let channel = ServedChannel::new(ledger, Arc::new(OpenReaders)).with_consenter(state);
    let server = server_of(channel, HandClock::new());
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(MAX)).envelope().await).await;
    assert_eq!(talk.next().await, Got::Block(20));
    consenter.send_replace(ConsenterState::InError);
    assert_eq!(
        finish(&mut talk).await,
        refused([], Status::ServiceUnavailable)
    );
}

/// Requests that Fabric's own client made, as they were sent.
#[tokio::test]
async fn recorded_requests_are_served() {
    let header = |number: u64| match number {
        7 => Got::Block(7),
        _ => Got::Header(number),
    };
    let rows: [(&str, Vec<Got>); 6] = [
        ("peer_blocks_from_1", (1..10).map(Got::Block).collect()),
        (
            "peer_blocks_from_1_tlshash",
            (1..10).map(Got::Block).collect(),
        ),
        ("peer_headers_from_1", (1..10).map(header).collect()),
        ("peer_blocks_from_300", refused([], Status::NotFound)),
        ("cli_oldest_to_newest_fail_if_not_ready", blocks(0..HEIGHT)),
        ("cli_newest_besteffort", blocks([TIP])),
    ];
    let clock = HandClock::new();
    let server = server_of(
        ServedChannel::new(Ledger::recorded(), channel_readers()),
        clock.clone(),
    );
    for (file, expected) in rows {
        let bytes = crate::support::fixture(&format!("seek/{file}.pb"));
        let envelope = Envelope::decode(&*bytes).unwrap();
        clock.set(crate::support::seek::made_at(&envelope));
        let mut talk = Talk::with(&server).await;
        talk.send(&envelope).await;
        for expected in expected {
            assert_eq!(talk.next().await, expected, "{file}");
        }
    }
}

/// What an orderer asks that is about to join a channel.
#[tokio::test]
async fn an_onboarding_orderer_gets_the_newest_block_and_waits() {
    let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
    let server = server_of(
        ServedChannel::new(ledger.clone(), channel_readers()),
        HandClock::new(),
    );
    let mut talk = Talk::with(&server).await;
    let probe = Seek::new(newest(), at(MAX)).best_effort();
    let probe = probe.signer("orderer/raft1");
    let probe = probe.header(|header| header.tls_cert_hash = Bytes::from_static(&[9; 32]));
    talk.send(&probe.envelope().await).await;
    assert_eq!(talk.next().await, Got::Block(2));
    tokio::select! {
        biased;
        got = talk.next() => panic!("{got:?} before there was a block"),
        () = ledger.waited_for(4) => {}
    }
    ledger.append(recorded(3));
    assert_eq!(talk.next().await, Got::Block(3));
}
