// SPDX-License-Identifier: Apache-2.0
//! Connections: TLS, limits, and a stop that leaves nothing behind.

use std::{sync::Arc, time::Duration};

use block_api::testing::OpenReaders;
use bytes::Bytes;
use orderer_server::{
    OrdererServer, Peer, ServeConfig, ServedChannel, ServerTls, serve_connection,
};
use protos::{
    common::{Envelope, Status},
    deliver::{DeliverMessage, RawDeliverResponse},
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::rustls::{
    AlertDescription, Error as TlsFailure, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use crate::support::{
    HEIGHT, HandClock,
    ledger::Ledger,
    recorded,
    seek::{MAX, Seek, at},
    server_of,
    wire::{Served, Wire, anonymous_tls, certificates, client_tls, mutual_tls, server_tls},
    within,
};

/// Short enough that a test can wait for it.
const SHORT: Duration = Duration::from_millis(50);

fn server() -> (Arc<Ledger>, OrdererServer) {
    let ledger = Ledger::recorded();
    let server = server_of(
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
        HandClock::new(),
    );
    (ledger, server)
}

async fn next(responses: &mut Streaming<RawDeliverResponse>) -> DeliverMessage {
    within("an answer", responses.message())
        .await
        .unwrap()
        .expect("the call goes on")
        .parse()
        .unwrap()
}

/// Asks for blocks 0 and 1.
async fn two_blocks(wire: &Wire) {
    let mut responses = wire
        .deliver(Seek::new(at(0), at(1)).envelope().await)
        .await
        .unwrap();
    for number in 0..2 {
        assert_eq!(
            next(&mut responses).await,
            DeliverMessage::Block(recorded(number))
        );
    }
    assert_eq!(
        next(&mut responses).await,
        DeliverMessage::Status(Status::Success.into())
    );
}

#[tokio::test]
async fn a_connection_can_be_a_pipe_and_ends_when_the_client_goes() {
    let (_, server) = server();
    let (near, far) = duplex(64 * 1024);
    let mut serving = JoinSet::new();
    let service = Arc::new(server.clone());
    serving.spawn(async move {
        serve_connection(service, far, Peer::default(), &ServeConfig::default()).await
    });
    let wire = Wire::over(near).await;
    two_blocks(&wire).await;
    let waiting = Seek::new(at(0), at(MAX)).envelope().await;
    let mut responses = wire.deliver(waiting).await.unwrap();
    next(&mut responses).await;
    assert_eq!(server.stats().counts().open_block_streams, 1);
    drop((responses, wire));
    within("the end of the connection", serving.join_next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.stats().counts().open_block_streams, 0);
}

/// Covers: DLV-21
#[tokio::test]
async fn a_call_that_is_dropped_ends_its_request_though_the_connection_stays() {
    let (ledger, server) = server();
    let served = Served::start(server.clone(), ServerTls::plain(), ServeConfig::default()).await;
    let wire = Wire::over(served.connect().await).await;
    let mut client = wire.client();
    // The sending side is closed, so that the reset is of the whole call.
    let request = tokio_stream::once(Seek::new(at(HEIGHT - 1), at(MAX)).envelope().await);
    let mut responses = client.deliver(request).await.unwrap().into_inner();
    next(&mut responses).await;
    within("the wait at the tip", ledger.waited_for(HEIGHT + 1)).await;
    drop(responses);
    // The next call on the connection is answered after the reset was read.
    within("the end of the request", async {
        while server.stats().counts().open_block_streams > 0 {
            two_blocks(&wire).await;
        }
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_calls_and_connections() {
    let (ledger, server) = server();
    let served = Served::start(server.clone(), ServerTls::plain(), ServeConfig::default()).await;
    let port = served.port;
    let wire = Wire::over(served.connect().await).await;
    let mut responses = wire
        .deliver(Seek::new(at(HEIGHT - 1), at(MAX)).envelope().await)
        .await
        .unwrap();
    next(&mut responses).await;
    within("the wait at the tip", ledger.waited_for(HEIGHT + 1)).await;
    served.stop().await;
    let ended = within("the end of the call", responses.message())
        .await
        .unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    wire.closed().await;
    assert_eq!(server.stats().counts().streams_closed, 1);
    assert!(
        TcpStream::connect(("127.0.0.1", port)).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_stop() {
    let ledger = Ledger::starting_at(0, vec![recorded(20); 20]);
    let server = server_of(
        ServedChannel::new(ledger, Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let config = ServeConfig {
        drain_timeout: SHORT,
        ..ServeConfig::default()
    };
    let served = Served::start(server.clone(), ServerTls::plain(), config).await;
    let wire = Wire::over(served.connect().await).await;
    let responses = wire
        .deliver(Seek::new(at(0), at(MAX)).envelope().await)
        .await
        .unwrap();
    served.stop().await;
    drop(responses);
    assert_eq!(server.stats().counts().streams_closed, 1);
}

/// A client that does not read holds up its own stream, and the server reads no further ahead.
#[tokio::test]
async fn what_waits_for_a_slow_client_is_bounded() {
    let block = recorded(20);
    let ledger = Ledger::starting_at(0, vec![block.clone(); 200]);
    let server = server_of(
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let (near, far) = duplex(64 * 1024);
    let mut serving = JoinSet::new();
    let service = Arc::new(server.clone());
    serving.spawn(async move {
        serve_connection(service, far, Peer::default(), &ServeConfig::default()).await
    });
    let wire = Wire::over(near).await;
    let mut responses = wire
        .deliver(Seek::new(at(0), at(MAX)).envelope().await)
        .await
        .unwrap();
    next(&mut responses).await;
    // There is one thread and no network: when everyone has had many turns, everyone is stuck.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let sent = server.stats().counts().blocks_sent;
    assert!(
        (2..=8).contains(&sent),
        "{sent} blocks of {} bytes",
        block.len()
    );
    assert!(ledger.reads().len() <= 8, "{:?}", ledger.reads());
    for _ in 1..200 {
        next(&mut responses).await;
    }
}

#[tokio::test]
async fn tls_speaks_http2_in_both_versions() {
    let (_, server) = server();
    let served = Served::start(server, server_tls(), ServeConfig::default()).await;
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let stream = served
            .connect_tls(client_tls(None, &[version]))
            .await
            .unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        two_blocks(&Wire::over(stream).await).await;
    }
    served.stop().await;
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let (_, server) = server();
    let served = Served::start(server, server_tls(), ServeConfig::default()).await;
    let mut stream = served.connect().await;
    // A ClientHello of version 1.1 with one cipher suite and no extension.
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x14, 1, 0]);
    let mut record = vec![
        22,
        3,
        1,
        0,
        hello.len() as u8 + 4,
        1,
        0,
        0,
        hello.len() as u8,
    ];
    record.extend(hello);
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    within("the refusal", stream.read_to_end(&mut answer))
        .await
        .unwrap();
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    assert_eq!(answer.first(), Some(&ALERT), "{answer:?}");
    assert_eq!(answer.get(5), Some(&FATAL), "{answer:?}");
    served.stop().await;
}

/// Covers: BND-02, DLV-02
#[tokio::test]
async fn under_mutual_tls_requests_are_bound_to_the_certificate_that_was_shown() {
    let (_, server) = server();
    let served = Served::start(server, mutual_tls(), ServeConfig::default()).await;
    let leaf: &CertificateDer<'_> = &certificates("msp/org1/user1/tls/client.crt")[0];
    let hash: [u8; 32] = Sha256::digest(leaf).into();
    let identity = Some("msp/org1/user1/tls");
    for (hash, expected) in [
        (
            Bytes::copy_from_slice(&hash),
            DeliverMessage::Block(recorded(0)),
        ),
        (Bytes::new(), DeliverMessage::Status(400)),
        (Bytes::from_static(&[1; 32]), DeliverMessage::Status(400)),
    ] {
        let stream = served
            .connect_tls(client_tls(identity, &[&TLS12, &TLS13]))
            .await
            .unwrap();
        let wire = Wire::over(stream).await;
        let seek = Seek::new(at(0), at(0)).header(|header| header.tls_cert_hash = hash.clone());
        let mut responses = wire.deliver(seek.envelope().await).await.unwrap();
        assert_eq!(next(&mut responses).await, expected, "{hash:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn mutual_tls_refuses_who_has_no_certificate_or_one_of_a_stranger() {
    let (_, server) = server();
    let served = Served::start(server, mutual_tls(), ServeConfig::default()).await;
    let stranger = client_tls(Some("msp/org2/user1/tls"), &[&TLS13]);
    let rows = [
        (
            "none",
            anonymous_tls(),
            AlertDescription::CertificateRequired,
        ),
        ("a stranger's", stranger, AlertDescription::UnknownCA),
    ];
    for (name, config, alert) in rows {
        // A TLS 1.3 client is done before the server has seen its certificate.
        let mut stream = served.connect_tls(config).await.unwrap();
        let error = within("the refusal", stream.read_u8()).await.unwrap_err();
        let failure = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<TlsFailure>());
        assert_eq!(
            failure,
            Some(&TlsFailure::AlertReceived(alert)),
            "{name}: {error}"
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    for tls in [ServerTls::plain(), server_tls()] {
        let (_, server) = server();
        let config = ServeConfig {
            handshake_timeout: SHORT,
            ..ServeConfig::default()
        };
        let served = Served::start(server, tls, config).await;
        let mut silent = served.connect().await;
        let mut bytes = Vec::new();
        within(
            "the end of the silent connection",
            silent.read_to_end(&mut bytes),
        )
        .await
        .unwrap();
        served.stop().await;
    }
}

#[tokio::test]
async fn a_connection_that_has_called_may_rest() {
    let (_, server) = server();
    let config = ServeConfig {
        handshake_timeout: SHORT,
        ..ServeConfig::default()
    };
    let served = Served::start(server, ServerTls::plain(), config.clone()).await;
    let wire = Wire::over(served.connect().await).await;
    two_blocks(&wire).await;
    // A second connection that is closed for its silence shows that the time was up for the first.
    let mut silent = served.connect().await;
    let mut bytes = Vec::new();
    within(
        "the end of the silent connection",
        silent.read_to_end(&mut bytes),
    )
    .await
    .unwrap();
    two_blocks(&wire).await;
    served.stop().await;
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    let (_, server) = server();
    let config = ServeConfig {
        max_connections: 1.try_into().unwrap(),
        ..ServeConfig::default()
    };
    let served = Served::start(server.clone(), ServerTls::plain(), config).await;
    let first = Wire::over(served.connect().await).await;
    two_blocks(&first).await;
    let second = Wire::over(served.connect().await).await;
    let request = Seek::new(at(0), at(1)).envelope().await;
    let waiting = second.deliver(request);
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("a second connection was served"),
        () = two_blocks(&first) => {}
    }
    assert_eq!(server.stats().counts().streams_opened, 2);
    drop(first);
    within("its turn", waiting).await.unwrap();
    served.stop().await;
}

/// Covers: DLV-19
#[tokio::test]
async fn a_message_above_the_limit_fails_its_call() {
    let (_, server) = server();
    let config = ServeConfig {
        max_message_bytes: 1000.try_into().unwrap(),
        ..ServeConfig::default()
    };
    let served = Served::start(server, ServerTls::plain(), config).await;
    let wire = Wire::over(served.connect().await).await;
    let envelope = Envelope {
        payload: vec![1; 2000].into(),
        signature: Bytes::new(),
    };
    let mut responses = wire.deliver(envelope).await.unwrap();
    let refused = within("the refusal", responses.message())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    served.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_handshake() {
    let (_, server) = server();
    let served = Served::start(server, server_tls(), ServeConfig::default()).await;
    let silent = served.connect().await;
    // One that is served shows that the silent one, which came before, was accepted.
    let stream = served.connect_tls(anonymous_tls()).await.unwrap();
    two_blocks(&Wire::over(stream).await).await;
    let stopped = CancellationToken::new();
    let guard = stopped.clone().drop_guard();
    served.stop().await;
    drop((guard, silent));
    assert!(stopped.is_cancelled());
}
