// SPDX-License-Identifier: Apache-2.0
//! The promises of every gossip backend, kept over TCP on loopback.

#[cfg(test)]
mod support;

use std::sync::Arc;

use block_api::{
    Gossip,
    testing::{gossip_conformance, gossip_conformance::Topology},
};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip};

/// Covers: NEW-11, GCH-04, GOS-05, GOS-09
#[tokio::test(flavor = "multi_thread")]
async fn the_backend_keeps_the_promises_of_the_seam() {
    gossip_conformance::run(start).await;
}

async fn start(topology: Topology) -> Vec<Arc<dyn Gossip>> {
    let keys: Vec<Keypair> = topology
        .signers
        .iter()
        .map(|_| Keypair::generate())
        .collect();
    let admitted: Vec<&Keypair> = keys.iter().collect();
    let mut nodes = Vec::new();
    for (key, signer) in keys.iter().zip(topology.signers) {
        let config = Config {
            signer,
            // The links are those that are asked for.
            target_peers: 0,
            ..support::config(key.clone(), &admitted)
        };
        nodes.push(Libp2pGossip::start(config).await.unwrap());
    }
    for (dialer, listener) in topology.links {
        support::connect(&nodes[dialer], &nodes[listener]).await;
    }
    let object = |node| Arc::new(node) as Arc<dyn Gossip>;
    nodes.into_iter().map(object).collect()
}
