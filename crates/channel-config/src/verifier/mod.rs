// SPDX-License-Identifier: Apache-2.0
//! The verifier of a channel's blocks.

mod chain;
mod envelope;
mod history;
mod rule;
mod signatures;

use std::sync::Arc;

use block_api::{
    Acceptance, Block, BlockNumber, BlockVerifier, ChannelId, HeaderHash, Rejection, Verdict,
    VerifiedBlock,
};

pub(crate) use self::history::SharedHistory;
pub use self::{
    chain::verify_chain_step,
    envelope::EnvelopeError,
    rule::BlockError,
    signatures::{SignatureReport, SignerInfo, SignerKind},
};
use self::{
    envelope::check_well_formed,
    history::{InForce, Judge},
    rule::{claimed_hash, shortened},
    signatures::{Claim, SignedMetadata},
};
use crate::{
    config::{BLOCK_VALIDATION, ChannelConfig, ConfigError},
    policy::Evaluation,
};

/// Judges the blocks of a channel by its own rules, beginning with a genesis block that is trusted.
///
/// Blocks are judged by the configuration in force at their height; a config block that was stored
/// takes force by [`apply_config`](BlockVerifier::apply_config). Changes of what blocks are judged
/// by (the orderers' organisations, MSPs and policies, the consenters, capabilities and the
/// consensus type) are not followed: a config block that makes one is rejected under the rule
/// `config-change-unsupported`.
///
/// Whether a block links to the chain is not asked here; [`verify_chain_step`] does.
/// Cloning shares the configurations.
#[derive(Debug, Clone)]
pub struct ChannelVerifier {
    channel: ChannelId,
    history: SharedHistory,
}

/// Why a block was not accepted.
enum Refusal {
    Broken(BlockError),
    Awaits(BlockNumber),
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
        if block.number() != BlockNumber::GENESIS {
            return Err(ConfigError::NotGenesis {
                number: block.number(),
            });
        }
        Self::from_trusted(block)
    }

    /// A verifier that trusts this config block, and knows nothing of the blocks before it.
    ///
    /// # Errors
    ///
    /// As for [`from_genesis`](Self::from_genesis).
    pub fn from_trusted(block: &Block) -> Result<Self, ConfigError> {
        let history = SharedHistory::trusting(block)?;
        Ok(Self {
            channel: history.snapshot().newest().config.channel().clone(),
            history,
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

    /// The configuration in force after the block with this number, as far as it was applied.
    pub fn config_at(&self, number: BlockNumber) -> Arc<ChannelConfig> {
        self.history.snapshot().after(number).config.clone()
    }

    /// The number of the block with the newest configuration.
    pub fn config_number(&self) -> BlockNumber {
        self.history.snapshot().newest().number
    }

    /// Who signed a block, under the configuration in force at its height.
    ///
    /// # Errors
    ///
    /// When the signatures cannot be read.
    pub fn signers(&self, block: &Block) -> Result<Vec<SignerInfo>, BlockError> {
        let metadata = SignedMetadata::parse(block)?;
        let history = self.history.snapshot();
        let config = &history.before(block.number()).config;
        Ok(metadata
            .claims(config)?
            .iter()
            .map(|claim| claim.signer(config))
            .collect())
    }

    pub(crate) fn history(&self) -> &SharedHistory {
        &self.history
    }

    fn verdict(&self, block: &Block, scope: Scope) -> Verdict {
        match self.judge(block, scope) {
            Ok(acceptance) => Verdict::Accepted(acceptance),
            Err(Refusal::Broken(error)) => {
                Verdict::Rejected(Rejection::new(block, error.rule(), error))
            }
            Err(Refusal::Awaits(config)) => Verdict::AwaitsConfig(config),
        }
    }

    /// The rules, cheap ones first.
    fn judge(&self, block: &Block, scope: Scope) -> Result<Acceptance, Refusal> {
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
            check_well_formed(block)?;
            self.check_channel(block)?;
        }
        let last_config = metadata.last_config();
        let in_force = match history.judge(number, last_config)? {
            Judge::Here(in_force) => in_force,
            Judge::Awaited(config) => return Err(Refusal::Awaits(config)),
        };
        if scope == Scope::Whole {
            check_data_hash(block)?;
        }
        check_signatures(&metadata, &in_force)?;
        // Without its data, a config block is known by the signatures alone: it names itself.
        let is_config = block.is_config() || (!block.has_data() && last_config == Some(number));
        if is_config && scope == Scope::Whole {
            self.follow(block, &in_force)?;
        }
        // By its position a config block is its own newest one, whatever its signatures say.
        let last_config = if is_config {
            number
        } else {
            last_config.unwrap_or_default()
        };
        Ok(Acceptance {
            is_config,
            last_config,
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
                1 => check_data_hash(block)?,
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
        let changes = previous.config.judging_changes(&config);
        if !changes.is_empty() {
            return Err(BlockError::ChangeUnsupported { changes });
        }
        Ok(InForce::new(block, config)?)
    }
}

impl BlockVerifier for ChannelVerifier {
    fn verify(&self, block: &Block) -> Verdict {
        self.verdict(block, Scope::Whole)
    }

    fn verify_attestation(&self, block: &Block) -> Verdict {
        self.verdict(block, Scope::Attestation)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        if !stored.is_config() {
            return Ok(());
        }
        let block = stored.block();
        let rejected = |error: BlockError| Rejection::new(block, error.rule(), error);
        let history = self.history.snapshot();
        if let Some(applied) = history.applied(block.number()) {
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
        let followed = self
            .follow(block, history.before(block.number()))
            .map_err(rejected)?;
        self.history.insert(followed);
        Ok(())
    }
}

impl From<BlockError> for Refusal {
    fn from(error: BlockError) -> Self {
        Self::Broken(error)
    }
}

fn check_data_hash(block: &Block) -> Result<(), BlockError> {
    let actual = block.data_hash();
    let claimed = block.header().data_hash;
    if claimed == actual.as_ref() {
        return Ok(());
    }
    Err(BlockError::DataHash {
        claimed: claimed_hash(claimed),
        actual,
    })
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
