// SPDX-License-Identifier: Apache-2.0
//! Why a node did not start, or a subscription ended.

use std::{io, net::SocketAddr, path::PathBuf};

use block_api::{
    AppendError, BlockNumber, ChannelId, HeaderHash, ParseBlockError, ReadError, VerifyError,
};

use super::stored::StoredBlockError;
use crate::config::InvalidConfig;

/// A node did not start. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Nobody says who the node is.
    #[error(
        "the node has no identity: write [identity] with msp_id and msp_dir, or give the builder a signer"
    )]
    NoIdentity,
    /// The MSP folder gives no signer.
    #[error("identity.msp_dir: {0}")]
    Identity(#[from] signer::MspFolderError),
    /// A file that the configuration names cannot be read.
    #[error("{key} names {}, which cannot be read: {source}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that the configuration names does not hold the PEM section that it should.
    #[error("{key} names {}, which does not serve: {source}", path.display())]
    Pem {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: orderer_client::PemError,
    },
    /// The file of a genesis or config block does not hold a block.
    #[error(
        "{key} of channel {channel} names {}, which is no block: {source}; it must be the block as the ordering service \
         gives it",
        path.display()
    )]
    NoBlock {
        /// The channel.
        channel: ChannelId,
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseBlockError,
    },
    /// The genesis or config block cannot be trusted to judge blocks by.
    #[error("{key} of channel {channel} names {}, which cannot be used: {source}", path.display())]
    TrustedBlock {
        /// The channel.
        channel: ChannelId,
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<channel_config::ConfigError>,
    },
    /// The genesis or config block is of another channel.
    #[error(
        "{key} of channel {channel} names {}, which is that of channel {found}: correct the id or the file",
        path.display()
    )]
    OtherChannel {
        /// The channel.
        channel: ChannelId,
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The channel that the block names.
        found: ChannelId,
    },
    /// The config block is block 0, and another one than the hash says.
    #[error(
        "channel.config_block of channel {channel} names {}, which is the genesis block with the hash {found}, but \
         channel.genesis_hash is {given}: correct the one or the other",
        path.display()
    )]
    OtherGenesisHash {
        /// The channel.
        channel: ChannelId,
        /// The file.
        path: PathBuf,
        /// The header hash of the block.
        found: HeaderHash,
        /// What was given.
        given: HeaderHash,
    },
    /// The channel cannot start where it shall.
    #[error("channel.start_after of channel {channel}: {source}")]
    StartAfter {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        source: block_store::ConfigError,
    },
    /// The trusted block does not satisfy its own rules.
    #[error("the trusted block of channel {channel} is not accepted: {source}")]
    NotAccepted {
        /// The channel.
        channel: ChannelId,
        /// What the verifier said.
        source: VerifyError,
    },
    /// There is nobody to pull from.
    #[error(
        "channel {channel} shall be pulled, but its configuration names no orderer: list some under \
         [[channel.orderers]], or set pull to \"never\""
    )]
    NoOrderer {
        /// The channel.
        channel: ChannelId,
    },
    /// The ordering service cannot be reached like this.
    #[error("the ordering service of channel {channel}: {source}")]
    Orderer {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        source: orderer_client::ConfigError,
    },
    /// The block store was not opened.
    #[error("the block store of channel {channel}: {source}")]
    Store {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        source: Box<block_store::OpenError>,
    },
    /// What is in the block store is not the chain of the channel.
    #[error(
        "the block store of channel {channel}, {}: {source}; {}",
        dir.display(),
        source.remedy()
    )]
    Stored {
        /// The channel.
        channel: ChannelId,
        /// The folder of the store.
        dir: PathBuf,
        /// Which block, and what is wrong with it.
        source: Box<StoredBlockError>,
    },
    /// The genesis block was not stored.
    #[error("the genesis block of channel {channel} was not stored: {source}")]
    Append {
        /// The channel.
        channel: ChannelId,
        /// What the store said.
        source: AppendError,
    },
    /// The gossip key is not there and cannot be made.
    #[error("the gossip key {}: {reason}", path.display())]
    GossipKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: GossipKeyError,
    },
    /// The gossip network did not start.
    #[error("gossip: {0}")]
    Gossip(#[from] gossip_libp2p::StartError),
    /// The address of the operations service cannot be listened on.
    #[error(
        "operations.listen is {address}, which cannot be listened on: {source}; give a free port, or 0"
    )]
    Operations {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The delivery service was not set up.
    #[error("delivery: {0}")]
    Delivery(#[from] deliver_service::ConfigError),
    /// A channel was not joined.
    #[error(transparent)]
    Join(#[from] deliver_service::JoinError),
    /// A pull loop was not started.
    #[error(transparent)]
    Pull(#[from] deliver_service::StartError),
}

impl StartError {
    /// Whether the configuration, or a file that it names, has to be corrected.
    pub fn is_config(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::NoIdentity
            | Self::Identity(_)
            | Self::File { .. }
            | Self::Pem { .. }
            | Self::NoBlock { .. }
            | Self::TrustedBlock { .. }
            | Self::OtherChannel { .. }
            | Self::OtherGenesisHash { .. }
            | Self::StartAfter { .. }
            | Self::NotAccepted { .. }
            | Self::NoOrderer { .. }
            | Self::Orderer { .. }
            | Self::GossipKey { .. }
            | Self::Delivery(_) => true,
            Self::Store { .. }
            | Self::Stored { .. }
            | Self::Append { .. }
            | Self::Operations { .. }
            | Self::Gossip(_)
            | Self::Join(_)
            | Self::Pull(_) => false,
        }
    }
}

/// What is wrong with the file of a gossip key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipKeyError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It cannot be made.
    #[error(
        "it cannot be made: {0}; gossip.key_file must be in a folder that this user may write to"
    )]
    NotMade(#[source] io::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(#[source] rand::rngs::SysError),
    /// It holds something else.
    #[error(
        "it does not hold 64 hexadecimal digits; restore it, or remove it: the node then gets another id"
    )]
    Malformed,
}

/// A subscription was refused, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The node does not have the channel.
    #[error("channel {channel} is not one of this node's")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// The next block is older than the oldest one that is kept: there would be a gap.
    #[error(
        "block {number} of channel {channel} is not kept here: the oldest one is {first}; subscribe from there"
    )]
    Gone {
        /// The channel.
        channel: ChannelId,
        /// The block.
        number: BlockNumber,
        /// The oldest one.
        first: BlockNumber,
    },
    /// The node was stopped.
    #[error(
        "the subscription to channel {channel} ended before block {next}: the node was stopped"
    )]
    Stopped {
        /// The channel.
        channel: ChannelId,
        /// The block that would have come next.
        next: BlockNumber,
    },
    /// The store does not give the block.
    #[error("channel {channel}: {source}")]
    Read {
        /// The channel.
        channel: ChannelId,
        /// What the store said.
        source: ReadError,
    },
    /// What the store gave is no block.
    #[error("block {number} of channel {channel} is damaged in the store: {source}")]
    Damaged {
        /// The channel.
        channel: ChannelId,
        /// The block.
        number: BlockNumber,
        /// What is wrong with it.
        source: ParseBlockError,
    },
}
