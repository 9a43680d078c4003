// SPDX-License-Identifier: Apache-2.0
//! Nodes of the product for benchmarks, put together as its composition root does it, with default
//! settings and a durable store.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use block_api::{
    Block, BlockReader as _, BlockStore as _, ChannelId, Clock, Gossip, Height, Standing,
    SystemClock, VerifiedBlock,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, DeliverService};
use dev_orderer::{Network, NetworkConfig, OrganizationSpec, Role};
use gossip_libp2p::{Keypair, Libp2pGossip, Multiaddr};
use orderer_client::{
    Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls, parse_pem_certificates,
};

/// A node with one channel.
#[derive(Debug)]
pub struct Node {
    /// Its place among the others.
    pub gossip: Libp2pGossip,
    /// Its chain.
    pub store: SegmentStore,
    service: DeliverService,
    channel: ChannelId,
}

/// A network with one application organisation, which has so many nodes, and a client.
///
/// # Errors
///
/// Never: the name is one that a channel can have.
pub fn network(nodes: usize) -> Result<NetworkConfig> {
    let members: Vec<String> = (0..nodes).map(member).collect();
    let peers = members.iter().map(|name| (name.as_str(), Role::Peer));
    let organisation = OrganizationSpec::new("Org1", peers.chain([("user1", Role::Client)]));
    Ok(NetworkConfig {
        applications: vec![organisation],
        ..NetworkConfig::new("bench".parse()?)
    })
}

/// Writes what the nodes of a network need to join it.
///
/// # Errors
///
/// When the system refuses.
pub fn write_files(dir: &Path, network: &Network) -> Result<()> {
    for (path, content) in network.files() {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}

/// Where a node has its chain.
pub fn store_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("chain{index}"))
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
        let genesis = Block::parse(fs::read(dir.join("genesis.block"))?.into())?;
        let verifier = ChannelVerifier::from_genesis(&genesis)?;
        let channel = verifier.channel().clone();
        let config = block_store::Config::new(channel.clone());
        let (store, _) = SegmentStore::open(store_path(dir, index), config)?;
        if store.info().height == Height::ZERO {
            let first = VerifiedBlock::new(genesis.clone(), &verifier, Standing::Linked)?;
            store.append(vec![first]).await?;
        }
        let msp = dir.join("org1").join(member(index)).join("msp");
        let signer = signer::load_msp_folder(&msp, "Org1MSP")?;
        let key = Keypair::from_seed([u8::try_from(index)? + 1; 32]);
        let gossip = Libp2pGossip::start(gossip_libp2p::Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            peers,
            ..gossip_libp2p::Config::new(key, signer.clone())
        })
        .await?;
        let config = deliver_service::Config::default();
        let service = DeliverService::new(config, over(gossip.clone()))?;
        let orderer = OrdererEndpoint {
            endpoint: orderer.parse()?,
            tls_roots: parse_pem_certificates(&fs::read(dir.join("tls-ca.pem"))?)?,
        };
        let client = ClientConfig {
            endpoints: vec![orderer],
            tls: Tls::Server,
            ..ClientConfig::default()
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let source = OrdererClient::new(client, signer.clone(), clock)?;
        let organisation = OwnMsp::of_identity(&verifier, &signer.identity());
        let verifier = Arc::new(verifier);
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
            gossip,
            store,
            service,
            channel,
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
        let state = self.service.state(&self.channel);
        state.map_or(0, |state| state.stats.appends)
    }

    /// Has it pull from the orderer.
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
        self.gossip.stop().await;
        self.store.close().await;
    }
}

/// The name of a node in its organisation.
fn member(index: usize) -> String {
    format!("peer{index}")
}
