// SPDX-License-Identifier: Apache-2.0
//! What opening a store found and did.

use std::path::PathBuf;

use block_api::BlockNumber;

use crate::error::{DamagedRecord, RecordFault};

/// What opening a store found and did. A caller should log what is not clean.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// What was cut off behind the last good record: the remains of a batch that was being written
    /// when the process ended.
    pub torn_tail: Option<TornTail>,
    /// How many good blocks stand behind the height that the head file says was acknowledged. They
    /// were written when the process or the machine ended; they are kept, and were made durable.
    pub unacknowledged: u64,
    /// Acknowledged blocks whose bytes are damaged, as far as opening looked: it checks the newest
    /// acknowledged block and what is behind it. Reading such a block gives an error.
    pub damaged: Vec<DamagedRecord>,
    /// Indexes of sealed segments that were missing or damaged, and were made anew.
    pub rebuilt_indexes: Vec<PathBuf>,
    /// In what state the head file was.
    pub head: HeadState,
}

/// What was cut off a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment file.
    pub segment: PathBuf,
    /// The length to which it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// The first block that may have been among them.
    pub from_block: BlockNumber,
    /// What was wrong with the first record among them.
    pub fault: RecordFault,
    /// Whether it is certain that nothing that was acknowledged was among them. It is when the head
    /// file was intact; without it, the remains of a batch and a damaged last block look alike.
    pub certainly_unacknowledged: bool,
}

/// In what state the head file was, which tells the acknowledged height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadState {
    /// The store is new.
    New,
    /// As it should be.
    Intact,
    /// There was none, though there are segments; it was made anew.
    Missing,
    /// It was damaged, and made anew; what could be read of it was used.
    Damaged,
}

impl OpenReport {
    pub(crate) fn new(head: HeadState) -> Self {
        Self {
            torn_tail: None,
            unacknowledged: 0,
            damaged: Vec::new(),
            rebuilt_indexes: Vec::new(),
            head,
        }
    }

    /// Whether nothing was cut off, damaged or made anew. Blocks that were stored without having
    /// been acknowledged are nothing to worry about.
    pub fn is_clean(&self) -> bool {
        self.torn_tail.is_none()
            && self.damaged.is_empty()
            && self.rebuilt_indexes.is_empty()
            && matches!(self.head, HeadState::New | HeadState::Intact)
    }
}
