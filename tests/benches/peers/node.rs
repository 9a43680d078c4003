// SPDX-License-Identifier: Apache-2.0
//! The nodes of the product in this benchmark.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use block_api::{BlockReader as _, Height};
use e2e_tests::{
    bench::{Orders, tell},
    node::Node,
};
use gossip_libp2p::Multiaddr;

use crate::{
    asked::{FirstAsked, Noting},
    child::Took,
};

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

/// Catches up to this height with these nodes, and tells how long it took from asking for the first
/// range on.
pub(crate) async fn take(
    dir: &Path,
    index: usize,
    height: Height,
    peers: Vec<Multiaddr>,
) -> Result<()> {
    let first = FirstAsked::default();
    let noted = first.clone();
    let over = |gossip| Arc::new(Noting::new(gossip, noted));
    let node = Node::start_over(dir, index, ORDERER, peers, over).await?;
    // The genesis block is no part of what is taken.
    let before = node.store.bytes();
    node.store.wait_for(height).await?;
    let elapsed = first.get().context("no range was asked for")?.elapsed();
    tell(Took {
        bytes: node.store.bytes() - before,
        elapsed,
        appends: node.appends(),
    });
    Orders::default().end().await?;
    node.stop().await;
    Ok(())
}
