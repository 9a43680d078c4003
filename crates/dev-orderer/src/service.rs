// SPDX-License-Identifier: Apache-2.0
//! The service of a node to which faults may happen.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use futures::Stream;
use orderer_server::{OrdererServer, Peer};
use protos::{common::Envelope, deliver::RawDeliverResponse, grpc::AtomicBroadcast};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    faults::{Script, faulty},
    gate::Connections,
};

/// A server whose Deliver streams go through a script.
#[derive(Debug)]
pub(crate) struct FaultyService {
    inner: OrdererServer,
    script: Script,
    connections: Connections,
    streams: AtomicU64,
}

impl FaultyService {
    pub(crate) fn new(inner: OrdererServer, script: Script, connections: Connections) -> Self {
        Self {
            inner,
            script,
            connections,
            streams: AtomicU64::new(0),
        }
    }
}

#[tonic::async_trait]
impl AtomicBroadcast for FaultyService {
    type BroadcastStream = <OrdererServer as AtomicBroadcast>::BroadcastStream;
    type DeliverStream = Pin<Box<dyn Stream<Item = Result<RawDeliverResponse, Status>> + Send>>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        self.inner.broadcast(request).await
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let index = self.streams.fetch_add(1, Ordering::Relaxed);
        let peer = request
            .extensions()
            .get::<Peer>()
            .cloned()
            .unwrap_or_default();
        let cut = self.connections.cut(peer.address);
        let answers = self.inner.deliver(request).await?.into_inner();
        Ok(Response::new(Box::pin(faulty(
            answers,
            self.script.clone(),
            index,
            cut,
            peer.stop,
        ))))
    }
}
