// SPDX-License-Identifier: Apache-2.0
//! How the three producers of a channel share its bytes.

use std::cmp::{max, min};

use crate::{Config, Origin};

/// The part of the buffer that is promised to each producer: one of so many.
const PROMISED: usize = 8;

/// A producer, as far as room goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// The stream of the ordering service.
    Orderer,
    /// The topic, with the bodies of what was announced there.
    Topic,
    /// Ranges.
    CatchUp,
}

/// Bytes by producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    orderer: usize,
    topic: usize,
    catch_up: usize,
}

/// What the producers may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    bytes: usize,
    topic_bytes: usize,
    catch_up_bytes: usize,
    promised: usize,
}

impl Share {
    pub(super) const ALL: [Self; 3] = [Self::Orderer, Self::Topic, Self::CatchUp];

    pub(super) fn of(origin: Origin) -> Self {
        match origin {
            Origin::Orderer => Self::Orderer,
            Origin::Topic | Origin::Pull => Self::Topic,
            Origin::CatchUp => Self::CatchUp,
        }
    }
}

impl Used {
    pub(super) fn of(&self, share: Share) -> usize {
        match share {
            Share::Orderer => self.orderer,
            Share::Topic => self.topic,
            Share::CatchUp => self.catch_up,
        }
    }

    pub(super) fn total(&self) -> usize {
        self.orderer + self.topic + self.catch_up
    }

    pub(super) fn add(&mut self, share: Share, length: usize) {
        *self.slot(share) += length;
    }

    pub(super) fn remove(&mut self, share: Share, length: usize) {
        *self.slot(share) -= length;
    }

    fn slot(&mut self, share: Share) -> &mut usize {
        match share {
            Share::Orderer => &mut self.orderer,
            Share::Topic => &mut self.topic,
            Share::CatchUp => &mut self.catch_up,
        }
    }
}

impl Shares {
    pub(super) fn new(config: &Config) -> Self {
        let bytes = config.buffer_bytes.get();
        Self {
            bytes,
            topic_bytes: config.topic_buffer_bytes.get(),
            catch_up_bytes: config.catch_up_buffer_bytes.get(),
            promised: bytes / PROMISED,
        }
    }

    /// Whether a producer may have so many bytes more: within what is promised to it in any case,
    /// else as far as that leaves to the others what is promised to them.
    pub(super) fn admit(&self, used: &Used, share: Share, length: usize) -> bool {
        let mut after = *used;
        after.add(share, length);
        if after.of(share) > self.most(share) {
            return false;
        }
        after.of(share) <= self.promised(share) || self.claimed(&after) <= self.bytes
    }

    /// The same for the block that is due: what there is of its own and of others' promises is left
    /// out, for it comes in anyhow, and need not drive out what does not make the whole too much.
    pub(super) fn admit_due(&self, used: &Used, length: usize) -> bool {
        used.total() + length <= self.bytes
    }

    /// What is held or promised.
    pub(super) fn claimed(&self, used: &Used) -> usize {
        Share::ALL
            .iter()
            .map(|share| max(used.of(*share), self.promised(*share)))
            .sum()
    }

    /// What ranges that are not due may hold while nobody else holds anything.
    pub(super) fn most_for_ranges(&self) -> usize {
        let others = self.promised(Share::Orderer) + self.promised(Share::Topic);
        min(self.bytes.saturating_sub(others), self.catch_up_bytes)
    }

    /// What a producer never has more of.
    fn most(&self, share: Share) -> usize {
        match share {
            Share::Orderer | Share::CatchUp => self.catch_up_bytes,
            Share::Topic => self.topic_bytes,
        }
    }

    fn promised(&self, share: Share) -> usize {
        min(self.promised, self.most(share))
    }
}
