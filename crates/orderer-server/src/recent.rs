// SPDX-License-Identifier: Apache-2.0
//! Blocks that were read lately, for the other streams that want them too.
//!
//! Those who read a channel are mostly at about the same place: at its tip, or in the catch-up after
//! the same outage. What one of them has had read is kept for the others, so that the store is read,
//! and what it gives is checked, once for all of them. A stream that is alone shares with nobody:
//! to keep what it has read would only push other memory out of the caches of the processor.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use block_api::{BlockNumber, ReadError, ReadLimits};
use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use crate::{channel::ServedChannel, server::Shared};

/// So many reads for streams of one channel run at a time, where it has several; a stream that wants
/// what another one is reading waits for it.
const GATES: usize = 16;
/// What a read that is kept takes beside the bytes of its blocks, about.
const OVERHEAD: usize = 1024;

/// What was read lately, of all channels of a server.
#[derive(Debug)]
pub(crate) struct Recent {
    limit: usize,
    kept: Mutex<Kept>,
}

/// What a channel has for its streams to share.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// Tells the channel from others; one that is added anew, over another reader, is another one.
    pub(crate) serial: u64,
    streams: AtomicUsize,
    gates: [AsyncMutex<()>; GATES],
}

/// A stream that reads a channel; it is counted as long as it is there.
pub(crate) struct Reading {
    pub(crate) shared: Arc<Shared>,
    pub(crate) channel: Arc<ServedChannel>,
}

/// Blocks that were read together and are taken one by one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    blocks: Arc<[Bytes]>,
    next: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// Reads by the serial of the channel and the number of the first block. None is part of another
    /// one, so that those of a channel ascend by their ends, too.
    reads: BTreeMap<(u64, u64), Arc<[Bytes]>>,
    /// The same, the oldest one in front.
    order: VecDeque<(u64, u64)>,
    bytes: usize,
}

impl Recent {
    /// Keeps so many bytes at most.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    /// Forgets what was read of a channel.
    pub(crate) fn forget(&self, serial: u64) {
        self.lock().forget(serial);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    pub(crate) fn new(shared: Arc<Shared>, channel: Arc<ServedChannel>) -> Self {
        channel.sharing.streams.fetch_add(1, Relaxed);
        Self { shared, channel }
    }

    /// The blocks from one on that the chain has, and some after it: those that another stream has
    /// had read, or what the limits allow.
    pub(crate) async fn read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Batch, ReadError> {
        let ServedChannel {
            reader, sharing, ..
        } = &*self.channel;
        let gate = sharing.gates.get(gate(from));
        let Some(gate) = gate.filter(|_| sharing.streams.load(Relaxed) > 1) else {
            return Ok(Batch::new(reader.read(from, limits).await?.into()));
        };
        if let Some(batch) = self.find(from) {
            return Ok(batch);
        }
        let _turn = gate.lock().await;
        // Who had the turn before has most often read just this.
        if let Some(batch) = self.find(from) {
            return Ok(batch);
        }
        let blocks: Arc<[Bytes]> = reader.read(from, limits).await?.into();
        let recent = &self.shared.recent;
        recent
            .lock()
            .keep((sharing.serial, from.get()), &blocks, recent.limit);
        Ok(Batch::new(blocks))
    }

    /// Blocks that another stream has had read. What the chain has dropped since is not among them,
    /// whoever may still have it in memory.
    fn find(&self, from: BlockNumber) -> Option<Batch> {
        if from < self.channel.reader.info().first {
            return None;
        }
        let kept = self.shared.recent.lock();
        kept.find(self.channel.sharing.serial, from.get())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let sharing = &self.channel.sharing;
        // Whoever is left is alone, and takes nothing from here.
        if sharing.streams.fetch_sub(1, Relaxed) <= 2 {
            self.shared.recent.forget(sharing.serial);
        }
    }
}

impl Batch {
    fn new(blocks: Arc<[Bytes]>) -> Self {
        Self { blocks, next: 0 }
    }

    /// The next block. With the last one it lets go of all.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let block = self.blocks.get(self.next).cloned();
        self.next += 1;
        if self.is_empty() {
            *self = Self::default();
        }
        block
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next >= self.blocks.len()
    }
}

impl Kept {
    fn find(&self, serial: u64, number: u64) -> Option<Batch> {
        // None before it reaches as far.
        let (&(_, first), blocks) = self
            .reads
            .range((serial, 0)..=(serial, number))
            .next_back()?;
        let next = usize::try_from(number - first).ok()?;
        (next < blocks.len()).then(|| Batch {
            blocks: Arc::clone(blocks),
            next,
        })
    }

    /// Keeps a read in the place of those that are part of it, unless it is part of one itself: short
    /// reads are for streams that want one block or may hold no more, and would hide longer ones. Lets
    /// go of the oldest ones that are too many with it.
    fn keep(&mut self, key: (u64, u64), blocks: &Arc<[Bytes]>, limit: usize) {
        let bytes = size(blocks);
        if blocks.is_empty() || bytes > limit {
            return;
        }
        let (serial, _) = key;
        let end = end(&key, blocks);
        let before = self.reads.range((serial, 0)..=key).next_back();
        if before.is_some_and(|(key, blocks)| self::end(key, blocks) >= end) {
            return;
        }
        let behind = self.reads.range(key..=(serial, u64::MAX));
        let parts = behind.take_while(|(key, blocks)| self::end(key, blocks) <= end);
        let parts: Vec<_> = parts.map(|(key, _)| *key).collect();
        for part in &parts {
            self.bytes -= self.reads.remove(part).as_ref().map_or(0, size);
        }
        if !parts.is_empty() {
            self.order.retain(|key| !parts.contains(key));
        }
        self.reads.insert(key, Arc::clone(blocks));
        self.order.push_back(key);
        self.bytes += bytes;
        while self.bytes > limit
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(blocks) = self.reads.remove(&oldest) {
                self.bytes -= size(&blocks);
            }
        }
    }

    fn forget(&mut self, serial: u64) {
        let all: RangeInclusive<_> = (serial, 0)..=(serial, u64::MAX);
        if self.reads.range(all.clone()).next().is_none() {
            return;
        }
        self.order.retain(|key| !all.contains(key));
        self.reads.retain(|key, _| !all.contains(key));
        self.bytes = self.reads.values().map(size).sum();
    }
}

/// The gate of the reads from this block on. Reads begin at distances of a batch, whatever its size,
/// and go through all gates still.
fn gate(from: BlockNumber) -> usize {
    let mixed = BuildHasherDefault::<DefaultHasher>::default().hash_one(from.get());
    mixed as usize % GATES
}

/// The number of the block after those of a read.
fn end(key: &(u64, u64), blocks: &Arc<[Bytes]>) -> u64 {
    key.1.saturating_add(blocks.len() as u64)
}

fn size(blocks: &Arc<[Bytes]>) -> usize {
    blocks.iter().map(Bytes::len).sum::<usize>() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a block of the tests takes where it is read alone.
    const ALONE: usize = 1000 + OVERHEAD;

    fn read(blocks: usize) -> Arc<[Bytes]> {
        (0..blocks).map(|_| Bytes::from(vec![0; 1000])).collect()
    }

    fn found(kept: &Kept, serial: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let numbers = numbers.into_iter();
        numbers
            .filter(|number| kept.find(serial, *number).is_some())
            .collect()
    }

    #[test]
    fn a_block_is_found_within_a_read_of_its_channel_alone() {
        let mut kept = Kept::default();
        kept.keep((1, 10), &read(3), usize::MAX);
        kept.keep((1, 20), &read(1), usize::MAX);
        kept.keep((3, 15), &read(1), usize::MAX);
        assert_eq!(found(&kept, 1, 0..30), [10, 11, 12, 20]);
        assert_eq!(found(&kept, 2, 0..30), []);
        let mut batch = kept.find(1, 11).unwrap();
        assert!(batch.pop().is_some() && batch.pop().is_some());
        assert!(batch.is_empty() && batch.pop().is_none() && batch.pop().is_none());
    }

    #[test]
    fn a_short_read_hides_no_longer_one() {
        let longer = |kept: &Kept| kept.find(1, 12).map_or(0, |batch| batch.blocks.len());
        // Whichever of them ends first.
        for order in [[11, 10, 12, 17], [17, 12, 11, 10], [12, 17, 10, 11]] {
            let mut kept = Kept::default();
            for first in order {
                let blocks = if first == 10 { 8 } else { 1 };
                kept.keep((1, first), &read(blocks), usize::MAX);
            }
            kept.keep((1, 5), &read(8), usize::MAX);
            kept.keep((1, 14), &read(8), usize::MAX);
            assert_eq!(found(&kept, 1, 0..30), (5..22).collect::<Vec<_>>());
            assert_eq!(longer(&kept), 8, "{order:?}");
            assert_eq!((kept.reads.len(), kept.order.len()), (3, 3));
            assert_eq!(kept.bytes, kept.reads.values().map(size).sum());
        }
        // A longer read takes the place of one from the same block on, and of no other channel's.
        let mut kept = Kept::default();
        for (serial, blocks) in [(1, 1), (2, 1), (1, 3)] {
            kept.keep((serial, 12), &read(blocks), usize::MAX);
        }
        assert_eq!((longer(&kept), kept.reads.len()), (3, 2));
    }

    #[test]
    fn the_oldest_read_goes_when_there_are_too_many_bytes() {
        let mut kept = Kept::default();
        for number in 0..100 {
            kept.keep((1, number), &read(1), 3 * ALONE);
            assert!(kept.bytes <= 3 * ALONE, "{} bytes", kept.bytes);
            assert_eq!(kept.order.len(), kept.reads.len());
        }
        assert_eq!(found(&kept, 1, 0..100), [97, 98, 99]);
        // What alone is too much takes nobody's place.
        kept.keep((1, 200), &read(10), 3 * ALONE);
        kept.keep((1, 300), &read(0), 3 * ALONE);
        assert_eq!(found(&kept, 1, 0..400), [97, 98, 99]);
    }

    #[test]
    fn batches_of_every_size_go_through_most_gates() {
        for size in (1..=300).chain([512, 1024, 4096]) {
            let gates: BTreeSet<_> = (0..64).map(|n| gate(BlockNumber::new(n * size))).collect();
            assert!(gates.len() > GATES / 2, "{size}: {gates:?}");
            assert!(gates.last() < Some(&GATES));
        }
    }

    #[test]
    fn what_is_forgotten_makes_room() {
        let mut kept = Kept::default();
        kept.keep((1, 0), &read(1), usize::MAX);
        kept.keep((2, 0), &read(2), usize::MAX);
        kept.forget(1);
        kept.forget(1);
        assert_eq!((kept.bytes, kept.order.len()), (2000 + OVERHEAD, 1));
        assert_eq!(found(&kept, 2, 0..9), [0, 1]);
        kept.forget(2);
        assert_eq!((kept.bytes, kept.order.len()), (0, 0));
    }
}
