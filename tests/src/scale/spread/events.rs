// SPDX-License-Identifier: Apache-2.0
//! What happens, in the order of its time; at one time in the order in which it was put in.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::giving::Asker;

/// What a node that gives a body says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    Offer(Vec<u32>),
    Have(Vec<u32>),
    Piece { chunk: u32, bytes: u32, hops: u32 },
    NotYet,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    FromOrderer {
        node: usize,
    },
    Publish {
        node: usize,
    },
    Message {
        to: usize,
        from: usize,
        copy: usize,
        hops: u32,
    },
    Spare {
        to: usize,
        from: usize,
        copy: usize,
    },
    Ask {
        to: usize,
        asker: Asker,
    },
    PatienceEnds {
        node: usize,
        asker: Asker,
    },
    Want {
        to: usize,
        from: usize,
        serial: u32,
        chunks: Vec<u32>,
    },
    Answer {
        to: usize,
        from: usize,
        serial: u32,
        answer: Answer,
    },
    Close {
        to: usize,
        from: usize,
        serial: u32,
    },
    Uplink {
        node: usize,
    },
    Wake {
        node: usize,
        wakes: u32,
    },
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
}

impl Queue {
    pub(super) fn put(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    pub(super) fn take(&mut self) -> Option<(Duration, Event)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }
}
