// SPDX-License-Identifier: Apache-2.0
//! A node that pulls a chain into a store in files.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{
    Block, BlockReader as _, BlockSource, Capabilities, Fault, FetchError, Gossip, GossipChannel,
    GossipError, JoinRequest, Membership, NodeId, VerifiedBlock, testing::within,
};
use e2e_tests::node::{Joins, Puller};
use orderer_client::{Config as ClientConfig, OrdererEndpoint};
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
    let joins = Joins {
        genesis: served.genesis.clone(),
        signer: served.signer.clone(),
        client: ClientConfig {
            endpoints: vec![OrdererEndpoint {
                endpoint: served.endpoint.clone(),
                tls_roots: served.tls_roots.clone(),
            }],
            tls: served.tls.clone(),
            ..ClientConfig::default()
        },
    };
    let chain = dir.path().join("chain");
    let node = Puller::join(joins, &chain, Arc::new(Nobody)).await.unwrap();
    node.pull().await.unwrap();
    within("the whole chain", node.store.wait_for(served.height))
        .await
        .unwrap();
    node.stop().await;
}
