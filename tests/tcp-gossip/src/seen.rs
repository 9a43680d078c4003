// SPDX-License-Identifier: Apache-2.0
//! The messages that came, so that a second copy is not handed on.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
};

/// The messages that came last. All bytes of a message count, so that a forged copy does not pass for
/// the true one; their hash is keyed, so that nobody can make two that agree.
#[derive(Debug)]
pub(crate) struct Seen {
    ids: BTreeSet<u64>,
    order: VecDeque<u64>,
    limit: usize,
    hasher: RandomState,
}

impl Seen {
    /// So many messages are remembered.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            ids: BTreeSet::new(),
            order: VecDeque::new(),
            limit,
            hasher: RandomState::new(),
        }
    }

    /// Remembers a message; `false` when it was known.
    pub(crate) fn remember(&mut self, message: &[u8]) -> bool {
        let id = self.hasher.hash_one(message);
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}
