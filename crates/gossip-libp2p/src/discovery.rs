// SPDX-License-Identifier: Apache-2.0
//! Finding nodes by way of nodes: signed records of where they are, who is told of whom, and which
//! of those that this node was told of it dials.
//!
//! A node says itself where it can be reached, and signs it with the key of its id. Others pass on
//! the record of a node only while they are connected to it, so that nobody vouches for an id that
//! proved nothing to it.

mod address;
mod directory;
mod exchange;
mod failures;
mod own;
mod record;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::record::parse_records;
pub(crate) use self::{
    address::{check_told, is_here},
    directory::{Directory, News, Told, Wanted},
    exchange::{Link, hear_records, tell_records},
    own::Own,
    record::{MAX_ADDRESSES, Record, Scope, unix_millis},
};
