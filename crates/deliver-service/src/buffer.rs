// SPDX-License-Identifier: Apache-2.0
//! The payload buffer: verified blocks that wait for their turn, bounded in bytes.

mod batch;
mod budget;
mod shares;
mod state;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use block_api::{BlockNumber, ChainInfo, HeaderHash, NodeId, VerifiedBlock};
use tokio::sync::Notify;

#[cfg(test)]
use self::batch::Batch;
pub(crate) use self::budget::Budget;
use self::{
    batch::Gathering,
    shares::{Share, Shares},
    state::State,
};
use crate::{Config, Origin};

/// Verified blocks by number and header hash, from three producers to one writer.
///
/// What it holds never exceeds its bytes by more than one block, the one that is due; what all
/// channels hold exceeds the budget by one such block for each of them at most. Beside that, and not
/// counted here, there is what came and waits to be judged or put in: the line of the orderer's stream
/// and each range on its way, bounded in bytes by themselves, and the topic's candidates, in number.
#[derive(Debug)]
pub(crate) struct Buffer {
    state: Mutex<State>,
    /// Told when the block that is due is there, or when what waits makes a batch.
    ready: Notify,
    gathering: Gathering,
    /// Told when there may be room.
    room: Notify,
    budget: Arc<Budget>,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    shares: Shares,
    window: u64,
    per_height: usize,
    batch_blocks: usize,
    batch_bytes: usize,
}

/// A block in the buffer.
#[derive(Debug, Clone)]
pub(crate) struct Buffered {
    pub(crate) block: VerifiedBlock,
    pub(crate) origin: Origin,
    /// The node that gave it in a range.
    pub(crate) giver: Option<NodeId>,
    /// Whether the stream of the ordering service went past it: it does not come again by itself,
    /// so it does not make room for others.
    pub(crate) passed: bool,
}

/// A producer that waits for room, or of whom a block came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Giver {
    /// The stream of the ordering service.
    Stream,
    /// The ordering service, in a range.
    Orderers,
    /// A node, in a range.
    Peer(NodeId),
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

impl Buffer {
    pub(crate) fn new(config: &Config, budget: &Arc<Budget>, next: BlockNumber) -> Self {
        let reserve = config.channel_reserve_bytes.min(config.buffer_bytes);
        Self {
            state: Mutex::new(State::new(next, budget.open(reserve.get()))),
            ready: Notify::new(),
            gathering: Gathering::default(),
            room: Notify::new(),
            budget: budget.clone(),
            limits: Limits {
                shares: Shares::new(config),
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

    /// The runs of numbers up to this one that are neither stored nor held, lowest first.
    pub(crate) fn holes(&self, upto: BlockNumber) -> Vec<RangeInclusive<BlockNumber>> {
        self.state().holes(upto)
    }

    /// Whether this block is stored (by its number) or waits (by its hash).
    pub(crate) fn knows(&self, number: BlockNumber, hash: &HeaderHash) -> bool {
        let state = self.state();
        number < state.next || state.waiting(number, hash).is_some()
    }

    /// The block with this hash, if it waits or is being stored.
    pub(crate) fn waiting(&self, number: BlockNumber, hash: &HeaderHash) -> Option<Waiting> {
        self.state().waiting(number, hash)
    }

    /// Notes that the stream of the ordering service went past a block that waits or is being
    /// stored. `false` when it does so no more and is not stored either.
    pub(crate) fn passed(&self, number: BlockNumber, hash: &HeaderHash) -> bool {
        self.state().pass(number, hash)
    }

    /// Whether a block from the topic would be kept for its number alone.
    pub(crate) fn in_window(&self, number: BlockNumber) -> bool {
        number.get() < self.state().next.get().saturating_add(self.limits.window)
    }

    /// Puts a block in if there is room for one of its kind, or if higher ones can make room for it.
    /// A copy that was judged by a newer configuration takes the place of one that was not.
    pub(crate) fn try_push(&self, block: VerifiedBlock, origin: Origin) -> Push {
        self.put(Buffered {
            block,
            origin,
            giver: None,
            passed: origin == Origin::Orderer,
        })
    }

    fn put(&self, buffered: Buffered) -> Push {
        let mut state = self.state();
        let (number, share) = (buffered.block.number(), Share::of(buffered.origin));
        let hash = buffered.block.header_hash();
        if state.closed {
            return Push::Closed;
        }
        if number < state.next {
            return Push::Known;
        }
        if let Some(copy) = state.waiting(number, &hash)
            && copy.judged_by >= buffered.block.judged_by()
        {
            if buffered.passed {
                state.pass(number, &hash);
            }
            return Push::Known;
        }
        if share == Share::Topic && number.get() - state.next.get() >= self.limits.window {
            return Push::TooFar;
        }
        let replaced = state.remove(number, &hash);
        if state.candidates(number) >= self.limits.per_height {
            return Push::Full;
        }
        // One block at a time is admitted whatever its size; of further ones at its height nobody
        // knows yet whether they are needed.
        let due = number == state.next;
        let must = due && state.candidates(number) == 0 && !state.is_taken(number);
        let is_config = buffered.block.is_config();
        let passed = buffered.passed || replaced.as_ref().is_some_and(|old| old.passed);
        let admitted = state.admit(&self.limits.shares, Buffered { passed, ..buffered }, must);
        if !admitted {
            // What was there before stays, and was counted before.
            if let Some(old) = replaced {
                state.restore(old);
            }
            return Push::Full;
        }
        let much = state.used.total() >= self.limits.batch_bytes
            || state.blocks.len() >= self.limits.batch_blocks;
        drop(state);
        if due || is_config || much || !self.gathering.is_coming() {
            self.ready.notify_one();
        }
        Push::Queued
    }

    /// Puts a block in, and waits for room if there is none. `false` when the buffer was closed.
    pub(crate) async fn push(&self, block: VerifiedBlock, giver: &Giver) -> bool {
        let buffered = Buffered {
            block,
            origin: giver.origin(),
            giver: giver.node().cloned(),
            passed: *giver == Giver::Stream,
        };
        loop {
            // The permits are taken before the look, so that room made in between is not missed.
            let (room, shared) = (self.room.notified(), self.budget.room().notified());
            tokio::pin!(room, shared);
            room.as_mut().enable();
            shared.as_mut().enable();
            match self.put(buffered.clone()) {
                Push::Queued => return true,
                Push::Known => {
                    // The writer may have waited for this one.
                    self.ready.notify_one();
                    return true;
                }
                Push::Closed => return false,
                Push::Full | Push::TooFar => {
                    if self.gathering.crowded() {
                        self.ready.notify_one();
                    }
                    tokio::select! {
                        () = room => {}
                        () = shared => {}
                    }
                }
            }
        }
    }

    /// Gives the room of a batch back, and says what is due now. Returns what came meanwhile and is
    /// not what was stored.
    pub(crate) fn stored(&self, batch: &[Buffered], tip: &ChainInfo) -> Vec<Buffered> {
        let mut state = self.state();
        state.put_down(batch);
        state.next = tip.height.next_block();
        let above = state.blocks.split_off(&tip.height.next_block());
        let below = std::mem::replace(&mut state.blocks, above);
        let mut late: Vec<_> = below.into_values().flatten().collect();
        state.release(&late);
        let due = state.blocks.contains_key(&state.next);
        drop(state);
        self.gathering.gave_room();
        if due {
            self.ready.notify_one();
        }
        self.room.notify_waiters();
        let stored: BTreeMap<_, _> = batch
            .iter()
            .map(|stored| (stored.block.number(), stored.block.header_hash()))
            .collect();
        late.retain(|late| stored.get(&late.block.number()) != Some(&late.block.header_hash()));
        late
    }

    /// Gives the room of blocks back that were taken and are not stored. Says whether the stream of
    /// the ordering service went past one of them, before they were taken or since.
    pub(crate) fn refused(&self, blocks: &[Buffered]) -> bool {
        let passed = self.state().put_down(blocks);
        self.gathering.gave_room();
        self.room.notify_waiters();
        passed
    }

    /// Drops what a node gave in ranges and waits: it gave a block that is not of this chain.
    pub(crate) fn drop_given_by(&self, giver: &NodeId) {
        self.state().drop_given_by(giver);
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
        state.restart(next);
        drop(state);
        self.state.clear_poison();
        self.gathering.gave_room();
        self.room.notify_waiters();
    }

    /// Takes nothing more; whoever waits for room is told.
    pub(crate) fn close(&self) {
        // A writer that is not started again leaves the lock as it was when it died.
        self.peek().closed = true;
        self.room.notify_waiters();
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.peek().used.total()
    }

    /// How many more bytes of ranges may be asked for ahead of what is due.
    pub(crate) fn room_for_ranges(&self) -> usize {
        let held = self.state().used.of(Share::CatchUp);
        self.limits.shares.most_for_ranges().saturating_sub(held)
    }

    /// How many blocks made room for lower ones so far.
    pub(crate) fn evicted(&self) -> u64 {
        self.peek().evicted
    }

    /// Leaves the lock as a producer does that dies with it in hand.
    #[cfg(test)]
    pub(crate) fn poison(&self) {
        let holding = || {
            let _state = self.state();
            panic!("the test said so");
        };
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(holding));
        assert!(died.is_err());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        if state.is_err() {
            // The writer, which may be waiting, dies of it as well, and the next one begins anew.
            self.ready.notify_one();
        }
        state.expect("invariant: no holder of this lock panics")
    }

    /// The same for who only looks, or closes, and must not die where a producer did.
    fn peek(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            self.ready.notify_one();
            poisoned.into_inner()
        })
    }
}

impl Giver {
    pub(crate) fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Peer(node) => Some(node),
            Self::Stream | Self::Orderers => None,
        }
    }

    fn origin(&self) -> Origin {
        match self {
            Self::Peer(_) => Origin::CatchUp,
            Self::Stream | Self::Orderers => Origin::Orderer,
        }
    }
}

impl Buffered {
    fn length(&self) -> usize {
        self.block.block().raw().len()
    }
}

#[cfg(test)]
mod tests;
