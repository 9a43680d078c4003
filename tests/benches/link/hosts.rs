// SPDX-License-Identifier: Apache-2.0
//! What runs on the two hosts: an orderer and a plain sender on one, a node and a plain receiver on
//! the other.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use block_api::{BlockReader as _, Clock as _, Endpoint, Height, SystemClock};
use dev_orderer::{ChainMaker, NetworkConfig, NodesConfig};
use e2e_tests::{
    bench::{Blocks, Usage},
    node::{CHANNEL, Files, Puller, USER},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use crate::{network::Host, took::Took};

/// The role of the orderer and the plain sender.
pub(crate) const ORDERER: &str = "orderer";

/// The role of a node that catches up.
pub(crate) const NODE: &str = "node";

/// The role of one who reads what the plain sender sends.
pub(crate) const PLAIN: &str = "plain";

/// What the orderer says when it listens, before the bytes of its chain.
pub(crate) const READY: &str = "listening ";

const ORDERER_PORT: u16 = 7050;
const PLAIN_PORT: u16 = 7051;

/// What is written to, and read from, a plain connection at once.
const CHUNK: usize = 256 << 10;

/// A link that carries nothing is given up after so long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Makes a chain, tells in the folder how it is reached, and serves it until the process is killed;
/// and beside it as many bytes that mean nothing.
pub(crate) async fn orderer(dir: &Path, blocks: Blocks) -> Result<()> {
    let host = Host::Orderer.address();
    let network = NetworkConfig::new(CHANNEL.parse()?);
    let maker = ChainMaker::new(network, &[orderer_endpoint()?], SystemClock.now())?;
    let nodes = NodesConfig {
        listen: orderer_address(),
        ..NodesConfig::new(Arc::new(SystemClock))
    };
    let (_orderer, total) = blocks.serve(maker, nodes, dir).await?;
    let listener = TcpListener::bind((host, PLAIN_PORT)).await?;
    println!("{READY}{total}");
    let chunk = vec![0; CHUNK];
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut rest = total;
        while rest > 0 {
            let part = chunk.get(..rest.min(CHUNK)).unwrap_or_default();
            rest -= stream.write(part).await?;
        }
    }
}

/// Reads what the plain sender sends, and says what that took.
pub(crate) async fn plain() -> Result<()> {
    let (before, began) = (Usage::own()?, Instant::now());
    let mut stream = TcpStream::connect((Host::Orderer.address(), PLAIN_PORT)).await?;
    let mut chunk = vec![0; CHUNK];
    while timeout(DEADLINE, stream.read(&mut chunk)).await?? > 0 {}
    println!("{}", Took::since(&before, began)?);
    Ok(())
}

/// Catches up, verified and durable, and says what that took.
pub(crate) async fn node(dir: &Path, blocks: usize) -> Result<()> {
    let joins = Files(dir).joins(USER, orderer_endpoint()?)?;
    let own = tempfile::tempdir_in(dir)?;
    let node = Puller::alone(joins, &own.path().join("chain")).await?;
    let (before, began) = (Usage::own()?, Instant::now());
    node.pull().await?;
    let height = Height::new(blocks as u64 + 1);
    timeout(DEADLINE, node.store.wait_for(height))
        .await
        .context("the chain did not arrive in time")??;
    println!("{}", Took::since(&before, began)?);
    node.stop().await;
    Ok(())
}

/// How the orderer is reached.
pub(crate) fn orderer_endpoint() -> Result<Endpoint> {
    Ok(orderer_address().to_string().parse()?)
}

fn orderer_address() -> SocketAddr {
    (Host::Orderer.address(), ORDERER_PORT).into()
}
