// SPDX-License-Identifier: Apache-2.0
//! What is stored by one append: when it is enough, and which blocks those are.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use block_api::ChainInfo;

use super::{Buffer, Buffered};

/// Blocks for one append.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) blocks: Vec<Buffered>,
    /// Blocks that were due and did not link to the chain.
    pub(crate) unlinked: Vec<Buffered>,
    /// Blocks that were due and linked, where another one was taken.
    pub(crate) rivals: Vec<Buffered>,
}

/// What tells whether to wait for more.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// How many blocks are being judged that follow what waits.
    coming: AtomicUsize,
    /// Whether a producer has waited for room since the last batch was stored.
    crowded: AtomicBool,
}

impl Gathering {
    pub(super) fn is_coming(&self) -> bool {
        self.coming.load(Ordering::Relaxed) > 0
    }

    /// Notes that a producer waits for room; says whether that is news.
    pub(super) fn crowded(&self) -> bool {
        !self.crowded.swap(true, Ordering::Relaxed)
    }

    pub(super) fn gave_room(&self) {
        self.crowded.store(false, Ordering::Relaxed);
    }
}

impl Buffer {
    /// Notes that a block is being judged that follows what waits.
    pub(crate) fn comes(&self) {
        self.gathering.coming.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that such a block is about to be put in.
    pub(crate) fn came(&self) {
        self.gathering.coming.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that such a block is not put in.
    pub(crate) fn does_not_come(&self) {
        self.came();
        self.ready.notify_one();
    }

    /// Whether something is due that had better wait for what follows it: more is coming, there is
    /// room for it, and what is due is less than one append may have.
    pub(crate) fn gathers(&self) -> bool {
        if !self.gathering.is_coming() || self.gathering.crowded.load(Ordering::Relaxed) {
            return false;
        }
        let state = self.state();
        let (mut due, mut blocks, mut bytes) = (Some(state.next), 0, 0);
        while let Some(number) = due
            && let Some(block) = state.blocks.get(&number).and_then(|same| same.first())
        {
            (blocks, bytes) = (blocks + 1, bytes + block.length());
            if block.block.is_config()
                || blocks >= self.limits.batch_blocks
                || bytes >= self.limits.batch_bytes
            {
                return false;
            }
            due = number.next();
        }
        blocks > 0
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
            state.release(&unlinked);
            batch.unlinked.extend(unlinked);
            // Several headers that link at one height: the one that the newest configuration judged,
            // since an older one may have been satisfied by those whom a newer one removed. Of those
            // the first one to come, as Fabric does; the others are kept as evidence.
            linked.sort_by_key(|candidate| Reverse(candidate.block.judged_by()));
            let mut linked = linked.into_iter();
            let Some(chosen) = linked.next() else { break };
            let rivals: Vec<_> = linked.collect();
            state.release(&rivals);
            batch.rivals.extend(rivals);
            bytes += chosen.length();
            tip = tip.grown_by(&chosen.block);
            let is_config = chosen.block.is_config();
            state.take(&chosen);
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
}
