// SPDX-License-Identifier: Apache-2.0
//! The configurations of a channel, and which one judges which block.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use block_api::{Block, BlockNumber, DataHashing, HeaderHash, Standing};

use crate::{
    config::{BLOCK_VALIDATION, ChannelConfig, ConfigError},
    policy::Policy,
    verifier::rule::BlockError,
};

/// How many configurations are kept, the newest ones: blocks are judged near the tip of a chain, and
/// a channel may change its configuration any number of times.
const MAX_KEPT: usize = 16;

/// The configurations that were applied. Shared by the verifier and the checks of access; readers
/// take a snapshot and hold no lock.
#[derive(Clone)]
pub(crate) struct SharedHistory(Arc<RwLock<Arc<History>>>);

/// The newest configurations by the numbers of their blocks.
#[derive(Debug, Clone)]
pub(crate) struct History {
    trusted: BlockNumber,
    trusted_hash: HeaderHash,
    newest: Arc<InForce>,
    configs: BTreeMap<BlockNumber, Arc<InForce>>,
    /// How many configurations were applied, those that are no longer kept among them.
    applied: u64,
}

/// A configuration that was applied.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) number: BlockNumber,
    hash: HeaderHash,
    pub(crate) config: Arc<ChannelConfig>,
    /// The policy over block signatures.
    pub(crate) block_validation: Arc<Policy>,
}

/// Which configuration judges a block.
#[derive(Debug)]
pub(super) enum Judge {
    Here(Arc<InForce>),
    /// That of a config block which was not applied yet.
    Awaited(BlockNumber),
    /// That at its position, which is not known yet.
    AtItsPosition,
}

impl SharedHistory {
    /// Starts with a trusted config block, whose data must be what its header says.
    pub(super) fn trusting(block: &Block, hashing: DataHashing) -> Result<Self, ConfigError> {
        let actual = block.data_hash_by(hashing);
        if block.header().data_hash != actual.as_ref() {
            let claimed = hex::encode(block.header().data_hash);
            return Err(ConfigError::DataHash {
                number: block.number(),
                claimed,
                actual,
            });
        }
        let newest = Arc::new(InForce::new(block, ChannelConfig::from_block(block)?)?);
        Ok(Self(Arc::new(RwLock::new(Arc::new(History {
            trusted: block.number(),
            trusted_hash: block.header_hash(),
            configs: BTreeMap::from([(block.number(), newest.clone())]),
            newest,
            applied: 1,
        })))))
    }

    pub(crate) fn snapshot(&self) -> Arc<History> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a configuration that is newer than all others; else nothing changes.
    pub(super) fn insert(&self, applied: InForce) {
        let mut history = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if applied.number <= history.newest.number {
            return;
        }
        let mut grown = History::clone(&history);
        grown.newest = Arc::new(applied);
        grown
            .configs
            .insert(grown.newest.number, grown.newest.clone());
        if grown.configs.len() > MAX_KEPT {
            grown.configs.pop_first();
        }
        grown.applied += 1;
        *history = Arc::new(grown);
    }
}

impl History {
    pub(super) fn trusted(&self) -> (BlockNumber, HeaderHash) {
        (self.trusted, self.trusted_hash)
    }

    /// How many configurations were applied.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// The newest configuration.
    pub(crate) fn newest(&self) -> &Arc<InForce> {
        &self.newest
    }

    /// The configuration in force after the block with this number, if it is kept.
    pub(super) fn after(&self, number: BlockNumber) -> Option<&Arc<InForce>> {
        let mut up_to = self.configs.range(..=number);
        up_to.next_back().map(|(_, config)| config)
    }

    /// The configuration by which the block with this number is judged in its place: that of the
    /// newest config block below it, if it is kept.
    pub(super) fn before(&self, number: BlockNumber) -> Option<&Arc<InForce>> {
        let mut below = self.configs.range(..number);
        below.next_back().map(|(_, config)| config)
    }

    /// The config block with this number, if its configuration was applied and is kept.
    pub(super) fn at(&self, number: BlockNumber) -> Option<&Arc<InForce>> {
        self.configs.get(&number)
    }

    /// The oldest config block whose configuration is kept.
    pub(super) fn oldest(&self) -> BlockNumber {
        self.configs
            .first_key_value()
            .map_or(self.newest.number, |(number, _)| *number)
    }

    /// Finds who judges a block: by its position when it is linked, as Fabric does; else by the
    /// newest config block that its signatures cover.
    ///
    /// What an unlinked block says of itself decides only where it can be nothing but true: a
    /// config block names itself, and so may anything that the orderers sign.
    pub(super) fn judge(
        &self,
        number: BlockNumber,
        last_config: Option<BlockNumber>,
        standing: Standing,
    ) -> Result<Judge, BlockError> {
        let below = self.before(number).ok_or_else(|| BlockError::NotKept {
            oldest: self.oldest(),
        })?;
        match (standing, last_config) {
            (Standing::Linked, _) => Ok(Judge::Here(below.clone())),
            (Standing::Ahead, Some(index)) if index < below.number => {
                Err(BlockError::LastConfigBehind {
                    index,
                    known: below.number,
                })
            }
            (Standing::Ahead, Some(index)) if index == below.number => {
                Ok(Judge::Here(below.clone()))
            }
            (Standing::Ahead, Some(index)) if index < number && index > self.newest.number => {
                Ok(Judge::Awaited(index))
            }
            (Standing::Ahead, Some(_) | None) => Ok(Judge::AtItsPosition),
        }
    }
}

impl InForce {
    pub(super) fn new(block: &Block, config: ChannelConfig) -> Result<Self, ConfigError> {
        let block_validation = config.policy(BLOCK_VALIDATION).cloned();
        Ok(Self {
            number: block.number(),
            hash: block.header_hash(),
            block_validation: block_validation.ok_or(ConfigError::NoPolicy {
                path: BLOCK_VALIDATION,
            })?,
            config: Arc::new(config),
        })
    }

    pub(super) fn hash(&self) -> HeaderHash {
        self.hash
    }
}

impl fmt::Debug for SharedHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = self.snapshot();
        f.debug_struct("SharedHistory")
            .field("channel", history.newest().config.channel())
            .field(
                "configs",
                &history
                    .configs
                    .keys()
                    .map(|number| number.get())
                    .collect::<Vec<_>>(),
            )
            .finish()
    }
}
