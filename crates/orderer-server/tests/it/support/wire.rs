// SPDX-License-Identifier: Apache-2.0
//! A client with a connection, for what the service alone does not show.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll},
};

use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use orderer_server::{ServeConfig, ServeError, ServerTls};
use protos::{
    common::Envelope,
    deliver::RawDeliverResponse,
    grpc::{AtomicBroadcast, AtomicBroadcastClient},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs, version::TLS13,
    },
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, body::Body, codegen::Service};

use super::{HandClock, fixture, within};

/// A client on one connection; dropping it closes the connection.
pub(crate) struct Wire {
    requests: Requests,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// Keeps the tasks of a connection where the client can end them.
#[derive(Clone)]
struct Spawner(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.lock().unwrap().spawn(task);
        }
    }
}

#[derive(Clone)]
struct Requests(SendRequest<Body>);

impl Service<http::Request<Body>> for Requests {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Wire {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let spawner = Spawner(Arc::downgrade(&tasks));
        let (requests, driver) = handshake(spawner, TokioIo::new(io)).await.unwrap();
        tasks
            .lock()
            .unwrap()
            .spawn(async move { drop(driver.await) });
        Self {
            requests: Requests(requests),
            tasks,
        }
    }

    pub(crate) async fn deliver(
        &self,
        request: Envelope,
    ) -> Result<Streaming<RawDeliverResponse>, tonic::Status> {
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let answered = self.client().deliver(requests).await;
        Ok(answered?.into_inner())
    }

    pub(crate) fn client(
        &self,
    ) -> AtomicBroadcastClient<
        impl tonic::client::GrpcService<
            Body,
            Error = hyper::Error,
            ResponseBody = hyper::body::Incoming,
            Future: Send,
        >,
    > {
        AtomicBroadcastClient::with_origin(
            self.requests.clone(),
            http::Uri::from_static("http://orderer"),
        )
        .max_decoding_message_size(100 << 20)
    }

    /// Waits until the connection is over.
    pub(crate) async fn closed(self) {
        drop(self.requests);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        within("the end of the connection", async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
    }
}

/// A server on the loopback interface, until it is stopped.
pub(crate) struct Served {
    pub(crate) port: u16,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
}

impl Served {
    pub(crate) async fn start(
        service: impl AtomicBroadcast,
        tls: ServerTls,
        config: ServeConfig,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(orderer_server::serve(
            service, listener, tls, config, stopped,
        ));
        Self { port, stop, tasks }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    pub(crate) async fn connect_tls(
        &self,
        config: ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, self.connect().await)
            .await
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        within("the end of the server", self.tasks.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

pub(crate) fn certificates(path: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&fixture(path))
        .collect::<Result<_, _>>()
        .unwrap()
}

pub(crate) fn key(path: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(&fixture(path)).unwrap()
}

/// TLS with the certificate of `relay0`, which is for localhost.
pub(crate) fn server_tls() -> ServerTls {
    ServerTls::server(
        certificates("msp/relay0/server.crt"),
        key("msp/relay0/server.key"),
        HandClock::new(),
    )
    .unwrap()
}

/// The same, for clients of Org1.
pub(crate) fn mutual_tls() -> ServerTls {
    let roots = certificates("msp/org1/user1/tls/ca.crt");
    let (chain, key) = (
        certificates("msp/relay0/server.crt"),
        key("msp/relay0/server.key"),
    );
    ServerTls::mutual(chain, key, &roots, HandClock::new()).unwrap()
}

/// A client's TLS; `identity` is a folder with `client.crt` and `client.key`.
pub(crate) fn client_tls(
    identity: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in certificates("msp/relay0/ca.crt") {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(FixedTime))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(folder) => builder
            .with_client_auth_cert(
                certificates(&format!("{folder}/client.crt")),
                key(&format!("{folder}/client.key")),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// TLS 1.3 without a client certificate.
pub(crate) fn anonymous_tls() -> ClientConfig {
    client_tls(None, &[&TLS13])
}

#[derive(Debug)]
struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        super::now()
            .duration_since(std::time::UNIX_EPOCH)
            .ok()
            .map(rustls::pki_types::UnixTime::since_unix_epoch)
    }
}
