// SPDX-License-Identifier: Apache-2.0
//! How far the chain is behind what is proven to be there.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use block_api::BlockNumber;
use tokio::time::Instant;

/// What became known within this time of each other counts as known at one time.
const STEP: Duration = Duration::from_secs(1);
/// How many points in time are kept. While a channel is behind for longer, what becomes known counts
/// as known a little earlier than it was.
const STEPS: usize = 64;

/// The blocks that are proven and not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The highest of them.
    pub highest: BlockNumber,
    /// Since when the first of them is known to be there.
    pub since: Instant,
}

/// The highest block that was proven, and when what below it became known: numbers and times both
/// grow from front to back.
#[derive(Debug, Default)]
pub(crate) struct Lag(Mutex<VecDeque<(BlockNumber, Instant)>>);

impl Lag {
    /// There is a block of this number: its header was proven.
    pub(crate) fn proven(&self, number: BlockNumber, due: BlockNumber, now: Instant) {
        if number < due {
            return;
        }
        let mut steps = self.steps();
        forget_below(&mut steps, due);
        let full = steps.len() >= STEPS;
        match steps.back_mut() {
            Some((highest, _)) if *highest >= number => {}
            Some((highest, at)) if full || now.saturating_duration_since(*at) < STEP => {
                *highest = number;
            }
            Some(_) | None => steps.push_back((number, now)),
        }
    }

    /// What is missing when the block of this number is due.
    pub(crate) fn missing(&self, due: BlockNumber) -> Option<Missing> {
        let mut steps = self.steps();
        forget_below(&mut steps, due);
        let (&(_, since), &(highest, _)) = (steps.front()?, steps.back()?);
        Some(Missing { highest, since })
    }

    fn steps(&self) -> MutexGuard<'_, VecDeque<(BlockNumber, Instant)>> {
        // Whatever a panic left behind is a list of steps.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_below(steps: &mut VecDeque<(BlockNumber, Instant)>, due: BlockNumber) {
    while steps.front().is_some_and(|(number, _)| *number < due) {
        steps.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_missing_block_tells_for_how_long() {
        let (lag, start) = (Lag::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let number = BlockNumber::new;
        assert_eq!(lag.missing(number(5)), None);
        lag.proven(number(4), number(5), at(0));
        assert_eq!(lag.missing(number(5)), None, "it is stored");
        lag.proven(number(7), number(5), at(10));
        lag.proven(number(9), number(5), at(20));
        lag.proven(number(8), number(5), at(30));
        let missing = |highest, since| {
            Some(Missing {
                highest: number(highest),
                since,
            })
        };
        assert_eq!(lag.missing(number(5)), missing(9, at(10)));
        assert_eq!(lag.missing(number(8)), missing(9, at(20)));
        assert_eq!(lag.missing(number(10)), None);
    }

    proptest! {
        /// A block counts as known at no later time than it was, and nothing grows without bound.
        #[test]
        fn what_is_kept_is_bounded_and_never_too_young(
            seen in proptest::collection::vec((0u64..500, 0u64..4000), 1..300),
            due in 0u64..500,
        ) {
            let (lag, start) = (Lag::default(), Instant::now());
            let mut now = start;
            let mut known = Vec::new();
            for (number, pause) in seen {
                now += Duration::from_millis(pause);
                lag.proven(BlockNumber::new(number), BlockNumber::GENESIS, now);
                known.push((number, now));
                prop_assert!(lag.steps().len() <= STEPS);
            }
            let first = known.iter().filter(|(number, _)| *number >= due).map(|(_, at)| *at).min();
            let highest = known.iter().map(|(number, _)| *number).max().filter(|highest| *highest >= due);
            let missing = lag.missing(BlockNumber::new(due));
            prop_assert_eq!(missing.map(|missing| missing.highest.get()), highest);
            prop_assert!(missing.map(|missing| missing.since) <= first);
        }
    }
}
