// SPDX-License-Identifier: Apache-2.0
//! What a store is told when it is opened.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};

use block_api::{BlockNumber, ChainInfo, ChannelId, HeaderHash};

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
        Ok(ValidConfig(self))
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
    use super::*;

    fn config() -> Config {
        Config::new("channel".parse().unwrap())
    }

    #[test]
    fn the_defaults_are_these() {
        let expected = "Config { channel: ChannelId(channel), genesis: None, start: Genesis, \
                        segment_bytes: 268435456, index_interval_bytes: 262144, sync: EveryBatch, \
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
}
