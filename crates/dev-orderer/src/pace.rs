// SPDX-License-Identifier: Apache-2.0
//! How fast blocks come.

use std::{str::FromStr, time::Duration};

/// How fast blocks become available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// As fast as they can.
    #[default]
    AllAtOnce,
    /// One after the other, evenly.
    At(Rate),
}

/// So many blocks in a second: 20, or 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
}

/// A number that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is no number of blocks per second: it must be above zero, as in 20 or 0.5")]
pub struct InvalidRate {
    text: String,
}

impl Rate {
    /// So many blocks in a second.
    ///
    /// # Errors
    ///
    /// When the number is zero, negative, not finite, or so small or large that the time between
    /// two blocks cannot be told.
    pub fn per_second(blocks: f64) -> Result<Self, InvalidRate> {
        let interval = Duration::try_from_secs_f64(blocks.recip()).ok();
        interval
            .filter(|interval| !interval.is_zero())
            .map(|interval| Self { interval })
            .ok_or_else(|| InvalidRate {
                text: blocks.to_string(),
            })
    }

    /// The time between two blocks.
    pub fn interval(self) -> Duration {
        self.interval
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let blocks = text.parse().map_err(|_| InvalidRate {
            text: format!("{text:?}"),
        })?;
        Self::per_second(blocks)
    }
}

impl Pace {
    /// How long after the first block the one of this index comes.
    pub(crate) fn offset(self, index: usize) -> Duration {
        match self {
            Self::AllAtOnce => Duration::ZERO,
            Self::At(rate) => rate
                .interval
                .saturating_mul(u32::try_from(index).unwrap_or(u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_above_zero() {
        assert_eq!(
            "20".parse::<Rate>().unwrap().interval(),
            Duration::from_millis(50)
        );
        assert_eq!(
            "0.5".parse::<Rate>().unwrap().interval(),
            Duration::from_secs(2)
        );
        for text in ["0", "-1", "NaN", "inf", "1e-300", "1e300", "fast", ""] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(
                error.contains("no number of blocks per second"),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn blocks_come_evenly() {
        let pace = Pace::At(Rate::per_second(4.0).unwrap());
        assert_eq!(pace.offset(0), Duration::ZERO);
        assert_eq!(pace.offset(3), Duration::from_millis(750));
        assert_eq!(Pace::AllAtOnce.offset(9), Duration::ZERO);
    }
}
