// SPDX-License-Identifier: Apache-2.0
//! The payload buffer: verified blocks that wait for their turn, bounded in bytes.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use block_api::{BlockNumber, ChainInfo, HeaderHash, VerifiedBlock};
use tokio::sync::Notify;

use crate::{Config, Origin};

/// Verified blocks by number and header hash, from three producers to one writer.
#[derive(Debug)]
pub(crate) struct Buffer {
    state: Mutex<State>,
    /// Told when the block that is due is there.
    ready: Notify,
    /// Told when there may be room.
    room: Notify,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    bytes: usize,
    topic_bytes: usize,
    window: u64,
    per_height: usize,
    batch_blocks: usize,
    batch_bytes: usize,
}

#[derive(Debug)]
struct State {
    /// The number that is due next.
    next: BlockNumber,
    blocks: BTreeMap<BlockNumber, Vec<Buffered>>,
    bytes: usize,
    topic_bytes: usize,
    closed: bool,
}

/// A block in the buffer.
#[derive(Debug, Clone)]
pub(crate) struct Buffered {
    pub(crate) block: VerifiedBlock,
    pub(crate) origin: Origin,
}

/// A block that waits, as far as its producers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The config block by which it was judged.
    pub(crate) judged_by: BlockNumber,
    pub(crate) is_config: bool,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// It waits for its turn.
    Queued,
    /// It is stored, or waits already.
    Known,
    /// There is no room for it.
    Full,
    /// It is too far ahead.
    TooFar,
    /// Nothing is taken any more.
    Closed,
}

/// Blocks for one append.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) blocks: Vec<Buffered>,
    /// Blocks that were due and did not link to the chain.
    pub(crate) unlinked: Vec<Buffered>,
    /// Blocks that were due and linked, where another one was taken.
    pub(crate) rivals: Vec<Buffered>,
}

impl Buffer {
    pub(crate) fn new(config: &Config, next: BlockNumber) -> Self {
        Self {
            state: Mutex::new(State {
                next,
                blocks: BTreeMap::new(),
                bytes: 0,
                topic_bytes: 0,
                closed: false,
            }),
            ready: Notify::new(),
            room: Notify::new(),
            limits: Limits {
                bytes: config.buffer_bytes.get(),
                topic_bytes: config.topic_buffer_bytes.get(),
                window: config.window,
                per_height: config.candidates_per_height.get(),
                batch_blocks: config.batch_blocks.get(),
                batch_bytes: config.batch_bytes.get(),
            },
        }
    }

    /// The number that is due next.
    pub(crate) fn next(&self) -> BlockNumber {
        self.state().next
    }

    /// The numbers from the one that is due to the one before the lowest that waits; the end is
    /// `None` when none waits.
    pub(crate) fn gap(&self) -> (BlockNumber, Option<BlockNumber>) {
        let state = self.state();
        (state.next, state.blocks.keys().next().copied())
    }

    /// Whether this block is stored (by its number) or waits (by its hash).
    pub(crate) fn knows(&self, number: BlockNumber, hash: &HeaderHash) -> bool {
        let state = self.state();
        number < state.next || state.holds(number, hash)
    }

    /// The block with this hash, if it waits.
    pub(crate) fn waiting(&self, number: BlockNumber, hash: &HeaderHash) -> Option<Waiting> {
        let state = self.state();
        let waits = state.find(number, hash)?;
        Some(Waiting {
            judged_by: waits.block.judged_by(),
            is_config: waits.block.is_config(),
        })
    }

    /// Whether a block from the topic would be kept for its number alone.
    pub(crate) fn in_window(&self, number: BlockNumber) -> bool {
        number.get() < self.state().next.get().saturating_add(self.limits.window)
    }

    /// Puts a block in if there is room for one of its kind. A copy that was judged by a newer
    /// configuration takes the place of one that was not.
    pub(crate) fn try_push(&self, block: VerifiedBlock, origin: Origin) -> Push {
        let mut state = self.state();
        let (number, length) = (block.number(), block.block().raw().len());
        if state.closed {
            return Push::Closed;
        }
        if number < state.next {
            return Push::Known;
        }
        match state.find(number, &block.header_hash()) {
            Some(copy) if copy.block.judged_by() >= block.judged_by() => return Push::Known,
            Some(_) => {
                state.replace(block, origin);
                return Push::Queued;
            }
            None => {}
        }
        if state
            .blocks
            .get(&number)
            .is_some_and(|same| same.len() >= self.limits.per_height)
        {
            return Push::Full;
        }
        if number > state.next {
            let from_topic = origin == Origin::Topic || origin == Origin::Pull;
            if from_topic && number.get() - state.next.get() >= self.limits.window {
                return Push::TooFar;
            }
            let topic_full =
                from_topic && state.topic_bytes.saturating_add(length) > self.limits.topic_bytes;
            if topic_full || state.bytes.saturating_add(length) > self.limits.bytes {
                return Push::Full;
            }
        }
        state.count(length, origin, true);
        let due = number == state.next;
        state
            .blocks
            .entry(number)
            .or_default()
            .push(Buffered { block, origin });
        drop(state);
        if due {
            self.ready.notify_one();
        }
        Push::Queued
    }

    /// Puts a block in, and waits for room if there is none. `false` when the buffer was closed.
    pub(crate) async fn push(&self, block: VerifiedBlock, origin: Origin) -> bool {
        loop {
            // The permit is taken before the look, so that room made in between is not missed.
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.try_push(block.clone(), origin) {
                Push::Queued | Push::Known => return true,
                Push::Closed => return false,
                Push::Full | Push::TooFar => room.await,
            }
        }
    }

    /// Takes the blocks that are due, in order, as many as one append may have, and none behind a
    /// config block: what follows is judged by that. They count as buffered until
    /// [`stored`](Self::stored) or [`refused`](Self::refused).
    pub(crate) fn take(&self, tip: &ChainInfo) -> Batch {
        let mut state = self.state();
        let mut batch = Batch::default();
        let (mut tip, mut bytes) = (*tip, 0);
        while batch.blocks.len() < self.limits.batch_blocks && bytes < self.limits.batch_bytes {
            let Some(candidates) = state.blocks.remove(&tip.height.next_block()) else {
                break;
            };
            let (mut linked, unlinked): (Vec<_>, Vec<_>) = candidates
                .into_iter()
                .partition(|candidate| tip.check_link(&candidate.block).is_ok());
            for other in &unlinked {
                state.count(other.block.block().raw().len(), other.origin, false);
            }
            batch.unlinked.extend(unlinked);
            // Several headers that link at one height: the one that the newest configuration judged,
            // since an older one may have been satisfied by those whom a newer one removed. Of those
            // the first one to come, as Fabric does; the others are shown as evidence.
            linked.sort_by_key(|candidate| Reverse(candidate.block.judged_by()));
            let mut linked = linked.into_iter();
            let Some(chosen) = linked.next() else { break };
            for other in linked {
                state.count(other.block.block().raw().len(), other.origin, false);
                batch.rivals.push(other);
            }
            bytes += chosen.block.block().raw().len();
            tip = tip.grown_by(&chosen.block);
            let is_config = chosen.block.is_config();
            batch.blocks.push(chosen);
            if is_config {
                break;
            }
        }
        if !batch.unlinked.is_empty() || !batch.rivals.is_empty() {
            drop(state);
            self.room.notify_waiters();
        }
        batch
    }

    /// Gives the room of a batch back, and says what is due now.
    pub(crate) fn stored(&self, batch: &[Buffered], tip: &ChainInfo) {
        let mut state = self.state();
        for stored in batch {
            state.count(stored.block.block().raw().len(), stored.origin, false);
        }
        state.next = tip.height.next_block();
        let above = state.blocks.split_off(&tip.height.next_block());
        let below = std::mem::replace(&mut state.blocks, above);
        for old in below.into_values().flatten() {
            state.count(old.block.block().raw().len(), old.origin, false);
        }
        let due = state.blocks.contains_key(&state.next);
        drop(state);
        if due {
            self.ready.notify_one();
        }
        self.room.notify_waiters();
    }

    /// Gives the room of blocks back that were taken and are not stored.
    pub(crate) fn refused(&self, blocks: &[Buffered]) {
        let mut state = self.state();
        for refused in blocks {
            state.count(refused.block.block().raw().len(), refused.origin, false);
        }
        drop(state);
        self.room.notify_waiters();
    }

    /// Waits until the block that is due may be there.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Drops everything, blocks that were taken and are not stored as well, and begins anew with
    /// this number: whoever stored them is gone, and may have left this lock poisoned.
    pub(crate) fn restart(&self, next: BlockNumber) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            next,
            blocks: BTreeMap::new(),
            bytes: 0,
            topic_bytes: 0,
            closed: state.closed,
        };
        drop(state);
        self.state.clear_poison();
        self.room.notify_waiters();
    }

    /// Takes nothing more; whoever waits for room is told.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.notify_waiters();
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

impl State {
    fn holds(&self, number: BlockNumber, hash: &HeaderHash) -> bool {
        self.find(number, hash).is_some()
    }

    fn find(&self, number: BlockNumber, hash: &HeaderHash) -> Option<&Buffered> {
        let same = self.blocks.get(&number)?;
        same.iter()
            .find(|buffered| buffered.block.header_hash() == *hash)
    }

    /// Puts a block in the place of its copy.
    fn replace(&mut self, block: VerifiedBlock, origin: Origin) {
        let (number, hash) = (block.number(), block.header_hash());
        let length = block.block().raw().len();
        let same = self.blocks.get_mut(&number).into_iter().flatten();
        let mut copies = same.filter(|buffered| buffered.block.header_hash() == hash);
        if let Some(copy) = copies.next() {
            let old = std::mem::replace(copy, Buffered { block, origin });
            self.count(old.block.block().raw().len(), old.origin, false);
            self.count(length, origin, true);
        }
    }

    fn count(&mut self, length: usize, origin: Origin, comes: bool) {
        let change = |count: usize| {
            if comes {
                count + length
            } else {
                count - length
            }
        };
        self.bytes = change(self.bytes);
        if origin == Origin::Topic || origin == Origin::Pull {
            self.topic_bytes = change(self.topic_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
