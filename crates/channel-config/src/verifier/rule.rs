// SPDX-License-Identifier: Apache-2.0
//! The rules that a block can break, one variant each.

use block_api::{BlockNumber, ChannelId, DataHash, EnvelopeError, HeaderHash, wire::WireError};

use crate::{config::ConfigError, verifier::signatures::SignatureReport};

/// How many signatures a block may have: many times the size of any ordering service, and few
/// enough that checking them all takes no time that matters.
pub(super) const MAX_SIGNATURES: usize = 256;

/// How many bytes each signature of a block may cover: far more than consenters have to say, and
/// few enough that hashing them for [`MAX_SIGNATURES`] takes no time that matters.
pub(super) const MAX_SIGNED: usize = 1 << 20;

/// How many bytes all signatures of a block may cover together, each counting what it covers.
pub(super) const MAX_HASHED: usize = 16 << 20;

/// How long the slot of the signatures may be: twice what so many signatures with their headers and
/// what they cover need.
pub(super) const MAX_SLOT: usize = 4 << 20;

/// How much of a text out of a block an error repeats, in characters.
const MAX_SHOWN: usize = 64;

/// A rule that a block breaks.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The slot of the signatures is not there (VER-14).
    #[error("the block has no metadata, so it has no signatures")]
    NoMetadata,
    /// The slot of the signatures does not parse.
    #[error("the metadata slot of the signatures does not parse: {source}")]
    MalformedMetadata {
        /// What is wrong, and at which byte of the slot.
        source: WireError,
    },
    /// There is no transaction (VER-12).
    #[error("the block is empty: it has no transaction")]
    Empty,
    /// A transaction is not in the one form that makes the data hash unambiguous (VER-13, VER-20).
    #[error("transaction {index} is not well formed: {source}")]
    NotWellFormed {
        /// Which transaction.
        index: usize,
        /// What is wrong with it.
        source: EnvelopeError,
    },
    /// The first transaction is for another channel (MCS-08).
    #[error("the block is one of channel {actual:?}, not of {expected}")]
    OtherChannel {
        /// The channel of the verifier.
        expected: ChannelId,
        /// What the transaction says.
        actual: String,
    },
    /// The data is not what the header says (VER-17).
    #[error("the data has the hash {actual}, the header says {claimed}")]
    DataHash {
        /// What the header says, in hexadecimal.
        claimed: String,
        /// What the data has.
        actual: DataHash,
    },
    /// The header and the value beside it are longer than any ordering service makes them.
    #[error("the header and what is signed with it have {bytes} bytes, more than {MAX_SIGNED}")]
    SignedTooLong {
        /// How many bytes each signature covers.
        bytes: usize,
    },
    /// The signatures cover more together than any ordering service has them cover.
    #[error("{count} signatures over {bytes} bytes each are more than {MAX_HASHED} bytes to hash")]
    TooMuchSigned {
        /// How many signatures there are.
        count: usize,
        /// How many bytes each of them covers.
        bytes: usize,
    },
    /// The slot of the signatures is longer than any ordering service makes it.
    #[error("the metadata slot of the signatures has {bytes} bytes, more than {MAX_SLOT}")]
    SlotTooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// More signatures than any ordering service makes.
    #[error("the block has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// The header of a signature does not parse, which condemns the block and not just the
    /// signature (semantics §2.4).
    #[error("the {kind} of signature {index} does not parse: {source}")]
    MalformedSignatureHeader {
        /// Which signature.
        index: usize,
        /// Signature header or identifier header.
        kind: &'static str,
        /// What is wrong with it.
        source: WireError,
    },
    /// The signatures are not enough (VER-09, VER-19).
    #[error("the signatures do not satisfy {path} ({policy}): {report}")]
    PolicyNotSatisfied {
        /// The path of the policy.
        path: &'static str,
        /// The policy as text.
        policy: String,
        /// What each signature is.
        report: SignatureReport,
    },
    /// The block has the number of the trusted block, but is another one.
    #[error("the trusted block has the header hash {expected}, this one {actual}")]
    OtherGenesis {
        /// The header hash of the trusted block.
        expected: HeaderHash,
        /// That of this block.
        actual: HeaderHash,
    },
    /// The block is older than the trusted block.
    #[error(
        "the block is older than the trusted config block {trusted}, so nothing is known of it"
    )]
    BeforeTrusted {
        /// The trusted block.
        trusted: BlockNumber,
    },
    /// The block is so old that the configuration that judges it is no longer kept.
    #[error(
        "the block is judged by a configuration that is no longer kept: the oldest one is that of config block {oldest}"
    )]
    NotKept {
        /// The oldest config block whose configuration is kept.
        oldest: BlockNumber,
    },
    /// The block says that the configuration of an older config block is in force than is.
    #[error(
        "the block names {index} as its newest config block, but there is a newer one below it: {known}"
    )]
    LastConfigBehind {
        /// The number that it names.
        index: BlockNumber,
        /// The newest config block below the block.
        known: BlockNumber,
    },
    /// The block names a config block that the trusted one is said to have outlived.
    #[error(
        "the block names config block {index} as the newest one, but config block {trusted} is trusted to be the newest \
         one up to block {start}: trust config block {index} instead"
    )]
    OtherStartConfig {
        /// The number that it names.
        index: BlockNumber,
        /// The trusted config block.
        trusted: BlockNumber,
        /// The block up to which no other is said to come.
        start: BlockNumber,
    },
    /// The first config block after the trusted one is not its successor.
    #[error(
        "the configuration in the block has the sequence {sequence}, that of the trusted config block {trusted} has \
         {known}, so that one between them is missing: trust the newest config block up to block {start} instead"
    )]
    MissedConfig {
        /// The sequence of the configuration.
        sequence: u64,
        /// That of the trusted one.
        known: u64,
        /// The trusted config block.
        trusted: BlockNumber,
        /// The block up to which it is said to be the newest one.
        start: BlockNumber,
    },
    /// The configuration in a config block cannot be taken.
    #[error("the configuration in the block cannot be taken into force: {0}")]
    Config(Box<ConfigError>),
    /// Another config block of this number is in force.
    #[error("the config block in force has the header hash {expected}, this one {actual}")]
    OtherConfigBlock {
        /// The header hash of the one in force.
        expected: HeaderHash,
        /// That of this block.
        actual: HeaderHash,
    },
    /// The config block is older than the newest configuration, and none that was applied.
    #[error("the configuration of block {newest} is in force already, which is newer")]
    ConfigBehind {
        /// The newest config block.
        newest: BlockNumber,
    },
    /// The number is not the next one (VER-16).
    #[error("the block has the number {actual}, expected was {expected}")]
    Number {
        /// The next number.
        expected: BlockNumber,
        /// That of the block.
        actual: BlockNumber,
    },
    /// The block does not link to the one before it (VER-18).
    #[error(
        "the block names {claimed} as the header hash of the block before it, which has {expected}"
    )]
    PreviousHash {
        /// The header hash of the block before.
        expected: HeaderHash,
        /// What the block says, in hexadecimal.
        claimed: String,
    },
}

impl BlockError {
    /// The short name of the rule, the same in every message and metric.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NoMetadata
            | Self::MalformedMetadata { .. }
            | Self::SignedTooLong { .. }
            | Self::TooMuchSigned { .. }
            | Self::SlotTooLong { .. } => "metadata",
            Self::Empty | Self::NotWellFormed { .. } => "well-formed",
            Self::OtherChannel { .. } => "channel",
            Self::DataHash { .. } => "data-hash",
            Self::TooManySignatures
            | Self::MalformedSignatureHeader { .. }
            | Self::PolicyNotSatisfied { .. } => "signatures",
            Self::OtherGenesis { .. } | Self::BeforeTrusted { .. } => "genesis",
            Self::LastConfigBehind { .. }
            | Self::OtherStartConfig { .. }
            | Self::MissedConfig { .. } => "last-config",
            Self::NotKept { .. } => "not-kept",
            Self::Config(_) | Self::OtherConfigBlock { .. } | Self::ConfigBehind { .. } => "config",
            Self::Number { .. } => "number",
            Self::PreviousHash { .. } => "previous-hash",
        }
    }
}

impl From<ConfigError> for BlockError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

/// A hash as a header claims it, in hexadecimal: it may be bytes of any number.
pub(super) fn claimed_hash(bytes: &[u8]) -> String {
    match bytes.split_at_checked(MAX_SHOWN / 2) {
        Some((shown, rest)) if !rest.is_empty() => {
            format!("{}… ({} bytes)", hex::encode(shown), bytes.len())
        }
        _ => hex::encode(bytes),
    }
}

/// The beginning of a text.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
