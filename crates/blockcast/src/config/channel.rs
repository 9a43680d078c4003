// SPDX-License-Identifier: Apache-2.0
//! `[[channel]]`: a channel, how it is joined and whence its blocks come.

use std::path::PathBuf;

use block_api::{ChannelId, Endpoint, HeaderHash};
use serde::Deserialize;

use super::{DataHashRule, Pull, ReaderRule, StartAfter, text};

/// `[[channel]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSection {
    /// The id of the channel.
    #[serde(deserialize_with = "text::parse")]
    pub id: ChannelId,
    /// The file with its genesis block. Left out where the channel is joined at a later config block.
    pub genesis: Option<PathBuf>,
    /// The header hash of its genesis block, for a channel that is joined at a later config block.
    #[serde(default, deserialize_with = "text::parse_some")]
    pub genesis_hash: Option<HeaderHash>,
    /// The file with a config block that is trusted, to join at. Default: none.
    pub config_block: Option<PathBuf>,
    /// The block behind which a channel starts that is joined so. Default: the config block.
    pub start_after: Option<StartAfter>,
    /// Whether this node pulls the channel's blocks from the ordering service. Default: `elected`.
    #[serde(default)]
    pub pull: Pull,
    /// How the data hash of its blocks is taken, which is the same on every node of the channel.
    /// Default: `fabric`.
    #[serde(default, deserialize_with = "text::parse")]
    pub data_hash: DataHashRule,
    /// Who may have its blocks from this node. Default: as `gossip.readers` says.
    pub readers: Option<ReaderRule>,
    /// Endpoints to pull from beside those of the channel's configuration. Default: none.
    #[serde(default)]
    pub orderers: Vec<ExtraOrderer>,
}

/// `[[channel.orderers]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraOrderer {
    /// The endpoint.
    #[serde(deserialize_with = "text::parse")]
    pub endpoint: Endpoint,
    /// Its TLS roots, as a PEM file; needed unless `orderer.tls` is `none`.
    pub ca: Option<PathBuf>,
}

impl ChannelSection {
    /// A channel for which it is elected who pulls, from the endpoints of its configuration.
    pub fn new(id: ChannelId, genesis: impl Into<PathBuf>) -> Self {
        Self {
            id,
            genesis: Some(genesis.into()),
            genesis_hash: None,
            config_block: None,
            start_after: None,
            pull: Pull::default(),
            data_hash: DataHashRule::default(),
            readers: None,
            orderers: Vec::new(),
        }
    }

    /// A channel that is pulled, joined behind a config block that is trusted.
    pub fn joined_at(
        id: ChannelId,
        genesis_hash: HeaderHash,
        config_block: impl Into<PathBuf>,
    ) -> Self {
        Self {
            genesis: None,
            genesis_hash: Some(genesis_hash),
            config_block: Some(config_block.into()),
            ..Self::new(id, PathBuf::new())
        }
    }
}
