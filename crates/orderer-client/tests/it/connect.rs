// SPDX-License-Identifier: Apache-2.0
//! How a connection comes about, and what is said when it does not.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use block_api::{BlockSource as _, Phase, SignError, Signer, SourceError};
use bytes::Bytes;
use orderer_client::{AddressOverride, Config, OrdererClient, TransportError};
use protos::common::Status;
use tokio::io::AsyncWriteExt as _;

use crate::support::{
    blocks_from, client_of, client_with, clock, endpoint,
    net::{BlackHole, MemoryNet, Served, dead_endpoint, listener},
    plain, recorded, refusal,
    script::{Script, Step},
    within,
};

/// Short enough that a test can wait for it.
const SHORT: Duration = Duration::from_millis(100);

/// Signs nothing.
#[derive(Debug)]
struct NoSigner;

#[async_trait]
impl Signer for NoSigner {
    fn identity(&self) -> Bytes {
        Bytes::from_static(b"nobody")
    }

    async fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Err(SignError::new("the key is in the safe"))
    }
}

/// Covers: REQ-02
#[tokio::test]
async fn a_refused_connection_is_named() {
    let dead = dead_endpoint().await;
    let error = refusal(client_of(&[&dead]).open(&dead, &blocks_from(1)).await);
    assert!(matches!(error, SourceError::Connect { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(dead.as_str()) && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn an_endpoint_of_nobody_is_unknown() {
    let (known, other) = (endpoint("known:1"), endpoint("other:1"));
    let error = refusal(client_of(&[&known]).open(&other, &blocks_from(1)).await);
    assert!(
        matches!(error, SourceError::UnknownEndpoint { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_request_that_is_not_signed_costs_no_connection() {
    let orderer = endpoint("orderer:7050");
    let net = MemoryNet::new();
    let config = Config {
        endpoints: vec![plain(&orderer)],
        ..Config::default()
    };
    let client = OrdererClient::new(config, Arc::new(NoSigner), clock())
        .unwrap()
        .with_connector(net.clone());
    let error = refusal(client.open(&orderer, &blocks_from(1)).await);
    assert!(
        matches!(error, SourceError::Sign { .. }) && !error.is_retryable(),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("the key is in the safe"),
        "{error}"
    );
    assert!(net.dialled().is_empty());
}

/// The default limit, by a clock that runs ahead.
#[tokio::test(start_paused = true)]
async fn a_connection_has_three_seconds() {
    let orderer = endpoint("orderer:7050");
    let client = client_of(&[&orderer]).with_connector(Arc::new(BlackHole));
    let before = tokio::time::Instant::now();
    let error = refusal(client.open(&orderer, &blocks_from(1)).await);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    assert!(
        matches!(error, SourceError::TimedOut { phase: Phase::Connect, after, .. } if after == Duration::from_secs(3)),
        "{error:?}"
    );
}

/// The system accepts for a listener; what counts is that a server answers.
#[tokio::test]
async fn a_listener_that_never_answers_is_no_orderer() {
    let (listener, silent) = listener("127.0.0.1").await;
    let config = Config {
        endpoints: vec![plain(&silent)],
        connect_timeout: SHORT,
        ..Config::default()
    };
    let opened = within(
        "the end of the attempt",
        client_with(config).open(&silent, &blocks_from(1)),
    )
    .await;
    let error = refusal(opened);
    assert!(
        matches!(
            error,
            SourceError::TimedOut {
                phase: Phase::Connect,
                ..
            }
        ),
        "{error:?}"
    );
    drop(listener);
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_lost() {
    let (listener, closing) = listener("127.0.0.1").await;
    let client = client_of(&[&closing]);
    let request = blocks_from(1);
    let (opened, ()) = tokio::join!(client.open(&closing, &request), async {
        drop(listener.accept().await.unwrap());
    });
    let text = refusal(opened).to_string();
    assert!(text.contains("was lost"), "{text}");
    assert!(
        text.ends_with("if the orderer uses TLS, turn TLS on"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_no_http2_is_not_taken_for_an_orderer() {
    let (listener, other) = listener("127.0.0.1").await;
    let client = client_of(&[&other]);
    let request = blocks_from(1);
    let (opened, _kept) = tokio::join!(client.open(&other, &request), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.unwrap();
        stream
    });
    let text = refusal(opened).to_string();
    assert!(
        text.ends_with("what answers there does not speak HTTP/2; check the address"),
        "{text}"
    );
}

/// Covers: REQ-01
#[tokio::test]
async fn an_override_is_dialled_in_place_of_the_endpoint() {
    let named = endpoint("orderer.example.com:7050");
    let script = Script::new([Step::Block(recorded(1))]);
    let served = Served::plain(script.clone()).await;
    let overrides = vec![AddressOverride {
        from: named.clone(),
        to: served.endpoint.clone(),
        tls_roots: None,
    }];
    let config = Config {
        endpoints: vec![plain(&named)],
        overrides,
        ..Config::default()
    };
    let client = client_with(config);
    assert_eq!(client.endpoints(), std::slice::from_ref(&named));
    let mut stream = client.open(&named, &blocks_from(1)).await.unwrap();
    assert_eq!(crate::support::block(&mut stream).await, recorded(1));
    // It stays in force when a configuration names other endpoints.
    let added = endpoint("orderer2.example.com:7050");
    assert_eq!(client.set_endpoints(&[plain(&added), plain(&named)]), []);
    assert_eq!(client.endpoints(), [added, named.clone()]);
    let mut stream = client.open(&named, &blocks_from(1)).await.unwrap();
    assert_eq!(crate::support::block(&mut stream).await, recorded(1));
    served.kill().await;
    // An error has both: by which name it was asked for, and where it was dialled.
    let text = refusal(client.open(&named, &blocks_from(1)).await).to_string();
    assert!(
        text.starts_with("no connection to orderer.example.com:7050: 127.0.0.1:"),
        "{text}"
    );
}

#[tokio::test]
async fn connect_any_finds_the_one_that_is_there() {
    let script = Script::new([Step::Block(recorded(1))]);
    let served = Served::plain(script.clone()).await;
    let (one, two) = (dead_endpoint().await, dead_endpoint().await);
    let client = client_of(&[&one, &served.endpoint, &two]);
    for _ in 0..4 {
        let (endpoint, mut stream) = client.connect_any(&blocks_from(1)).await.unwrap();
        assert_eq!(endpoint, served.endpoint);
        assert_eq!(crate::support::block(&mut stream).await, recorded(1));
    }
    served.stop().await;
}

#[tokio::test]
async fn connect_any_lists_every_endpoint_with_its_cause() {
    let dead = dead_endpoint().await;
    let (silent_listener, silent) = listener("127.0.0.1").await;
    let config = Config {
        endpoints: vec![plain(&dead), plain(&silent)],
        connect_timeout: SHORT,
        ..Config::default()
    };
    let Err(failed) = client_with(config).connect_any(&blocks_from(1)).await else {
        panic!("somebody answered")
    };
    assert!(failed.is_retryable());
    let cause = |endpoint| {
        &failed
            .causes()
            .iter()
            .find(|(tried, _)| tried == endpoint)
            .unwrap()
            .1
    };
    assert!(matches!(cause(&dead), SourceError::Connect { .. }));
    assert!(matches!(cause(&silent), SourceError::TimedOut { .. }));
    let text = failed.to_string();
    assert!(
        text.starts_with("none of 2 endpoints could be reached: "),
        "{text}"
    );
    assert!(
        text.contains(&format!("no connection to {dead}: ")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{silent} sent nothing for 100 ms")),
        "{text}"
    );
    assert!(!text.contains('\n'));
    drop(silent_listener);
}

#[tokio::test]
async fn connect_any_without_endpoints_says_so() {
    let Err(failed) = client_of(&[]).connect_any(&blocks_from(1)).await else {
        panic!("there is nobody")
    };
    assert_eq!(
        failed.to_string(),
        "there is no endpoint to connect to: configure one"
    );
    assert!(failed.causes().is_empty() && !failed.is_retryable());
}

#[tokio::test]
async fn the_order_of_connect_any_is_random() {
    let endpoints: Vec<_> = (1..=6)
        .map(|port| endpoint(&format!("orderer:{port}")))
        .collect();
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let net = MemoryNet::new();
        let client = client_of(&endpoints.iter().collect::<Vec<_>>()).with_connector(net.clone());
        assert!(client.connect_any(&blocks_from(1)).await.is_err());
        let mut dialled = net.dialled();
        orders.insert(dialled.clone());
        dialled.sort();
        assert_eq!(dialled, endpoints, "each once");
    }
    assert!(orders.len() > 1, "twenty times the same order");
}

#[tokio::test]
async fn another_connector_carries_it_as_well() {
    let orderer = endpoint("orderer:7050");
    let net = MemoryNet::new();
    let script = Script::new([Step::Block(recorded(1)), Step::Status(Status::Success)]);
    net.serve(&orderer, script.clone());
    let client = client_of(&[&orderer]).with_connector(net.clone());
    let mut stream = client.open(&orderer, &blocks_from(1)).await.unwrap();
    assert_eq!(crate::support::block(&mut stream).await, recorded(1));
    assert_eq!(net.dialled(), [orderer]);
}

#[tokio::test]
async fn causes_can_be_told_apart_by_type() {
    let dead = dead_endpoint().await;
    let SourceError::Connect { source, .. } =
        refusal(client_of(&[&dead]).open(&dead, &blocks_from(1)).await)
    else {
        panic!("not a failed connection")
    };
    let cause = source.downcast_ref::<TransportError>().unwrap();
    assert!(
        matches!(cause, TransportError::Dial { address, .. } if *address == dead),
        "{cause:?}"
    );
}
