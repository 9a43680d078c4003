// SPDX-License-Identifier: Apache-2.0
//! Scripted faults: what a Deliver client may meet, made to happen on demand (semantics §6.7).

mod mutation;
mod stream;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use block_api::BlockNumber;
use tokio::sync::watch;

pub use self::mutation::Mutation;
pub(crate) use self::stream::faulty;

/// One thing that goes wrong.
///
/// The first two happen to connections, all others to Deliver streams. A fault that counts blocks
/// counts those of its own stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A connection is closed as soon as it is accepted.
    RefuseConnection,
    /// A connection's first bytes are answered with a line of text, which is no TLS.
    RefuseTls,
    /// The stream is answered with the status of this number, and nothing else.
    Refuse {
        /// A number of `common.Status`, or any other.
        status: i32,
    },
    /// The stream stays open, and nothing is ever sent.
    Hang,
    /// Blocks above a number are not sent, while the stream stays open. Header and signatures of
    /// them are sent to who asked for no more.
    Withhold {
        /// The last block that is sent.
        after: BlockNumber,
    },
    /// Each message is sent so much later than it could be.
    Delay {
        /// How much.
        by: Duration,
    },
    /// After so many blocks the connection is cut, without a goodbye.
    Cut {
        /// How many blocks are sent.
        after: usize,
    },
    /// After so many blocks the stream ends with the status of this number.
    Status {
        /// How many blocks are sent.
        after: usize,
        /// A number of `common.Status`, or any other; 200 is SUCCESS.
        status: i32,
    },
    /// After so many blocks one message has neither block nor status; then the stream goes on.
    Unset {
        /// How many blocks are sent.
        after: usize,
    },
    /// After so many blocks nothing more is sent, while the stream stays open.
    Stall {
        /// How many blocks are sent.
        after: usize,
    },
    /// After so many blocks the last of them is sent a second time; then the stream goes on.
    Repeat {
        /// How many blocks are sent before.
        after: usize,
    },
    /// After so many blocks the last eight, or as many as there were, are sent a second time in
    /// their order; then the stream goes on.
    Replay {
        /// How many blocks are sent before.
        after: usize,
    },
    /// One block is sent in another form than it has.
    Corrupt {
        /// Its number.
        block: BlockNumber,
        /// What is done to it.
        mutation: Mutation,
    },
    /// Every block is sent in another form than it has.
    CorruptAll {
        /// What is done to them.
        mutation: Mutation,
    },
}

/// To which connections or streams of a node a fault happens. They are counted from 0, each kind
/// for itself, from the start of the node on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// To all of them.
    Always,
    /// To one of them.
    Nth(u64),
    /// To the first ones.
    First(u64),
    /// To some in a row.
    Range(RangeInclusive<u64>),
}

/// What goes wrong, and when. Clones share one script, which may change at any time: streams look
/// at it before each message, and those that are held up go on when it lets them.
#[derive(Debug, Clone)]
pub struct Script {
    rules: Arc<watch::Sender<Vec<(When, Fault)>>>,
}

impl Script {
    /// A script by which nothing goes wrong.
    pub fn new() -> Self {
        Self {
            rules: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    /// Lets a fault happen from now on, beside those that are there.
    pub fn add(&self, when: When, fault: Fault) {
        self.rules.send_modify(|rules| rules.push((when, fault)));
    }

    /// The script with one more fault.
    #[must_use]
    pub fn with(self, when: When, fault: Fault) -> Self {
        self.add(when, fault);
        self
    }

    /// Lets nothing go wrong any more.
    pub fn clear(&self) {
        self.rules.send_modify(Vec::clear);
    }

    /// What happens to the connection or stream of this index, for now.
    pub(crate) fn faults(&self, index: u64) -> Vec<Fault> {
        self.rules
            .borrow()
            .iter()
            .filter(|(when, _)| when.includes(index))
            .map(|(_, fault)| fault.clone())
            .collect()
    }

    /// Tells of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<Vec<(When, Fault)>> {
        self.rules.subscribe()
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl When {
    fn includes(&self, index: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(n) => index == *n,
            Self::First(n) => index < *n,
            Self::Range(range) => range.contains(&index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_when_they_shall() {
        let script = Script::new()
            .with(When::Nth(1), Fault::Hang)
            .with(When::First(2), Fault::RefuseTls)
            .with(When::Range(1..=2), Fault::RefuseConnection)
            .with(When::Always, Fault::Cut { after: 3 });
        let names = |index| {
            let faults = script.faults(index);
            faults
                .iter()
                .map(|fault| format!("{fault:?}").chars().take(8).collect::<String>())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["RefuseTl", "Cut { af"]);
        assert_eq!(names(1), ["Hang", "RefuseTl", "RefuseCo", "Cut { af"]);
        assert_eq!(names(2), ["RefuseCo", "Cut { af"]);
        assert_eq!(names(3), ["Cut { af"]);
        script.clear();
        assert_eq!(names(1), [""; 0]);
    }
}
