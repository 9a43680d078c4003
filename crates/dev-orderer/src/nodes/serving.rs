// SPDX-License-Identifier: Apache-2.0
//! Serving a node: its listener, its certificates, and the task that serves on it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
};

use async_trait::async_trait;
use block_api::{ChannelId, Endpoint, Readers};
use orderer_server::{
    BroadcastAnswer, BroadcastHandler, OrdererServer, ServeConfig, ServeError, ServerTls, TlsError,
    serve,
};
use protos::common::{Envelope, Status};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span};

use super::StartError;
use crate::{
    config::{NodesConfig, TlsMode},
    faults::Script,
    gate::{self, Connections},
    pki::Member,
    service::FaultyService,
};

/// What all nodes of a service share.
pub(crate) struct Common<'a> {
    pub(crate) config: &'a NodesConfig,
    pub(crate) channel: &'a ChannelId,
    pub(crate) readers: Arc<dyn Readers>,
    pub(crate) broadcast: Option<Arc<dyn BroadcastHandler>>,
    /// Who issued the TLS certificates of clients, for mutual TLS.
    pub(crate) client_roots: Vec<CertificateDer<'static>>,
    pub(crate) stop: &'a CancellationToken,
}

/// A listener on which nobody serves yet, and the endpoint that it is.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(super) listener: StdListener,
    pub(crate) endpoint: Endpoint,
}

/// A node that can be served: what may fail has been done.
#[derive(Debug)]
pub(crate) struct Ready {
    index: usize,
    bound: Bound,
    listener: TcpListener,
    tls: ServerTls,
    /// What goes wrong, and the listener that is served behind the relay.
    faults: Option<(Script, TcpListener)>,
}

/// The task that serves a node.
#[derive(Debug)]
pub(super) struct Serving {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// Takes envelopes for a node as long as it orders the channel.
#[derive(Debug)]
pub(super) struct NodeBroadcast {
    pub(super) inner: Arc<dyn BroadcastHandler>,
    pub(super) left: CancellationToken,
}

impl Bound {
    /// Listens on so many addresses, the first of which is that of the node with this index.
    pub(crate) async fn all(
        config: &NodesConfig,
        first: usize,
        count: usize,
    ) -> Result<Vec<Self>, StartError> {
        let host = config.endpoint_host();
        let mut all = Vec::with_capacity(count);
        for index in first..first.saturating_add(count) {
            let address = config.address(index).ok_or(StartError::Ports {
                first: config.listen,
                count: first.saturating_add(count),
            })?;
            let failed = |source| StartError::Listen { address, source };
            let listener = listen(address).await?.into_std().map_err(failed)?;
            let port = listener.local_addr().map_err(failed)?.port();
            let endpoint = format!("{host}:{port}").parse()?;
            all.push(Self { listener, endpoint });
        }
        Ok(all)
    }

    /// The same listener once more: it stays open until both are dropped.
    pub(super) fn again(&self) -> Result<Self, StartError> {
        let address = self.listener.local_addr();
        let address = address.unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        let listener = self.listener.try_clone();
        Ok(Self {
            listener: listener.map_err(|source| StartError::Listen { address, source })?,
            endpoint: self.endpoint.clone(),
        })
    }
}

impl Common<'_> {
    /// Prepares to serve a member as the node with an index.
    pub(crate) async fn ready(
        &self,
        index: usize,
        bound: Bound,
        member: &Member,
    ) -> Result<Ready, StartError> {
        let again = bound.again()?;
        let address = again.listener.local_addr();
        let address = address.unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into());
        let listener = TcpListener::from_std(again.listener)
            .map_err(|source| StartError::Listen { address, source })?;
        let faults = match self.config.faults.get(index) {
            None => None,
            Some(script) => {
                let inner = listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
                Some((script.clone(), inner))
            }
        };
        Ok(Ready {
            index,
            bound,
            listener,
            tls: self.server_tls(member)?,
            faults,
        })
    }

    fn server_tls(&self, member: &Member) -> Result<ServerTls, TlsError> {
        let certificates = vec![CertificateDer::from(member.tls_certificate_der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(member.tls_key_der().to_vec()));
        let clock = self.config.clock.clone();
        match self.config.tls {
            TlsMode::Plain => Ok(ServerTls::plain()),
            TlsMode::Server => ServerTls::server(certificates, key, clock),
            TlsMode::Mutual => ServerTls::mutual(certificates, key, &self.client_roots, clock),
        }
    }
}

impl Ready {
    /// Serves a server until the whole service is told to stop, or this is. The listener stays.
    pub(super) fn serve(
        self,
        server: OrdererServer,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> (Bound, Serving) {
        let Self {
            index,
            bound,
            listener,
            tls,
            faults,
        } = self;
        let serving = Serving {
            stop: stop.child_token(),
            ended: CancellationToken::new(),
        };
        let (stop, ended) = (serving.stop.clone(), serving.ended.clone().drop_guard());
        let span = info_span!("dev_orderer", node = index, endpoint = %bound.endpoint);
        let task = async move {
            let served = match faults {
                None => {
                    let config = ServeConfig::default();
                    serve(server, listener, tls, config, stop.cancelled_owned()).await
                }
                Some((script, inner)) => {
                    serve_with_faults(server, listener, inner, tls, script, stop).await
                }
            };
            drop(ended);
            if let Err(err) = served {
                error!(%err, "node ended");
            }
        };
        tasks.spawn(task.instrument(span));
        (bound, serving)
    }
}

impl Serving {
    /// Ends the streams with UNAVAILABLE, and is done when the last connection is closed.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

#[async_trait]
impl BroadcastHandler for NodeBroadcast {
    async fn submit(&self, envelope: Envelope) -> BroadcastAnswer {
        if self.left.is_cancelled() {
            let reason = "this node does not order the channel any more: ask another one";
            return BroadcastAnswer::new(Status::NotFound, reason);
        }
        self.inner.submit(envelope).await
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

/// Serves on an inner listener, to which connections come through a gate.
async fn serve_with_faults(
    server: OrdererServer,
    listener: TcpListener,
    inner: TcpListener,
    tls: ServerTls,
    script: Script,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let address = inner
        .local_addr()
        .map_err(|source| ServeError::Listener { source })?;
    let connections = Connections::default();
    let service = FaultyService::new(server, script.clone(), connections.clone());
    let ended = CancellationToken::new();
    let serving = async {
        let served = serve(
            service,
            inner,
            tls,
            ServeConfig::default(),
            stop.cancelled_owned(),
        )
        .await;
        ended.cancel();
        served
    };
    let (served, ()) = tokio::join!(
        serving,
        gate::relay(listener, address, script, connections, ended.clone())
    );
    served
}
