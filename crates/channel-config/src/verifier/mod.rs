// SPDX-License-Identifier: Apache-2.0
//! The verifier of a channel's blocks.

mod chain;
mod envelope;
mod faith;
mod history;
mod rule;
mod signatures;
mod start;
mod walk;

use std::sync::Arc;

use block_api::{
    Acceptance, Block, BlockNumber, BlockVerifier, ChannelId, DataHashing, HeaderHash, HeaderProof,
    Rejection, Standing, Verdict, VerifiedBlock,
};

pub(crate) use self::history::SharedHistory;
pub use self::{
    chain::verify_chain_step,
    rule::BlockError,
    signatures::{SignatureReport, SignerInfo, SignerKind},
    walk::ChainWalk,
};
use self::{
    envelope::check_well_formed,
    history::{InForce, Judge},
    rule::{claimed_hash, shortened},
    signatures::{Claim, SignedMetadata},
};
use crate::{
    config::{BLOCK_VALIDATION, ChannelConfig, ConfigError, ConsensusType},
    policy::Evaluation,
};

/// Judges the blocks of a channel by its own rules, beginning with a genesis block that is trusted.
///
/// Blocks are judged by the configuration in force at their height, whatever it changed; a config
/// block is judged by the one before, and takes force by
/// [`apply_config`](BlockVerifier::apply_config) once it was stored (VER-21). The newest
/// configurations are kept, and blocks far below the tip are for a verifier of their own.
///
/// Whether a block links to the chain is not asked here; [`verify_chain_step`] does.
/// Cloning shares the configurations.
#[derive(Debug, Clone)]
pub struct ChannelVerifier {
    channel: ChannelId,
    hashing: DataHashing,
    history: SharedHistory,
    /// Up to this block the trusted one is the newest config block, by the word of whoever trusts it.
    start: Option<BlockNumber>,
}

/// Why a block was not accepted.
enum Refusal {
    Broken(BlockError),
    AwaitsConfig(BlockNumber),
    AwaitsLink,
}

/// Whether the data is judged, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Whole,
    Attestation,
}

impl ChannelVerifier {
    /// A verifier that trusts this genesis block.
    ///
    /// # Errors
    ///
    /// When the block is no genesis block, its data is not what its header says, or its
    /// configuration cannot be used (VER-31, VER-32).
    pub fn from_genesis(block: &Block) -> Result<Self, ConfigError> {
        Self::from_genesis_hashing(block, DataHashing::default())
    }

    /// A verifier that trusts this genesis block of a channel whose blocks are hashed so.
    ///
    /// # Errors
    ///
    /// As for [`from_genesis`](Self::from_genesis).
    pub fn from_genesis_hashing(block: &Block, hashing: DataHashing) -> Result<Self, ConfigError> {
        if block.number() != BlockNumber::GENESIS {
            return Err(ConfigError::NotGenesis {
                number: block.number(),
            });
        }
        Self::from_trusted_hashing(block, hashing)
    }

    /// A verifier that trusts this config block, and knows nothing of the blocks before it.
    ///
    /// # Errors
    ///
    /// When the block is no config block, its data is not what its header says, or its
    /// configuration cannot be used.
    pub fn from_trusted(block: &Block) -> Result<Self, ConfigError> {
        Self::from_trusted_hashing(block, DataHashing::default())
    }

    /// A verifier that trusts this config block of a channel whose blocks are hashed so.
    ///
    /// # Errors
    ///
    /// As for [`from_trusted`](Self::from_trusted).
    pub fn from_trusted_hashing(block: &Block, hashing: DataHashing) -> Result<Self, ConfigError> {
        let history = SharedHistory::trusting(block, hashing)?;
        Ok(Self {
            channel: history.snapshot().newest().config.channel().clone(),
            hashing,
            history,
            start: None,
        })
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The header hash of the trusted block.
    pub fn trusted_hash(&self) -> HeaderHash {
        self.history.snapshot().trusted().1
    }

    /// The newest configuration.
    pub fn config(&self) -> Arc<ChannelConfig> {
        self.history.snapshot().newest().config.clone()
    }

    /// The configuration in force after the block with this number, as far as it was applied;
    /// `None` where it is no longer kept.
    pub fn config_at(&self, number: BlockNumber) -> Option<Arc<ChannelConfig>> {
        let history = self.history.snapshot();
        history
            .after(number)
            .map(|in_force| in_force.config.clone())
    }

    /// The number of the block with the newest configuration.
    pub fn config_number(&self) -> BlockNumber {
        self.history.snapshot().newest().number
    }

    /// Who signed a block, under the configuration in force at its height.
    ///
    /// # Errors
    ///
    /// When the signatures cannot be read, or that configuration is no longer kept.
    pub fn signers(&self, block: &Block) -> Result<Vec<SignerInfo>, BlockError> {
        let metadata = SignedMetadata::parse(block)?;
        let history = self.history.snapshot();
        let in_force = match history.before(block.number()) {
            Some(in_force) => in_force,
            // Nothing but its own configuration speaks of the trusted block.
            None if block.number() == history.trusted().0 => history.newest(),
            None => {
                return Err(BlockError::NotKept {
                    oldest: history.oldest(),
                });
            }
        };
        let config = &in_force.config;
        Ok(metadata
            .claims(config)?
            .iter()
            .map(|claim| claim.signer(config))
            .collect())
    }

    pub(crate) fn history(&self) -> &SharedHistory {
        &self.history
    }

    fn verdict(&self, block: &Block, scope: Scope, standing: Standing) -> Verdict {
        match self.judge(block, scope, standing) {
            Ok(acceptance) => Verdict::Accepted(acceptance),
            Err(Refusal::Broken(error)) => Verdict::Rejected(self.rejection(block, error)),
            Err(Refusal::AwaitsConfig(config)) => Verdict::AwaitsConfig(config),
            Err(Refusal::AwaitsLink) => Verdict::AwaitsLink,
        }
    }

    /// The rules, cheap ones first.
    fn judge(
        &self,
        block: &Block,
        scope: Scope,
        standing: Standing,
    ) -> Result<Acceptance, Refusal> {
        let number = block.number();
        let history = self.history.snapshot();
        let (trusted, trusted_hash) = history.trusted();
        if number < trusted {
            return Err(BlockError::BeforeTrusted { trusted }.into());
        }
        if number == trusted {
            return self
                .judge_trusted(block, trusted_hash, scope)
                .map_err(Refusal::Broken);
        }
        let metadata = SignedMetadata::parse(block)?;
        if scope == Scope::Whole {
            self.check_form(block)?;
            // What links is of this channel; Fabric does not look into it either (semantics §2.1).
            if standing == Standing::Ahead {
                self.check_channel(block)?;
            }
        }
        let signed_config = metadata.last_config();
        self.check_start(number, signed_config, &history)?;
        let in_force = match history.judge(number, signed_config, standing)? {
            Judge::Here(in_force) => in_force,
            Judge::Awaited(config) => return Err(Refusal::AwaitsConfig(config)),
            Judge::AtItsPosition => return Err(Refusal::AwaitsLink),
        };
        if scope == Scope::Whole {
            self.check_data_hash(block)?;
        }
        check_signatures(&metadata, &in_force)?;
        // Without its data, a config block is known by the signatures alone: it names itself.
        let is_config = block.is_config() || (!block.has_data() && signed_config == Some(number));
        if is_config && scope == Scope::Whole {
            self.follow(block, &in_force)?;
        }
        Ok(Acceptance {
            is_config,
            // By its position a config block is its own newest one, whatever its signatures say.
            last_config: match signed_config {
                _ if is_config => number,
                Some(signed) => signed,
                None => in_force.number,
            },
            judged_by: in_force.number,
        })
    }

    /// The trusted block is known by its header; its signatures are asked by nobody, and those of
    /// a genesis block are not there.
    fn judge_trusted(
        &self,
        block: &Block,
        trusted: HeaderHash,
        scope: Scope,
    ) -> Result<Acceptance, BlockError> {
        let actual = block.header_hash();
        if actual != trusted {
            return Err(BlockError::OtherGenesis {
                expected: trusted,
                actual,
            });
        }
        if scope == Scope::Whole || block.has_data() {
            // The data hash does not tell one entry from two that are the same bytes.
            match block.entry_count() {
                0 => return Err(BlockError::Empty),
                1 => self.check_data_hash(block)?,
                count => {
                    return Err(ConfigError::EntryCount {
                        number: block.number(),
                        count,
                    }
                    .into());
                }
            }
        }
        Ok(Acceptance {
            is_config: true,
            last_config: block.number(),
            judged_by: block.number(),
        })
    }

    /// The first transaction must be for this channel, if it says for which it is: orderers sign
    /// the blocks of all their channels with one key, and the signature does not cover the channel.
    fn check_channel(&self, block: &Block) -> Result<(), BlockError> {
        match block.channel_of_first_entry() {
            Some(actual) if !actual.is_empty() && actual != self.channel.as_str() => {
                Err(BlockError::OtherChannel {
                    expected: self.channel.clone(),
                    actual: shortened(&actual),
                })
            }
            _ => Ok(()),
        }
    }

    /// Every transaction must be in the one form that makes the data hash unambiguous, where that
    /// hash does not do so itself.
    fn check_form(&self, block: &Block) -> Result<(), BlockError> {
        match self.hashing {
            DataHashing::Concatenated => check_well_formed(block),
            DataHashing::LengthPrefixed if block.entry_count() == 0 => Err(BlockError::Empty),
            DataHashing::LengthPrefixed => Ok(()),
        }
    }

    fn check_data_hash(&self, block: &Block) -> Result<(), BlockError> {
        let actual = block.data_hash_by(self.hashing);
        let claimed = block.header().data_hash;
        if claimed == actual.as_ref() {
            return Ok(());
        }
        Err(BlockError::DataHash {
            claimed: claimed_hash(claimed),
            actual,
        })
    }

    /// The configuration of a config block, if it can be taken into force after the one before.
    fn follow(&self, block: &Block, previous: &InForce) -> Result<InForce, BlockError> {
        let config = ChannelConfig::from_block_after(block, Some(&previous.config))?;
        if *config.channel() != self.channel {
            let actual = config.channel().to_string();
            return Err(BlockError::OtherChannel {
                expected: self.channel.clone(),
                actual,
            });
        }
        self.check_first_change(block, &config, previous)?;
        Ok(InForce::new(block, config)?)
    }
}

impl BlockVerifier for ChannelVerifier {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        self.verdict(block, Scope::Whole, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verdict(block, Scope::Attestation, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        if !stored.is_config() {
            return Ok(());
        }
        let block = stored.block();
        let rejected = |error: BlockError| Rejection::new(block, error.rule(), error);
        let history = self.history.snapshot();
        if let Some(applied) = history.at(block.number()) {
            let (expected, actual) = (applied.hash(), block.header_hash());
            if expected != actual {
                return Err(rejected(BlockError::OtherConfigBlock { expected, actual }));
            }
            return Ok(());
        }
        let (trusted, _) = history.trusted();
        if block.number() < trusted {
            return Err(rejected(BlockError::BeforeTrusted { trusted }));
        }
        if block.number() < history.oldest() {
            // It was in force, and is no longer kept.
            return Ok(());
        }
        let newest = history.newest();
        if block.number() < newest.number {
            let newest = newest.number;
            return Err(rejected(BlockError::ConfigBehind { newest }));
        }
        let followed = self.follow(block, newest).map_err(rejected)?;
        self.history.insert(followed);
        Ok(())
    }

    fn header_proof(&self) -> HeaderProof {
        match self.config().orderer().consensus() {
            ConsensusType::Bft => HeaderProof::Quorum,
            ConsensusType::Raft | ConsensusType::Other(_) => HeaderProof::OneSigner,
        }
    }
}

impl From<BlockError> for Refusal {
    fn from(error: BlockError) -> Self {
        Self::Broken(error)
    }
}

fn check_signatures(metadata: &SignedMetadata<'_>, in_force: &InForce) -> Result<(), BlockError> {
    let config = &in_force.config;
    let claims = metadata.claims(config)?;
    let signed: Vec<_> = claims.iter().map(|claim: &Claim<'_>| claim.data).collect();
    if in_force
        .block_validation
        .is_satisfied(&Evaluation::new(&signed, config.msps()))
    {
        return Ok(());
    }
    Err(BlockError::PolicyNotSatisfied {
        path: BLOCK_VALIDATION,
        policy: in_force.block_validation.to_string(),
        report: SignatureReport::new(&claims, config),
    })
}

#[cfg(test)]
mod tests;
