// SPDX-License-Identifier: Apache-2.0
//! The nodes of the product in this benchmark.

use std::path::Path;

use anyhow::{Result, ensure};
use block_api::{BlockReader as _, Height};
use e2e_tests::{
    bench::{Orders, tell},
    node::Node,
};
use gossip_libp2p::Multiaddr;
use tokio::time::Instant;

use crate::child::Took;

/// Nobody pulls: there is no orderer.
const ORDERER: &str = "localhost:7050";

/// Gives its chain until standard input ends.
pub(crate) async fn give(dir: &Path, index: usize) -> Result<()> {
    let node = Node::start(dir, index, ORDERER, Vec::new()).await?;
    tell(node.address()?);
    Orders::default().end().await?;
    node.stop().await;
    Ok(())
}

/// Catches up to this height with these nodes, and tells how long it took from the first block on.
pub(crate) async fn take(
    dir: &Path,
    index: usize,
    height: Height,
    peers: Vec<Multiaddr>,
) -> Result<()> {
    let node = Node::start(dir, index, ORDERER, peers).await?;
    let first = node.store.wait_for(Height::new(2)).await?.height;
    let (began, before) = (Instant::now(), node.store.bytes());
    let last = node.store.wait_for(height).await?.height;
    let elapsed = began.elapsed();
    ensure!(last > first, "the chain came at once: it is too short");
    let bytes = node.store.bytes() - before;
    tell(Took { bytes, elapsed });
    Orders::default().end().await?;
    node.stop().await;
    Ok(())
}
