// SPDX-License-Identifier: Apache-2.0
//! Nodes put together from the crates, as a composition root does it.

use std::{path::Path, sync::Arc, time::Duration};

use block_api::{
    Block, BlockReader, BlockStore, ChannelId, HeaderHash, Height, ReadLimits, Readers, Signer,
    Standing, SystemClock, VerifiedBlock, testing::within,
};
use block_store::SegmentStore;
use channel_config::{ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, ChannelState, Config, DeliverService};
use dev_orderer::DevOrderer;
use gossip_libp2p::{Admission, Keypair, Libp2pGossip};
use orderer_client::{
    AddressOverride, Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls,
};
use tempfile::TempDir;

use crate::watched::{Verdicts, WatchedVerifier};

/// A node with one channel.
pub(crate) struct Node {
    pub(crate) gossip: Libp2pGossip,
    pub(crate) store: SegmentStore,
    pub(crate) service: DeliverService,
    pub(crate) channel: ChannelId,
    pub(crate) verdicts: Verdicts,
}

/// What every node of a test has in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) genesis: Block,
    pub(crate) readers: Arc<dyn Readers>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) client: ClientConfig,
    pub(crate) delivery: Config,
}

impl Common {
    /// Nodes of the network of this orderer.
    pub(crate) fn of(
        orderer: &DevOrderer,
        readers: Arc<dyn Readers>,
        signer: Arc<dyn Signer>,
    ) -> Self {
        let endpoints = orderer
            .endpoints()
            .map(|endpoint| OrdererEndpoint {
                endpoint: endpoint.clone(),
                tls_roots: orderer.tls_roots(),
            })
            .collect();
        Self {
            genesis: orderer.genesis().clone(),
            readers,
            signer,
            client: ClientConfig {
                endpoints,
                tls: Tls::Server,
                connect_timeout: Duration::from_secs(5),
                ..ClientConfig::default()
            },
            delivery: Config {
                catch_up_patience: Duration::from_millis(200),
                peer_rest: Duration::from_millis(200),
                ..Config::default()
            },
        }
    }

    /// Nodes whose orderers are the ones of the recorded configuration, reached at this one.
    pub(crate) fn replayed(
        orderer: &DevOrderer,
        readers: Arc<dyn Readers>,
        signer: Arc<dyn Signer>,
    ) -> Self {
        let mut common = Self::of(orderer, readers, signer);
        let config = ChannelVerifier::from_genesis(&common.genesis)
            .unwrap()
            .config();
        let recorded = config.endpoints();
        common.client.overrides = recorded
            .iter()
            .map(|recorded| AddressOverride {
                from: recorded.endpoint.clone(),
                to: orderer.endpoint().clone(),
                tls_roots: Some(orderer.tls_roots()),
            })
            .collect();
        common.client.endpoints = recorded
            .iter()
            .map(|recorded| OrdererEndpoint {
                endpoint: recorded.endpoint.clone(),
                tls_roots: recorded.tls_roots.clone(),
            })
            .collect();
        common
    }
}

impl Node {
    /// Starts a node on a folder; a chain that is there already is gone on with.
    pub(crate) async fn start(common: &Common, dir: &Path, gossip: Libp2pGossip) -> Self {
        let verifier = ChannelVerifier::from_genesis(&common.genesis).unwrap();
        let channel = verifier.channel().clone();
        let (store, _) =
            SegmentStore::open(dir, block_store::Config::new(channel.clone())).unwrap();
        if store.info().height == Height::ZERO {
            let genesis =
                VerifiedBlock::new(common.genesis.clone(), &verifier, Standing::Linked).unwrap();
            store.append(vec![genesis]).await.unwrap();
        }
        let clock = Arc::new(SystemClock);
        let client =
            OrdererClient::new(common.client.clone(), common.signer.clone(), clock).unwrap();
        let organisation = OwnMsp::of_identity(&verifier, &common.signer.identity());
        let (verifier, verdicts) = WatchedVerifier::new(verifier, client.clone());
        let service =
            DeliverService::new(common.delivery.clone(), Arc::new(gossip.clone())).unwrap();
        let parts = ChannelParts {
            channel: channel.clone(),
            genesis: common.genesis.header_hash(),
            store: Arc::new(store.clone()),
            verifier: Arc::new(verifier),
            readers: common.readers.clone(),
            signer: common.signer.clone(),
            organisation: Arc::new(organisation),
            source: Arc::new(client),
        };
        service.join_channel(parts).await.unwrap();
        Self {
            gossip,
            store,
            service,
            channel,
            verdicts,
        }
    }

    pub(crate) async fn pull(&self) {
        self.service
            .start_deliver_for_channel(&self.channel, Arc::new(self.store.clone()))
            .await
            .unwrap();
    }

    /// Has it pull while its place asks for it.
    pub(crate) async fn elect(&self) {
        self.service
            .elect_for_channel(&self.channel, Arc::new(self.store.clone()))
            .await
            .unwrap();
    }

    pub(crate) async fn reaches(&self, height: u64) -> HeaderHash {
        let reached = self
            .service
            .wait_for_height(&self.channel, Height::new(height));
        assert!(
            within("the height", reached).await,
            "the channel ended before height {height}"
        );
        self.store.info().tip_hash.unwrap()
    }

    pub(crate) fn state(&self) -> ChannelState {
        self.service.state(&self.channel).unwrap()
    }

    /// Every block that is stored, as it is stored.
    pub(crate) async fn blocks(&self) -> Vec<Block> {
        blocks(&self.store).await
    }

    pub(crate) async fn stop(self) {
        within("stopping the service", self.service.stop()).await;
        within("stopping gossip", block_api::Gossip::stop(&self.gossip)).await;
        within("closing the store", self.store.close()).await;
    }
}

/// Every block of a chain.
pub(crate) async fn blocks(reader: &dyn BlockReader) -> Vec<Block> {
    let mut blocks = Vec::new();
    loop {
        let next = (blocks.len() as u64).into();
        let read = reader.read(next, ReadLimits::new(64, 1 << 20)).await;
        let read = read.unwrap();
        if read.is_empty() {
            return blocks;
        }
        blocks.extend(read.into_iter().map(|bytes| Block::parse(bytes).unwrap()));
    }
}

/// libp2p nodes of one identity on loopback: each dials those before it, and all are allowed.
pub(crate) async fn gossip(count: u8, signer: &Arc<dyn Signer>) -> Vec<Libp2pGossip> {
    gossip_of((0..count).map(|_| signer.clone()).collect()).await
}

/// The same, each with an identity of its own.
pub(crate) async fn gossip_of(signers: Vec<Arc<dyn Signer>>) -> Vec<Libp2pGossip> {
    let keys: Vec<Keypair> = (1..)
        .map(|seed| Keypair::from_seed([seed; 32]))
        .take(signers.len())
        .collect();
    let allowed = keys.iter().map(Keypair::node_id).collect();
    let mut nodes: Vec<Libp2pGossip> = Vec::new();
    for (key, signer) in keys.into_iter().zip(signers) {
        let mut config = gossip_libp2p::Config::new(key, signer);
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.peers = nodes.iter().flat_map(Libp2pGossip::peer_addrs).collect();
        config.admission = Admission::AllowList(Clone::clone(&allowed));
        nodes.push(Libp2pGossip::start(config).await.unwrap());
    }
    nodes
}

/// Waits until every node is connected to every other.
pub(crate) async fn all_met<'a>(nodes: impl IntoIterator<Item = &'a Libp2pGossip> + Clone) {
    let others = nodes.clone().into_iter().count() - 1;
    for node in nodes {
        let mut peers = node.peers();
        within(
            "the connections",
            peers.wait_for(|peers| peers.len() >= others),
        )
        .await
        .unwrap();
    }
}

/// Starts nodes on folders of their own and lets them meet.
pub(crate) async fn nodes(common: &Common, count: u8) -> (Vec<TempDir>, Vec<Node>) {
    let (mut dirs, mut nodes) = (Vec::new(), Vec::new());
    for gossip in gossip(count, &common.signer).await {
        let dir = tempfile::tempdir().unwrap();
        nodes.push(Node::start(common, &dir.path().join("chain"), gossip).await);
        dirs.push(dir);
    }
    all_met(nodes.iter().map(|node| &node.gossip)).await;
    (dirs, nodes)
}
