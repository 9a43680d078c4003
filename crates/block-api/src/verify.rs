// SPDX-License-Identifier: Apache-2.0
//! The seam to the rules of a channel: who judges blocks, and who says who may read.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::{Block, BlockNumber, BoxError, HeaderHash};

/// Judges blocks by the configuration in force at their height.
///
/// Judging is pure: no clock, no I/O, and the same answer for the same block until
/// [`apply_config`](Self::apply_config) was called. Whether a block links to the chain is not
/// found out here: who asks says how it stands, and the store, which knows its tip, refuses what
/// does not link or was judged by another configuration than the one at its place.
pub trait BlockVerifier: Send + Sync + fmt::Debug {
    /// Judges a whole block: its transactions are well formed, its data is the one that the header
    /// names, and the orderers signed it as the channel demands (semantics §2.1).
    fn verify(&self, block: &Block, standing: Standing) -> Verdict;

    /// Judges header and signatures alone, whether there is data or not (semantics §2.9). Without
    /// data, whether it is a config block is what its signatures claim.
    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict;

    /// Takes the configuration of a config block that is in the store into force for the blocks
    /// after it. Other blocks change nothing, nor does one whose configuration is known.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be taken into force. The verifier is as before.
    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection>;

    /// What a signed header proves by the newest configuration in force. Who does not know says
    /// that it proves little.
    fn header_proof(&self) -> HeaderProof {
        HeaderProof::OneSigner
    }
}

/// What it takes to sign a header so that it is accepted, and so what such a header proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderProof {
    /// One identity is enough, as with raft: unless the header links to the chain it is a hint, for
    /// one orderer, or one client of its organisation, can sign a header of any number.
    #[default]
    OneSigner,
    /// A quorum of the orderers, as with BFT: there is a block of that number.
    Quorum,
}

/// How a block stands to the chain, which decides which configuration judges it (ADR 0004).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It links to a chain whose config blocks were all applied. It is judged by its position, as
    /// Fabric does: by the newest configuration below it, whatever its signatures say.
    Linked,
    /// Blocks below it may be missing. It is judged by the newest config block that its signatures
    /// name, if that can be known to be the right one.
    Ahead,
}

/// What a verifier says of a block.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The block satisfies every rule.
    Accepted(Acceptance),
    /// The block breaks a rule; it will break it for everyone under the same configuration, but
    /// for the rules that speak of what a verifier knows no more.
    Rejected(Rejection),
    /// The configuration that judges the block is that of a config block which was not applied
    /// yet: nothing is known until it is. Never said of a block that is [`Standing::Linked`].
    AwaitsConfig(BlockNumber),
    /// The block does not tell which configuration judges it: nothing is known until it links.
    /// Never said of a block that is [`Standing::Linked`].
    AwaitsLink,
}

/// What a verifier learned of a block that it accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// Whether it is a config block.
    pub is_config: bool,
    /// What the LAST_CONFIG slot of the block says: its own number for a config block, else the
    /// number that its signatures name, which nobody checks where the block is linked; where they
    /// name none, the number of the config block that judged it.
    pub last_config: BlockNumber,
    /// The number of the config block by which it was judged; its own number for the block that a
    /// verifier trusts from the beginning.
    pub judged_by: BlockNumber,
}

/// A block that breaks a rule.
#[derive(Debug, Clone, thiserror::Error)]
#[error("block {number} breaks the rule `{rule}`: {reason}")]
pub struct Rejection {
    number: BlockNumber,
    hash: HeaderHash,
    rule: &'static str,
    reason: Arc<dyn std::error::Error + Send + Sync>,
    in_good_faith: bool,
}

/// A block that a verifier accepted, the only kind that is stored, published or served.
///
/// It has five metadata slots at least: what the orderers did not sign and did not come along is
/// filled in here (see [`Block::with_all_slots`]). One that was judged [`Standing::Ahead`] is
/// accepted for the time being: a store asks whether its judge is the one at its place. Cloning
/// shares the bytes.
#[derive(Debug, Clone)]
pub struct VerifiedBlock {
    block: Block,
    acceptance: Acceptance,
}

/// A block did not become a [`VerifiedBlock`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The config block that judges it was not applied yet.
    #[error("block {number} is judged by config block {config}, which is not here yet")]
    AwaitsConfig {
        /// The block.
        number: BlockNumber,
        /// The config block.
        config: BlockNumber,
    },
    /// Which configuration judges it is known once it links to the chain.
    #[error(
        "block {number} does not tell which configuration judges it, and blocks before it are missing"
    )]
    AwaitsLink {
        /// The block.
        number: BlockNumber,
    },
    /// It has no data.
    #[error("block {number} has no data, only a header and signatures")]
    NoData {
        /// The block.
        number: BlockNumber,
    },
}

/// Says who may read a channel.
pub trait Readers: Send + Sync + fmt::Debug {
    /// Whether the holder of `identity` (the bytes of a `msp.SerializedIdentity`), who made
    /// `signature` over `message`, may read the channel at the time `now` (semantics §3.10).
    ///
    /// # Errors
    ///
    /// When it may not, with the reason, which is for a log and not for the peer.
    fn may_read(
        &self,
        identity: &[u8],
        message: &[u8],
        signature: &[u8],
        now: SystemTime,
    ) -> Result<(), ReadersDenied>;

    /// Grows whenever a verdict may have changed, so that sessions ask again.
    fn generation(&self) -> u64;

    /// The last moment at which an identity (the bytes of a `msp.SerializedIdentity`) is valid by what
    /// it says itself; `None` where it says nothing that is understood.
    fn expires(&self, _identity: &[u8]) -> Option<SystemTime> {
        None
    }
}

/// Tells the nodes of the own organisation from others, and which of them may pull.
pub trait OwnOrganisation: Send + Sync + fmt::Debug {
    /// What the holder of `identity` (the bytes of a `msp.SerializedIdentity`) is to this node, by
    /// the newest configuration of the channel. That it is the holder is not asked here.
    fn kinship(&self, identity: &[u8]) -> Kinship;

    /// Grows whenever an answer may have changed.
    fn generation(&self) -> u64;
}

/// What a node is to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kinship {
    /// Of another organisation, or not known.
    #[default]
    Stranger,
    /// Of the own organisation.
    Member,
    /// Of the own organisation, and one that may pull its blocks from the ordering service.
    Puller,
}

/// An identity may not read a channel.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no right to read the channel: {reason}")]
pub struct ReadersDenied {
    reason: String,
}

impl Rejection {
    /// A rejection of `block` for the reason of a rule with this short name.
    pub fn new(block: &Block, rule: &'static str, reason: impl Into<BoxError>) -> Self {
        Self {
            number: block.number(),
            hash: block.header_hash(),
            rule,
            reason: reason.into().into(),
            in_good_faith: false,
        }
    }

    /// The same, where the signatures name an older config block than the one by which the block was
    /// judged: a node to which the newer one has not come yet may have accepted it (ADR 0004).
    #[must_use]
    pub fn in_good_faith(self) -> Self {
        Self {
            in_good_faith: true,
            ..self
        }
    }

    /// Whether who passed the block on may have done so in good faith: nothing is held against it.
    pub fn may_be_in_good_faith(&self) -> bool {
        self.in_good_faith
    }

    /// The number that the block claims.
    pub fn number(&self) -> BlockNumber {
        self.number
    }

    /// The header hash of the block.
    pub fn header_hash(&self) -> HeaderHash {
        self.hash
    }

    /// The short name of the rule, the same in every message and metric.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// What is wrong, with the data that an operator needs.
    pub fn reason(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl VerifiedBlock {
    /// Has a block judged, and keeps it if it is accepted.
    ///
    /// # Errors
    ///
    /// When the verifier rejects it, cannot judge it yet, or when it has no data.
    pub fn new(
        block: Block,
        verifier: &dyn BlockVerifier,
        standing: Standing,
    ) -> Result<Self, VerifyError> {
        if !block.has_data() {
            return Err(VerifyError::NoData {
                number: block.number(),
            });
        }
        match verifier.verify(&block, standing) {
            Verdict::Accepted(acceptance) => Ok(Self {
                block: block.with_all_slots(Some(acceptance.last_config)),
                acceptance,
            }),
            Verdict::Rejected(rejection) => Err(rejection.into()),
            Verdict::AwaitsConfig(config) => Err(VerifyError::AwaitsConfig {
                number: block.number(),
                config,
            }),
            Verdict::AwaitsLink => Err(VerifyError::AwaitsLink {
                number: block.number(),
            }),
        }
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its number.
    pub fn number(&self) -> BlockNumber {
        self.block.number()
    }

    /// Its header hash.
    pub fn header_hash(&self) -> HeaderHash {
        self.block.header_hash()
    }

    /// Whether it is a config block.
    pub fn is_config(&self) -> bool {
        self.acceptance.is_config
    }

    /// What its LAST_CONFIG slot says (see [`Acceptance::last_config`]); by its position, the newest
    /// config block below it is [`judged_by`](Self::judged_by).
    pub fn last_config(&self) -> BlockNumber {
        self.acceptance.last_config
    }

    /// The number of the config block by which it was judged.
    pub fn judged_by(&self) -> BlockNumber {
        self.acceptance.judged_by
    }
}

impl ReadersDenied {
    /// A denial for this reason.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}
