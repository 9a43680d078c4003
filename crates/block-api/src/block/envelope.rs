// SPDX-License-Identifier: Apache-2.0
//! What an envelope says of itself, as far as a block is asked about it.

use std::str;

use crate::wire::{Fields, Value};

/// The header type of a configuration transaction.
const CONFIG: i32 = 1;

/// What a channel header says of its transaction, as far as this crate asks.
pub(super) struct ChannelHeader<'a> {
    kind: i32,
    pub(super) channel: &'a str,
}

impl<'a> ChannelHeader<'a> {
    /// The channel header of an envelope; `None` when any message on the way to it does not parse
    /// or is not there.
    pub(super) fn of_envelope(envelope: &'a [u8]) -> Option<Self> {
        let payload = last_bytes(envelope, 1)?.unwrap_or_default();
        // A header that comes twice is merged, and its only fields are bytes: the last one counts.
        let mut channel_header = None;
        for field in Fields::new(payload) {
            let field = field.ok()?;
            if let (1, Value::Bytes(header, _)) = (field.number, field.value) {
                let inner = last_bytes(header, 1)?;
                channel_header = inner.or(channel_header).or(Some(&[]));
            }
        }
        let (mut kind, mut channel) = (0, "");
        for field in Fields::new(channel_header?) {
            let field = field.ok()?;
            match (field.number, field.value) {
                // An int32 is the low half of the varint, as every protobuf decoder has it.
                (1, Value::Varint(value)) => kind = value as i32,
                (3, Value::Bytes(timestamp, _)) => {
                    Fields::new(timestamp).try_for_each(|field| field.ok().map(drop))?
                }
                (4, Value::Bytes(text, _)) => channel = str::from_utf8(text).ok()?,
                (5, Value::Bytes(text, _)) => drop(str::from_utf8(text).ok()?),
                _ => {}
            }
        }
        Some(Self { kind, channel })
    }

    /// Whether it is that of a configuration transaction.
    pub(super) fn is_config(&self) -> bool {
        self.kind == CONFIG
    }
}

/// The last value of a bytes field; the outer `None` when the message does not parse.
#[expect(
    clippy::option_option,
    reason = "one says whether it parses, the other whether it is there"
)]
fn last_bytes(message: &[u8], number: u32) -> Option<Option<&[u8]>> {
    let mut last = None;
    for field in Fields::new(message) {
        let field = field.ok()?;
        if let Value::Bytes(value, _) = field.value
            && field.number == number
        {
            last = Some(value);
        }
    }
    Some(last)
}
