// SPDX-License-Identifier: Apache-2.0
//! A node that pulls a chain into a store in files.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{
    Block, BlockReader as _, BlockSource, BlockStore as _, Capabilities, Fault, FetchError, Gossip,
    GossipChannel, GossipError, JoinRequest, Membership, NodeId, Standing, SystemClock,
    VerifiedBlock, testing::within,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, Config, DeliverService};
use orderer_client::{Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls};
use tokio::sync::mpsc;

use crate::served::Served;

/// A network without other nodes, in which nothing is copied.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Gossip for Nobody {
    fn node_id(&self) -> NodeId {
        NodeId::new("node")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, _: JoinRequest) -> Result<Membership, GossipError> {
        let channel = Arc::new(Self);
        let (_, events) = mpsc::channel(1);
        Ok(Membership { channel, events })
    }

    async fn stop(&self) {}
}

#[async_trait]
impl GossipChannel for Nobody {
    async fn publish(&self, _: &VerifiedBlock) -> Result<(), GossipError> {
        Ok(())
    }

    async fn fetch(&self, _: &Block) -> Result<Block, FetchError> {
        Err(FetchError::Closed)
    }

    fn set_pulling(&self, _: bool) {}

    fn source(&self, _: &NodeId) -> Option<Arc<dyn BlockSource>> {
        None
    }

    fn blame(&self, _: &NodeId, _: Fault) {}

    async fn leave(&self) {}
}

/// Pulls a chain to its end.
pub(crate) async fn catch_up(served: &Served) {
    let dir = tempfile::tempdir().unwrap();
    let verifier = Arc::new(ChannelVerifier::from_genesis(&served.genesis).unwrap());
    let genesis = VerifiedBlock::new(served.genesis.clone(), &*verifier, Standing::Linked).unwrap();
    let channel = verifier.channel().clone();
    let config = block_store::Config::new(channel.clone());
    let (store, _) = SegmentStore::open(dir.path().join("chain"), config).unwrap();
    let store = Arc::new(store);
    store.append(vec![genesis]).await.unwrap();
    let client = ClientConfig {
        endpoints: vec![OrdererEndpoint {
            endpoint: served.endpoint.clone(),
            tls_roots: served.tls_roots.clone(),
        }],
        tls: Tls::Server,
        ..ClientConfig::default()
    };
    let (signer, clock) = (served.signer.clone(), Arc::new(SystemClock));
    let source = OrdererClient::new(client, signer.clone(), clock).unwrap();
    let service = DeliverService::new(Config::default(), Arc::new(Nobody)).unwrap();
    service
        .join_channel(ChannelParts {
            channel: channel.clone(),
            genesis: served.genesis.header_hash(),
            store: store.clone(),
            readers: Arc::new(ChannelAccess::readers(&verifier)),
            organisation: Arc::new(OwnMsp::of_identity(&verifier, &signer.identity())),
            verifier,
            signer,
            source: Arc::new(source),
        })
        .await
        .unwrap();
    service
        .start_deliver_for_channel(&channel, store.clone())
        .await
        .unwrap();
    within("the whole chain", store.wait_for(served.height))
        .await
        .unwrap();
    service.stop().await;
    SegmentStore::clone(&store).close().await;
}
