// SPDX-License-Identifier: Apache-2.0
//! The versions of the MSP rules, chosen by the channel's capabilities.

/// Which rules an MSP follows (semantics §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MspVersion {
    /// Without a channel capability.
    V1_0,
    /// Node OUs for clients and peers.
    V1_1,
    /// Anonymity and combined principals.
    V1_3,
    /// Node OUs for administrators and orderers.
    V1_4_3,
    /// Ed25519.
    V3_0,
}
