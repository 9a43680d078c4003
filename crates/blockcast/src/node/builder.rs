// SPDX-License-Identifier: Apache-2.0
//! Puts a node together from its configuration and from what is plugged in.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use block_api::{BlockReader, Clock, Gossip, Readers, Signer, SystemClock};
use deliver_service::DeliverService;
use gossip_libp2p::Libp2pGossip;
use gossip_memory::MemoryNetwork;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing::info;

use super::{
    Node, StartError,
    channel::{self, Identity, OpenedChannel},
    gossip_key, metrics,
    operations::Operations,
    stored::StoreCheck,
    view::{Seen, View},
};
use crate::config::{GossipBackend, NodeConfig, Pull};

/// What a node is made of. What is not given here is built from the configuration.
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder {
    config: NodeConfig,
    signer: Option<Arc<dyn Signer>>,
    gossip: Option<Arc<dyn Gossip>>,
    readers: Option<Arc<dyn Readers>>,
    clock: Arc<dyn Clock>,
    check: StoreCheck,
    registry: Registry,
}

/// The gossip network, and where others reach this node in it.
struct Network {
    gossip: Arc<dyn Gossip>,
    libp2p: Option<Libp2pGossip>,
    addresses: Vec<String>,
}

impl NodeBuilder {
    pub(super) fn new(config: NodeConfig) -> Self {
        Self {
            config,
            signer: None,
            gossip: None,
            readers: None,
            clock: Arc::new(SystemClock),
            check: StoreCheck::default(),
            registry: Registry::default(),
        }
    }

    /// Signs with this signer, wherever its key lives; `[identity]` is not read then.
    pub fn signer(self, signer: Arc<dyn Signer>) -> Self {
        Self {
            signer: Some(signer),
            ..self
        }
    }

    /// Uses this network among nodes; `[gossip]` is not read then. The node stops it with itself.
    pub fn gossip(self, gossip: Arc<dyn Gossip>) -> Self {
        Self {
            gossip: Some(gossip),
            ..self
        }
    }

    /// Has this say which nodes may have the blocks of every channel; the channels' configurations and
    /// `gossip.readers` are not asked then. For networks whose nodes have no identities in the channel,
    /// as where a recorded chain is played.
    pub fn readers(self, readers: Arc<dyn Readers>) -> Self {
        Self {
            readers: Some(readers),
            ..self
        }
    }

    /// Tells the time by this clock; the machine's by default.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Adds the metrics of the node to those in this registry, which the node shows then.
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }

    /// Judges so much of what is in the stores before it starts; a spot check by default.
    pub fn check_stores(self, check: StoreCheck) -> Self {
        Self { check, ..self }
    }

    /// Starts the node: opens every store, joins the gossip network and every channel, and begins to
    /// pull the channels that it pulls. Returns before any orderer is connected.
    ///
    /// # Errors
    ///
    /// When the configuration or a file that it names does not serve, a store cannot be opened, or
    /// the gossip network cannot be joined. Nothing runs then.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn start(mut self) -> Result<Node, StartError> {
        self.config.validate()?;
        let delivery = self.config.delivery_service()?;
        let identity = Identity {
            signer: self.load_signer()?,
            clock: self.clock.clone(),
        };
        let listener = self.listen().await?;
        let mut opened = Vec::new();
        for section in &self.config.channels {
            let channel = Box::pin(channel::open(&self.config, section, &identity, self.check));
            let mut channel = channel.await?;
            if let Some(readers) = &self.readers {
                channel.parts.readers = readers.clone();
            }
            opened.push(channel);
        }
        let network = Box::pin(self.network(&identity.signer)).await?;
        let service = DeliverService::new(delivery, network.gossip.clone())?;
        let seen = |channel: &OpenedChannel| Seen {
            store: channel.store.clone(),
            verifier: channel.verifier.clone(),
        };
        let view = Arc::new(View {
            service: service.clone(),
            channels: opened
                .iter()
                .map(|channel| (channel.parts.channel.clone(), seen(channel)))
                .collect(),
            identity: identity.signer.identity(),
            clock: identity.clock,
            gossip: network.libp2p,
            ready_lag: self.config.operations.ready_lag,
        });
        metrics::register(&mut self.registry, view.clone());
        let mut node = Node {
            name: self.config.node.name,
            service,
            gossip: network.gossip,
            addresses: network.addresses,
            stores: opened
                .iter()
                .map(|channel| (channel.parts.channel.clone(), channel.store.clone()))
                .collect::<BTreeMap<_, _>>(),
            view,
            registry: Arc::new(self.registry),
            operations: None,
        };
        info!(name = %node.name, id = %node.gossip.node_id(), addresses = ?node.addresses, "node started");
        for channel in opened {
            if let Err(error) = node.join(channel).await {
                node.stop().await;
                return Err(error);
            }
        }
        if let Some((listener, address)) = listener {
            info!(%address, "operations service started");
            let (view, registry) = (node.view.clone(), node.registry.clone());
            node.operations = Some(Operations::start(listener, address, view, registry));
        }
        Ok(node)
    }

    fn load_signer(&self) -> Result<Arc<dyn Signer>, StartError> {
        match (&self.signer, &self.config.identity) {
            (Some(signer), _) => Ok(signer.clone()),
            (None, Some(identity)) => Ok(signer::load_msp_folder(
                &identity.msp_dir,
                &identity.msp_id,
            )?),
            (None, None) => Err(StartError::NoIdentity),
        }
    }

    /// Listens for the operations service, if there shall be one.
    async fn listen(&self) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
        let Some(address) = self.config.operations.listen else {
            return Ok(None);
        };
        let failed = |source| StartError::Operations { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some((listener, address)))
    }

    async fn network(&mut self, signer: &Arc<dyn Signer>) -> Result<Network, StartError> {
        if let Some(gossip) = &self.gossip {
            return Ok(Network {
                gossip: gossip.clone(),
                libp2p: None,
                addresses: Vec::new(),
            });
        }
        match self.config.gossip.backend {
            GossipBackend::Libp2p => {
                let key = gossip_key::load_or_make(&self.config.gossip_key_file())?;
                let config = gossip_libp2p::Config {
                    clock: self.clock.clone(),
                    ..self.config.libp2p(key, signer.clone())?
                };
                let gossip = Libp2pGossip::start_with_metrics(config, &mut self.registry).await?;
                let addresses = gossip
                    .peer_addrs()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                Ok(Network {
                    gossip: Arc::new(gossip.clone()),
                    libp2p: Some(gossip),
                    addresses,
                })
            }
            GossipBackend::Memory => {
                // Nothing is drawn by lot among one node, so that any seed does.
                let node = MemoryNetwork::new(0).node_of(&self.config.node.name, signer.identity());
                Ok(Network {
                    gossip: Arc::new(node),
                    libp2p: None,
                    addresses: Vec::new(),
                })
            }
        }
    }
}

impl Node {
    async fn join(&self, channel: OpenedChannel) -> Result<(), StartError> {
        let OpenedChannel { parts, pull, .. } = channel;
        let (id, ledger) = (parts.channel.clone(), parts.store.clone());
        self.service.join_channel(parts).await?;
        let ledger: Arc<dyn BlockReader> = ledger;
        match pull {
            Pull::Elected => self.service.elect_for_channel(&id, ledger).await?,
            Pull::Always => self.service.start_deliver_for_channel(&id, ledger).await?,
            Pull::Never => {}
        }
        Ok(())
    }
}
