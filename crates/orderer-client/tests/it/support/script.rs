// SPDX-License-Identifier: Apache-2.0
//! An orderer that does what it is told, and notes what it was asked.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use protos::{
    common::{Envelope, Status},
    deliver::RawDeliverResponse,
    grpc::AtomicBroadcast,
    orderer::BroadcastResponse,
};
use tokio::sync::watch;
use tonic::{Request, Response, Streaming};

/// What the orderer does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Block(Bytes),
    Status(Status),
    /// Bytes that stand for a message.
    Raw(&'static [u8]),
    /// The call ends with this gRPC status; the last step.
    Fail(tonic::Code, &'static str),
    /// Nothing more comes; the last step.
    Hang,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

#[derive(Debug, Clone)]
pub(crate) struct Script {
    steps: Vec<Step>,
    requests: watch::Sender<Vec<Envelope>>,
    open: watch::Sender<usize>,
    sent: Arc<AtomicUsize>,
    submitted: Arc<Mutex<Vec<Envelope>>>,
}

/// Counts a call as long as it is there.
struct Open(watch::Sender<usize>);

impl Script {
    /// Answers each call with these steps.
    pub(crate) fn new(steps: impl Into<Vec<Step>>) -> Self {
        Self {
            steps: steps.into(),
            requests: watch::Sender::default(),
            open: watch::Sender::default(),
            sent: Arc::default(),
            submitted: Arc::default(),
        }
    }

    /// The first request, once it is there.
    pub(crate) async fn first_request(&self) -> Envelope {
        let mut requests = self.requests.subscribe();
        let requests = requests
            .wait_for(|requests| !requests.is_empty())
            .await
            .unwrap();
        requests[0].clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.borrow().len()
    }

    /// Waits until no call is open.
    pub(crate) async fn all_closed(&self) {
        self.open
            .subscribe()
            .wait_for(|open| *open == 0)
            .await
            .unwrap();
    }

    /// How many messages were asked for by the transport.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn submitted(&self) -> Vec<Envelope> {
        self.submitted.lock().unwrap().clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[tonic::async_trait]
impl AtomicBroadcast for Script {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<RawDeliverResponse>;

    /// Takes what says "good"; the first other envelope ends the call.
    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        let submitted = self.submitted.clone();
        let answers = stream::unfold(Some(request.into_inner()), move |envelopes| {
            let submitted = submitted.clone();
            async move {
                let mut envelopes = envelopes?;
                let envelope = envelopes.message().await.ok()??;
                let good = envelope.payload.starts_with(b"good");
                let (status, info) = match good {
                    true => (Status::Success, String::new()),
                    false => (Status::ServiceUnavailable, "no leader".to_owned()),
                };
                submitted.lock().unwrap().push(envelope);
                let answer = BroadcastResponse {
                    status: status.into(),
                    info,
                };
                Some((Ok(answer), good.then_some(envelopes)))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    /// Sends no head before the first answer, as a Fabric orderer does.
    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        self.open.send_modify(|open| *open += 1);
        let open = Open(self.open.clone());
        let mut envelopes = request.into_inner();
        if let Some(envelope) = envelopes.message().await? {
            self.requests
                .send_modify(|requests| requests.push(envelope));
        }
        match self.steps.first() {
            Some(Step::Hang) => {
                let () = std::future::pending().await;
            }
            Some(Step::Fail(code, text)) => return Err(tonic::Status::new(*code, *text)),
            _ => {}
        }
        let sent = self.sent.clone();
        let answers = stream::iter(self.steps.clone()).then(move |step| {
            let _calls_end_with_the_stream = (&open, &envelopes);
            sent.fetch_add(1, Ordering::SeqCst);
            async move {
                match step {
                    Step::Block(block) => Ok(RawDeliverResponse::block(block)),
                    Step::Status(status) => Ok(RawDeliverResponse::status(status)),
                    Step::Raw(bytes) => {
                        Ok(RawDeliverResponse::from_bytes(Bytes::from_static(bytes)))
                    }
                    Step::Fail(code, text) => Err(tonic::Status::new(code, text)),
                    Step::Hang => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
