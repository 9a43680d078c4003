// SPDX-License-Identifier: Apache-2.0
//! A process that is one node, of either side: it does what standard input says until that ends.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use block_api::{Block, testing::TestChain};
use clap::ValueEnum;
use e2e_tests::bench::Role;
use gossip_libp2p::{Keypair, Multiaddr};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    lines::{Order, Stamp, Told, tell},
    ours::Ours,
    push::Push,
};

/// The role of a process that is a node.
pub(crate) const ROLE: &str = "node";

/// The channel that all nodes are in.
const CHANNEL: &str = "bench";

/// What spreads the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// blockcast's backend.
    Ours,
    /// gossipsub alone, which pushes whole blocks.
    Push,
}

/// Which node of a network it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) index: u8,
    /// How many nodes there are.
    pub(crate) nodes: u8,
}

/// A node.
#[async_trait]
pub(crate) trait Node: Send {
    /// Dials these nodes.
    async fn connect(&self, addresses: Vec<Multiaddr>) -> Result<()>;

    /// Hands a block to the network.
    async fn publish(&self, block: Block) -> Result<()>;
}

impl Place {
    /// The key of each node.
    pub(crate) fn keys(self) -> impl Iterator<Item = Keypair> {
        (0..self.nodes).map(key)
    }

    /// The key of this one.
    pub(crate) fn key(self) -> Keypair {
        key(self.index)
    }

    /// How many others there are.
    pub(crate) fn others(self) -> usize {
        usize::from(self.nodes) - 1
    }
}

pub(crate) async fn run(role: &Role) -> Result<()> {
    let side: String = role.argument(0)?;
    let side = Side::from_str(&side, false).map_err(anyhow::Error::msg)?;
    let place = Place {
        index: role.argument(1)?,
        nodes: role.argument(2)?,
    };
    let mut chain = TestChain::new(CHANNEL);
    let genesis = chain.config();
    let node: Arc<dyn Node + Sync> = match side {
        Side::Ours => Arc::new(Ours::start(place, chain.channel(), &genesis).await?),
        Side::Push => Arc::new(Push::start(place).await?),
    };
    let mut prepared = None;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match order.parse()? {
            Order::Connect(addresses) => node.connect(addresses).await?,
            Order::Prepare(bytes) => {
                prepared = Some(chain.data(bytes));
                tell(&Told::Prepared);
            }
            Order::Publish => {
                let block: Block = prepared.take().context("a block is made first")?;
                let (number, at) = (block.number(), Stamp::now());
                node.publish(block).await?;
                tell(&Told::Published(number, at));
            }
        }
    }
    Ok(())
}

fn key(index: u8) -> Keypair {
    Keypair::from_seed([index + 1; 32])
}
