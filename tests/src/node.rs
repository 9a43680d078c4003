// SPDX-License-Identifier: Apache-2.0
//! Nodes of the product for benchmarks, put together as its composition root does it, with default
//! settings and a durable store.

mod files;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use block_api::{
    Block, BlockReader as _, BlockStore as _, ChannelId, Gossip, Height, Signer, Standing,
    SystemClock, VerifiedBlock,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, DeliverService};
use dev_orderer::{NetworkConfig, OrganizationSpec, Role};
use gossip_libp2p::{Keypair, Libp2pGossip, Multiaddr};
use gossip_memory::MemoryNetwork;
use orderer_client::{Config as ClientConfig, OrdererClient};

pub use self::files::{Files, USER, write_files};

/// The channel of a benchmark.
pub const CHANNEL: &str = "bench";

/// What joins a channel.
#[derive(Debug)]
pub struct Joins {
    /// The first block of the channel.
    pub genesis: Block,
    /// Who it is.
    pub signer: Arc<dyn Signer>,
    /// Where it pulls from.
    pub client: ClientConfig,
}

/// What has joined a channel, and pulls it into a durable store when it is told to.
#[derive(Debug)]
pub struct Puller {
    /// Its chain.
    pub store: SegmentStore,
    service: DeliverService,
    channel: ChannelId,
}

/// A node with one channel.
#[derive(Debug)]
pub struct Node {
    /// Its place among the others.
    pub gossip: Libp2pGossip,
    /// Its chain.
    pub store: SegmentStore,
    puller: Puller,
}

/// A network with one application organisation, which has so many nodes, and a client.
///
/// # Errors
///
/// Never: the name is one that a channel can have.
pub fn network(nodes: usize) -> Result<NetworkConfig> {
    let members: Vec<String> = (0..nodes).map(member).collect();
    let peers = members.iter().map(|name| (name.as_str(), Role::Peer));
    let organisation = OrganizationSpec::new("Org1", peers.chain([(USER, Role::Client)]));
    Ok(NetworkConfig {
        applications: vec![organisation],
        ..NetworkConfig::new(CHANNEL.parse()?)
    })
}

/// Where a node has its chain.
pub fn store_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("chain{index}"))
}

impl Puller {
    /// Joins a channel, with the chain in this folder, as a node that knows no others.
    ///
    /// # Errors
    ///
    /// When a part of it does not start.
    pub async fn alone(joins: Joins, chain: &Path) -> Result<Self> {
        let gossip = Arc::new(MemoryNetwork::new(0).node("node"));
        Self::join(joins, chain, gossip).await
    }

    /// Joins a channel, with the chain in this folder, as a node of this gossip network.
    ///
    /// # Errors
    ///
    /// When a part of it does not start.
    pub async fn join<G: Gossip + 'static>(
        joins: Joins,
        chain: &Path,
        gossip: Arc<G>,
    ) -> Result<Self> {
        let Joins {
            genesis,
            signer,
            client,
        } = joins;
        let verifier = Arc::new(ChannelVerifier::from_genesis(&genesis)?);
        let channel = verifier.channel().clone();
        let config = block_store::Config::new(channel.clone());
        let (store, _) = SegmentStore::open(chain, config)?;
        if store.info().height == Height::ZERO {
            let first = VerifiedBlock::new(genesis.clone(), &*verifier, Standing::Linked)?;
            store.append(vec![first]).await?;
        }
        let service = DeliverService::new(deliver_service::Config::default(), gossip)?;
        let source = OrdererClient::new(client, signer.clone(), Arc::new(SystemClock))?;
        let organisation = OwnMsp::of_identity(&verifier, &signer.identity());
        let parts = ChannelParts {
            channel: channel.clone(),
            genesis: genesis.header_hash(),
            store: Arc::new(store.clone()),
            readers: Arc::new(ChannelAccess::readers(&verifier)),
            verifier,
            signer,
            organisation: Arc::new(organisation),
            source: Arc::new(source),
        };
        service.join_channel(parts).await?;
        Ok(Self {
            store,
            service,
            channel,
        })
    }

    /// How many appends its store made since it was started.
    pub fn appends(&self) -> u64 {
        let state = self.service.state(&self.channel);
        state.map_or(0, |state| state.stats.appends)
    }

    /// Pulls from the orderer.
    ///
    /// # Errors
    ///
    /// When it pulls already.
    pub async fn pull(&self) -> Result<()> {
        let ledger = Arc::new(self.store.clone());
        let pulling = self
            .service
            .start_deliver_for_channel(&self.channel, ledger);
        Ok(pulling.await?)
    }

    /// Ends it.
    pub async fn stop(self) {
        self.service.stop().await;
        self.store.close().await;
    }
}

impl Node {
    /// Starts a node on the files of its network. It keeps connections to these peers, and pulls from
    /// this orderer when it is told to.
    ///
    /// # Errors
    ///
    /// When a part of it does not start.
    pub async fn start(
        dir: &Path,
        index: usize,
        orderer: &str,
        peers: Vec<Multiaddr>,
    ) -> Result<Self> {
        Self::start_over(dir, index, orderer, peers, Arc::new).await
    }

    /// As [`start`](Self::start), on a gossip network that is made of its own one.
    ///
    /// # Errors
    ///
    /// When a part of it does not start.
    pub async fn start_over<G: Gossip + 'static>(
        dir: &Path,
        index: usize,
        orderer: &str,
        peers: Vec<Multiaddr>,
        over: impl FnOnce(Libp2pGossip) -> Arc<G>,
    ) -> Result<Self> {
        let joins = Files(dir).joins(&member(index), orderer.parse()?)?;
        let key = Keypair::from_seed([u8::try_from(index)? + 1; 32]);
        let gossip = Libp2pGossip::start(gossip_libp2p::Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            peers,
            ..gossip_libp2p::Config::new(key, joins.signer.clone())
        })
        .await?;
        let puller = Puller::join(joins, &store_path(dir, index), over(gossip.clone())).await?;
        Ok(Self {
            gossip,
            store: puller.store.clone(),
            puller,
        })
    }

    /// Where it is reached.
    ///
    /// # Errors
    ///
    /// When it does not listen.
    pub fn address(&self) -> Result<Multiaddr> {
        let address = self.gossip.peer_addrs().into_iter().next();
        address.context("a node without an address")
    }

    /// How many appends its store made since it was started.
    pub fn appends(&self) -> u64 {
        self.puller.appends()
    }

    /// Has it pull from the orderer.
    ///
    /// # Errors
    ///
    /// When it pulls already.
    pub async fn pull(&self) -> Result<()> {
        self.puller.pull().await
    }

    /// Ends it.
    pub async fn stop(self) {
        let Puller { service, store, .. } = self.puller;
        service.stop().await;
        self.gossip.stop().await;
        store.close().await;
    }
}

/// The name of a node in its organisation.
fn member(index: usize) -> String {
    format!("peer{index}")
}
