// SPDX-License-Identifier: Apache-2.0
//! Broadcast: envelopes go out in order, and so do their acknowledgements come back.

use std::time::Duration;

use block_api::{DeliverStatus, SourceError};
use bytes::Bytes;
use orderer_client::{BroadcastAck, Config};
use protos::common::Envelope;

use crate::support::{
    client_of, client_with, endpoint,
    net::{MemoryNet, Served, dead_endpoint},
    plain,
    raw::RawServer,
    script::Script,
    within,
};

fn envelope(payload: &str) -> Envelope {
    Envelope {
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        signature: Bytes::new(),
    }
}

#[tokio::test]
async fn envelopes_are_acknowledged_in_order_until_one_is_refused() {
    let script = Script::new([]);
    let served = Served::plain(script.clone()).await;
    let mut session = client_of(&[&served.endpoint])
        .broadcast(&served.endpoint)
        .await
        .unwrap();
    let success = BroadcastAck {
        status: DeliverStatus::Success,
        info: String::new(),
    };
    assert_eq!(
        within("an answer", session.send(envelope("good 1")))
            .await
            .unwrap(),
        success
    );
    for text in ["good 2", "good 3", "bad"] {
        within("room", session.submit(envelope(text)))
            .await
            .unwrap();
    }
    for _ in 2..=3 {
        assert_eq!(within("an answer", session.ack()).await.unwrap(), success);
    }
    let refused = BroadcastAck {
        status: DeliverStatus::Unavailable,
        info: "no leader".to_owned(),
    };
    assert_eq!(within("an answer", session.ack()).await.unwrap(), refused);
    let payloads: Vec<_> = script
        .submitted()
        .into_iter()
        .map(|envelope| envelope.payload)
        .collect();
    assert_eq!(payloads, ["good 1", "good 2", "good 3", "bad"]);
    // The orderer has ended the call.
    let ended = within("the end", session.ack()).await.unwrap_err();
    assert!(matches!(ended, SourceError::Broken { .. }), "{ended:?}");
    assert!(ended.to_string().contains("ended the session"), "{ended}");
    served.stop().await;
}

#[tokio::test]
async fn more_envelopes_than_wait_on_the_way_can_be_submitted() {
    let served = Served::plain(Script::new([])).await;
    let mut session = client_of(&[&served.endpoint])
        .broadcast(&served.endpoint)
        .await
        .unwrap();
    for number in 0..100 {
        within("room", session.submit(envelope(&format!("good {number}"))))
            .await
            .unwrap();
    }
    for _ in 0..100 {
        assert_eq!(
            within("an answer", session.ack()).await.unwrap().status,
            DeliverStatus::Success
        );
    }
    served.stop().await;
}

#[tokio::test]
async fn an_orderer_that_goes_away_breaks_the_session() {
    let served = Served::plain(Script::new([])).await;
    let mut session = client_of(&[&served.endpoint])
        .broadcast(&served.endpoint)
        .await
        .unwrap();
    within("an answer", session.send(envelope("good")))
        .await
        .unwrap();
    served.kill().await;
    let error = within("the end", async {
        loop {
            if let Err(error) = session.send(envelope("good")).await {
                return error;
            }
        }
    })
    .await;
    assert!(matches!(error, SourceError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_session_with_nobody_is_not_opened() {
    let dead = dead_endpoint().await;
    let client = client_of(&[&dead]);
    let error = client.broadcast(&dead).await.unwrap_err();
    assert!(matches!(error, SourceError::Connect { .. }), "{error:?}");
    let error = client.broadcast(&endpoint("other:1")).await.unwrap_err();
    assert!(
        matches!(error, SourceError::UnknownEndpoint { .. }),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_does_not_come_runs_out_of_time() {
    let orderer = endpoint("orderer:7050");
    let net = MemoryNet::new();
    let far = net.pipe(&orderer);
    let config = Config {
        endpoints: vec![plain(&orderer)],
        idle_timeout: Some(Duration::from_secs(5)),
        ..Config::default()
    };
    let client = client_with(config).with_connector(net);
    let (session, server) = tokio::join!(client.broadcast(&orderer), RawServer::accept(far));
    let mut session = session.unwrap();
    let before = tokio::time::Instant::now();
    let error = session.send(envelope("good")).await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    assert!(matches!(error, SourceError::TimedOut { .. }), "{error:?}");
    drop(server);
}
