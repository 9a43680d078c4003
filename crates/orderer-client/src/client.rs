// SPDX-License-Identifier: Apache-2.0
//! The client: names its endpoints, and opens streams on them.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use block_api::{BlockSource, BlockStream, Clock, Endpoint, Signer, SourceError, StreamRequest};
use tokio::sync::watch;

use crate::{
    broadcast::BroadcastSession,
    config::{Config, ConfigError, NotTaken, OrdererEndpoint},
    connect_any::{AllEndpointsFailed, shuffled},
    connection::{Connection, Target},
    connector::{Connector, TcpConnector},
    seek::signed_request,
    stream::{Limits, deliver},
    targets::Targets,
};

/// A client of one ordering service. Cheap to clone; clones share the endpoints.
///
/// Each stream has a connection of its own, which is closed when the stream is dropped. The client
/// starts no task but those of its streams, and they end with them.
#[derive(Clone)]
pub struct OrdererClient {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    connector: Arc<dyn Connector>,
    tls_cert_hash: Option<[u8; 32]>,
    targets: Arc<RwLock<Targets>>,
    /// How often the targets became others.
    changes: watch::Sender<u64>,
}

impl OrdererClient {
    /// A client that dials over TCP.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work: TLS without roots (H15), a certificate or key that is
    /// none, a limit out of range.
    pub fn new(
        config: Config,
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        config.tls.validate(&clock)?;
        let (targets, not_taken) = Targets::resolve(&config.endpoints, &config, &clock);
        if let Some(first) = not_taken.into_iter().next() {
            return Err(first.into_reason());
        }
        let shared = Shared {
            tls_cert_hash: config.tls.certificate_hash(),
            config,
            signer,
            clock,
            connector: Arc::new(TcpConnector),
            targets: Arc::new(RwLock::new(targets)),
            changes: watch::Sender::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The same client, over another network.
    #[must_use]
    pub fn with_connector(self, connector: Arc<dyn Connector>) -> Self {
        let Shared {
            config,
            signer,
            clock,
            tls_cert_hash,
            targets,
            changes,
            ..
        } = &*self.shared;
        let shared = Shared {
            config: config.clone(),
            signer: signer.clone(),
            clock: clock.clone(),
            connector,
            tls_cert_hash: *tls_cert_hash,
            targets: targets.clone(),
            changes: changes.clone(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Replaces the endpoints, of all clones: a config block may name others (semantics §1.8).
    /// Streams that are open go on; [`endpoint_changes`](BlockSource::endpoint_changes) tells when an
    /// endpoint came, went, or is reached otherwise (SRC-06, H16). [`Config::overrides`] stay in
    /// force.
    ///
    /// An endpoint that is given more than once is one endpoint, where any of the TLS roots given
    /// with it proves the orderer: see [`OrdererEndpoint`].
    ///
    /// What cannot be used is left out and returned, and the rest takes force: one organisation's
    /// mistake must not keep endpoints and roots in force that the channel has removed. When
    /// nothing of it can be used, those that were here before and are given again stay as they
    /// were, since the config block that mends it has to come from somewhere; all others go.
    pub fn set_endpoints(&self, endpoints: &[OrdererEndpoint]) -> Vec<NotTaken> {
        let Shared { config, clock, .. } = &*self.shared;
        let (mut targets, mut not_taken) = Targets::resolve(endpoints, config, clock);
        let mut current = self
            .shared
            .targets
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if targets.order.is_empty() {
            targets.keep(&current, &mut not_taken);
        }
        let changed = current.ways != targets.ways;
        let change = *self.shared.changes.borrow() + 1;
        targets.follow(&current, change);
        *current = targets;
        drop(current);
        self.shared.changes.send_if_modified(|changes| {
            *changes += u64::from(changed);
            changed
        });
        not_taken
    }

    /// Opens a stream on any endpoint, tried one after the other in random order.
    ///
    /// # Errors
    ///
    /// When no endpoint could be reached; the error has the cause of each.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn connect_any(
        &self,
        request: &StreamRequest,
    ) -> Result<(Endpoint, BlockStream), AllEndpointsFailed> {
        let mut causes = Vec::new();
        for endpoint in shuffled(self.endpoints()) {
            match self.open(&endpoint, request).await {
                Ok(stream) => return Ok((endpoint, stream)),
                Err(error) => causes.push((endpoint, error)),
            }
        }
        Err(AllEndpointsFailed::new(causes))
    }

    /// Opens a session in which envelopes are submitted for ordering.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    pub async fn broadcast(&self, endpoint: &Endpoint) -> Result<BroadcastSession, SourceError> {
        let connection = self.connect(endpoint).await?;
        Ok(BroadcastSession::start(endpoint.clone(), connection, &self.shared.config).await)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, SourceError> {
        let target = self.target(endpoint)?;
        Connection::open(&target, &*self.shared.connector, &self.shared.config).await
    }

    fn target(&self, endpoint: &Endpoint) -> Result<Target, SourceError> {
        let targets = self
            .shared
            .targets
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let target = targets.by_endpoint.get(endpoint);
        target.cloned().ok_or_else(|| SourceError::UnknownEndpoint {
            endpoint: endpoint.clone(),
        })
    }
}

#[async_trait]
impl BlockSource for OrdererClient {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.shared
            .targets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .order
            .clone()
    }

    fn endpoint_changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.shared.changes.subscribe())
    }

    fn endpoint_version(&self, endpoint: &Endpoint) -> Option<u64> {
        let targets = self
            .shared
            .targets
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let is_there = targets.ways.contains_key(endpoint);
        is_there.then(|| targets.since.get(endpoint).copied().unwrap_or_default())
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let Shared {
            config,
            signer,
            clock,
            tls_cert_hash,
            ..
        } = &*self.shared;
        let target = self.target(endpoint)?;
        // A request that cannot be signed costs no connection.
        let envelope = signed_request(
            &**signer,
            request,
            config.error_response,
            *tls_cert_hash,
            clock.now(),
        )
        .await
        .map_err(|source| SourceError::Sign {
            endpoint: endpoint.clone(),
            source,
        })?;
        let connection = Connection::open(&target, &*self.shared.connector, config).await?;
        Ok(deliver(
            endpoint.clone(),
            connection,
            envelope,
            Limits::of(request, config),
        )
        .await)
    }
}

impl fmt::Debug for OrdererClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrdererClient")
            .field("endpoints", &self.endpoints())
            .field("connector", &self.shared.connector)
            .finish_non_exhaustive()
    }
}
