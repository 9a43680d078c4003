// SPDX-License-Identifier: Apache-2.0
//! TLS: what is trusted, and what is said when something is not.

use std::{sync::Arc, time::Duration};

use block_api::{BlockSource as _, Clock, Endpoint, FixedClock, SourceError};
use orderer_client::{
    AddressOverride, Config, OrdererClient, OrdererEndpoint, Tls, TransportError,
};
use orderer_server::ServerTls;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    block, blocks_from, client_of, clock,
    net::{Served, listener},
    now,
    pki::{mutual_client_tls, mutual_server_tls, orderer_roots, other_roots, server_tls},
    recorded, refusal,
    script::{Script, Step},
    test_signer, within,
};

async fn served_on(host: &str, tls: ServerTls) -> Served {
    Served::start(
        host,
        Script::new([Step::Block(recorded(1)), Step::Hang]),
        tls,
    )
    .await
}

fn client(endpoint: &Endpoint, tls_roots: Vec<CertificateDer<'static>>, tls: Tls) -> OrdererClient {
    client_at(endpoint, tls_roots, tls, clock())
}

fn client_at(
    endpoint: &Endpoint,
    tls_roots: Vec<CertificateDer<'static>>,
    tls: Tls,
    clock: Arc<dyn Clock>,
) -> OrdererClient {
    let endpoints = vec![OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots,
    }];
    OrdererClient::new(
        Config {
            endpoints,
            tls,
            ..Config::default()
        },
        test_signer(),
        clock,
    )
    .unwrap()
}

/// The cause of a connection that did not come about.
async fn cause(client: &OrdererClient, endpoint: &Endpoint) -> TransportError {
    let opened = within(
        "the end of the attempt",
        client.open(endpoint, &blocks_from(1)),
    )
    .await;
    let error = refusal(opened);
    let SourceError::Connect { source, .. } = error else {
        panic!("{error:?}")
    };
    *source.downcast::<TransportError>().unwrap()
}

#[tokio::test]
async fn the_orderer_proves_who_it_is() {
    for host in ["127.0.0.1", "localhost"] {
        let served = served_on(host, server_tls()).await;
        let client = client(&served.endpoint, orderer_roots(), Tls::Server);
        let mut stream = client
            .open(&served.endpoint, &blocks_from(1))
            .await
            .unwrap();
        assert_eq!(block(&mut stream).await, recorded(1), "{host}");
        drop(stream);
        served.stop().await;
    }
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let served = served_on("localhost", mutual_server_tls()).await;
    let client = client(
        &served.endpoint,
        orderer_roots(),
        mutual_client_tls("org1/user1"),
    );
    let mut stream = client
        .open(&served.endpoint, &blocks_from(1))
        .await
        .unwrap();
    assert_eq!(block(&mut stream).await, recorded(1));
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_not_accepted() {
    let served = served_on("localhost", server_tls()).await;
    let cause = cause(
        &client(&served.endpoint, other_roots(), Tls::Server),
        &served.endpoint,
    )
    .await;
    assert!(
        matches!(cause, TransportError::ServerCertificate { .. }),
        "{cause:?}"
    );
    let text = cause.to_string();
    assert!(
        text.contains("UnknownIssuer") && text.contains("give the TLS CA"),
        "{text}"
    );
    served.stop().await;
}

/// No organisation decides alone whom a client trusts at an address that others name, too.
#[tokio::test]
async fn an_endpoint_named_twice_is_proved_by_the_roots_of_either() {
    let served = served_on("localhost", server_tls()).await;
    let named = |tls_roots| OrdererEndpoint {
        endpoint: served.endpoint.clone(),
        tls_roots,
    };
    for named_by in [
        [named(orderer_roots()), named(other_roots())],
        [named(other_roots()), named(orderer_roots())],
    ] {
        let client = client(&served.endpoint, other_roots(), Tls::Server);
        assert_eq!(client.set_endpoints(&named_by), []);
        assert_eq!(client.endpoints(), std::slice::from_ref(&served.endpoint));
        let opened = client.open(&served.endpoint, &blocks_from(1)).await;
        assert_eq!(block(&mut opened.unwrap()).await, recorded(1));
    }
    served.stop().await;
}

/// The roots of those who no longer name an endpoint prove nothing.
#[tokio::test]
async fn new_roots_replace_those_before() {
    let served = served_on("localhost", server_tls()).await;
    let client = client(&served.endpoint, orderer_roots(), Tls::Server);
    let named = OrdererEndpoint {
        endpoint: served.endpoint.clone(),
        tls_roots: other_roots(),
    };
    assert_eq!(client.set_endpoints(&[named]), []);
    let cause = cause(&client, &served.endpoint).await;
    assert!(
        matches!(cause, TransportError::ServerCertificate { .. }),
        "{cause:?}"
    );
    served.stop().await;
}

/// Covers: SRC-09
#[tokio::test]
async fn an_update_of_an_overridden_endpoint_keeps_the_address_and_roots_of_the_override() {
    let served = served_on("localhost", server_tls()).await;
    let named = |tls_roots| OrdererEndpoint {
        endpoint: "orderer.example.com:7050".parse().unwrap(),
        tls_roots,
    };
    let config = Config {
        endpoints: vec![named(other_roots())],
        tls: Tls::Server,
        overrides: vec![AddressOverride {
            from: named(Vec::new()).endpoint,
            to: served.endpoint.clone(),
            tls_roots: Some(orderer_roots()),
        }],
        ..Config::default()
    };
    let client = OrdererClient::new(config, test_signer(), clock()).unwrap();
    // Not even roots that cannot be used stand in its way.
    let broken = CertificateDer::from(b"no certificate".to_vec());
    assert_eq!(client.set_endpoints(&[named(vec![broken])]), []);
    let endpoint = named(Vec::new()).endpoint;
    let opened = client.open(&endpoint, &blocks_from(1)).await;
    assert_eq!(block(&mut opened.unwrap()).await, recorded(1));
    served.stop().await;
}

/// The certificate is for 127.0.0.1, not for 127.0.0.2.
#[tokio::test]
async fn a_certificate_for_another_name_is_not_accepted() {
    let served = served_on("127.0.0.2", server_tls()).await;
    let cause = cause(
        &client(&served.endpoint, orderer_roots(), Tls::Server),
        &served.endpoint,
    )
    .await;
    assert!(
        matches!(cause, TransportError::ServerCertificate { .. }),
        "{cause:?}"
    );
    let text = cause.to_string();
    assert!(
        text.contains("127.0.0.2") && text.contains("address override"),
        "{text}"
    );
    served.stop().await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_accepted() {
    let served = served_on("localhost", server_tls()).await;
    let late = FixedClock(now() + Duration::from_secs(20 * 365 * 24 * 3600));
    let client = client_at(
        &served.endpoint,
        orderer_roots(),
        Tls::Server,
        Arc::new(late),
    );
    let cause = cause(&client, &served.endpoint).await;
    assert!(
        matches!(cause, TransportError::ServerCertificate { .. }),
        "{cause:?}"
    );
    let text = cause.to_string();
    assert!(text.contains("expired") && text.contains("clock"), "{text}");
    served.stop().await;
}

/// A TLS 1.3 client is done with the handshake before the server has seen its certificate.
#[tokio::test]
async fn an_orderer_that_wants_a_client_certificate_says_so() {
    let served = served_on("localhost", mutual_server_tls()).await;
    for _ in 0..10 {
        let cause = cause(
            &client(&served.endpoint, orderer_roots(), Tls::Server),
            &served.endpoint,
        )
        .await;
        assert!(
            matches!(cause, TransportError::ClientRefused { .. }),
            "{cause:?}"
        );
        let text = cause.to_string();
        assert!(
            text.contains("CertificateRequired") && text.contains("configure mutual TLS"),
            "{text}"
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_certificate_of_a_stranger_is_refused() {
    let served = served_on("localhost", mutual_server_tls()).await;
    let client = client(
        &served.endpoint,
        orderer_roots(),
        mutual_client_tls("org2/user1"),
    );
    let cause = cause(&client, &served.endpoint).await;
    assert!(
        matches!(cause, TransportError::ClientRefused { .. }),
        "{cause:?}"
    );
    let text = cause.to_string();
    assert!(
        text.contains("UnknownCA") && text.contains("issuer that the orderer trusts"),
        "{text}"
    );
    served.stop().await;
}

#[tokio::test]
async fn tls_to_a_plain_orderer_says_so() {
    let served = served_on("localhost", ServerTls::plain()).await;
    let cause = cause(
        &client(&served.endpoint, orderer_roots(), Tls::Server),
        &served.endpoint,
    )
    .await;
    let text = cause.to_string();
    assert!(text.contains("does not speak TLS"), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn plain_to_a_tls_orderer_says_so() {
    let served = served_on("localhost", server_tls()).await;
    let cause = cause(&client_of(&[&served.endpoint]), &served.endpoint).await;
    let text = cause.to_string();
    assert!(
        text.ends_with("if the orderer uses TLS, turn TLS on"),
        "{text}"
    );
    served.stop().await;
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_runs_out_of_time() {
    let (listener, silent) = listener("127.0.0.1").await;
    let endpoints = vec![OrdererEndpoint {
        endpoint: silent.clone(),
        tls_roots: orderer_roots(),
    }];
    let connect_timeout = Duration::from_millis(100);
    let config = Config {
        endpoints,
        tls: Tls::Server,
        connect_timeout,
        ..Config::default()
    };
    let client = OrdererClient::new(config, test_signer(), clock()).unwrap();
    let opened = within(
        "the end of the attempt",
        client.open(&silent, &blocks_from(1)),
    )
    .await;
    let error = refusal(opened);
    assert!(
        matches!(error, SourceError::TimedOut { after, .. } if after == connect_timeout),
        "{error:?}"
    );
    drop(listener);
}

#[tokio::test]
async fn a_handshake_that_is_cut_short_is_lost() {
    let (listener, closing) = listener("127.0.0.1").await;
    let client = client(&closing, orderer_roots(), Tls::Server);
    let (cause, ()) = tokio::join!(cause(&client, &closing), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let text = cause.to_string();
    assert!(text.contains("was lost"), "{text}");
}
