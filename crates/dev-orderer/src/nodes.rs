// SPDX-License-Identifier: Apache-2.0
//! The nodes of an ordering service, and what each of them has of its own.

mod serving;

use std::{io, net::SocketAddr, sync::Arc};

use block_api::{BlockReader, ChannelId, Endpoint, InvalidEndpoint};
use orderer_server::{
    ConsenterState, DeliverCounts, DeliverStats, OrdererServer, ServedChannel, TlsError,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::serving::{Bound, Common, Ready};
use self::serving::{NodeBroadcast, Serving};
use crate::{chain::MemoryChain, config::ConfigError, network::NetworkError};

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
///
/// One that left the channel goes on listening, as an orderer process does: its streams ended with
/// SERVICE_UNAVAILABLE, and the channel is NOT_FOUND there, for Deliver and for Broadcast.
#[derive(Debug)]
pub struct Node {
    id: u32,
    bound: Bound,
    server: OrdererServer,
    stats: Arc<DeliverStats>,
    consenter: watch::Sender<ConsenterState>,
    chain: Arc<MemoryChain>,
    left: CancellationToken,
    serving: Serving,
}

impl Node {
    /// The id that it has among the nodes of the channel.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.bound.endpoint
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

    /// Whether it was taken out of the channel.
    pub fn has_left(&self) -> bool {
        self.left.is_cancelled()
    }

    /// Serves a chain, from here on, as the node with an id.
    pub(crate) fn open(
        ready: Ready,
        id: u32,
        common: &Common<'_>,
        chain: Arc<MemoryChain>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let left = CancellationToken::new();
        let mut builder = OrdererServer::builder(common.config.clock.clone());
        if let Some(broadcast) = &common.broadcast {
            builder = builder.broadcast(Arc::new(NodeBroadcast {
                inner: broadcast.clone(),
                left: left.clone(),
            }));
        }
        let server = builder.build();
        let consenter = watch::Sender::new(ConsenterState::Ready);
        server.add_channel(
            common.channel.clone(),
            ServedChannel::new(chain.clone(), common.readers.clone())
                .with_consenter(consenter.subscribe()),
        );
        let (bound, serving) = ready.serve(server.clone(), common.stop, tasks);
        Self {
            id,
            bound,
            stats: server.stats(),
            server,
            consenter,
            chain,
            left,
            serving,
        }
    }

    /// Serves the same chain with what was made ready, be that another listener or other
    /// certificates. Every connection is closed before.
    pub(crate) async fn open_again(
        &mut self,
        ready: Ready,
        common: &Common<'_>,
        tasks: &mut JoinSet<()>,
    ) {
        self.serving.stop().await;
        (self.bound, self.serving) = ready.serve(self.server.clone(), common.stop, tasks);
    }

    /// Leaves the channel.
    pub(crate) fn leave(&self, channel: &ChannelId) {
        self.left.cancel();
        self.server.remove_channel(channel);
    }

    /// The listener that it has, to be made ready again.
    pub(crate) fn same_listener(&self) -> Result<Bound, StartError> {
        self.bound.again()
    }

    pub(crate) fn chain(&self) -> &Arc<MemoryChain> {
        &self.chain
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
