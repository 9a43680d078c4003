// SPDX-License-Identifier: Apache-2.0
//! The promises of every gossip backend, kept over TCP on loopback.

#[cfg(test)]
mod support;

use std::sync::Arc;

use block_api::{Gossip, testing::gossip_conformance};

/// Covers: NEW-11, GCH-04, GCH-13, GCH-17, GCH-27, GOS-05, GOS-09
#[tokio::test(flavor = "multi_thread")]
async fn the_backend_keeps_the_promises_of_the_seam() {
    gossip_conformance::run(|topology| async move {
        let nodes = support::network_of(topology.signers, &topology.links).await;
        nodes
            .into_iter()
            .map(|node| Arc::new(node) as Arc<dyn Gossip>)
            .collect()
    })
    .await;
}
