// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with a channel configuration.

use block_api::{BlockNumber, DataHash, InvalidChannelId};

use crate::{msp::MspError, policy::PolicyError};

/// Why a block or a configuration is no channel configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The block has no data (CFB-02).
    #[error("block {number} has no data, so it is no config block")]
    NoData {
        /// The block.
        number: BlockNumber,
    },
    /// The block does not have exactly one data entry (CFB-03).
    #[error("block {number} has {count} data entries, a config block has one")]
    EntryCount {
        /// The block.
        number: BlockNumber,
        /// How many it has.
        count: usize,
    },
    /// A message on the way to the configuration does not parse (CFB-04 to CFB-09).
    #[error("block {number} is no config block: its {part} does not parse: {reason}")]
    Malformed {
        /// The block.
        number: BlockNumber,
        /// Which message.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A message on the way to the configuration is not there.
    #[error("block {number} is no config block: it has no {part}")]
    Absent {
        /// The block.
        number: BlockNumber,
        /// Which message.
        part: &'static str,
    },
    /// The transaction of the block is of another type.
    #[error("block {number} is no config block: its transaction is of type {kind}, not CONFIG (1)")]
    NotConfig {
        /// The block.
        number: BlockNumber,
        /// The type.
        kind: i32,
    },
    /// A genesis block was asked for.
    #[error("block {number} is no genesis block, which has number 0")]
    NotGenesis {
        /// The block.
        number: BlockNumber,
    },
    /// A config block cannot be in force before it is there.
    #[error(
        "config block {number} is not in force at block {start}: start after block {number} or a later one, or trust \
         an earlier config block"
    )]
    StartBelow {
        /// The config block.
        number: BlockNumber,
        /// The block to start after.
        start: BlockNumber,
    },
    /// The data of the block is not what its header says.
    #[error("the data of block {number} has the hash {actual}, its header says {claimed}")]
    DataHash {
        /// The block.
        number: BlockNumber,
        /// What the header says, in hexadecimal.
        claimed: String,
        /// What the data has.
        actual: DataHash,
    },
    /// The channel id is not legal (CTX-01).
    #[error(transparent)]
    ChannelId(#[from] InvalidChannelId),
    /// A group that every channel needs is not there (CHC-01).
    #[error("the configuration has no group {path}")]
    NoGroup {
        /// The group.
        path: String,
    },
    /// A group that is not known here.
    #[error("the configuration has the group {path}, which is not known or not supported")]
    UnknownGroup {
        /// The group.
        path: String,
    },
    /// A value that Fabric does not know either (CHC-13).
    #[error("the configuration has the value {path}, which is not known")]
    UnknownValue {
        /// The value.
        path: String,
    },
    /// A value does not parse.
    #[error("the value {path} does not parse: {reason}")]
    Value {
        /// The value.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value parses, but is not allowed.
    #[error("the value {path} is not allowed: {reason}")]
    Illegal {
        /// The value.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A capability that this release does not know, so that it does not know the rules either.
    #[error(
        "the capability {name} of {path} is not known: this needs a newer release of blockcast"
    )]
    UnknownCapability {
        /// The group.
        path: String,
        /// The capability.
        name: String,
    },
    /// The MSP of an organisation is not usable.
    #[error("the organisation {path} has no usable MSP: {source}")]
    Msp {
        /// The organisation's group.
        path: String,
        /// What is wrong with it.
        source: Box<MspError>,
    },
    /// Two organisations define one MSP id in two ways.
    #[error("the MSP {msp_id:?} is defined in two different ways")]
    ConflictingMsp {
        /// The MSP.
        msp_id: String,
    },
    /// A policy does not compile.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy that the verifier needs is not there.
    #[error("the configuration has no policy {path}")]
    NoPolicy {
        /// The policy.
        path: &'static str,
    },
}
