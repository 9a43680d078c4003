// SPDX-License-Identifier: Apache-2.0
//! `blockcast orderer`: an ordering service for development, on its own.

mod folder;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
};

use block_api::{ChannelId, SystemClock};
use blockcast::config::{ByteSize, HumanDuration};
use clap::ValueEnum;
use dev_orderer::{
    BatchConfig, Config, Consensus, DevOrderer, KeyKind, NodesConfig, Pace, Rate, TlsMode,
};
use tracing::info;

use self::folder::Folder;
use crate::{
    commands::recorded::{Follower, OpenReaders, endpoints, read_chain},
    error::CommandError,
    output,
    signals::StopSignals,
};

/// What `orderer` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for what a node needs: genesis block, TLS CA, MSP folders, and a node.toml
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Writes into the folder although an earlier run has written there
    #[arg(long)]
    force: bool,
    /// Where the first orderer listens; further ones take the ports after it, and port 0 is any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7050")]
    listen: SocketAddr,
    /// The host under which nodes reach it, if it is not the address
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Whether and how connections are encrypted
    #[arg(long, value_enum, default_value_t = TlsArg::Server)]
    tls: TlsArg,
    /// The channel
    #[arg(
        long,
        value_name = "CHANNEL",
        default_value = "mychannel",
        conflicts_with = "replay"
    )]
    channel: ChannelId,
    /// How the orderers agree, and so how blocks are signed
    #[arg(long, value_enum, default_value_t = ConsensusArg::Raft, conflicts_with = "replay")]
    consensus: ConsensusArg,
    /// How many orderers there are
    #[arg(long, value_name = "N", default_value = "1")]
    orderers: NonZeroUsize,
    /// The kind of every identity's key
    #[arg(long, value_enum, default_value_t = KeyArg::Ecdsa, conflicts_with = "replay")]
    key: KeyArg,
    /// How many transactions a block has at most
    #[arg(
        long,
        value_name = "N",
        default_value = "10",
        conflicts_with = "replay"
    )]
    batch_count: NonZeroU32,
    /// The size that a block should not exceed
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2MiB",
        conflicts_with = "replay"
    )]
    batch_bytes: ByteSize,
    /// How long a transaction waits for others to share its block
    #[arg(
        long,
        value_name = "TIME",
        default_value = "200ms",
        conflicts_with = "replay"
    )]
    batch_timeout: HumanDuration,
    /// Orders so many blocks of its own making
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "replay")]
    blocks: u32,
    /// The size of the data in a block of its own making
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::kib(100), conflicts_with = "replay")]
    block_bytes: ByteSize,
    /// Serves the recorded chain in this folder (block_0.pb, block_1.pb …) instead of ordering
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    /// Serves further blocks of the recorded chain as their files come into the folder, each of them
    /// whole, as by a rename; several orderers may follow one folder
    #[arg(long, requires = "replay", conflicts_with = "rate")]
    follow: bool,
    /// How many blocks of its own making, or of the recorded chain, come in a second; all at once
    /// if it is not given
    #[arg(long, value_name = "BLOCKS_PER_S")]
    rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsArg {
    /// Not at all
    None,
    /// The orderer proves who it is
    Server,
    /// Both sides do
    Mutual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConsensusArg {
    /// Each block has the signature of one orderer
    Raft,
    /// Each block has the signatures of a quorum
    Bft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyArg {
    /// ECDSA on P-256
    Ecdsa,
    /// Ed25519
    Ed25519,
}

/// Runs the ordering service until ctrl-c or SIGTERM.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    let mut signals = StopSignals::listen()?;
    let folder = Folder::prepare(&args.dir, args.force)?;
    let (orderer, follower) = start(&args).await?;
    let written = match &args.replay {
        Some(recorded) => {
            let endpoints = endpoints(&read_chain(recorded)?)?;
            folder.write_replay(&orderer, args.tls.into(), &endpoints)
        }
        None => folder.write(&orderer, args.tls.into()),
    };
    let ended = match written {
        Ok(summary) => {
            output::result(&summary)?;
            tokio::select! {
                signal = signals.wait() => {
                    info!(signal, "stopping");
                    Ok(())
                }
                error = generate(&orderer, &args) => Err(error),
                error = follow(follower) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    orderer.stop().await;
    ended
}

async fn start(args: &Args) -> Result<(DevOrderer, Option<Follower>), CommandError> {
    let clock = Arc::new(SystemClock);
    let nodes = NodesConfig {
        count: args.orderers,
        listen: args.listen,
        host: args.host.clone(),
        tls: args.tls.into(),
        ..NodesConfig::new(clock.clone())
    };
    let started = match &args.replay {
        Some(recorded) if args.follow => {
            let chain = read_chain(recorded)?;
            let (follower, further) = Follower::new(recorded, chain.blocks().len() as u64);
            let orderer = DevOrderer::follow(chain, further, Arc::new(OpenReaders), nodes).await?;
            return Ok((orderer, Some(follower)));
        }
        Some(recorded) => {
            let pace = args.rate.map_or(Pace::AllAtOnce, Pace::At);
            DevOrderer::replay(read_chain(recorded)?, pace, Arc::new(OpenReaders), nodes).await
        }
        None => {
            let mut config = Config {
                nodes,
                ..Config::new(args.channel.clone(), clock)
            };
            config.network.consensus = args.consensus.into();
            config.network.key_kind = args.key.into();
            config.network.batch = args.batch()?;
            config.queue_bytes = config
                .queue_bytes
                .max(config.network.batch.absolute_max_bytes);
            DevOrderer::start(config).await
        }
    };
    Ok((started?, None))
}

/// Has the orderer follow its folder, if it is to; it returns only when that fails.
async fn follow(follower: Option<Follower>) -> CommandError {
    match follower {
        Some(follower) => follower.run().await,
        None => std::future::pending().await,
    }
}

/// Orders what it was told to; then there is nothing more to do, and it never returns.
async fn generate(orderer: &DevOrderer, args: &Args) -> CommandError {
    if args.blocks > 0 {
        let blocks = usize::try_from(args.blocks).unwrap_or(usize::MAX);
        let pace = args.rate.map_or(Pace::AllAtOnce, Pace::At);
        match orderer
            .generate(blocks, args.block_bytes.as_usize(), pace)
            .await
        {
            Ok(last) => info!(last = last.map(|number| number.get()), "blocks ordered"),
            Err(error) => return error.into(),
        }
    }
    std::future::pending().await
}

impl Args {
    fn batch(&self) -> Result<BatchConfig, CommandError> {
        let default = BatchConfig::default();
        let preferred = u32::try_from(self.batch_bytes.get())
            .ok()
            .and_then(NonZeroU32::new);
        let preferred_max_bytes = preferred.ok_or_else(|| {
            CommandError::new(format!(
                "--batch-bytes is {}: it must be above zero and below 4GiB",
                self.batch_bytes
            ))
        })?;
        Ok(BatchConfig {
            max_message_count: self.batch_count,
            absolute_max_bytes: default.absolute_max_bytes.max(preferred_max_bytes),
            preferred_max_bytes,
            timeout: self.batch_timeout.get(),
        })
    }
}

impl From<TlsArg> for TlsMode {
    fn from(tls: TlsArg) -> Self {
        match tls {
            TlsArg::None => Self::Plain,
            TlsArg::Server => Self::Server,
            TlsArg::Mutual => Self::Mutual,
        }
    }
}

impl From<ConsensusArg> for Consensus {
    fn from(consensus: ConsensusArg) -> Self {
        match consensus {
            ConsensusArg::Raft => Self::Raft,
            ConsensusArg::Bft => Self::Bft,
        }
    }
}

impl From<KeyArg> for KeyKind {
    fn from(key: KeyArg) -> Self {
        match key {
            KeyArg::Ecdsa => Self::EcdsaP256,
            KeyArg::Ed25519 => Self::Ed25519,
        }
    }
}
