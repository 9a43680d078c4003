// SPDX-License-Identifier: Apache-2.0
//! What is asked on a block stream, and how its answer ends: a version byte, then protobuf fields.
//!
//! ```text
//! request: 1 topic (32 bytes) | 2 start: 0 oldest, 1 newest, 2 at | 3 its number
//!          4 stop: 0 newest, 1 at, 2 never | 5 its number | 6 content: 0 blocks, 1 headers
//!          7 the longest block that is taken, in bytes
//! end:     1 status (common.Status)
//! ```

use block_api::{
    BlockNumber, Content, DeliverStatus, Start, Stop,
    wire::{Value, put_bytes, put_uint},
};

use crate::{
    topic::TopicId,
    wire::{Unreadable, VERSION, fields},
};

/// A range of blocks of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeRequest {
    pub(crate) topic: TopicId,
    pub(crate) start: Start,
    pub(crate) stop: Stop,
    pub(crate) content: Content,
    /// The longest block that the requester takes; a longer one ends the answer.
    pub(crate) max_block: u64,
}

impl RangeRequest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, 1, self.topic.as_bytes());
        let (start, first) = match self.start {
            Start::Oldest => (0, 0),
            Start::Newest => (1, 0),
            Start::At(number) => (2, number.get()),
        };
        let (stop, last) = match self.stop {
            Stop::Newest => (0, 0),
            Stop::At(number) => (1, number.get()),
            Stop::Never => (2, 0),
        };
        let content = match self.content {
            Content::Blocks => 0,
            Content::Headers => 1,
        };
        for (field, value) in [
            (2, start),
            (3, first),
            (4, stop),
            (5, last),
            (6, content),
            (7, self.max_block),
        ] {
            put_uint(&mut out, field, value);
        }
        out
    }

    pub(crate) fn parse(message: &[u8]) -> Result<Self, Unreadable> {
        let mut topic = None;
        let mut values = [0; 8];
        for field in fields(message)? {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => topic = bytes.try_into().ok().map(TopicId::new),
                (number, Value::Varint(value)) => {
                    if let Some(slot) = values.get_mut(number as usize) {
                        *slot = value;
                    }
                }
                _ => {}
            }
        }
        let [_, _, start, first, stop, last, content, max_block] = values;
        Ok(Self {
            topic: topic.ok_or(Unreadable::Missing("a channel"))?,
            start: match start {
                0 => Start::Oldest,
                1 => Start::Newest,
                2 => Start::At(BlockNumber::new(first)),
                _ => return Err(Unreadable::Missing("a start")),
            },
            stop: match stop {
                0 => Stop::Newest,
                1 => Stop::At(BlockNumber::new(last)),
                2 => Stop::Never,
                _ => return Err(Unreadable::Missing("a stop")),
            },
            content: match content {
                0 => Content::Blocks,
                1 => Content::Headers,
                _ => return Err(Unreadable::Missing("a content")),
            },
            max_block,
        })
    }
}

/// The end of an answer.
pub(crate) fn put_end(status: DeliverStatus) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_uint(&mut out, 1, u64::from(status.code().unsigned_abs()));
    out
}

/// The status in the end of an answer.
pub(crate) fn parse_end(message: &[u8]) -> Result<DeliverStatus, Unreadable> {
    let mut code = None;
    for field in fields(message)? {
        let field = field?;
        if let (1, Value::Varint(value)) = (field.number, field.value) {
            code = i32::try_from(value).ok();
        }
    }
    code.map(DeliverStatus::from_code)
        .ok_or(Unreadable::Missing("a status"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = BlockNumber> {
        any::<u64>().prop_map(BlockNumber::new)
    }

    proptest! {
        #[test]
        fn a_request_comes_back(
            start in prop_oneof![Just(Start::Oldest), Just(Start::Newest), number().prop_map(Start::At)],
            stop in prop_oneof![Just(Stop::Newest), Just(Stop::Never), number().prop_map(Stop::At)],
            content in prop_oneof![Just(Content::Blocks), Just(Content::Headers)],
            max_block in any::<u64>(),
        ) {
            let request = RangeRequest { topic: TopicId::new([9; 32]), start, stop, content, max_block };
            prop_assert_eq!(RangeRequest::parse(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn an_end_comes_back() {
        for code in [200, 400, 403, 404, 413, 500, 501, 503, 999] {
            let status = DeliverStatus::from_code(code);
            assert_eq!(parse_end(&put_end(status)), Ok(status));
        }
        assert_eq!(parse_end(&[]), Err(Unreadable::Empty));
        assert_eq!(parse_end(&[2]), Err(Unreadable::Version(2)));
        assert_eq!(parse_end(&[VERSION]), Err(Unreadable::Missing("a status")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut request = vec![VERSION];
        put_bytes(&mut request, 1, &[1; 31]);
        assert_eq!(
            RangeRequest::parse(&request),
            Err(Unreadable::Missing("a channel"))
        );
        for (field, name) in [(2, "a start"), (4, "a stop"), (6, "a content")] {
            let mut request = vec![VERSION];
            put_bytes(&mut request, 1, &[1; 32]);
            put_uint(&mut request, field, 7);
            assert_eq!(
                RangeRequest::parse(&request),
                Err(Unreadable::Missing(name))
            );
        }
    }
}
