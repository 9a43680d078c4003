// SPDX-License-Identifier: Apache-2.0
//! Decides which messages share a block (semantics §6.6).

use std::mem;

use bytes::Bytes;

use crate::config::BatchConfig;

/// The marshalled envelopes of one block.
pub(crate) type Batch = Vec<Bytes>;

/// A message that is to be ordered.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The marshalled envelope.
    pub(crate) envelope: Bytes,
    /// The bytes of payload and signature together, which is what limits count.
    pub(crate) size: usize,
}

/// Gathers messages and cuts them into batches by count and bytes. The caller keeps the time.
#[derive(Debug)]
pub(crate) struct BlockCutter {
    max_count: usize,
    preferred_bytes: usize,
    pending: Batch,
    pending_bytes: usize,
}

impl BlockCutter {
    pub(crate) fn new(config: &BatchConfig) -> Self {
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Self {
            max_count: size(config.max_message_count.get()),
            preferred_bytes: size(config.preferred_max_bytes.get()),
            pending: Batch::new(),
            pending_bytes: 0,
        }
    }

    /// Takes a message, and gives the batches that are full by it: none, one or two.
    pub(crate) fn ordered(&mut self, message: Message) -> Vec<Batch> {
        let mut batches = Vec::new();
        if message.size > self.preferred_bytes {
            batches.extend(self.cut());
            batches.push(vec![message.envelope]);
            return batches;
        }
        if self.pending_bytes.saturating_add(message.size) > self.preferred_bytes {
            batches.extend(self.cut());
        }
        self.pending_bytes += message.size;
        self.pending.push(message.envelope);
        if self.pending.len() >= self.max_count {
            batches.extend(self.cut());
        }
        batches
    }

    /// What is pending, as one batch; `None` when nothing is.
    pub(crate) fn cut(&mut self) -> Option<Batch> {
        self.pending_bytes = 0;
        (!self.pending.is_empty()).then(|| mem::take(&mut self.pending))
    }

    /// Whether a message waits for others.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    struct Row {
        name: &'static str,
        sizes: &'static [usize],
        /// After each message: the sizes of the batches that it fills.
        batches: &'static [&'static [&'static [usize]]],
        /// What is pending at the end.
        pending: &'static [usize],
    }

    /// Ten bytes are preferred, three messages the most.
    const ROWS: [Row; 9] = [
        Row {
            name: "pending",
            sizes: &[1, 2],
            batches: &[&[], &[]],
            pending: &[1, 2],
        },
        Row {
            name: "count cuts",
            sizes: &[1, 2, 3, 4],
            batches: &[&[], &[], &[&[1, 2, 3]], &[]],
            pending: &[4],
        },
        Row {
            name: "exactly full stays",
            sizes: &[5, 5],
            batches: &[&[], &[]],
            pending: &[5, 5],
        },
        Row {
            name: "overflow cuts first",
            sizes: &[6, 5],
            batches: &[&[], &[&[6]]],
            pending: &[5],
        },
        Row {
            name: "oversized alone",
            sizes: &[11],
            batches: &[&[&[11]]],
            pending: &[],
        },
        Row {
            name: "preferred is no overflow",
            sizes: &[10],
            batches: &[&[]],
            pending: &[10],
        },
        Row {
            name: "oversized after pending",
            sizes: &[1, 11, 2],
            batches: &[&[], &[&[1], &[11]], &[]],
            pending: &[2],
        },
        Row {
            name: "overflow resets the bytes",
            sizes: &[9, 9, 1],
            batches: &[&[], &[&[9]], &[]],
            pending: &[9, 1],
        },
        Row {
            name: "empty message counts",
            sizes: &[0, 0, 0],
            batches: &[&[], &[], &[&[0, 0, 0]]],
            pending: &[],
        },
    ];

    fn cutter(count: u32) -> BlockCutter {
        BlockCutter::new(&BatchConfig {
            max_message_count: NonZeroU32::new(count).unwrap(),
            preferred_max_bytes: NonZeroU32::new(10).unwrap(),
            ..BatchConfig::default()
        })
    }

    fn message(size: usize) -> Message {
        Message {
            envelope: vec![0; size].into(),
            size,
        }
    }

    fn sizes(batch: &Batch) -> Vec<usize> {
        batch.iter().map(Bytes::len).collect()
    }

    /// Covers: ORD-08
    #[test]
    fn cuts_by_count_and_bytes() {
        for Row {
            name,
            sizes: messages,
            batches,
            pending,
        } in ROWS
        {
            let mut cutter = cutter(3);
            for (size, expected) in messages.iter().zip(batches) {
                let cut: Vec<_> = cutter.ordered(message(*size)).iter().map(sizes).collect();
                assert_eq!(cut, *expected, "{name}, message of {size}");
            }
            assert_eq!(cutter.is_pending(), !pending.is_empty(), "{name}");
            assert_eq!(
                cutter.cut().map(|batch| sizes(&batch)).unwrap_or_default(),
                pending,
                "{name}"
            );
            assert_eq!(cutter.cut(), None, "{name}: an empty cut");
        }
    }

    /// Covers: ORD-08
    #[test]
    fn one_message_a_block_when_the_count_says_so() {
        let mut cutter = cutter(1);
        assert_eq!(cutter.ordered(message(3)).len(), 1);
        assert!(!cutter.is_pending());
    }
}
