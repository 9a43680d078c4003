// SPDX-License-Identifier: Apache-2.0
//! How much may be asked for twice.

use std::sync::atomic::{AtomicU64, Ordering};

/// One part in so many of what came may come a second time.
const SHARE: u64 = 20;

/// What came of all bodies, and what of it was asked for twice.
#[derive(Debug, Default)]
pub(crate) struct Hedges {
    came: AtomicU64,
    hedged: AtomicU64,
}

impl Hedges {
    /// So many bytes came.
    pub(crate) fn came(&self, bytes: usize) {
        self.came.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether so many bytes may be asked for a second time; they count from here on.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let most = self.came.load(Ordering::Relaxed) / SHARE;
        let taken = self
            .hedged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hedged| {
                let hedged = hedged + bytes as u64;
                (hedged <= most).then_some(hedged)
            });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_in_twenty_may_come_twice() {
        let hedges = Hedges::default();
        assert!(!hedges.take(1));
        hedges.came(200);
        assert!(hedges.take(6) && hedges.take(4) && !hedges.take(1));
        hedges.came(20);
        assert!(hedges.take(1) && !hedges.take(1));
    }
}
