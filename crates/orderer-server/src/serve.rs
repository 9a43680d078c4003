// SPDX-License-Identifier: Apache-2.0
//! Accepting connections, and serving calls on them until told to stop.

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use protos::grpc::{AtomicBroadcast, AtomicBroadcastServer};
use sha2::{Digest as _, Sha256};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tracing::{Instrument as _, debug, info, warn};

use crate::{
    ahead::ConnectionAhead,
    config::ServeConfig,
    peer::{Peer, PeerTls},
    tasks::Tasks,
    tls::{Enabled, ServerTls},
};

/// A silent connection is probed after so long.
const PROBE_AFTER: Duration = Duration::from_secs(10);
/// Then again and again after so long.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// So many probes stay unanswered before the connection is dead.
const PROBES: u32 = 3;
/// So long may sent bytes stay unacknowledged before the connection is dead.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// After an accept that failed for want of descriptors or memory, so long a pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener has no address, so it is none.
    #[error("the listener cannot be used: {source}")]
    Listener {
        /// What the system said.
        source: io::Error,
    },
}

/// Serves a service on a listener until `shutdown` is done. Then no connection is accepted, calls
/// end with the gRPC status UNAVAILABLE, and what has not ended after the drain time-out is cut; on
/// return every task is gone.
///
/// The service can be any implementation of [`AtomicBroadcast`]; it finds a [`Peer`] among the
/// extensions of each request.
///
/// # Errors
///
/// When the listener is none. A failed accept or handshake ends nothing but its own connection.
///
/// # Cancel safety
///
/// Dropping the future closes every connection at once.
pub async fn serve<S: AtomicBroadcast>(
    service: S,
    listener: TcpListener,
    tls: ServerTls,
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener
        .local_addr()
        .map_err(|source| ServeError::Listener { source })?;
    info!(%address, tls = tls.0.is_some(), mutual = tls.is_mutual(), "deliver server started");
    let service = Arc::new(service);
    let slots = Arc::new(Semaphore::new(
        config.max_connections.get().min(Semaphore::MAX_PERMITS),
    ));
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => note_panic(ended),
            (stream, address, slot) = accept(&listener, &slots) => {
                let peer = Peer { address: Some(address), tls: PeerTls::NotMutual, stop: stop.clone() };
                let accepted = accepted(service.clone(), stream, tls.0.clone(), peer, config.clone(), slot);
                connections.spawn(accepted.instrument(tracing::debug_span!("connection", peer = %address)));
            }
        }
    }
    drop(listener);
    stop.cancel();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    };
    // Each connection keeps the drain time-out itself; the rest is for its tasks to go.
    if timeout(config.drain_timeout.saturating_mul(2), drained)
        .await
        .is_err()
    {
        connections.shutdown().await;
    }
    info!(%address, "deliver server stopped");
    Ok(())
}

/// Serves a service on one connection that is there already, such as a pipe in memory. Returns when
/// the connection ends, or after `peer.stop` was cancelled as [`serve`] does.
///
/// # Cancel safety
///
/// Dropping the future closes the connection at once.
pub async fn serve_connection<S: AtomicBroadcast>(
    service: Arc<S>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    config: &ServeConfig,
) {
    let stop = peer.stop.clone();
    let tasks = Tasks::default();
    let limit = config.max_message_bytes.get();
    let server = AtomicBroadcastServer::from_arc(service).max_decoding_message_size(limit);
    let (called, first_call) = watch::channel(false);
    let ahead = ConnectionAhead::default();
    let calls = service_fn(move |mut request: http::Request<Incoming>| {
        called.send_replace(true);
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(ahead.clone());
        let response = server.clone().call(request);
        async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http2::Builder::new(tasks.spawner())
        .timer(TokioTimer::new())
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_concurrent_streams(config.max_streams_per_connection)
        .max_send_buf_size(config.max_send_buffer_bytes.get())
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .serve_connection(TokioIo::new(io), calls);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(config.drain_timeout, connection.as_mut()).await.unwrap_or(Ok(()))
        }
        () = silent(first_call, config.handshake_timeout) => {
            debug!("connection closed: it made no call in time");
            Ok(())
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(err) = ended {
        debug!(%err, "connection ended");
    }
    tasks.shutdown().await;
}

/// The next connection, when there is room for one.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("invariant: the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, slot),
            Err(err) => {
                // Most often one connection is gone before it was accepted, or descriptors are short.
                warn!(%err, "connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that was accepted: its handshake, then its calls.
async fn accepted<S: AtomicBroadcast>(
    service: Arc<S>,
    stream: TcpStream,
    tls: Option<Enabled>,
    peer: Peer,
    config: ServeConfig,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(err) = tune(&stream) {
        debug!(%err, "connection closed: its socket options were not set");
        return;
    }
    let Some(Enabled {
        config: tls,
        mutual,
    }) = tls
    else {
        return serve_connection(service, stream, peer, &config).await;
    };
    let handshake = timeout(
        config.handshake_timeout,
        TlsAcceptor::from(tls).accept(stream),
    );
    let stream = tokio::select! {
        biased;
        () = peer.stop.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(stream)) => stream,
            Ok(Err(err)) => return debug!(%err, "TLS handshake failed"),
            Err(_) => return debug!("TLS handshake not done in time"),
        },
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let peer = match mutual {
        true => Peer {
            tls: PeerTls::Mutual(certificate.map(|leaf| Sha256::digest(leaf).into())),
            ..peer
        },
        false => peer,
    };
    serve_connection(service, stream, peer, &config).await;
}

/// Done when no call was made in time; never once there was one.
async fn silent(mut first_call: watch::Receiver<bool>, limit: Duration) {
    if timeout(limit, first_call.wait_for(|called| *called))
        .await
        .is_ok()
    {
        std::future::pending::<()>().await;
    }
}

/// Finds dead clients below HTTP/2, and sends small messages at once.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(err) = ended {
        warn!(%err, "connection task failed");
    }
}
