// SPDX-License-Identifier: Apache-2.0
//! The service itself, apart from the connections that it is served on.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use block_api::{ChannelId, Clock};
use futures::Stream;
use protos::{
    common::Envelope, deliver::RawDeliverResponse, grpc::AtomicBroadcast,
    orderer::BroadcastResponse,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Streaming};

use crate::{
    ahead::Ahead,
    broadcast::{self, BroadcastHandler},
    channel::{Channels, ServedChannel},
    config::{DeliverConfig, ServeConfig},
    deliver,
    recent::Recent,
    serve::{ServeError, serve},
    stats::DeliverStats,
    tls::ServerTls,
};

/// Serves the blocks of channels as `orderer.AtomicBroadcast` does. Cheap to clone; clones share the
/// channels and the counters.
#[derive(Clone)]
pub struct OrdererServer {
    shared: Arc<Shared>,
}

/// Puts an [`OrdererServer`] together.
#[derive(Debug)]
#[must_use]
pub struct OrdererServerBuilder {
    clock: Arc<dyn Clock>,
    config: DeliverConfig,
    broadcast: Option<Arc<dyn BroadcastHandler>>,
}

pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: DeliverConfig,
    pub(crate) channels: Channels,
    pub(crate) stats: Arc<DeliverStats>,
    pub(crate) recent: Recent,
    pub(crate) ahead: Ahead,
    broadcast: Option<Arc<dyn BroadcastHandler>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

impl OrdererServer {
    /// A server by this clock.
    pub fn builder(clock: Arc<dyn Clock>) -> OrdererServerBuilder {
        OrdererServerBuilder {
            clock,
            config: DeliverConfig::default(),
            broadcast: None,
        }
    }

    /// Serves a channel from now on; one of the same id that was served is served no more.
    pub fn add_channel(&self, id: ChannelId, channel: ServedChannel) {
        let replaced = self.shared.channels.add(id, channel);
        self.shared.forget(replaced);
    }

    /// Serves a channel no more; its streams end with SERVICE_UNAVAILABLE. Says whether it was
    /// served.
    pub fn remove_channel(&self, id: &ChannelId) -> bool {
        let removed = self.shared.channels.remove(id);
        self.shared.forget(removed)
    }

    /// The counters.
    pub fn stats(&self) -> Arc<DeliverStats> {
        self.shared.stats.clone()
    }

    /// Serves on a listener until `shutdown` is done: [`serve`] with this service.
    ///
    /// # Errors
    ///
    /// As [`serve`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes every connection at once.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: ServerTls,
        config: ServeConfig,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        serve(self.clone(), listener, tls, config, shutdown).await
    }
}

impl OrdererServerBuilder {
    /// Serves Deliver by these limits.
    pub fn config(self, config: DeliverConfig) -> Self {
        Self { config, ..self }
    }

    /// Gives what is submitted by Broadcast to a handler; without one it is answered with
    /// NOT_IMPLEMENTED.
    pub fn broadcast(self, handler: Arc<dyn BroadcastHandler>) -> Self {
        Self {
            broadcast: Some(handler),
            ..self
        }
    }

    /// The server, without any channel.
    pub fn build(self) -> OrdererServer {
        let Self {
            clock,
            config,
            broadcast,
        } = self;
        let shared = Shared {
            clock,
            recent: Recent::new(config.recent_bytes.get()),
            ahead: Ahead::new(config.ahead_bytes, config.batch_bytes),
            config,
            broadcast,
            channels: Channels::default(),
            stats: Arc::default(),
        };
        OrdererServer {
            shared: Arc::new(shared),
        }
    }
}

impl Shared {
    /// Forgets what was read of a channel that is served no more; says whether there is one.
    fn forget(&self, channel: Option<Arc<ServedChannel>>) -> bool {
        let channel = channel.inspect(|channel| self.recent.forget(channel.sharing.serial));
        channel.is_some()
    }
}

#[tonic::async_trait]
impl AtomicBroadcast for OrdererServer {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<RawDeliverResponse>;

    async fn broadcast(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, tonic::Status> {
        let peer = of_connection(&request);
        let Shared {
            broadcast, stats, ..
        } = &*self.shared;
        let answers =
            broadcast::answers(broadcast.clone(), stats.clone(), peer, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, tonic::Status> {
        let (peer, ahead) = (of_connection(&request), of_connection(&request));
        let answers = deliver::answers(self.shared.clone(), peer, ahead, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }
}

impl fmt::Debug for OrdererServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrdererServer")
            .field("channels", &self.shared.channels)
            .field("stats", &self.shared.stats)
            .finish_non_exhaustive()
    }
}

/// What a call gets that the stopping server cannot go on with.
pub(crate) fn stopping() -> tonic::Status {
    tonic::Status::unavailable("the server is stopping")
}

/// What the connection of a request says of itself; without one, a call is on its own.
fn of_connection<T: Clone + Default + Send + Sync + 'static>(request: &Request<impl Sized>) -> T {
    request.extensions().get::<T>().cloned().unwrap_or_default()
}
