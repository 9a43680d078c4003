// SPDX-License-Identifier: Apache-2.0
//! What a node is told: its configuration, key by key.

mod channel;
mod check;
mod data_hash;
mod gossip;
mod keep;
mod load;
mod operations;
mod pull;
mod start;
mod text;
mod units;

use std::path::{Path, PathBuf};

use block_api::{ChannelId, Endpoint};
use serde::Deserialize;

pub(crate) use self::start::Joining;
pub use self::{
    channel::{ChannelSection, ExtraOrderer},
    check::InvalidConfig,
    data_hash::{DataHashRule, InvalidDataHashRule},
    gossip::{AdmissionRule, GossipBackend, GossipSection, ReaderRule},
    keep::{InvalidKeep, Keep},
    load::LoadError,
    operations::OperationsSection,
    pull::{Pull, PullerRole},
    start::StartAfter,
    units::{ByteSize, HumanDuration, UnitError},
};

/// The configuration of a node, as it stands in a TOML file. An unknown key is an error.
///
/// Relative paths in a file are meant from the folder of the file; see [`NodeConfig::load`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// `[node]`: its name, and where it keeps what it has.
    pub node: NodeSection,
    /// `[identity]`: whom it signs as. May be left out when the builder is given a signer.
    pub identity: Option<IdentitySection>,
    /// `[gossip]`: the network among nodes.
    #[serde(default)]
    pub gossip: GossipSection,
    /// `[orderer]`: how the ordering service is reached.
    #[serde(default)]
    pub orderer: OrdererSection,
    /// `[delivery]`: bounds and patience on the way of a block.
    #[serde(default)]
    pub delivery: DeliverySection,
    /// `[store]`: how blocks are kept.
    #[serde(default)]
    pub store: StoreSection,
    /// `[log]`: what is logged.
    #[serde(default)]
    pub log: LogSection,
    /// `[operations]`: how the node is seen from outside.
    #[serde(default)]
    pub operations: OperationsSection,
    /// `[[channel]]`: the channels, one table each; one at least.
    #[serde(rename = "channel", default)]
    pub channels: Vec<ChannelSection>,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// The name under which the node appears in its log. Default: `node`.
    #[serde(default = "default_name")]
    pub name: String,
    /// The folder for everything that the node keeps: `channels/<channel>` and `gossip.key`. It is
    /// made when it is not there.
    pub data_dir: PathBuf,
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySection {
    /// The MSP id of the node's organisation.
    pub msp_id: String,
    /// The MSP folder, with `signcerts` and `keystore`.
    pub msp_dir: PathBuf,
}

/// Whether and how connections to the ordering service are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OrdererTls {
    /// Not at all.
    None,
    /// The orderer proves who it is.
    #[default]
    Server,
    /// Both sides prove who they are.
    Mutual,
}

/// `[orderer]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrdererSection {
    /// Whether and how connections are encrypted. Default: `server`.
    pub tls: OrdererTls,
    /// The client's TLS certificate, for `tls = "mutual"`.
    pub client_cert: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
    /// Endpoints that are reached at another address than the channel's configuration names.
    /// Default: none.
    pub overrides: Vec<OverrideSection>,
    /// The limit on dialling, TLS and HTTP/2 together. Default: 3 s.
    pub connect_timeout: HumanDuration,
    /// The limit on the first message of an answer that can come at once. Default: 30 s.
    pub initial_timeout: HumanDuration,
    /// After so long without a word from the orderer it is pinged; 60 s at least, because orderers
    /// close connections that ping faster. Default: 60 s.
    pub keepalive_interval: HumanDuration,
    /// The biggest message that is taken. Default: 100 MiB.
    pub max_message: ByteSize,
    /// The longest pause between attempts when no orderer can be reached. Default: 10 s.
    pub longest_back_off: HumanDuration,
    /// How long an orderer may fail to give a block that is proven to be there before another one is
    /// asked; the same as Fabric's `blockCensorshipTimeoutKey`. Default: 30 s.
    pub censorship_timeout: HumanDuration,
    /// How long an orderer may be silent before another one is asked for its newest header.
    /// Default: 30 s.
    pub idle_limit: HumanDuration,
}

/// `[[orderer.overrides]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideSection {
    /// The endpoint as the channel's configuration names it.
    #[serde(deserialize_with = "text::parse")]
    pub from: Endpoint,
    /// Where it is dialled.
    #[serde(deserialize_with = "text::parse")]
    pub to: Endpoint,
    /// The TLS roots there, as a PEM file. Default: those of the channel's configuration.
    pub ca: Option<PathBuf>,
}

/// `[delivery]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliverySection {
    /// Bytes of blocks of one channel that may wait to be stored. Default: 256 MiB.
    pub buffer: ByteSize,
    /// Bytes of blocks that may wait to be stored in all channels together. Default: 1 GiB.
    pub total_buffer: ByteSize,
    /// How much of `buffer` blocks from the topic may use. Default: 64 MiB.
    pub topic_buffer: ByteSize,
    /// How much of `buffer` the stream of the ordering service may use, and how much ranges from other
    /// nodes may. Default: 24 MiB.
    pub catch_up_buffer: ByteSize,
    /// Whether a block from the ordering service is passed on before it is stored here, once it was
    /// verified. Default: false.
    pub publish_before_durable: bool,
    /// How many blocks above the height a block from the topic may be. Default: 1024.
    pub window: u64,
    /// How long the chain stands still while a peer is ahead before blocks are fetched from peers.
    /// Default: 1 s.
    pub catch_up_patience: HumanDuration,
    /// How many nodes of the organisation pull a channel, where they are elected. Default: 1.
    pub pullers: usize,
    /// How long one of them may be silent, or without a stream from the ordering service, before the
    /// next node takes over. Default: 3 s.
    pub takeover: HumanDuration,
    /// Which identities of the organisation may pull. Default: its peers, or every one where its MSP
    /// does not tell them apart (NodeOUs). All nodes of an organisation must say the same.
    pub puller_role: Option<PullerRole>,
}

/// When a block counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StoreSync {
    /// When the disk has it.
    #[default]
    EveryBatch,
    /// When the operating system has it: it may be lost when the machine stops.
    Never,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// When a block counts as stored. Default: `every-batch`.
    pub sync: StoreSync,
    /// The size at which a segment file is complete. Default: 256 MiB.
    pub segment: ByteSize,
    /// How much of the chain is kept. Default: `all`.
    #[serde(deserialize_with = "text::parse")]
    pub keep: Keep,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// What is logged, as tracing's filter directives. `--log` and then `RUST_LOG` go before it.
    /// Default: `info`.
    pub filter: String,
}

impl NodeConfig {
    /// The configuration of a node that keeps its data in a folder, with every default, without an
    /// identity and without a channel.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node: NodeSection {
                name: default_name(),
                data_dir: data_dir.into(),
            },
            identity: None,
            gossip: GossipSection::default(),
            orderer: OrdererSection::default(),
            delivery: DeliverySection::default(),
            store: StoreSection::default(),
            log: LogSection::default(),
            operations: OperationsSection::default(),
            channels: Vec::new(),
        }
    }

    /// Reads a configuration file, takes its relative paths as meant from its folder, and checks it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no TOML, has an unknown key or a value that does not fit, or
    /// its values contradict each other. The error names the file and the line or the key.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        load::load(path)
    }

    /// Reads a configuration from its text. Relative paths stay as they are, and nothing is checked
    /// beyond the form; [`validate`](Self::validate) does that.
    ///
    /// # Errors
    ///
    /// When it is no TOML, or has an unknown key or a value that does not fit.
    pub fn from_toml(text: &str) -> Result<Self, LoadError> {
        load::parse(Path::new("the configuration"), text)
    }

    /// Checks what the types do not: that values are in range and do not contradict each other.
    /// Files are not looked at.
    ///
    /// # Errors
    ///
    /// The first key that is wrong, with the reason and what to write.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check::check(self)
    }

    /// The file with the node's gossip key.
    pub fn gossip_key_file(&self) -> PathBuf {
        let default = || self.node.data_dir.join("gossip.key");
        self.gossip.key_file.clone().unwrap_or_else(default)
    }

    /// The folder with the blocks of a channel.
    pub fn channel_dir(&self, channel: &ChannelId) -> PathBuf {
        self.node.data_dir.join("channels").join(channel.as_str())
    }
}

impl Default for OrdererSection {
    fn default() -> Self {
        Self {
            tls: OrdererTls::default(),
            client_cert: None,
            client_key: None,
            overrides: Vec::new(),
            connect_timeout: HumanDuration::from_secs(3),
            initial_timeout: HumanDuration::from_secs(30),
            keepalive_interval: HumanDuration::from_secs(60),
            max_message: ByteSize::mib(100),
            longest_back_off: HumanDuration::from_secs(10),
            censorship_timeout: HumanDuration::from_secs(30),
            idle_limit: HumanDuration::from_secs(30),
        }
    }
}

impl Default for DeliverySection {
    fn default() -> Self {
        Self {
            buffer: ByteSize::mib(256),
            total_buffer: ByteSize::mib(1024),
            topic_buffer: ByteSize::mib(64),
            catch_up_buffer: ByteSize::mib(24),
            publish_before_durable: false,
            window: 1024,
            catch_up_patience: HumanDuration::from_secs(1),
            pullers: 1,
            takeover: HumanDuration::from_secs(3),
            puller_role: None,
        }
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            sync: StoreSync::default(),
            segment: ByteSize::mib(256),
            keep: Keep::All,
        }
    }
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
        }
    }
}

fn default_name() -> String {
    "node".to_owned()
}

#[cfg(test)]
mod tests;
