// SPDX-License-Identifier: Apache-2.0
//! Where scripted orderers are found: on the loopback interface, or in memory.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use block_api::Endpoint;
use orderer_client::{Connector, Io};
use orderer_server::{Peer, ServeConfig, ServeError, ServerTls, serve, serve_connection};
use protos::grpc::AtomicBroadcast;
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpListener,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{endpoint, within};

/// A server on the loopback interface.
pub(crate) struct Served {
    pub(crate) endpoint: Endpoint,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
}

impl Served {
    pub(crate) async fn plain(service: impl AtomicBroadcast) -> Self {
        Self::start("127.0.0.1", service, ServerTls::plain()).await
    }

    pub(crate) async fn start(host: &str, service: impl AtomicBroadcast, tls: ServerTls) -> Self {
        let (listener, endpoint) = listener(host).await;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(serve(
            service,
            listener,
            tls,
            ServeConfig::default(),
            stopped,
        ));
        Self {
            endpoint,
            stop,
            tasks,
        }
    }

    /// Stops the server as an operator does.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        within("the end of the server", self.tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Ends the server without a word, as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

/// A listener that nobody accepts from, unless the test does.
pub(crate) async fn listener(host: &str) -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, endpoint(&format!("{host}:{port}")))
}

/// An endpoint at which nobody listens.
pub(crate) async fn dead_endpoint() -> Endpoint {
    let (listener, endpoint) = listener("127.0.0.1").await;
    drop(listener);
    endpoint
}

/// A network in memory, with a pipe to whoever was given for an endpoint.
#[derive(Debug, Default)]
pub(crate) struct MemoryNet {
    pipes: Mutex<BTreeMap<Endpoint, Vec<DuplexStream>>>,
    tasks: Mutex<JoinSet<()>>,
    dialled: Mutex<Vec<Endpoint>>,
}

impl MemoryNet {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves the next connection to an endpoint.
    pub(crate) fn serve(&self, endpoint: &Endpoint, service: impl AtomicBroadcast) {
        let far = self.pipe(endpoint);
        let config = ServeConfig {
            keepalive_interval: super::DEADLINE * 1_000_000,
            ..ServeConfig::default()
        };
        let service = Arc::new(service);
        let serving = async move { serve_connection(service, far, Peer::default(), &config).await };
        self.tasks.lock().unwrap().spawn(serving);
    }

    /// The other end of the next connection to an endpoint.
    pub(crate) fn pipe(&self, endpoint: &Endpoint) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        self.pipes
            .lock()
            .unwrap()
            .entry(endpoint.clone())
            .or_default()
            .push(near);
        far
    }

    /// Every endpoint that was dialled.
    pub(crate) fn dialled(&self) -> Vec<Endpoint> {
        self.dialled.lock().unwrap().clone()
    }

    /// Waits until every connection that was served is over.
    pub(crate) async fn all_closed(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        within("the end of the connections", async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
    }
}

#[async_trait]
impl Connector for MemoryNet {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Io>> {
        self.dialled.lock().unwrap().push(endpoint.clone());
        let pipe = self
            .pipes
            .lock()
            .unwrap()
            .get_mut(endpoint)
            .and_then(Vec::pop);
        match pipe {
            Some(pipe) => Ok(Box::new(pipe)),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nobody is there",
            )),
        }
    }
}

/// Never connects.
#[derive(Debug)]
pub(crate) struct BlackHole;

#[async_trait]
impl Connector for BlackHole {
    async fn connect(&self, _: &Endpoint) -> io::Result<Box<dyn Io>> {
        std::future::pending().await
    }
}
