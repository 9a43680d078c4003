// SPDX-License-Identifier: Apache-2.0
//! What became of the messages of late, by their ids.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use libp2p::gossipsub::MessageId;

/// Remembers so many messages; the oldest one is forgotten for each one more.
#[derive(Debug)]
pub(crate) struct Seen {
    capacity: usize,
    fates: HashMap<MessageId, Fate>,
    order: VecDeque<MessageId>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It came and is not judged yet; `wanted` when this node published the same meanwhile.
    Pending { wanted: bool },
    /// It went on, or was put on the topic here.
    Passed,
    /// It came and was not passed on. gossipsub will not pass it on any more.
    Held,
}

impl Seen {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            fates: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Notes what became of a message, and says what was noted before.
    pub(crate) fn note(&mut self, id: &MessageId, fate: Fate) -> Option<Fate> {
        match self.fates.entry(id.clone()) {
            Entry::Occupied(mut known) => Some(known.insert(fate)),
            Entry::Vacant(new) => {
                new.insert(fate);
                self.order.push_back(id.clone());
                if self.order.len() > self.capacity
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.fates.remove(&oldest);
                }
                None
            }
        }
    }

    pub(crate) fn fate(&self, id: &MessageId) -> Option<Fate> {
        self.fates.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let mut seen = Seen::new(3);
        let id = |n: u8| MessageId::new(&[n]);
        for n in 0..5 {
            assert_eq!(seen.note(&id(n), Fate::Held), None);
        }
        assert_eq!(seen.note(&id(4), Fate::Passed), Some(Fate::Held));
        let fates: Vec<_> = (0..5).map(|n| seen.fate(&id(n))).collect();
        assert_eq!(
            fates,
            [
                None,
                None,
                Some(Fate::Held),
                Some(Fate::Held),
                Some(Fate::Passed)
            ]
        );
        assert_eq!((seen.fates.len(), seen.order.len()), (3, 3));
    }
}
