// SPDX-License-Identifier: Apache-2.0
//! The service of a node to which faults may happen.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use block_api::BlockNumber;
use futures::Stream;
use orderer_server::{OrdererServer, Peer, PeerTls, ServeConfig, serve_connection};
use protos::{common::Envelope, deliver::RawDeliverResponse, grpc::AtomicBroadcast};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    faults::{Fault, Script, faulty},
    gate::Connections,
};

/// A server with a script, without a listener: its connections are made by whoever has a network,
/// such as a simulation. Cheap to clone; clones are one server.
#[derive(Debug, Clone)]
pub struct FaultyServer {
    service: Arc<FaultyService>,
    connected: Arc<AtomicU64>,
    config: ServeConfig,
}

/// A server whose Deliver streams go through a script.
#[derive(Debug)]
pub(crate) struct FaultyService {
    inner: OrdererServer,
    script: Script,
    connections: Connections,
    streams: AtomicU64,
    tally: Tally,
}

/// How often each block was sent with its data, and how many streams gave data of a block that is
/// no config block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    blocks: Arc<Mutex<BTreeMap<BlockNumber, u64>>>,
    streams: Arc<AtomicU64>,
}

impl FaultyServer {
    /// Puts a server and a script together. [`Fault::RefuseTls`] never happens here: the connections
    /// come without TLS.
    pub fn new(server: OrdererServer, script: Script, config: ServeConfig) -> Self {
        Self {
            service: Arc::new(FaultyService::new(server, script, Connections::default())),
            connected: Arc::default(),
            config,
        }
    }

    /// Serves one connection from a peer until it ends, a fault cuts it, or `stop` is cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection at once.
    pub async fn serve_connection(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        stop: CancellationToken,
    ) {
        let index = self.connected.fetch_add(1, Ordering::Relaxed);
        let faults = self.service.script.faults(index);
        if faults.contains(&Fault::RefuseConnection) {
            return;
        }
        let peer = Peer {
            address: Some(address),
            tls: PeerTls::NotMutual,
            stop,
        };
        let served = serve_connection(self.service.clone(), io, peer, &self.config);
        self.service.connections.during(address, served).await;
    }

    /// How often each block was sent with its data, in whatever form, since the server was made.
    pub fn blocks_sent(&self) -> BTreeMap<BlockNumber, u64> {
        self.service.tally.lock().clone()
    }

    /// How many streams gave at least one block with its data, config blocks left out: those come
    /// whole in streams of headers.
    pub fn streams_that_gave(&self) -> u64 {
        self.service.tally.streams.load(Ordering::Relaxed)
    }
}

impl FaultyService {
    pub(crate) fn new(inner: OrdererServer, script: Script, connections: Connections) -> Self {
        Self {
            inner,
            script,
            connections,
            streams: AtomicU64::new(0),
            tally: Tally::default(),
        }
    }
}

impl Tally {
    pub(crate) fn sent(&self, number: BlockNumber) {
        *self.lock().entry(number).or_default() += 1;
    }

    pub(crate) fn gave(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BlockNumber, u64>> {
        // Nothing panics while it holds the lock.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
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
            self.tally.clone(),
        ))))
    }
}
