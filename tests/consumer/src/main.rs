// SPDX-License-Identifier: Apache-2.0
//! Prints number and hash of every verified block of a channel, up to the newest one.
//!
//! It stands on `orderer-client`, `signer` and `channel-config` alone: neither a node nor a store
//! nor a gossip network is needed to follow a channel.

use std::{
    env,
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{anyhow, bail};
use block_api::{
    Block, BlockNumber, BlockSource as _, ChainInfo, ChannelId, Content, DeliverStatus, Delivery,
    Endpoint, Start, Stop, StreamRequest, SystemClock, WhenMissing,
};
use channel_config::{ChainWalk, ChannelVerifier};
use futures::StreamExt as _;
use orderer_client::{Config, OrdererClient, OrdererEndpoint, Tls, parse_pem_certificates};
use signer::load_msp_folder;

const USAGE: &str = "usage: standalone-consumer HOST:PORT CHANNEL GENESIS_FILE MSP_DIR MSP_ID TLS_CA [FROM]\n\
                     TLS_CA is a PEM file, or - for a connection without TLS; blocks before FROM are verified too, \
                     but not printed";

/// What stands in place of a file for a connection without TLS.
const NO_TLS: &str = "-";

/// The arguments.
struct Arguments {
    endpoint: Endpoint,
    channel: ChannelId,
    genesis: PathBuf,
    msp_dir: PathBuf,
    msp_id: String,
    tls_ca: Option<PathBuf>,
    from: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Each error tells its cause itself; nobody is left to tell when this fails.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse(env::args().skip(1).collect())?;
    follow(&arguments, &mut io::stdout().lock()).await
}

/// Verifies the channel from the genesis block on: every block is judged by the configuration that
/// was in force at its height, so that none before it may be left out.
async fn follow(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let genesis = named(
        &arguments.genesis,
        Block::parse(read(&arguments.genesis)?.into()),
    )?;
    let verifier = named(&arguments.genesis, ChannelVerifier::from_genesis(&genesis))?;
    if *verifier.channel() != arguments.channel {
        bail!(
            "{} begins the channel {}",
            arguments.genesis.display(),
            verifier.channel()
        );
    }
    let client = arguments.client()?;

    let mut walk = ChainWalk::new(verifier, ChainInfo::EMPTY);
    let request = StreamRequest {
        channel: arguments.channel.clone(),
        start: Start::At(BlockNumber::GENESIS),
        stop: Stop::Newest,
        content: Content::Blocks,
        when_missing: WhenMissing::Wait,
    };
    let mut stream = client.open(&arguments.endpoint, &request).await?;
    while let Some(delivery) = stream.next().await {
        let block = match delivery? {
            Delivery::Block(block) => block,
            Delivery::Status(DeliverStatus::Success) => return Ok(()),
            Delivery::Status(status) => {
                bail!("{} ended the stream with {status}", arguments.endpoint)
            }
        };
        let verified = walk.take(block)?;
        let (number, hash) = (verified.number(), verified.header_hash());
        if number.get() >= arguments.from {
            writeln!(out, "{number} {hash}")?;
        }
    }
    bail!("{} hung up", arguments.endpoint)
}

impl Arguments {
    fn parse(arguments: Vec<String>) -> anyhow::Result<Self> {
        let (required, from) = match arguments.as_slice() {
            [required @ .., from] if arguments.len() == 7 => (
                required,
                from.parse().map_err(|error| anyhow!("FROM: {error}"))?,
            ),
            required => (required, 0),
        };
        let [endpoint, channel, genesis, msp_dir, msp_id, tls_ca] = required else {
            bail!(USAGE);
        };
        Ok(Self {
            endpoint: endpoint.parse()?,
            channel: channel.parse()?,
            genesis: genesis.into(),
            msp_dir: msp_dir.into(),
            msp_id: msp_id.clone(),
            tls_ca: (tls_ca != NO_TLS).then(|| tls_ca.into()),
            from,
        })
    }

    fn client(&self) -> anyhow::Result<OrdererClient> {
        let (tls, tls_roots) = match &self.tls_ca {
            Some(file) => (
                Tls::Server,
                named(file, parse_pem_certificates(&read(file)?))?,
            ),
            None => (Tls::Plain, Vec::new()),
        };
        let endpoint = OrdererEndpoint {
            endpoint: self.endpoint.clone(),
            tls_roots,
        };
        let config = Config {
            endpoints: vec![endpoint],
            tls,
            ..Config::default()
        };
        let signer = load_msp_folder(&self.msp_dir, &self.msp_id)?;
        Ok(OrdererClient::new(config, signer, Arc::new(SystemClock))?)
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    named(file, fs::read(file))
}

/// Puts the name of the file in front of what is wrong with it.
fn named<T>(file: &Path, result: Result<T, impl Display>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow!("{}: {error}", file.display()))
}
