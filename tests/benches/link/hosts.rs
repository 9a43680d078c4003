// SPDX-License-Identifier: Apache-2.0
//! What runs on the two hosts: an orderer and a plain sender on one, a node and a plain receiver on
//! the other.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use block_api::{
    Block, BlockReader as _, BlockStore as _, ChannelId, Clock as _, Height, Standing, SystemClock,
    VerifiedBlock, testing::OpenReaders,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, DeliverService};
use dev_orderer::{ChainMaker, DevOrderer, NetworkConfig, NodesConfig, Pace};
use e2e_tests::bench::Usage;
use gossip_memory::MemoryNetwork;
use orderer_client::{Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls};
use signer::load_msp_folder;
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

/// The channel of the chain, and the identity that reads it.
pub(crate) const CHANNEL: &str = "bench";
pub(crate) const MSP: &str = "org1/user1/msp";
pub(crate) const MSP_ID: &str = "Org1MSP";

const ORDERER_PORT: u16 = 7050;
const PLAIN_PORT: u16 = 7051;

const GENESIS: &str = "genesis.block";
pub(crate) const TLS_ROOT: &str = "tls.der";

/// What is written to, and read from, a plain connection at once.
const CHUNK: usize = 256 << 10;

/// A link that carries nothing is given up after so long.
const DEADLINE: Duration = Duration::from_secs(120);

/// Makes a chain, tells in the folder how it is reached, and serves it until the process is killed;
/// and beside it as many bytes that mean nothing.
pub(crate) async fn orderer(dir: &Path, blocks: usize, bytes: usize) -> Result<()> {
    let host = Host::Orderer.address();
    let endpoint = format!("{host}:{ORDERER_PORT}").parse()?;
    let network = NetworkConfig::new(CHANNEL.parse()?);
    let mut maker = ChainMaker::new(network, &[endpoint], SystemClock.now())?;
    let chain = maker.chain(blocks, bytes).await?;
    for (path, content) in maker.network().files() {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, content)?;
    }
    let total: usize = chain
        .blocks()
        .iter()
        .skip(1)
        .map(|block| block.raw().len())
        .sum();
    let nodes = NodesConfig {
        listen: (host, ORDERER_PORT).into(),
        ..NodesConfig::new(Arc::new(SystemClock))
    };
    let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, Arc::new(OpenReaders), nodes).await?;
    fs::write(dir.join(GENESIS), orderer.genesis().raw())?;
    let roots = orderer.tls_roots();
    fs::write(dir.join(TLS_ROOT), roots.first().context("a TLS root")?)?;
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
    let genesis = Block::parse(fs::read(dir.join(GENESIS))?.into())?;
    let channel: ChannelId = CHANNEL.parse()?;
    let signer = load_msp_folder(&dir.join(MSP), MSP_ID)?;
    let own = tempfile::tempdir_in(dir)?;
    let (store, _) = SegmentStore::open(
        own.path().join("chain"),
        block_store::Config::new(channel.clone()),
    )?;
    let store = Arc::new(store);
    let verifier = Arc::new(ChannelVerifier::from_genesis(&genesis)?);
    let first = VerifiedBlock::new(genesis.clone(), &*verifier, Standing::Linked)?;
    store.append(vec![first]).await?;
    let source = OrdererClient::new(client_config(dir)?, signer.clone(), Arc::new(SystemClock))?;
    let gossip = Arc::new(MemoryNetwork::new(0).node("node"));
    let service = DeliverService::new(deliver_service::Config::default(), gossip)?;
    service
        .join_channel(ChannelParts {
            channel: channel.clone(),
            genesis: genesis.header_hash(),
            store: store.clone(),
            readers: Arc::new(ChannelAccess::readers(&verifier)),
            organisation: Arc::new(OwnMsp::of_identity(&verifier, &signer.identity())),
            verifier,
            signer,
            source: Arc::new(source),
        })
        .await?;
    let (before, began) = (Usage::own()?, Instant::now());
    service
        .start_deliver_for_channel(&channel, store.clone())
        .await?;
    let height = Height::new(blocks as u64 + 1);
    timeout(DEADLINE, store.wait_for(height))
        .await
        .context("the chain did not arrive in time")??;
    println!("{}", Took::since(&before, began)?);
    service.stop().await;
    SegmentStore::clone(&store).close().await;
    Ok(())
}

/// How the orderer is reached.
pub(crate) fn client_config(dir: &Path) -> Result<ClientConfig> {
    Ok(ClientConfig {
        endpoints: vec![OrdererEndpoint {
            endpoint: orderer_address().to_string().parse()?,
            tls_roots: vec![fs::read(dir.join(TLS_ROOT))?.into()],
        }],
        tls: Tls::Server,
        ..ClientConfig::default()
    })
}

pub(crate) fn orderer_address() -> SocketAddr {
    (Host::Orderer.address(), ORDERER_PORT).into()
}
