// SPDX-License-Identifier: Apache-2.0
//! Broadcast: what is submitted goes to a handler, and each answer goes back in order.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use orderer_server::{BroadcastAnswer, BroadcastHandler, OrdererServer, Peer};
use protos::{
    common::{Envelope, Status},
    grpc::{AtomicBroadcastClient, AtomicBroadcastServer},
    orderer::BroadcastResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};

use crate::support::{HandClock, within};

/// Takes what says "good", and keeps it.
#[derive(Debug, Default)]
struct Keeper(Mutex<Vec<Bytes>>);

#[async_trait]
impl BroadcastHandler for Keeper {
    async fn submit(&self, envelope: Envelope) -> BroadcastAnswer {
        if !envelope.payload.starts_with(b"good") {
            return BroadcastAnswer::new(Status::BadRequest, "not good");
        }
        self.0.lock().unwrap().push(envelope.payload);
        BroadcastAnswer::success()
    }
}

fn envelope(payload: &'static str) -> Envelope {
    Envelope {
        payload: Bytes::from_static(payload.as_bytes()),
        signature: Bytes::new(),
    }
}

async fn submit(server: &OrdererServer, envelopes: Vec<Envelope>) -> Streaming<BroadcastResponse> {
    let mut client = AtomicBroadcastClient::new(AtomicBroadcastServer::new(server.clone()));
    client
        .broadcast(tokio_stream::iter(envelopes))
        .await
        .unwrap()
        .into_inner()
}

async fn answers(mut answers: Streaming<BroadcastResponse>) -> Vec<(Status, String)> {
    let mut got = Vec::new();
    while let Some(answer) = within("an answer", answers.message()).await.unwrap() {
        got.push((answer.status(), answer.info));
    }
    got
}

#[tokio::test]
async fn envelopes_are_answered_in_order_until_one_is_refused() {
    let keeper = Arc::new(Keeper::default());
    let server = OrdererServer::builder(HandClock::new())
        .broadcast(keeper.clone())
        .build();
    let submitted = vec![
        envelope("good 1"),
        envelope("good 2"),
        envelope("bad"),
        envelope("good 3"),
    ];
    let got = answers(submit(&server, submitted).await).await;
    let success = || (Status::Success, String::new());
    assert_eq!(
        got,
        [
            success(),
            success(),
            (Status::BadRequest, "not good".to_owned())
        ]
    );
    assert_eq!(*keeper.0.lock().unwrap(), ["good 1", "good 2"]);
    assert_eq!(server.stats().counts().broadcasts_received, 3);
}

#[tokio::test]
async fn a_client_that_has_no_more_ends_the_call() {
    let server = OrdererServer::builder(HandClock::new())
        .broadcast(Arc::new(Keeper::default()))
        .build();
    assert_eq!(
        answers(submit(&server, vec![envelope("good")]).await)
            .await
            .len(),
        1
    );
    assert!(answers(submit(&server, Vec::new()).await).await.is_empty());
}

#[tokio::test]
async fn without_a_handler_nothing_is_taken() {
    let server = OrdererServer::builder(HandClock::new()).build();
    let got = answers(submit(&server, vec![envelope("good"), envelope("good")]).await).await;
    assert_eq!(
        got,
        [(
            Status::NotImplemented,
            "this server does not order".to_owned()
        )]
    );
}

#[tokio::test]
async fn a_server_that_stops_ends_the_call() {
    let stop = CancellationToken::new();
    let peer = Peer {
        stop: stop.clone(),
        ..Peer::default()
    };
    let server = OrdererServer::builder(HandClock::new())
        .broadcast(Arc::new(Keeper::default()))
        .build();
    let service =
        AtomicBroadcastServer::with_interceptor(server, move |mut request: tonic::Request<()>| {
            request.extensions_mut().insert(peer.clone());
            Ok(request)
        });
    let mut client = AtomicBroadcastClient::new(service);
    let mut answers = client
        .broadcast(tokio_stream::pending())
        .await
        .unwrap()
        .into_inner();
    stop.cancel();
    let ended = within("the end", answers.message()).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
}
