// SPDX-License-Identifier: Apache-2.0
//! The nodes of an ordering service: listeners, certificates, and what serves on them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use block_api::{BlockReader, ChannelId, Endpoint, InvalidEndpoint, Readers};
use orderer_server::{
    BroadcastHandler, ConsenterState, DeliverCounts, DeliverStats, OrdererServer, ServeConfig,
    ServeError, ServedChannel, ServerTls, TlsError, serve,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span};

use crate::{
    chain::MemoryChain,
    config::{ConfigError, NodesConfig, TlsMode},
    faults::Script,
    gate::{self, Connections},
    network::NetworkError,
    pki::Member,
    service::FaultyService,
};

/// An ordering service could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network could not be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A node would listen on a port that cannot be.
    #[error("there are not {count} ports from {first} up: choose a lower first port, or 0")]
    Ports {
        /// The address of the first node.
        first: SocketAddr,
        /// How many nodes there are.
        count: usize,
    },
    /// A node cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The host cannot stand in an endpoint.
    #[error(transparent)]
    Host(#[from] InvalidEndpoint),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The genesis block that was made here is not accepted, which is a fault of this crate.
    #[error("the genesis block is not accepted: {0}")]
    Genesis(#[from] Box<channel_config::ConfigError>),
}

/// A node of an ordering service.
#[derive(Debug)]
pub struct Node {
    endpoint: Endpoint,
    stats: Arc<DeliverStats>,
    consenter: watch::Sender<ConsenterState>,
    chain: Arc<MemoryChain>,
}

/// The listeners of nodes that do not serve yet, and the endpoints that they will be.
#[derive(Debug)]
pub(crate) struct Listeners {
    listeners: Vec<TcpListener>,
    pub(crate) endpoints: Vec<Endpoint>,
}

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

impl Node {
    /// Where it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<DeliverStats> {
        &self.stats
    }

    /// Its copy of the chain.
    pub fn reader(&self) -> Arc<dyn BlockReader> {
        self.chain.clone()
    }

    /// Lets it be as if it had lost its leader, or found it again (semantics §6.4): strict
    /// requests are refused with SERVICE_UNAVAILABLE meanwhile, and those that wait are cut.
    pub fn set_consenter_state(&self, state: ConsenterState) {
        self.consenter.send_replace(state);
    }

    pub(crate) fn chain(&self) -> &Arc<MemoryChain> {
        &self.chain
    }
}

impl Listeners {
    /// Begins to listen, so that the endpoints are known.
    pub(crate) async fn bind(config: &NodesConfig) -> Result<Self, StartError> {
        let count = config.count.get();
        let host = config.endpoint_host();
        let (mut listeners, mut endpoints) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for index in 0..count {
            let address = config.address(index).ok_or(StartError::Ports {
                first: config.listen,
                count,
            })?;
            let listener = listen(address).await?;
            let port = local_address(&listener, address)?.port();
            endpoints.push(format!("{host}:{port}").parse()?);
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            endpoints,
        })
    }

    /// Serves a chain on each listener until told to stop; there is a member and a chain for each.
    pub(crate) async fn serve<'a>(
        self,
        common: &Common<'_>,
        members: impl Iterator<Item = &'a Member>,
        chains: &[Arc<MemoryChain>],
        tasks: &mut JoinSet<()>,
    ) -> Result<Vec<Node>, StartError> {
        let mut nodes = Vec::with_capacity(chains.len());
        let parts = self
            .listeners
            .into_iter()
            .zip(self.endpoints)
            .zip(members.zip(chains));
        for (index, ((listener, endpoint), (member, chain))) in parts.enumerate() {
            let mut builder = OrdererServer::builder(common.config.clock.clone());
            if let Some(broadcast) = &common.broadcast {
                builder = builder.broadcast(broadcast.clone());
            }
            let server = builder.build();
            let consenter = watch::Sender::new(ConsenterState::Ready);
            server.add_channel(
                common.channel.clone(),
                ServedChannel::new(chain.clone(), common.readers.clone())
                    .with_consenter(consenter.subscribe()),
            );
            let span = info_span!("dev_orderer", node = index, %endpoint);
            nodes.push(Node {
                endpoint,
                stats: server.stats(),
                consenter,
                chain: chain.clone(),
            });
            let tls = server_tls(common, member)?;
            let stop = common.stop.clone();
            match common.config.faults.get(index) {
                None => {
                    let serving = async move {
                        serve(
                            server,
                            listener,
                            tls,
                            ServeConfig::default(),
                            stop.cancelled_owned(),
                        )
                        .await
                    };
                    tasks.spawn(logged(serving).instrument(span));
                }
                Some(script) => {
                    let inner = listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
                    let serving =
                        serve_with_faults(server, listener, inner, tls, script.clone(), stop);
                    tasks.spawn(logged(serving).instrument(span));
                }
            }
        }
        Ok(nodes)
    }
}

/// What all nodes count together.
pub(crate) fn total(nodes: &[Node]) -> DeliverCounts {
    let mut total = DeliverCounts::default();
    for counts in nodes.iter().map(|node| node.stats.counts()) {
        total.streams_opened += counts.streams_opened;
        total.streams_closed += counts.streams_closed;
        total.requests_received += counts.requests_received;
        total.requests_succeeded += counts.requests_succeeded;
        total.requests_failed += counts.requests_failed;
        total.block_streams += counts.block_streams;
        total.open_block_streams += counts.open_block_streams;
        total.probes += counts.probes;
        total.open_probes += counts.open_probes;
        total.blocks_sent += counts.blocks_sent;
        total.bytes_sent += counts.bytes_sent;
        total.broadcasts_received += counts.broadcasts_received;
    }
    total
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Listen { address, source })
}

fn server_tls(common: &Common<'_>, member: &Member) -> Result<ServerTls, TlsError> {
    let certificates = vec![CertificateDer::from(member.tls_certificate_der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(member.tls_key_der().to_vec()));
    let clock = common.config.clock.clone();
    match common.config.tls {
        TlsMode::Plain => Ok(ServerTls::plain()),
        TlsMode::Server => ServerTls::server(certificates, key, clock),
        TlsMode::Mutual => ServerTls::mutual(certificates, key, &common.client_roots, clock),
    }
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

async fn logged(serving: impl Future<Output = Result<(), ServeError>>) {
    if let Err(err) = serving.await {
        error!(%err, "node ended");
    }
}
