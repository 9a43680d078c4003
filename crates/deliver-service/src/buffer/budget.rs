// SPDX-License-Identifier: Apache-2.0
//! The bytes that all channels of a service may hold together.

use std::{
    cmp::max,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Bytes for the buffers of all channels. Each channel has a reserve that nobody else can use, so
/// that one whose store is stuck does not keep the others from going on.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: usize,
    /// Of each channel its reserve, or what it holds if that is more.
    taken: Mutex<usize>,
    room: Notify,
}

/// What one channel has of a [`Budget`]. Dropping it gives everything back.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    reserve: usize,
    held: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            taken: Mutex::default(),
            room: Notify::new(),
        })
    }

    /// Opens an account. Its reserve is set aside even where that is more than there is.
    pub(super) fn open(self: &Arc<Self>, reserve: usize) -> Account {
        *self.taken() += reserve;
        Account {
            budget: self.clone(),
            reserve,
            held: 0,
        }
    }

    /// Told when a channel gave bytes back that others may have.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// What the channels hold, with their reserves.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        *self.taken()
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        // All channels share it: a panic of one must not reach the others.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Whether there are so many bytes once others of this account were given back.
    pub(super) fn fits(&self, length: usize, given: usize) -> bool {
        let taken = *self.budget.taken();
        let without = taken.saturating_sub(self.claim(self.held));
        let after = self.held.saturating_sub(given).saturating_add(length);
        after <= self.reserve || without.saturating_add(self.claim(after)) <= self.budget.bytes
    }

    /// Takes bytes whether there are any or not.
    pub(super) fn take(&mut self, length: usize) {
        self.set(self.held.saturating_add(length));
    }

    /// Takes bytes if there are so many. Between a look and this, another channel may have come.
    pub(super) fn try_take(&mut self, length: usize) -> bool {
        let fits = self.fits(length, 0);
        if fits {
            self.take(length);
        }
        fits
    }

    pub(super) fn give(&mut self, length: usize) {
        self.set(self.held.saturating_sub(length));
    }

    fn set(&mut self, held: usize) {
        let (before, after) = (self.claim(self.held), self.claim(held));
        self.held = held;
        self.change(before, after);
    }

    fn change(&self, before: usize, after: usize) {
        let mut taken = self.budget.taken();
        *taken = taken.saturating_sub(before).saturating_add(after);
        drop(taken);
        if after < before {
            self.budget.room.notify_waiters();
        }
    }

    /// What an account that holds so much keeps from others.
    fn claim(&self, held: usize) -> usize {
        max(held, self.reserve)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.change(self.claim(self.held), 0);
    }
}
