// SPDX-License-Identifier: Apache-2.0
//! The node seen from outside, over HTTP on a loopback address.
//!
//! Each connection carries one request, and lasts for a few seconds at most; further ones wait until
//! one of them has ended. Nothing but the method and the path of a request is looked at.

mod answers;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::view::View;

/// How many connections are served at one time.
const CONNECTIONS: usize = 32;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// How long to wait after the system refused to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The HTTP service of a node.
#[derive(Debug)]
pub(super) struct Operations {
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Operations {
    /// Serves on a listener.
    pub(super) fn start(
        listener: TcpListener,
        address: SocketAddr,
        view: Arc<View>,
        registry: Arc<Registry>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, view, registry, cancel.clone()));
        Self {
            address,
            cancel,
            tasks: Mutex::new(tasks),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the service and what it is answering. Safe to repeat.
    pub(super) async fn stop(&self) {
        self.cancel.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

async fn serve(
    listener: TcpListener,
    view: Arc<View>,
    registry: Arc<Registry>,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let (view, registry) = (view.clone(), registry.clone());
        connections.spawn(async move {
            if timeout(CONNECTION_TIMEOUT, answer(stream, &view, &registry))
                .await
                .is_err()
            {
                debug!("a connection to the operations service took too long");
            }
            drop(place);
        });
    }
    connections.shutdown().await;
}

/// Waits for room, then for a connection.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let place = room.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                warn!(%error, "the operations service accepts no connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, view: &View, registry: &Registry) {
    let service = service_fn(|request| async move {
        let answer = answers::answer(request.method(), request.uri().path(), view, registry);
        Ok::<_, Infallible>(answer)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the operations service failed");
    }
}
