// SPDX-License-Identifier: Apache-2.0
//! Networks of nodes on loopback.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use block_api::{
    Gossip, NodeId, Signer,
    testing::{TestSigner, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};

/// The settings of a test's node: it listens on loopback, and its rhythm is quick.
pub(crate) fn config(identity: Keypair, admitted: &[&Keypair]) -> Config {
    let admitted = admitted.iter().map(|key| key.node_id()).collect();
    Config {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        admission: Admission::AllowList(admitted),
        heartbeat: Duration::from_millis(200),
        status_interval: Duration::from_millis(100),
        ..Config::new(identity, Arc::new(TestSigner("node")))
    }
}

/// A node for each of these signers, connected along these links and no others.
pub(crate) async fn network_of(
    signers: Vec<Arc<dyn Signer>>,
    links: &[(usize, usize)],
) -> Vec<Libp2pGossip> {
    let keys: Vec<Keypair> = signers.iter().map(|_| Keypair::generate()).collect();
    let admitted: Vec<&Keypair> = keys.iter().collect();
    let mut nodes = Vec::new();
    for (key, signer) in keys.iter().zip(signers) {
        let config = Config {
            signer,
            target_peers: 0,
            ..config(key.clone(), &admitted)
        };
        nodes.push(Libp2pGossip::start(config).await.unwrap());
    }
    for (dialer, listener) in links {
        connect(&nodes[*dialer], &nodes[*listener]).await;
    }
    nodes
}

/// Links two nodes, and returns when both know it.
pub(crate) async fn connect(dialer: &Libp2pGossip, listener: &Libp2pGossip) {
    let address = listener.peer_addrs().into_iter().next().unwrap();
    dialer.add_peer(address).await.unwrap();
    for (here, there) in [(dialer, listener), (listener, dialer)] {
        linked(here, &there.node_id()).await;
    }
}

/// Waits until a node is connected to another.
pub(crate) async fn linked(here: &Libp2pGossip, there: &NodeId) {
    peers(here, |peers| peers.contains(there)).await;
}

/// Waits until the peers of a node are as wanted.
pub(crate) async fn peers(node: &Libp2pGossip, wanted: impl Fn(&BTreeSet<NodeId>) -> bool) {
    let mut peers = node.peers();
    within("the wanted peers", peers.wait_for(|peers| wanted(peers)))
        .await
        .unwrap();
}
