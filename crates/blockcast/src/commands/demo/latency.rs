// SPDX-License-Identifier: Apache-2.0
//! When a node stored which block, and how long that was after it was ordered.

use std::time::Duration;

use block_api::{BlockNumber, BlockReader, Height, ReadError};
use serde::Serialize;
use tokio::time::Instant;

/// How long blocks took, in milliseconds; nothing where there was no block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    /// Half of the blocks took no longer.
    pub(super) p50: Option<f64>,
    /// 99 of 100 blocks took no longer.
    pub(super) p99: Option<f64>,
}

/// Waits until the chain has the height, and gives the moment at which each block from 1 on was
/// there.
pub(super) async fn watch(
    reader: &dyn BlockReader,
    target: Height,
) -> Result<Vec<Instant>, ReadError> {
    let mut stored = Vec::new();
    let mut height = BlockNumber::GENESIS.height();
    while height < target {
        let reached = reader.wait_for(height.next_block().height()).await?.height;
        let now = Instant::now();
        let more = reached.get().saturating_sub(height.get());
        stored.extend((0..more).map(|_| now));
        height = reached;
    }
    Ok(stored)
}

impl Latency {
    /// The latency of blocks from 1 on that were stored at these moments.
    pub(super) fn of(
        stored: &[Instant],
        ordered_at: impl Fn(BlockNumber) -> Option<Instant>,
    ) -> Self {
        let took = (1..).zip(stored).filter_map(|(number, stored)| {
            let ordered = ordered_at(BlockNumber::new(number))?;
            Some(stored.saturating_duration_since(ordered))
        });
        let mut took: Vec<Duration> = took.collect();
        took.sort_unstable();
        Self {
            p50: percentile(&took, 50),
            p99: percentile(&took, 99),
        }
    }
}

/// The value that so many of a hundred do not exceed (nearest rank), to a hundredth of a
/// millisecond.
fn percentile(sorted: &[Duration], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    let value = sorted.get(rank.checked_sub(1)?)?;
    Some((value.as_secs_f64() * 100_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use block_api::testing::{MemoryStore, TestChain};

    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        let milliseconds: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&milliseconds, 50), Some(100.0));
        assert_eq!(percentile(&milliseconds, 99), Some(198.0));
        assert_eq!(percentile(&milliseconds[..1], 99), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[Duration::from_micros(1234)], 50), Some(1.23));
    }

    #[tokio::test]
    async fn the_genesis_block_is_not_counted() {
        let (_, blocks) = TestChain::of_blocks("ch", 4, 10);
        let store = MemoryStore::with(blocks.iter().map(TestChain::verified).collect()).await;
        let start = Instant::now();
        let stored = watch(&store, Height::new(4)).await.unwrap();
        assert_eq!(stored.len(), 3);
        let ordered = |number: BlockNumber| (number.get() < 3).then_some(start);
        assert!(Latency::of(&stored, ordered).p99.is_some());
        assert_eq!(
            Latency::of(&stored, |_| None),
            Latency {
                p50: None,
                p99: None
            }
        );
    }
}
