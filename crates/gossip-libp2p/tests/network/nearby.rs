// SPDX-License-Identifier: Apache-2.0
//! Nodes that find each other by multicast on the local network.

use std::{net::Ipv4Addr, time::Duration};

use block_api::Gossip;
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};
use tokio::{net::UdpSocket, time::timeout};

use crate::support::{config, linked};

/// A group of this test's own, in the scope of an organisation.
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 192, 71, 3);

/// Whether what this machine sends to many comes back to it, as it does where there is an interface
/// beside loopback.
async fn has_multicast() -> std::io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_multicast_loop_v4(true)?;
    socket.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED)?;
    socket
        .send_to(b"anybody?", (GROUP, socket.local_addr()?.port()))
        .await?;
    let mut buffer = [0; 16];
    let came = socket.recv_from(&mut buffer);
    Ok(timeout(Duration::from_secs(2), came).await.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_network_find_each_other_without_an_address() {
    match has_multicast().await {
        Ok(true) => {}
        answer => {
            println!("SKIPPED: this machine has no multicast: {answer:?}");
            let must_run = std::env::var("BLOCKCAST_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(
                !must_run,
                "BLOCKCAST_REQUIRE_ALL is set, but there is no multicast"
            );
            return;
        }
    }
    let keys = [1, 2].map(|_| Keypair::generate());
    let mut nodes = Vec::new();
    for key in &keys {
        // Only each other, whoever else is on the network of the machine.
        let admission = Admission::AllowList(keys.iter().map(Keypair::node_id).collect());
        let config = Config {
            listen: vec!["/ip4/0.0.0.0/tcp/0".parse().unwrap()],
            mdns: true,
            admission,
            ..config(key.clone(), &[])
        };
        nodes.push(Libp2pGossip::start(config).await.unwrap());
    }
    linked(&nodes[0], &nodes[1].node_id()).await;
    linked(&nodes[1], &nodes[0].node_id()).await;
    for node in nodes {
        node.stop().await;
    }
}
