// SPDX-License-Identifier: Apache-2.0
//! What may change on a channel after its genesis block.

use crate::{
    config::{BatchConfig, ConfigError},
    pki::{OrganizationSpec, PkiError},
};

/// A change of a channel's configuration, and of who signs blocks once it is in force.
///
/// Several can be one config block. It is signed by the nodes that there were, and valid under the
/// configuration before it; the blocks after it are signed by those that are left. On a BFT channel
/// the consenters and the policy `BlockValidation` follow every change of the nodes, as SmartBFT
/// orderers demand (semantics §2.7).
///
/// What Fabric's orderers refuse beside is not asked here: on raft, more than one node that comes,
/// goes or changes its certificate at once; in maintenance, other changes than those of consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// An organisation begins to order, with so many nodes, one at least.
    AddOrderers {
        /// The organisation.
        organization: OrganizationSpec,
        /// How many nodes it brings.
        nodes: usize,
    },
    /// An organisation orders no longer. Its nodes leave with it.
    RemoveOrderers {
        /// Its name.
        organization: String,
    },
    /// An organisation that orders gets one more node.
    AddNode {
        /// The name of the organisation.
        organization: String,
    },
    /// A node leaves, and its organisation stays with those that are left.
    RemoveNode {
        /// The id of the node.
        node: u32,
    },
    /// A node gets another identity and another TLS certificate. It keeps its id, its name and its
    /// endpoint, and signs with the new key from the next block on.
    ReplaceCertificates {
        /// The id of the node.
        node: u32,
    },
    /// A node is reached at another endpoint.
    MoveNode {
        /// The id of the node.
        node: u32,
    },
    /// An organisation, of either kind, gets another authority for TLS beside those that it has. The
    /// certificates of nodes stay as they are until they are replaced.
    AddTlsAuthority {
        /// The name of the organisation.
        organization: String,
    },
    /// An organisation, of either kind, names no authority for TLS any more but its newest one.
    RemoveOldTlsAuthorities {
        /// The name of the organisation.
        organization: String,
    },
    /// An organisation begins to use the channel.
    AddApplication {
        /// The organisation.
        organization: OrganizationSpec,
    },
    /// An organisation no longer uses the channel.
    RemoveApplication {
        /// Its name.
        organization: String,
    },
    /// A capability takes the place of those that there were, such as `V3_0` for `V2_0`.
    SetCapability {
        /// Of which group.
        group: CapabilityGroup,
        /// Its name.
        name: String,
    },
    /// Blocks are cut otherwise.
    SetBatch(BatchConfig),
    /// The ordering service takes no transactions until it is let out again, so that its consensus
    /// can be changed.
    EnterMaintenance,
    /// From raft to BFT. Only in maintenance, and with the channel capability `V3_0`.
    MigrateToBft,
    /// The ordering service takes transactions again.
    LeaveMaintenance,
}

/// A group of the configuration tree that has capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapabilityGroup {
    /// The channel.
    Channel,
    /// The ordering service.
    Orderer,
    /// The organisations that use the channel.
    Application,
}

/// A change that cannot be made to the channel as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no such organisation.
    #[error("there is no {what} organisation {name:?}")]
    UnknownOrganization {
        /// Of which kind it would be.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is no such node.
    #[error("there is no node with the id {node}")]
    UnknownNode {
        /// The id.
        node: u32,
    },
    /// What would be left contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The consensus changes in maintenance alone.
    #[error("the consensus can be changed in maintenance alone: enter that first")]
    NotInMaintenance,
    /// BFT orderers sign by their ids, which the channel must allow.
    #[error(
        "BFT needs the channel capability V3_0, and the channel has {capability}: set that first"
    )]
    NeedsCapability {
        /// What the channel has.
        capability: String,
    },
    /// A node with this endpoint has no next port.
    #[error("there is no port above {port} for one more node")]
    Ports {
        /// The highest port of a node.
        port: u16,
    },
    /// Keys or certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Change {
    /// So many endpoints are needed for it.
    pub(crate) fn endpoints(&self) -> usize {
        match self {
            Self::AddOrderers { nodes, .. } => *nodes,
            Self::AddNode { .. } | Self::MoveNode { .. } => 1,
            Self::RemoveOrderers { .. }
            | Self::RemoveNode { .. }
            | Self::ReplaceCertificates { .. }
            | Self::AddTlsAuthority { .. }
            | Self::RemoveOldTlsAuthorities { .. }
            | Self::AddApplication { .. }
            | Self::RemoveApplication { .. }
            | Self::SetCapability { .. }
            | Self::SetBatch(_)
            | Self::EnterMaintenance
            | Self::MigrateToBft
            | Self::LeaveMaintenance => 0,
        }
    }
}
