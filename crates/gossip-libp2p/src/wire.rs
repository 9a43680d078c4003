// SPDX-License-Identifier: Apache-2.0
//! The bytes that travel between nodes. Every form begins with a version; what a reader does not
//! know in a form of its own version, it skips.

mod body;
mod message;
mod range;
mod status;

use block_api::wire::{Fields, WireError};

#[cfg(any(test, feature = "testing"))]
use crate::discovery::parse_records;

pub(crate) use self::{
    body::{Ask, Offer, PIECE_HEAD, Want, parse_have, parse_place, put_have},
    message::{COPY_AT, Form, MAX_ANNOUNCEMENT, encode, parse},
    range::{RangeRequest, parse_end, put_end},
    status::{StatusMessage, UnreadableStatus},
};

/// The version that this release writes, and the only one it reads.
pub(crate) const VERSION: u8 = 1;

/// Why a question for blocks or for a body, or an answer to one, is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it has version {0}, and this node understands {VERSION}")]
    Version(u8),
    #[error("it is empty")]
    Empty,
    #[error("it does not parse: {0}")]
    Wire(#[from] WireError),
    #[error("it lacks {0}, or has one that this node does not know")]
    Missing(&'static str),
}

/// What a fuzzer calls: every parser of what strangers send. It must not panic.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_wire(data: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(data);
    drop(parse(bytes.clone()));
    drop(RangeRequest::parse(data));
    drop(StatusMessage::parse(&bytes));
    let _ = parse_end(data);
    drop(Ask::parse(data));
    drop(Want::parse(data));
    drop(Offer::parse(data));
    drop(parse_records(&bytes));
    crate::membership::fuzz(data);
}

/// The fields that stand behind the version byte.
fn fields(message: &[u8]) -> Result<Fields<'_>, Unreadable> {
    match message.split_first() {
        Some((&VERSION, fields)) => Ok(Fields::nested(fields, 1)),
        Some((version, _)) => Err(Unreadable::Version(*version)),
        None => Err(Unreadable::Empty),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(mut data in proptest::collection::vec(any::<u8>(), 0..300), known in any::<bool>()) {
            if let (true, Some(version)) = (known, data.first_mut()) {
                *version = VERSION;
            }
            fuzz_wire(&data);
        }
    }
}
