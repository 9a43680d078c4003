// SPDX-License-Identifier: Apache-2.0
//! What a store is told when it is opened.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};

use block_api::{BlockNumber, ChainInfo, ChannelId, HeaderHash};

use crate::start::StartConfig;

const MIB: usize = 1 << 20;

/// How a store keeps the chain of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The channel; a directory that holds another one is not opened.
    pub channel: ChannelId,
    /// The header hash of the channel's genesis block, where it is known beforehand: a directory
    /// with the chain of another one is not opened, and another block 0 is not appended. Two
    /// networks may have a channel of the same name. Default: not known, any block 0 is taken.
    pub genesis: Option<HeaderHash>,
    /// Where the chain begins. Default: with the genesis block.
    pub start: Start,
    /// The config block in force where a chain begins that does not begin with block 0. It is
    /// written into a new store, and one that began with another is not opened. Default: none, so
    /// that the first block is taken whatever it was judged by.
    pub start_config: Option<StartConfig>,
    /// Bytes after which a segment is sealed and the next one begun. A batch is never split, so a
    /// segment is larger by at most one batch. Default: 256 MiB.
    pub segment_bytes: NonZeroUsize,
    /// Bytes of a segment for which one entry is kept in its index. An entry takes 16 bytes of
    /// memory; to find a block, at most so many bytes are passed over. Default: 256 KiB.
    pub index_interval_bytes: NonZeroUsize,
    /// When a batch counts as stored. Default: when it is on the disk.
    pub sync: SyncPolicy,
    /// Which blocks are kept. Default: all.
    pub retention: Retention,
    /// Reads that run at the same time; further ones wait for their turn, in order. Together with
    /// [`block_api::ReadLimits`] this bounds the memory for reading. Default: 8.
    pub concurrent_reads: NonZeroU16,
    /// Segment files that are held open for reading; beyond that the one that was not used for the
    /// longest time is closed. Default: 16.
    pub open_files: NonZeroUsize,
}

/// Where the chain in a store begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With block 0.
    Genesis,
    /// Behind a block that is known but not kept.
    After {
        /// The number of that block.
        number: BlockNumber,
        /// Its header hash, to which the first block must link.
        hash: HeaderHash,
    },
}

/// When a batch counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// When the disk has it (`fdatasync`): it survives the end of the process and of the machine.
    #[default]
    EveryBatch,
    /// When the kernel has it: it survives the end of the process, not that of the machine. For
    /// tests and demonstrations.
    Never,
}

/// Which blocks are kept. A segment is dropped as a whole, after an append has made it superfluous,
/// so a little more is kept than is said here. Config blocks are always kept: without them nobody
/// could judge the other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// All of them.
    #[default]
    All,
    /// So many of the newest ones, at least.
    Blocks(NonZeroU64),
    /// Segments with so many of the newest bytes, at least; at most a segment more.
    Bytes(NonZeroU64),
}

/// A configuration whose fields fit together.
#[derive(Debug, Clone)]
pub struct ValidConfig(Config);

/// A configuration whose fields do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An index entry would span more than a segment.
    #[error(
        "index_interval_bytes ({interval}) is larger than segment_bytes ({segment}): give a smaller interval or \
         larger segments"
    )]
    IntervalAboveSegment {
        /// The interval.
        interval: usize,
        /// The size of a segment.
        segment: usize,
    },
    /// No block number comes after the one that the chain begins behind.
    #[error("the chain cannot start after block {number}: there is no higher block number")]
    NothingAfter {
        /// The number.
        number: BlockNumber,
    },
    /// What was given as a config block is none.
    #[error("block {number} is no config block: give the one in force where the chain starts")]
    NoConfigBlock {
        /// The block.
        number: BlockNumber,
    },
    /// A chain that begins with block 0 brings its first config block itself.
    #[error(
        "config block {config} is given, but the chain starts with block 0: give the block to start after, too"
    )]
    ConfigAtGenesis {
        /// The config block.
        config: BlockNumber,
    },
    /// The config block comes after the block that the chain begins behind.
    #[error(
        "the chain starts after block {start}, where config block {config} is not in force yet: start after block \
         {config} or a later one, or give an earlier config block"
    )]
    ConfigAboveStart {
        /// The config block.
        config: BlockNumber,
        /// The block that the chain begins behind.
        start: BlockNumber,
    },
    /// The chain begins behind its config block, and that block is said to have two hashes.
    #[error(
        "the chain starts after block {number} with hash {start}, but that is the config block, whose hash is {config}"
    )]
    TwoStartHashes {
        /// The block.
        number: BlockNumber,
        /// The hash in `start`.
        start: HeaderHash,
        /// The hash of the config block.
        config: HeaderHash,
    },
    /// The chain begins behind block 0, and that block is said to have two hashes.
    #[error(
        "the chain starts after block 0 with hash {start}, but the genesis hash is given as {genesis}"
    )]
    TwoGenesisHashes {
        /// The hash in `start`.
        start: HeaderHash,
        /// The hash in `genesis`.
        genesis: HeaderHash,
    },
}

impl Config {
    /// A chain that begins with its genesis block, and the defaults.
    pub fn new(channel: ChannelId) -> Self {
        let bytes = |bytes| NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        Self {
            channel,
            genesis: None,
            start: Start::Genesis,
            start_config: None,
            segment_bytes: bytes(256 * MIB),
            index_interval_bytes: bytes(MIB / 4),
            sync: SyncPolicy::EveryBatch,
            retention: Retention::All,
            concurrent_reads: NonZeroU16::new(8).unwrap_or(NonZeroU16::MIN),
            open_files: bytes(16),
        }
    }

    /// Checks that the fields fit together.
    ///
    /// # Errors
    ///
    /// When they do not; the error names the fields.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        if self.index_interval_bytes > self.segment_bytes {
            return Err(ConfigError::IntervalAboveSegment {
                interval: self.index_interval_bytes.get(),
                segment: self.segment_bytes.get(),
            });
        }
        if let Start::After { number, hash } = self.start {
            if number.next().is_none() {
                return Err(ConfigError::NothingAfter { number });
            }
            if let Some(genesis) = self.genesis
                && number == BlockNumber::GENESIS
                && genesis != hash
            {
                return Err(ConfigError::TwoGenesisHashes {
                    start: hash,
                    genesis,
                });
            }
        }
        if let Some(config) = &self.start_config {
            self.check_start_config(config)?;
        }
        Ok(ValidConfig(self))
    }

    fn check_start_config(&self, config: &StartConfig) -> Result<(), ConfigError> {
        match self.start {
            Start::Genesis => Err(ConfigError::ConfigAtGenesis {
                config: config.number,
            }),
            Start::After { number, .. } if number < config.number => {
                Err(ConfigError::ConfigAboveStart {
                    config: config.number,
                    start: number,
                })
            }
            Start::After { number, hash } if number == config.number && hash != config.hash => {
                Err(ConfigError::TwoStartHashes {
                    number,
                    start: hash,
                    config: config.hash,
                })
            }
            Start::After { .. } => Ok(()),
        }
    }
}

impl ValidConfig {
    /// The configuration.
    pub fn get(&self) -> &Config {
        &self.0
    }

    /// What the chain says of itself before the first block.
    pub(crate) fn beginning(&self) -> ChainInfo {
        match self.0.start {
            Start::Genesis => ChainInfo::EMPTY,
            Start::After { number, hash } => ChainInfo {
                first: number.height().next_block(),
                height: number.height(),
                tip_hash: Some(hash),
            },
        }
    }

    /// The genesis hash, from wherever the configuration tells it.
    pub(crate) fn genesis(&self) -> Option<HeaderHash> {
        self.0.genesis.or(match self.0.start {
            Start::After { number, hash } if number == BlockNumber::GENESIS => Some(hash),
            Start::After { .. } | Start::Genesis => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use block_api::{Block, testing::TestChain};

    use super::*;

    fn config() -> Config {
        Config::new("channel".parse().unwrap())
    }

    #[test]
    fn the_defaults_are_these() {
        let expected = "Config { channel: ChannelId(channel), genesis: None, start: Genesis, \
                        start_config: None, segment_bytes: 268435456, index_interval_bytes: 262144, sync: EveryBatch, \
                        retention: All, concurrent_reads: 8, open_files: 16 }";
        assert_eq!(format!("{:?}", config()), expected);
        assert!(config().validate().is_ok());
    }

    #[test]
    fn fields_that_do_not_fit_together_are_refused() {
        let hash = HeaderHash::new([1; 32]);
        let rows = [
            (
                Config {
                    segment_bytes: NonZeroUsize::MIN,
                    ..config()
                },
                "index_interval_bytes (262144) is larger than segment_bytes (1): give a smaller interval or larger \
                 segments",
            ),
            (
                Config {
                    start: Start::After {
                        number: BlockNumber::new(u64::MAX),
                        hash,
                    },
                    ..config()
                },
                "the chain cannot start after block 18446744073709551615: there is no higher block number",
            ),
        ];
        for (config, message) in rows {
            assert_eq!(config.validate().unwrap_err().to_string(), message);
        }
        let start = Start::After {
            number: BlockNumber::GENESIS,
            hash,
        };
        let other = Some(HeaderHash::new([2; 32]));
        assert!(matches!(
            Config {
                start,
                genesis: other,
                ..config()
            }
            .validate(),
            Err(ConfigError::TwoGenesisHashes { .. })
        ));
        assert!(
            Config {
                start,
                genesis: Some(hash),
                ..config()
            }
            .validate()
            .is_ok()
        );
    }

    #[test]
    fn a_config_block_must_be_in_force_where_the_chain_starts() {
        let mut chain = TestChain::new("channel");
        let blocks = [chain.config(), chain.data(9), chain.config(), chain.data(9)];
        let trusted = StartConfig::new(&TestChain::verified(&blocks[2])).unwrap();
        let no_config = StartConfig::new(&TestChain::verified(&blocks[1])).unwrap_err();
        assert_eq!(
            no_config.to_string(),
            "block 1 is no config block: give the one in force where the chain starts"
        );
        let started = |start| {
            let start_config = Some(trusted.clone());
            let config = Config {
                start,
                start_config,
                ..config()
            };
            config.validate().map(drop)
        };
        let after = |block: &Block| Start::After {
            number: block.number(),
            hash: block.header_hash(),
        };
        assert_eq!(started(after(&blocks[2])), Ok(()));
        assert_eq!(started(after(&blocks[3])), Ok(()));
        assert!(matches!(
            started(Start::Genesis),
            Err(ConfigError::ConfigAtGenesis { .. })
        ));
        assert!(matches!(
            started(after(&blocks[1])),
            Err(ConfigError::ConfigAboveStart { .. })
        ));
        let number = blocks[2].number();
        let hash = blocks[3].header_hash();
        assert!(matches!(
            started(Start::After { number, hash }),
            Err(ConfigError::TwoStartHashes { .. })
        ));
        assert!(!format!("{trusted:?}").contains("bytes"));
    }
}
