// SPDX-License-Identifier: Apache-2.0
//! How patient the pull loop is.

use std::{num::NonZeroUsize, time::Duration};

/// The settings of a [`BlocksProvider`](crate::BlocksProvider).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The longest first pause after every endpoint has failed once. Each further round doubles
    /// it; the pause itself is drawn evenly between nothing and this. Default: 100 ms.
    pub first_back_off: Duration,
    /// The longest pause ever. Default: 10 s. (Fabric's default of one hour keeps a peer away from
    /// an ordering service that has long been back.)
    pub longest_back_off: Duration,
    /// How long a source may fail to deliver a block that is proven to be there, before another one
    /// takes its place (BFT); and how often a mere hint may have the source changed (raft).
    /// Default: 30 s, as Fabric's `blockCensorshipTimeoutKey`.
    pub censorship_timeout: Duration,
    /// How long a source may be silent before another orderer is asked for its newest header; up to
    /// a quarter more or less, drawn once, so that channels do not ask in step. Default: 30 s.
    pub idle_limit: Duration,
    /// How long an orderer may take to answer such a question, or to be connected to for its
    /// headers. Default: 10 s.
    pub probe_timeout: Duration,
    /// On how many other orderers streams of headers are kept open, where headers are proof and
    /// nobody else shows any. Those beyond are asked in turn when the source is silent. Default: 4.
    pub header_streams: usize,
    /// How many blocks may have come that are not taken over yet: the handler may judge them while
    /// others come. When there are so many, the stream waits. Default: 64.
    pub ahead_blocks: NonZeroUsize,
    /// The same in bytes; the block that exceeds them is received still. Default: 8 MiB.
    pub ahead_bytes: NonZeroUsize,
    /// Seeds the dice for the order of endpoints and the length of pauses; `None` draws a seed.
    /// Default: `None`.
    pub seed: Option<u64>,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A pause of no length would make a busy loop.
    #[error("first_back_off must be longer than zero")]
    ZeroBackOff,
    /// A limit of no length would suspect every source.
    #[error("{key} must be longer than zero")]
    ZeroLimit {
        /// The setting.
        key: &'static str,
    },
    /// The cap is below the start.
    #[error("longest_back_off ({longest:?}) must not be shorter than first_back_off ({first:?})")]
    Inverted {
        /// The first pause.
        first: Duration,
        /// The longest pause.
        longest: Duration,
    },
}

impl Default for Config {
    fn default() -> Self {
        let count = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            first_back_off: Duration::from_millis(100),
            longest_back_off: Duration::from_secs(10),
            censorship_timeout: Duration::from_secs(30),
            idle_limit: Duration::from_secs(30),
            probe_timeout: Duration::from_secs(10),
            header_streams: 4,
            ahead_blocks: count(64),
            ahead_bytes: count(8 << 20),
            seed: None,
        }
    }
}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    ///
    /// When a pause or a limit has no length, or the cap is below the start (BKO-03, BKO-04: refused
    /// here rather than bent).
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.first_back_off.is_zero() {
            return Err(ConfigError::ZeroBackOff);
        }
        if self.longest_back_off < self.first_back_off {
            return Err(ConfigError::Inverted {
                first: self.first_back_off,
                longest: self.longest_back_off,
            });
        }
        for (key, limit) in [
            ("censorship_timeout", self.censorship_timeout),
            ("idle_limit", self.idle_limit),
            ("probe_timeout", self.probe_timeout),
        ] {
            if limit.is_zero() {
                return Err(ConfigError::ZeroLimit { key });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_these() {
        assert_eq!(
            format!("{:?}", Config::default()),
            "Config { first_back_off: 100ms, longest_back_off: 10s, censorship_timeout: 30s, \
             idle_limit: 30s, probe_timeout: 10s, header_streams: 4, \
             ahead_blocks: 64, ahead_bytes: 8388608, seed: None }"
        );
        assert_eq!(Config::default().validate(), Ok(()));
    }

    /// Covers: BKO-03, BKO-04
    #[test]
    fn pauses_that_make_no_sense_are_refused() {
        let zero = Config {
            first_back_off: Duration::ZERO,
            ..Config::default()
        };
        assert_eq!(zero.validate(), Err(ConfigError::ZeroBackOff));
        let inverted = Config {
            longest_back_off: Duration::from_millis(1),
            ..Config::default()
        };
        assert!(matches!(
            inverted.validate(),
            Err(ConfigError::Inverted { .. })
        ));
        let hasty = Config {
            censorship_timeout: Duration::ZERO,
            ..Config::default()
        };
        let key = "censorship_timeout";
        assert_eq!(hasty.validate(), Err(ConfigError::ZeroLimit { key }));
    }
}
