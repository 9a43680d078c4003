// SPDX-License-Identifier: Apache-2.0
//! The node seen from outside, over HTTP on a loopback address.
//!
//! Each connection carries one request, and lasts for a few seconds at most. Of those that are open
//! at one time the number is bounded: a further one takes the place of the oldest that has said
//! nothing so far, so that no client keeps a probe out by being silent. Nothing but the method and
//! the path of a request is looked at.

mod answers;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::view::View;

/// How many connections are served at one time; a further one ends one of them.
const CONNECTIONS: usize = 32;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
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

/// The connections that are served, the oldest first.
#[derive(Debug, Default)]
struct Places(VecDeque<Place>);

#[derive(Debug)]
struct Place {
    /// Whether the head of its request came.
    asked: Arc<AtomicBool>,
    task: AbortHandle,
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
    let mut places = Places::default();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener) => accepted,
        };
        let (view, registry) = (view.clone(), registry.clone());
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        places.make_room();
        let task = connections.spawn(async move {
            if timeout(CONNECTION_TIMEOUT, answer(stream, &asks, &view, &registry))
                .await
                .is_err()
            {
                debug!("a connection to the operations service took too long");
            }
        });
        places.0.push_back(Place { asked, task });
    }
    connections.shutdown().await;
}

impl Places {
    /// Ends a connection if there are too many for one more: one that has not asked anything, or else
    /// one that takes its time with the answer.
    fn make_room(&mut self) {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < CONNECTIONS {
            return;
        }
        let silent = |place: &Place| !place.asked.load(Ordering::Relaxed);
        let oldest = self.0.iter().position(silent).unwrap_or(0);
        if let Some(place) = self.0.remove(oldest) {
            debug!("a connection to the operations service made room for another one");
            place.task.abort();
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, "the operations service accepts no connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, asked: &AtomicBool, view: &View, registry: &Registry) {
    let service = service_fn(|request| async move {
        asked.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Opens a connection on which nothing ever happens but what is said here.
    fn open(places: &mut Places, tasks: &mut JoinSet<()>, asked: bool) -> AbortHandle {
        places.make_room();
        let task = tasks.spawn(pending());
        places.0.push_back(Place {
            asked: Arc::new(AtomicBool::new(asked)),
            task: task.clone(),
        });
        task
    }

    #[tokio::test]
    async fn the_oldest_that_says_nothing_makes_room_and_then_the_oldest() {
        let (mut places, mut tasks) = (Places::default(), JoinSet::new());
        let asking = open(&mut places, &mut tasks, true);
        let silent = open(&mut places, &mut tasks, false);
        for _ in 2..CONNECTIONS {
            open(&mut places, &mut tasks, true);
        }
        assert_eq!(places.0.len(), CONNECTIONS);
        for gone in [silent, asking] {
            open(&mut places, &mut tasks, true);
            let ended = tasks.join_next_with_id().await.unwrap().unwrap_err();
            assert_eq!((ended.id(), ended.is_cancelled()), (gone.id(), true));
            assert_eq!(places.0.len(), CONNECTIONS);
        }
        // Those that ended by themselves need not be ended.
        tasks.shutdown().await;
        open(&mut places, &mut tasks, true);
        assert_eq!(places.0.len(), 1);
    }
}
