// SPDX-License-Identifier: Apache-2.0
//! The bytes that travel between nodes. Every form begins with a version; what a reader does not
//! know in a form of its own version, it skips.

mod body;
mod message;
mod range;
mod status;

#[cfg(any(test, feature = "testing"))]
use crate::discovery::parse_records;

pub(crate) use self::{
    body::{Ask, Offer, PIECE_HEAD, UnreadableBody, Want, parse_have, parse_place, put_have},
    message::{COPY_AT, Form, MAX_ANNOUNCEMENT, encode, parse},
    range::{RangeRequest, UnreadableRange, parse_end, put_end},
    status::{StatusMessage, UnreadableStatus},
};

/// The version that this release writes, and the only one it reads.
pub(crate) const VERSION: u8 = 1;

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
