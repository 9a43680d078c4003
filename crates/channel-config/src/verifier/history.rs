// SPDX-License-Identifier: Apache-2.0
//! The configurations of a channel, and which one judges which block.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use block_api::{Block, BlockNumber, HeaderHash};

use crate::{
    config::{BLOCK_VALIDATION, ChannelConfig, ConfigError},
    policy::Policy,
    verifier::rule::BlockError,
};

/// The configurations that were applied. Shared by the verifier and the checks of access; readers
/// take a snapshot and hold no lock.
#[derive(Clone)]
pub(crate) struct SharedHistory(Arc<RwLock<Arc<History>>>);

/// The configurations by the numbers of their blocks. The first is the trusted one.
#[derive(Debug, Clone)]
pub(crate) struct History {
    trusted: BlockNumber,
    trusted_hash: HeaderHash,
    first: Arc<InForce>,
    configs: BTreeMap<BlockNumber, Arc<InForce>>,
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
    Awaited(BlockNumber),
}

impl SharedHistory {
    /// Starts with a trusted config block, whose data must be what its header says.
    pub(super) fn trusting(block: &Block) -> Result<Self, ConfigError> {
        let actual = block.data_hash();
        if block.header().data_hash != actual.as_ref() {
            let claimed = hex::encode(block.header().data_hash);
            return Err(ConfigError::DataHash {
                number: block.number(),
                claimed,
                actual,
            });
        }
        let first = Arc::new(InForce::new(block, ChannelConfig::from_block(block)?)?);
        Ok(Self(Arc::new(RwLock::new(Arc::new(History {
            trusted: block.number(),
            trusted_hash: block.header_hash(),
            configs: BTreeMap::from([(block.number(), first.clone())]),
            first,
        })))))
    }

    pub(crate) fn snapshot(&self) -> Arc<History> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a configuration, unless it is there.
    pub(super) fn insert(&self, applied: InForce) {
        let mut history = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut grown = History::clone(&history);
        grown
            .configs
            .entry(applied.number)
            .or_insert_with(|| Arc::new(applied));
        *history = Arc::new(grown);
    }
}

impl History {
    pub(super) fn trusted(&self) -> (BlockNumber, HeaderHash) {
        (self.trusted, self.trusted_hash)
    }

    /// How many configurations were applied.
    pub(crate) fn len(&self) -> usize {
        self.configs.len()
    }

    /// The newest configuration.
    pub(crate) fn newest(&self) -> &Arc<InForce> {
        self.configs
            .last_key_value()
            .map_or(&self.first, |(_, newest)| newest)
    }

    /// The configuration in force after the block with this number; the trusted one before that.
    pub(super) fn after(&self, number: BlockNumber) -> &Arc<InForce> {
        self.configs
            .range(..=number)
            .next_back()
            .map_or(&self.first, |(_, config)| config)
    }

    /// The configuration by which the block with this number is judged: that of the newest config
    /// block below it.
    pub(super) fn before(&self, number: BlockNumber) -> &Arc<InForce> {
        self.configs
            .range(..number)
            .next_back()
            .map_or(&self.first, |(_, config)| config)
    }

    /// The config block with this number, if it was applied.
    pub(super) fn applied(&self, number: BlockNumber) -> Option<&Arc<InForce>> {
        self.configs.get(&number)
    }

    /// Finds who judges a block by the number of the newest config block that its signatures cover.
    ///
    /// A block that names itself, as config blocks do, is judged by the newest configuration below
    /// it, and so is one whose signatures cover no number.
    pub(super) fn judge(
        &self,
        number: BlockNumber,
        last_config: Option<BlockNumber>,
    ) -> Result<Judge, BlockError> {
        let below = self.before(number);
        match last_config {
            Some(index) if index > number => Err(BlockError::LastConfigAhead { index }),
            Some(index) if index < below.number => Err(BlockError::LastConfigBehind {
                index,
                known: below.number,
            }),
            Some(index) if index > below.number && index < number => Ok(Judge::Awaited(index)),
            Some(_) | None => Ok(Judge::Here(below.clone())),
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
