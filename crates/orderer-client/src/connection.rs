// SPDX-License-Identifier: Apache-2.0
//! One connection to one orderer: dialled, encrypted, with HTTP/2 on it, and closed when it is dropped.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use block_api::{Endpoint, Phase, SourceError};
use http::Uri;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioIo, TokioTimer};
use protos::grpc::AtomicBroadcastClient;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::{Status, body::Body, codegen::Service};

use crate::{
    by_message::ByMessage,
    config::Config,
    connector::{Connector, Io},
    failure::{Circumstances, TransportError},
};

/// A DATA frame may have so many bytes. Each wakes the one who waits for the message, so that an
/// orderer that makes frames of more than the 16 KiB that HTTP/2 begins with costs both sides less.
/// Fabric's makes none.
const FRAME_BYTES: u32 = 256 << 10;

/// Where an endpoint is dialled, and how it proves who it is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The name by which the endpoint is asked for and shows in errors.
    pub(crate) endpoint: Endpoint,
    /// Where it is dialled.
    pub(crate) address: Endpoint,
    pub(crate) tls: Option<TargetTls>,
}

#[derive(Debug, Clone)]
pub(crate) struct TargetTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) client_certificate: bool,
}

/// A connection with HTTP/2 on it. Its tasks end with it.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: Requests,
    origin: Uri,
    circumstances: Circumstances,
    link: watch::Receiver<Link>,
    _tasks: Tasks,
}

/// Sends HTTP requests; the shape that the stubs want.
#[derive(Debug, Clone)]
pub(crate) struct Requests(http2::SendRequest<Body>);

/// What was seen of a connection so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// The other side sent something.
    pub(crate) answered: bool,
    pub(crate) loss: Option<Loss>,
}

/// How a connection ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Loss {
    /// The other side closed it.
    Closed,
    /// The network failed.
    Io(io::ErrorKind, String),
    /// TLS failed.
    Tls(rustls::Error),
    /// What came first is no HTTP/2.
    NotHttp2 {
        /// It is TLS instead.
        tls: bool,
    },
}

/// The tasks of a connection; dropping this aborts them.
#[derive(Debug, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Spawns the tasks of a connection on its [`Tasks`], as long as those are there.
#[derive(Debug, Clone)]
struct Spawner(Weak<Mutex<JoinSet<()>>>);

/// A connection whose first bytes and whose end are noted: HTTP/2 tells neither.
#[derive(Debug)]
struct Watched<T> {
    io: T,
    link: watch::Sender<Link>,
}

impl Connection {
    /// Dials a target and waits until an HTTP/2 server answers there, as long as the connect
    /// time-out allows. That it does proves that it took the client's certificate, too.
    pub(crate) async fn open(
        target: &Target,
        connector: &dyn Connector,
        config: &Config,
    ) -> Result<Self, SourceError> {
        let circumstances = Circumstances {
            address: target.address.clone(),
            tls: target.tls.is_some(),
            client_certificate: target
                .tls
                .as_ref()
                .is_some_and(|tls| tls.client_certificate),
            max_message_bytes: config.max_message_bytes.get(),
        };
        let endpoint = target.endpoint.clone();
        match timeout(
            config.connect_timeout,
            Self::establish(target, connector, config, circumstances),
        )
        .await
        {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(SourceError::Connect {
                endpoint,
                source: error.into(),
            }),
            Err(_) => Err(SourceError::TimedOut {
                endpoint,
                phase: Phase::Connect,
                after: config.connect_timeout,
            }),
        }
    }

    async fn establish(
        target: &Target,
        connector: &dyn Connector,
        config: &Config,
        circumstances: Circumstances,
    ) -> Result<Self, TransportError> {
        let io = connector
            .connect(&target.address)
            .await
            .map_err(|error| circumstances.dial(error))?;
        let io: Box<dyn Io> = match &target.tls {
            None => io,
            Some(tls) => Box::new(
                TlsConnector::from(tls.config.clone())
                    .connect(tls.server_name.clone(), io)
                    .await
                    .map_err(|error| circumstances.handshake(error))?,
            ),
        };
        let (sender, mut link) = watch::channel(Link::default());
        let io = TokioIo::new(Watched { io, link: sender });
        let tasks = Tasks::default();
        let (requests, driver) = http2::Builder::new(tasks.spawner())
            .timer(TokioTimer::new())
            .initial_stream_window_size(config.stream_window_bytes)
            .initial_connection_window_size(config.connection_window_bytes)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout)
            .keep_alive_while_idle(true)
            .handshake(io)
            .await
            .map_err(|error| circumstances.http2(&error))?;
        tasks.spawner().execute(async move {
            // The call that runs on the connection reports what ends it.
            drop(driver.await);
        });
        // The sender is gone when the driver is, which happens after a loss was noted.
        let first = link
            .wait_for(|link| link.answered || link.loss.is_some())
            .await
            .map(|link| link.clone());
        match first {
            Ok(Link { answered: true, .. }) => {}
            Ok(lost) => return Err(circumstances.lost(&lost)),
            Err(_) => return Err(circumstances.lost(&Link::default())),
        }
        let scheme = if circumstances.tls { "https" } else { "http" };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(target.address.as_str())
            .path_and_query("/")
            .build()
            .unwrap_or_else(|_| Uri::from_static("http://orderer"));
        Ok(Self {
            requests: Requests(requests),
            origin,
            circumstances,
            link,
            _tasks: tasks,
        })
    }

    /// The stubs over this connection.
    pub(crate) fn client(&self) -> AtomicBroadcastClient<Requests> {
        AtomicBroadcastClient::with_origin(self.requests.clone(), self.origin.clone())
            .max_decoding_message_size(self.circumstances.max_message_bytes)
    }

    /// Why a call on this connection ended with this status.
    pub(crate) fn explain(&self, status: &Status) -> TransportError {
        self.circumstances.call(status, &self.link.borrow())
    }
}

impl Service<http::Request<Body>> for Requests {
    type Response = http::Response<ByMessage<hyper::body::Incoming>>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.send_request(request);
        Box::pin(async move { Ok(response.await?.map(ByMessage::new)) })
    }
}

impl Tasks {
    fn spawner(&self) -> Spawner {
        Spawner(Arc::downgrade(&self.0))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .spawn(task);
        }
    }
}

impl Link {
    /// Takes what came in; says whether it is the first.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        // A server begins with a frame of settings, whose type is the fourth byte.
        const SETTINGS: u8 = 4;
        const TLS_ALERT: u8 = 21;
        if self.answered || self.loss.is_some() {
            return false;
        }
        match bytes.get(3) {
            Some(kind) if *kind != SETTINGS => {
                let tls = bytes.first() == Some(&TLS_ALERT);
                self.loss = Some(Loss::NotHttp2 { tls });
            }
            _ => self.answered = true,
        }
        true
    }
}

impl Loss {
    pub(crate) fn of(error: &io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Io(error.kind(), error.to_string()),
        }
    }
}

impl<T: AsyncRead + Unpin> Watched<T> {
    /// What the other side said before it hung up says more than that nothing can be sent any more.
    fn note_failed_write(&mut self, cx: &mut Context<'_>, error: &io::Error) {
        let mut byte = [0];
        match Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(said)) => self.note(Loss::of(&said)),
            Poll::Ready(Ok(())) | Poll::Pending => self.note(Loss::of(error)),
        }
    }
}

impl<T> Watched<T> {
    fn note(&self, loss: Loss) {
        self.link.send_if_modified(|link| {
            let first = link.loss.is_none();
            if first {
                link.loss = Some(loss);
            }
            first
        });
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let room = buf.remaining();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        match &read {
            Err(error) => self.note(Loss::of(error)),
            Ok(()) if buf.filled().len() > before => {
                let came = buf.filled().get(before..).unwrap_or_default();
                self.link.send_if_modified(|link| link.hear(came));
            }
            Ok(()) if room > 0 => self.note(Loss::Closed),
            Ok(()) => {}
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        if let Err(error) = &written {
            self.note_failed_write(cx, error);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        if let Err(error) = &written {
            self.note_failed_write(cx, error);
        }
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
