// SPDX-License-Identifier: Apache-2.0
//! Who pulls a channel.

use channel_config::Role;
use serde::Deserialize;

/// Whether a node pulls a channel's blocks from the ordering service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Pull {
    /// The nodes of the organisation find out who does, and take over from each other.
    #[default]
    Elected,
    /// It does.
    Always,
    /// It does not, and has the blocks from other nodes.
    Never,
}

/// Which identities of an organisation may pull for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PullerRole {
    /// Its peers.
    Peer,
    /// Every one.
    Member,
    /// Its clients.
    Client,
    /// Its administrators.
    Admin,
}

impl From<PullerRole> for Role {
    fn from(role: PullerRole) -> Self {
        match role {
            PullerRole::Peer => Self::Peer,
            PullerRole::Member => Self::Member,
            PullerRole::Client => Self::Client,
            PullerRole::Admin => Self::Admin,
        }
    }
}
