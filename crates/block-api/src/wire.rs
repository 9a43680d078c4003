// SPDX-License-Identifier: Apache-2.0
//! A scanner over protobuf's wire format that keeps positions, with Go's verdict on what parses.
//!
//! Generated decoders drop unknown fields and lose where a field stood. A block is judged by its
//! bytes, so what judges it walks over them instead. A field whose wire type is not the one that
//! a message expects is an unknown field, as it is for Go: match on [`Value`] and skip the rest.

use std::ops::Range;

/// The highest field number that protobuf allows.
const MAX_FIELD: u64 = (1 << 29) - 1;

/// How deep unknown groups may nest, the limit of Go's decoder.
const MAX_GROUPS: usize = 10_000;

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The field number.
    pub number: u32,
    /// The value.
    pub value: Value<'a>,
    /// Where the whole field stands, tag included, in the outermost buffer.
    pub span: Range<usize>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: bytes, text or a message, and where its first byte stands in the outermost buffer.
    Bytes(&'a [u8], usize),
    /// Wire types 3 and 4: a group, skipped.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

/// Why bytes are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the message is cut off at byte {at}")]
    Truncated {
        /// Where the field that is cut off begins.
        at: usize,
    },
    /// A variable-length integer has more than 64 bits.
    #[error("the integer at byte {at} has more than 64 bits")]
    Overflow {
        /// Where it stands.
        at: usize,
    },
    /// A field number that protobuf does not allow.
    #[error("the field at byte {at} has no legal number")]
    FieldNumber {
        /// Where it stands.
        at: usize,
    },
    /// A wire type that protobuf does not know, or the end of a group that did not begin.
    #[error("the field at byte {at} has no legal wire type")]
    WireType {
        /// Where it stands.
        at: usize,
    },
    /// Groups nest too deep.
    #[error("the groups at byte {at} nest deeper than {MAX_GROUPS} levels")]
    TooDeep {
        /// Where the outermost one begins.
        at: usize,
    },
}

/// Walks over the fields of a message; after an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    buffer: &'a [u8],
    /// What of `buffer` was read.
    position: usize,
    /// Where `buffer` begins in the outermost buffer.
    base: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self::nested(message, 0)
    }

    /// The fields of a message that begins at `base` of an outer buffer.
    pub fn nested(message: &'a [u8], base: usize) -> Self {
        Self {
            buffer: message,
            position: 0,
            base,
        }
    }

    fn take(&mut self, length: usize, at: usize) -> Result<&'a [u8], WireError> {
        let end = self
            .position
            .checked_add(length)
            .ok_or(WireError::Truncated { at })?;
        let taken = self
            .buffer
            .get(self.position..end)
            .ok_or(WireError::Truncated { at })?;
        self.position = end;
        Ok(taken)
    }

    fn varint(&mut self, at: usize) -> Result<u64, WireError> {
        let mut value = 0;
        for index in 0..10 {
            let byte = *self
                .take(1, at)?
                .first()
                .ok_or(WireError::Truncated { at })?;
            if index == 9 && byte > 1 {
                return Err(WireError::Overflow { at });
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Overflow { at })
    }

    fn tag(&mut self, at: usize) -> Result<(u32, u8), WireError> {
        let tag = self.varint(at)?;
        let number = tag >> 3;
        if number == 0 || number > MAX_FIELD {
            return Err(WireError::FieldNumber { at });
        }
        // Both casts keep every bit: the number is below 2^29, the wire type below 8.
        Ok((number as u32, (tag & 7) as u8))
    }

    fn value(&mut self, number: u32, wire_type: u8, at: usize) -> Result<Value<'a>, WireError> {
        Ok(match wire_type {
            0 => Value::Varint(self.varint(at)?),
            1 => {
                let bytes = self.take(8, at)?;
                Value::Fixed64(
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
                )
            }
            2 => {
                let length =
                    usize::try_from(self.varint(at)?).map_err(|_| WireError::Truncated { at })?;
                let start = self.base + self.position;
                Value::Bytes(self.take(length, at)?, start)
            }
            3 => {
                self.skip_group(number, at)?;
                Value::Group
            }
            5 => {
                let bytes = self.take(4, at)?;
                Value::Fixed32(
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |sum, byte| (sum << 8) | u32::from(*byte)),
                )
            }
            _ => return Err(WireError::WireType { at }),
        })
    }

    fn skip_group(&mut self, number: u32, at: usize) -> Result<(), WireError> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let (number, wire_type) = self.tag(at)?;
            match wire_type {
                3 if open.len() >= MAX_GROUPS => return Err(WireError::TooDeep { at }),
                3 => open.push(number),
                4 if number == innermost => {
                    open.pop();
                }
                4 => return Err(WireError::WireType { at }),
                _ => {
                    self.value(number, wire_type, at)?;
                }
            }
        }
        Ok(())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.buffer.len() {
            return None;
        }
        let start = self.base + self.position;
        let field = self.tag(start).and_then(|(number, wire_type)| {
            let value = self.value(number, wire_type, start)?;
            Ok(Field {
                number,
                value,
                span: start..self.base + self.position,
            })
        });
        if field.is_err() {
            self.position = self.buffer.len();
        }
        Some(field)
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The cast keeps the seven bits that belong here; the eighth says that more follow.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field, also when it is empty.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_length(out, number, value.len());
    out.extend_from_slice(value);
}

/// Appends tag and length of a length-delimited field whose `length` bytes come after.
pub fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length as u64);
}

/// Appends an unsigned integer field, nothing when it is zero, as proto3 does.
pub fn put_uint(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number) << 3);
        put_varint(out, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(hex_text: &str) -> Result<Vec<(u32, Value<'static>)>, WireError> {
        let bytes: &'static [u8] = hex::decode(hex_text).unwrap().leak();
        Fields::new(bytes)
            .map(|field| field.map(|field| (field.number, field.value)))
            .collect()
    }

    #[test]
    fn reads_every_wire_type() {
        assert_eq!(
            scan(
                "0896 01 11 0100000000000000 1a 02 6869 25 02000000 2b 0801 2c"
                    .replace(' ', "")
                    .as_str()
            )
            .unwrap(),
            vec![
                (1, Value::Varint(150)),
                (2, Value::Fixed64(1)),
                (3, Value::Bytes(b"hi", 14)),
                (4, Value::Fixed32(2)),
                (5, Value::Group),
            ]
        );
    }

    #[test]
    fn refuses_what_go_refuses() {
        let rows = [
            ("08", WireError::Truncated { at: 0 }),
            ("0a05ff", WireError::Truncated { at: 0 }),
            ("0affffffffffffffffff01", WireError::Truncated { at: 0 }),
            ("08ffffffffffffffffff02", WireError::Overflow { at: 0 }),
            ("0001", WireError::FieldNumber { at: 0 }),
            ("808080801001", WireError::FieldNumber { at: 0 }),
            ("0c", WireError::WireType { at: 0 }),
            ("0e", WireError::WireType { at: 0 }),
            ("0b14", WireError::WireType { at: 0 }),
            ("0b08", WireError::Truncated { at: 0 }),
        ];
        for (bytes, error) in rows {
            assert_eq!(scan(bytes), Err(error), "{bytes}");
        }
        assert_eq!(
            scan(&"0b".repeat(10_001)),
            Err(WireError::TooDeep { at: 0 })
        );
        assert!(scan(&("0b".repeat(10_000) + &"0c".repeat(10_000))).is_ok());
    }

    #[test]
    fn stops_after_an_error() {
        let mut fields = Fields::new(&[0x08, 0x01, 0x07, 0x08, 0x01]);
        assert!(fields.next().unwrap().is_ok());
        assert!(fields.next().unwrap().is_err());
        assert!(fields.next().is_none());
    }

    proptest! {
        #[test]
        fn spans_cover_any_message_that_parses(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            let mut failed = false;
            for field in Fields::new(&bytes) {
                match field {
                    Ok(field) => {
                        prop_assert_eq!(field.span.start, end);
                        end = field.span.end;
                    }
                    Err(_) => failed = true,
                }
            }
            prop_assert!(failed || end == bytes.len());
        }

        #[test]
        fn what_is_put_is_read(number in 1u32..1000, value in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_uint(&mut out, number, value);
            put_bytes(&mut out, number, &bytes);
            let mut fields = Fields::new(&out);
            if value != 0 {
                prop_assert_eq!(fields.next().unwrap().unwrap().value, Value::Varint(value));
            }
            let field = fields.next().unwrap().unwrap();
            prop_assert!(matches!(field.value, Value::Bytes(read, _) if read == bytes));
            prop_assert!(fields.next().is_none());
        }
    }
}
