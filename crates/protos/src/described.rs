// SPDX-License-Identifier: Apache-2.0
//! Decoding as Go does it: a field of another wire type than its declaration's is unknown.
//!
//! prost refuses a message in which a field that it knows has another wire type, where Go keeps the
//! field as one that it does not know and reads on. What Fabric takes and everyone signed would be
//! refused here, so messages that Fabric's nodes judge are decoded by [`decode_as_go`]. The other way
//! round, prost reads the entry of a map out of a field of any wire type, where Go sees none.

use bytes::{Buf, Bytes, BytesMut};
use prost::{DecodeError, Message};

use crate::deliver::{
    DeliverDecodeError, FIXED32, FIXED64, Key, LENGTH_DELIMITED, START_GROUP, VARINT, put_key,
    put_varint, skip, take_key, take_slice,
};

/// How deep prost decodes messages in each other; what is deeper is left for it to refuse.
const MAX_DEPTH: usize = 100;

/// How deep the groups that are skipped may nest, the limit of Go's decoder.
const MAX_GROUPS: usize = 10_000;

/// A message whose fields are known by number and wire type.
pub trait Described {
    /// The fields, in the order of their declaration.
    fn fields() -> &'static [Field];
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The field number.
    pub number: u32,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may come more than once. Numbers that may are packed into one field or not, as the
    /// sender likes.
    pub repeated: bool,
}

/// What a field holds, as far as the wire tells.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A number, truth value or enum of variable length.
    Varint,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// Bytes or text.
    Bytes,
    /// A message with these fields; an entry of a map is one, too.
    Message(fn() -> &'static [Field]),
}

impl Field {
    fn is(&self, key: Key) -> bool {
        let own = match self.kind {
            Kind::Varint => VARINT,
            Kind::Fixed32 => FIXED32,
            Kind::Fixed64 => FIXED64,
            Kind::Bytes | Kind::Message(_) => LENGTH_DELIMITED,
        };
        let is_packed = self.repeated && key.wire_type == LENGTH_DELIMITED;
        self.number == key.field && (key.wire_type == own || is_packed)
    }
}

/// Decodes a message as Go does it: fields of another wire type than their declaration's are
/// unknown, in this message and in all that are in it.
///
/// Where there are none, as good as always, [`Bytes`] are decoded without a copy.
///
/// # Errors
///
/// If the bytes are no message for Go either, or messages stand in each other deeper than prost
/// goes.
pub fn decode_as_go<M: Described + Message + Default>(
    mut bytes: impl Buf,
) -> Result<M, DecodeError> {
    let bytes = bytes.copy_to_bytes(bytes.remaining());
    // To decode first and to look only at what prost refuses would not do: it takes the entry of a
    // map for one whatever the wire type.
    if is_as_declared(bytes.clone(), M::fields(), 0) {
        M::decode(bytes)
    } else {
        M::decode(known(bytes, M::fields(), 0))
    }
}

/// Whether prost and Go read the same, as far as the message is one.
fn is_as_declared(mut message: Bytes, fields: &[Field], depth: usize) -> bool {
    while message.has_remaining() {
        let Ok((key, content)) = take_field(&mut message) else {
            return true;
        };
        let declared = fields.iter().find(|field| field.number == key.field);
        let is_as_declared = match declared {
            Some(field) if !field.is(key) => false,
            Some(Field {
                kind: Kind::Message(inner),
                ..
            }) if depth < MAX_DEPTH => is_as_declared(content, inner(), depth + 1),
            Some(_) => true,
            // Go goes deeper into groups than prost.
            None => key.wire_type != START_GROUP,
        };
        if !is_as_declared {
            return false;
        }
    }
    true
}

/// A message without the fields that are unknown. From the first place on where it is no message it
/// stays as it is: the decoder says what is wrong with it.
fn known(message: Bytes, fields: &[Field], depth: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len());
    let mut rest = message;
    while rest.has_remaining() {
        let mut whole = rest.clone();
        let Ok((key, content)) = take_field(&mut rest) else {
            out.extend_from_slice(&whole);
            break;
        };
        let declared = fields.iter().find(|field| field.is(key));
        match declared.map(|field| field.kind) {
            Some(Kind::Message(inner)) if depth < MAX_DEPTH => {
                let inner = known(content, inner(), depth + 1);
                put_key(key.field, key.wire_type, &mut out);
                put_varint(inner.len() as u64, &mut out);
                out.extend_from_slice(&inner);
            }
            Some(_) => {
                whole.truncate(whole.len() - rest.len());
                out.extend_from_slice(&whole);
            }
            None => {}
        }
    }
    out.freeze()
}

/// Takes a field: its key, and the bytes of one that has a length.
fn take_field(rest: &mut Bytes) -> Result<(Key, Bytes), DeliverDecodeError> {
    let key = take_key(rest)?;
    let content = if key.wire_type == LENGTH_DELIMITED {
        take_slice(rest)?
    } else {
        skip(key, MAX_GROUPS, rest)?;
        Bytes::new()
    };
    Ok((key, content))
}

#[cfg(test)]
mod tests;
