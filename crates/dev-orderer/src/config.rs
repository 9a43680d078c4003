// SPDX-License-Identifier: Apache-2.0
//! What is to be ordered, and by whom.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use block_api::{ChannelId, Clock};

use crate::{
    faults::Script,
    pki::{KeyKind, OrganizationSpec},
};

/// How the nodes of the ordering service agree, which decides how blocks are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consensus {
    /// As etcdraft does: each node signs its own copy of a block, and one signature satisfies the
    /// channel.
    #[default]
    Raft,
    /// As SmartBFT does: a block carries the signatures of a quorum, each naming its signer by id.
    Bft,
}

/// When a block is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchConfig {
    /// A block has at most so many transactions. 10 by default.
    pub max_message_count: NonZeroU32,
    /// A transaction has at most so many bytes, payload and signature together. 10 MiB by default.
    pub absolute_max_bytes: NonZeroU32,
    /// A block has at most so many bytes, unless one transaction alone has more. 2 MiB by default.
    pub preferred_max_bytes: NonZeroU32,
    /// How long a transaction waits for others to share its block. 200 ms by default.
    pub timeout: Duration,
}

/// A channel and the organisations in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The channel.
    pub channel: ChannelId,
    /// How blocks are signed. As raft does by default.
    pub consensus: Consensus,
    /// The kind of every identity's key. ECDSA on P-256 by default; with Ed25519 the channel has
    /// the capability V3_0, without which Fabric refuses such keys.
    pub key_kind: KeyKind,
    /// The organisations that order: the nodes are theirs in turn, the first node of the first one.
    /// Each has one node at least. `Orderer` by default.
    pub orderers: Vec<OrganizationSpec>,
    /// The organisations that use the channel. Org1 with `peer0`, `user1` and `admin` by default.
    pub applications: Vec<OrganizationSpec>,
    /// When a block is cut.
    pub batch: BatchConfig,
}

/// An ordering service: its channel, and its nodes.
#[derive(Debug, Clone)]
pub struct Config {
    /// The channel and its organisations.
    pub network: NetworkConfig,
    /// The nodes.
    pub nodes: NodesConfig,
    /// So many bytes wait to be ordered at most; with more, who submits waits for room. At least
    /// the channel's `absolute_max_bytes`. 64 MiB by default.
    pub queue_bytes: NonZeroU32,
}

/// The nodes of an ordering service, and how they are reached.
#[derive(Debug, Clone)]
pub struct NodesConfig {
    /// How many there are. One by default.
    pub count: NonZeroUsize,
    /// Where the first one listens. A port that is not 0 is followed by those of the other nodes;
    /// with 0 the system picks each of them. `127.0.0.1:0` by default.
    pub listen: SocketAddr,
    /// The host under which the nodes are reached, which the channel configuration names and the
    /// TLS certificates are good for. The address of `listen` by default, `localhost` where that
    /// means every address.
    pub host: Option<String>,
    /// Whether and how connections are encrypted. Server TLS by default.
    pub tls: TlsMode,
    /// What goes wrong on which node, by its index; nothing on those that have no script. Such a
    /// node's connections go through a relay, which costs time: give no script where none is wanted.
    /// None by default.
    pub faults: Vec<Script>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Whether and how the connections to a node are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Not at all.
    Plain,
    /// The node proves who it is.
    #[default]
    Server,
    /// Both sides do: clients with a TLS certificate of any of the network's organisations.
    Mutual,
}

/// A configuration that no ordering service can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Blocks would be cut below the size that one transaction may have, and above.
    #[error("preferred_max_bytes ({preferred}) must not be above absolute_max_bytes ({absolute})")]
    PreferredAboveAbsolute {
        /// What a block should have at most.
        preferred: u32,
        /// What a transaction may have at most.
        absolute: u32,
    },
    /// A block would wait for no time.
    #[error("the batch timeout must not be zero")]
    NoBatchTimeout,
    /// Two organisations have one name.
    #[error("the organisation {name:?} is there twice")]
    DuplicateOrganization {
        /// The name.
        name: String,
    },
    /// There is no node.
    #[error("an ordering service has one node at least")]
    NoOrderer,
    /// An organisation orders without a node.
    #[error("the orderer organisation {name:?} has no node: give it one, or leave it out")]
    OrganizationWithoutNode {
        /// The name.
        name: String,
    },
    /// There is nobody who could send a transaction.
    #[error(
        "no organisation has a member with the role of a client, so nobody can send a transaction"
    )]
    NoClient,
    /// What waits to be ordered cannot hold one transaction of the greatest size.
    #[error("queue_bytes ({queue}) must not be below absolute_max_bytes ({absolute})")]
    QueueTooSmall {
        /// What may wait.
        queue: u32,
        /// What a transaction may have at most.
        absolute: u32,
    },
}

impl Default for BatchConfig {
    fn default() -> Self {
        let nonzero = |n| NonZeroU32::new(n).expect("invariant: a literal above zero");
        Self {
            max_message_count: nonzero(10),
            absolute_max_bytes: nonzero(10 * 1024 * 1024),
            preferred_max_bytes: nonzero(2 * 1024 * 1024),
            timeout: Duration::from_millis(200),
        }
    }
}

impl Config {
    /// An ordering service for a channel with everything else by default.
    pub fn new(channel: ChannelId, clock: Arc<dyn Clock>) -> Self {
        Self {
            network: NetworkConfig::new(channel),
            nodes: NodesConfig::new(clock),
            queue_bytes: NonZeroU32::new(64 * 1024 * 1024)
                .expect("invariant: a literal above zero"),
        }
    }

    /// Checks what the fields say together.
    ///
    /// # Errors
    ///
    /// When no ordering service can be like that.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.network.validate()?;
        let absolute = self.network.batch.absolute_max_bytes;
        if self.queue_bytes < absolute {
            return Err(ConfigError::QueueTooSmall {
                queue: self.queue_bytes.get(),
                absolute: absolute.get(),
            });
        }
        Ok(())
    }
}

impl NodesConfig {
    /// One node on the loopback.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            count: NonZeroUsize::MIN,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            host: None,
            tls: TlsMode::default(),
            faults: Vec::new(),
            clock,
        }
    }

    /// The address on which the node of this index listens; `None` when there is no such port.
    pub(crate) fn address(&self, index: usize) -> Option<SocketAddr> {
        let port = match self.listen.port() {
            0 => 0,
            first => first.checked_add(u16::try_from(index).ok()?)?,
        };
        Some(SocketAddr::new(self.listen.ip(), port))
    }

    /// The host that endpoints have, as they write it.
    pub(crate) fn endpoint_host(&self) -> String {
        match (&self.host, self.listen.ip()) {
            (Some(host), _) => host.clone(),
            (None, ip) if ip.is_unspecified() => "localhost".to_owned(),
            (None, std::net::IpAddr::V4(ip)) => ip.to_string(),
            (None, std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        }
    }
}

impl BatchConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.preferred_max_bytes > self.absolute_max_bytes {
            return Err(ConfigError::PreferredAboveAbsolute {
                preferred: self.preferred_max_bytes.get(),
                absolute: self.absolute_max_bytes.get(),
            });
        }
        if self.timeout.is_zero() {
            return Err(ConfigError::NoBatchTimeout);
        }
        Ok(())
    }
}

impl NetworkConfig {
    /// A channel with everything else by default.
    pub fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            consensus: Consensus::default(),
            key_kind: KeyKind::default(),
            orderers: vec![OrganizationSpec::orderer(ORDERER_ORGANIZATION)],
            applications: vec![OrganizationSpec::application("Org1")],
            batch: BatchConfig::default(),
        }
    }

    /// Checks what the fields say together.
    ///
    /// # Errors
    ///
    /// When no ordering service can be like that.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.batch.validate()?;
        if self.orderers.is_empty() {
            return Err(ConfigError::NoOrderer);
        }
        let mut seen = Vec::new();
        for organization in self.orderers.iter().chain(&self.applications) {
            let name = organization.name.to_lowercase();
            if seen.contains(&name) {
                return Err(ConfigError::DuplicateOrganization {
                    name: organization.name.clone(),
                });
            }
            seen.push(name);
        }
        if !self.applications.iter().any(OrganizationSpec::has_client) {
            return Err(ConfigError::NoClient);
        }
        Ok(())
    }
}

/// The name of the organisation that orders, unless others are given.
pub(crate) const ORDERER_ORGANIZATION: &str = "Orderer";
