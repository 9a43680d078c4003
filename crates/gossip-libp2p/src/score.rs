// SPDX-License-Identifier: Apache-2.0
//! The standing of peers: what is held against them, and when they are banned for it.

mod allowance;
mod callers;
mod standing;
mod topics;

use std::{collections::BTreeMap, time::SystemTime};

use block_api::NodeId;

pub(crate) use self::{
    allowance::Allowance,
    callers::{Callers, TurnedAway, block_of},
    standing::{Banned, Standings},
    topics::{application_score, params, thresholds},
};

/// Who is banned.
pub(crate) type Bans = BTreeMap<NodeId, Ban>;

/// What a peer did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// It passed on a block or an announcement that breaks a rule.
    Rejected,
    /// It sent a message, a frame, a status or a request that no release writes.
    Malformed,
    /// It gave a block or a range of blocks that breaks a rule.
    Invalid,
    /// It gave, for a header that is true, data that is not the block's.
    WrongBody,
    /// It sent more than it may in a time.
    Flood,
    /// It promised something and did not give it, or asked for a stream and left it.
    Stalled,
}

/// A peer that is cut off: its connections were closed, and others are refused until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ban {
    /// The last thing that was held against it.
    pub reason: Offence,
    /// Since when.
    pub since: SystemTime,
    /// Until when.
    pub until: SystemTime,
}
