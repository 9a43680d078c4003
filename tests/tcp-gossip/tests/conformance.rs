// SPDX-License-Identifier: Apache-2.0
//! The backends of the guide keep the promises of the seam, as any other can show.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails here is meant to panic"
)]

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{
    Gossip, NodeId,
    testing::{TestSigner, gossip_conformance, gossip_conformance::Topology, within},
};
use tcp_gossip::{Broker, BrokerGossip, Config, TcpGossip};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_keeps_its_promises() {
    gossip_conformance::run(mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_keeps_its_promises() {
    gossip_conformance::run(brokered).await;
}

/// Connections that prove nothing take the places of others for a time only.
#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_hung_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        max_unproven: NonZeroUsize::MIN,
        timeout: Duration::from_millis(100),
        ..Config::new(NodeId::new("b"), BTreeMap::new())
    };
    let node = TcpGossip::start(config, listener, Arc::new(TestSigner("b")));
    for sent in [&b""[..], b"\xff\xff\xff\xff\xff", b"\x01\x00\x00\x00\x01?"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "it was answered {answer:?}");
    }
    node.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

async fn mesh(topology: Topology) -> Vec<Arc<dyn Gossip>> {
    let mut listeners = Vec::new();
    for _ in &topology.signers {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let name = |index: usize| NodeId::new(format!("tcp-{index}"));
    let others: Vec<(NodeId, SocketAddr)> = listeners
        .iter()
        .enumerate()
        .map(|(index, listener)| (name(index), listener.local_addr().unwrap()))
        .collect();
    let mut nodes: Vec<Arc<dyn Gossip>> = Vec::new();
    for (index, (listener, signer)) in listeners.into_iter().zip(topology.signers).enumerate() {
        let linked = topology.links.iter().filter_map(|(a, b)| match index {
            _ if *a == index => Some(others[*b].clone()),
            _ if *b == index => Some(others[*a].clone()),
            _ => None,
        });
        let peers: BTreeMap<NodeId, SocketAddr> = linked.collect();
        let config = Config {
            status_interval: Duration::from_millis(100),
            ..Config::new(name(index), peers)
        };
        nodes.push(Arc::new(TcpGossip::start(config, listener, signer)));
    }
    nodes
}

async fn brokered(topology: Topology) -> Vec<Arc<dyn Gossip>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the runtime of the test.
    let _broker = Broker::start(listener);
    let mut nodes: Vec<Arc<dyn Gossip>> = Vec::new();
    for index in 0..topology.signers.len() {
        let id = NodeId::new(format!("client-{index}"));
        let node = BrokerGossip::connect(id, address).await.unwrap();
        nodes.push(Arc::new(node));
    }
    nodes
}
