// SPDX-License-Identifier: Apache-2.0
//! How often a peer may do something: so many times at once, and so many in each second after that.

use std::time::Duration;

use tokio::time::Instant;

/// For how long a peer may have done nothing, to do all of it at once.
const IN_HAND: Duration = Duration::from_secs(4);

/// What a peer has in hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// When it has all in hand again.
    whole_at: Instant,
}

impl Allowance {
    pub(crate) fn new(now: Instant) -> Self {
        Self { whole_at: now }
    }

    /// Takes one of those of which there are `rate` in a second; `false` when nothing is in hand.
    pub(crate) fn take(&mut self, rate: usize, now: Instant) -> bool {
        let has = self.has(rate, now);
        if has {
            self.owe(rate, now);
        }
        has
    }

    /// Whether one is in hand.
    pub(crate) fn has(&self, rate: usize, now: Instant) -> bool {
        self.whole_at.max(now) + each(rate) <= now + IN_HAND
    }

    /// Takes one, though it may not be in hand.
    pub(crate) fn owe(&mut self, rate: usize, now: Instant) {
        self.whole_at = self.whole_at.max(now) + each(rate);
    }

    /// Whether all is in hand.
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        self.whole_at <= now
    }

    /// Whether more than a sixteenth of what one may have in hand is used up.
    pub(crate) fn is_used(&self, now: Instant) -> bool {
        self.whole_at > now + IN_HAND / 16
    }

    /// The one of two in which less is in hand.
    pub(crate) fn least(self, other: Self) -> Self {
        Self {
            whole_at: self.whole_at.max(other.whole_at),
        }
    }

    /// Gives one back that was taken.
    pub(crate) fn give_back(&mut self, rate: usize) {
        self.whole_at -= each(rate);
    }
}

fn each(rate: usize) -> Duration {
    let rate = u32::try_from(rate).unwrap_or(u32::MAX).max(1);
    Duration::from_secs(1) / rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_so_many_in_a_second() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        let taken =
            |allowance: &mut Allowance, at| (0..10_000).filter(|_| allowance.take(100, at)).count();
        assert!((0..25).all(|_| allowance.take(100, now)) && !allowance.is_used(now));
        assert!(allowance.take(100, now) && allowance.is_used(now));
        assert_eq!(taken(&mut allowance, now), 400 - 26);
        assert_eq!(taken(&mut allowance, now + Duration::from_secs(1)), 100);
        assert_eq!(taken(&mut allowance, now + Duration::from_secs(60)), 400);
        for _ in 0..3 {
            allowance.give_back(100);
        }
        assert_eq!(taken(&mut allowance, now + Duration::from_secs(60)), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_not_saved_up() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..10_000 {
            assert!(allowance.take(100, now), "each one is given back");
            allowance.give_back(100);
        }
        allowance.give_back(100);
        let taken = (0..10_000).filter(|_| allowance.take(100, now)).count();
        assert_eq!(taken, 400);
    }
}
