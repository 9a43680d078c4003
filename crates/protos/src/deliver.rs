// SPDX-License-Identifier: Apache-2.0
//! Responses of Deliver as bytes, and the scanner that finds status or block in them.
//!
//! Decoding a block and encoding it again drops the fields that the decoder does not know, and so
//! changes what is hashed.
//! A [`RawDeliverResponse`] is therefore never decoded: [`parse`](RawDeliverResponse::parse) hands
//! over the bytes of the block as a slice of what was received.

use std::{error::Error, fmt};

use bytes::{Buf as _, BufMut, Bytes, BytesMut};

use crate::common;

/// `DeliverResponse.status`.
const STATUS: u32 = 1;
/// `DeliverResponse.block`.
const BLOCK: u32 = 2;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LENGTH_DELIMITED: u8 = 2;
pub(crate) const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
pub(crate) const FIXED32: u8 = 5;

/// Groups within groups that are skipped before a message counts as malformed; prost's limit.
const MAX_GROUP_DEPTH: usize = 100;

/// One message of a Deliver stream: as received, or as a status or block that is to be sent.
#[derive(Clone)]
pub struct RawDeliverResponse(Form);

/// What a Deliver stream's message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliverMessage {
    /// The end of the answer to a request, as the number of a [`common::Status`]; a number that is
    /// not among them is kept.
    Status(i32),
    /// The exact bytes of the next `common.Block`, not yet known to be one.
    Block(Bytes),
    /// Neither status nor block.
    Unset,
}

/// Why the bytes of a `DeliverResponse` are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliverDecodeError {
    /// The bytes end within a field.
    Truncated,
    /// A number is longer than 64 bits.
    Varint,
    /// A field's key has no field number, or no wire type that exists.
    Key {
        /// The key.
        key: u64,
    },
    /// Status or block is of another wire type than it must be.
    WireType {
        /// The number of the field.
        field: u32,
        /// The wire type that was found.
        found: u8,
    },
    /// A group ends that has not begun.
    UnmatchedGroup {
        /// The number of the field that ends.
        field: u32,
    },
    /// Groups are nested too deep.
    GroupDepth,
}

#[derive(Clone)]
enum Form {
    Encoded(Bytes),
    Status(i32),
    Block(Bytes),
}

/// The oneof while it is being read. A block that comes in pieces gathers in a buffer that grows,
/// so that many small pieces do not cost a copy of the whole each.
enum Found {
    Unset,
    Status(i32),
    Block(Bytes),
    Pieces(BytesMut),
}

#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) field: u32,
    pub(crate) wire_type: u8,
}

impl RawDeliverResponse {
    /// A response whose bytes are given; nothing is checked.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self(Form::Encoded(bytes))
    }

    /// A response that ends the answer to a request.
    #[must_use]
    pub fn status(status: common::Status) -> Self {
        Self(Form::Status(status.into()))
    }

    /// A response that carries a block, given as the bytes of a `common.Block`; they are sent as
    /// they are.
    #[must_use]
    pub fn block(block: Bytes) -> Self {
        Self(Form::Block(block))
    }

    /// The number of bytes that this response takes on the wire, without gRPC's frame.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match &self.0 {
            Form::Encoded(bytes) => bytes.len(),
            Form::Status(status) => 1 + varint_len(status_on_wire(*status)),
            Form::Block(block) => 1 + varint_len(block.len() as u64) + block.len(),
        }
    }

    /// Writes the response to `buf`.
    ///
    /// # Panics
    ///
    /// If `buf` has less room than [`encoded_len`](Self::encoded_len) and does not grow.
    pub fn encode(&self, buf: &mut impl BufMut) {
        match &self.0 {
            Form::Encoded(bytes) => buf.put_slice(bytes),
            Form::Status(status) => {
                put_key(STATUS, VARINT, buf);
                put_varint(status_on_wire(*status), buf);
            }
            Form::Block(block) => {
                put_key(BLOCK, LENGTH_DELIMITED, buf);
                put_varint(block.len() as u64, buf);
                buf.put_slice(block);
            }
        }
    }

    /// The bytes of the response; without a copy, if it was made from bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Form::Encoded(bytes) => bytes,
            Form::Status(_) | Form::Block(_) => {
                let mut buf = BytesMut::with_capacity(self.encoded_len());
                self.encode(&mut buf);
                buf.freeze()
            }
        }
    }

    /// Finds what the response says, by the rules of a protobuf oneof: of several members the last
    /// one counts, a block that follows a block adds to it, and unknown fields are skipped.
    ///
    /// A block is a slice of the bytes received, without a copy, unless it comes in several pieces.
    ///
    /// # Errors
    ///
    /// If the bytes are not a protobuf message, or status or block is not of its wire type.
    /// The bytes of the block are not looked into.
    pub fn parse(self) -> Result<DeliverMessage, DeliverDecodeError> {
        match self.0 {
            Form::Encoded(bytes) => scan(bytes),
            Form::Status(status) => Ok(DeliverMessage::Status(status)),
            Form::Block(block) => Ok(DeliverMessage::Block(block)),
        }
    }
}

impl fmt::Debug for RawDeliverResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A block may have 100 MB: what it says is for `parse`.
        match &self.0 {
            Form::Encoded(bytes) => write!(f, "RawDeliverResponse({} bytes)", bytes.len()),
            Form::Status(status) => write!(f, "RawDeliverResponse(status {status})"),
            Form::Block(block) => write!(f, "RawDeliverResponse(block of {} bytes)", block.len()),
        }
    }
}

impl fmt::Display for DeliverDecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed deliver response: ")?;
        match self {
            Self::Truncated => f.write_str("it ends within a field"),
            Self::Varint => f.write_str("a number is longer than 64 bits"),
            Self::Key { key } => write!(f, "{key} is no field's key"),
            Self::WireType { field, found } => {
                write!(f, "field {field} must not be of wire type {found}")
            }
            Self::UnmatchedGroup { field } => {
                write!(f, "group {field} ends, but has not begun")
            }
            Self::GroupDepth => {
                write!(f, "groups are nested more than {MAX_GROUP_DEPTH} deep")
            }
        }
    }
}

impl Error for DeliverDecodeError {}

impl Found {
    fn add_block(self, piece: Bytes) -> Self {
        match self {
            Self::Unset | Self::Status(_) => Self::Block(piece),
            Self::Block(first) => {
                let mut pieces = BytesMut::with_capacity(first.len() + piece.len());
                pieces.extend_from_slice(&first);
                pieces.extend_from_slice(&piece);
                Self::Pieces(pieces)
            }
            Self::Pieces(mut pieces) => {
                pieces.extend_from_slice(&piece);
                Self::Pieces(pieces)
            }
        }
    }
}

fn scan(mut rest: Bytes) -> Result<DeliverMessage, DeliverDecodeError> {
    let mut found = Found::Unset;
    while rest.has_remaining() {
        let key = take_key(&mut rest)?;
        match (key.field, key.wire_type) {
            // An enum is an int32, which protobuf cuts from the number on the wire.
            (STATUS, VARINT) => found = Found::Status(take_varint(&mut rest)? as i32),
            (BLOCK, LENGTH_DELIMITED) => found = found.add_block(take_slice(&mut rest)?),
            (field @ (STATUS | BLOCK), wire_type) => {
                return Err(DeliverDecodeError::WireType {
                    field,
                    found: wire_type,
                });
            }
            _ => skip(key, MAX_GROUP_DEPTH, &mut rest)?,
        }
    }
    Ok(match found {
        Found::Unset => DeliverMessage::Unset,
        Found::Status(status) => DeliverMessage::Status(status),
        Found::Block(block) => DeliverMessage::Block(block),
        Found::Pieces(pieces) => DeliverMessage::Block(pieces.freeze()),
    })
}

/// Skips the rest of an unknown field; a group with all that is in it, without recursion, but with
/// no more than so many groups in each other.
pub(crate) fn skip(first: Key, groups: usize, rest: &mut Bytes) -> Result<(), DeliverDecodeError> {
    let mut open: Vec<u32> = Vec::new();
    let mut key = first;
    loop {
        if key.wire_type != END_GROUP && open.len() >= groups {
            return Err(DeliverDecodeError::GroupDepth);
        }
        match key.wire_type {
            VARINT => drop(take_varint(rest)?),
            FIXED64 => drop(take(8, rest)?),
            FIXED32 => drop(take(4, rest)?),
            LENGTH_DELIMITED => drop(take_slice(rest)?),
            START_GROUP => open.push(key.field),
            // END_GROUP: a key has no other wire type.
            _ => {
                if open.pop() != Some(key.field) {
                    return Err(DeliverDecodeError::UnmatchedGroup { field: key.field });
                }
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        key = take_key(rest)?;
    }
}

pub(crate) fn take_key(rest: &mut Bytes) -> Result<Key, DeliverDecodeError> {
    let key = take_varint(rest)?;
    let error = DeliverDecodeError::Key { key };
    let number = u32::try_from(key).map_err(|_| error)?;
    let field = number >> 3;
    let wire_type = (number & 7) as u8;
    if field == 0 || wire_type > FIXED32 {
        return Err(error);
    }
    Ok(Key { field, wire_type })
}

fn take_varint(rest: &mut Bytes) -> Result<u64, DeliverDecodeError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest
            .try_get_u8()
            .map_err(|_| DeliverDecodeError::Truncated)?;
        if shift == 63 && byte > 1 {
            return Err(DeliverDecodeError::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DeliverDecodeError::Varint)
}

pub(crate) fn take_slice(rest: &mut Bytes) -> Result<Bytes, DeliverDecodeError> {
    let len = take_varint(rest)?;
    let len = usize::try_from(len).map_err(|_| DeliverDecodeError::Truncated)?;
    take(len, rest)
}

fn take(len: usize, rest: &mut Bytes) -> Result<Bytes, DeliverDecodeError> {
    if len > rest.len() {
        return Err(DeliverDecodeError::Truncated);
    }
    Ok(rest.split_to(len))
}

/// An int32 goes on the wire as 64 bits, the sign extended.
fn status_on_wire(status: i32) -> u64 {
    i64::from(status) as u64
}

fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

pub(crate) fn put_key(field: u32, wire_type: u8, buf: &mut impl BufMut) {
    put_varint(u64::from(field << 3) | u64::from(wire_type), buf);
}

pub(crate) fn put_varint(mut value: u64, buf: &mut impl BufMut) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::{Message as _, Oneof};

    use super::*;
    use crate::orderer::{DeliverResponse, deliver_response};

    /// What prost makes of the same two fields without looking into the block.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Opaque {
        #[prost(oneof = "OpaqueType", tags = "1, 2")]
        r#type: Option<OpaqueType>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    enum OpaqueType {
        #[prost(int32, tag = "1")]
        Status(i32),
        #[prost(bytes = "bytes", tag = "2")]
        Block(Bytes),
    }

    fn parse(bytes: impl Into<Bytes>) -> Result<DeliverMessage, DeliverDecodeError> {
        RawDeliverResponse::from_bytes(bytes.into()).parse()
    }

    fn block(bytes: &[u8]) -> Vec<u8> {
        let mut buf = Vec::new();
        RawDeliverResponse::block(Bytes::copy_from_slice(bytes)).encode(&mut buf);
        buf
    }

    fn status(status: i32) -> Vec<u8> {
        let mut buf = Vec::new();
        RawDeliverResponse(Form::Status(status)).encode(&mut buf);
        buf
    }

    fn key(field: u32, wire_type: u8) -> Vec<u8> {
        let mut buf = Vec::new();
        put_key(field, wire_type, &mut buf);
        buf
    }

    /// The key, length and start of a response of several kinds, as they must be on the wire.
    #[test]
    fn responses_are_written_as_protobuf_does() {
        for status in [
            common::Status::Unknown,
            common::Status::Success,
            common::Status::ServiceUnavailable,
        ] {
            let wanted = DeliverResponse {
                r#type: Some(deliver_response::Type::Status(status.into())),
            };
            let response = RawDeliverResponse::status(status);
            assert_eq!(response.encoded_len(), wanted.encoded_len());
            assert_eq!(response.into_bytes(), wanted.encode_to_vec());
        }
        assert_eq!(block(b""), [0x12, 0]);
        assert_eq!(block(b"abc"), [0x12, 3, b'a', b'b', b'c']);
        assert_eq!(block(&[0; 128])[..3], [0x12, 0x80, 1]);
        assert_eq!(status(0), [0x08, 0]);
        assert_eq!(status(200), [0x08, 0xc8, 1]);
        let minus_one = [[0x08].as_slice(), &[0xff; 9], &[1]].concat();
        assert_eq!(status(-1), minus_one);
    }

    #[test]
    fn a_block_is_a_slice_of_what_was_received() {
        let received = Bytes::from(block(&[7; 1000]));
        let within = received.as_ptr_range();
        let DeliverMessage::Block(block) = parse(received).unwrap() else {
            panic!("it is a block");
        };
        assert_eq!(block, [7; 1000].as_slice());
        assert!(within.contains(&block.as_ptr()), "the block was copied");
    }

    #[test]
    fn the_last_member_of_the_oneof_counts() {
        let found = |parts: &[Vec<u8>]| parse(parts.concat()).unwrap();
        let (a, b) = (block(b"a"), block(b"b"));
        let ok = status(200);
        let slice = |bytes| DeliverMessage::Block(Bytes::from_static(bytes));

        assert_eq!(found(&[]), DeliverMessage::Unset);
        assert_eq!(found(&[a.clone(), ok.clone()]), DeliverMessage::Status(200));
        assert_eq!(found(&[ok.clone(), a.clone()]), slice(b"a"));
        assert_eq!(
            found(&[ok.clone(), status(404)]),
            DeliverMessage::Status(404)
        );
        assert_eq!(found(&[a.clone(), b.clone(), a.clone()]), slice(b"aba"));
        assert_eq!(found(&[a, ok, b]), slice(b"b"));
        assert_eq!(found(&[block(b"")]), slice(b""));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let group = [
            key(9, START_GROUP),
            key(1, LENGTH_DELIMITED),
            vec![1, b'x'],
            key(8, START_GROUP),
            key(8, END_GROUP),
            key(9, END_GROUP),
        ]
        .concat();
        for unknown in [
            [key(3, VARINT), vec![0x80, 1]].concat(),
            [key(4, FIXED64), vec![1; 8]].concat(),
            [key(5, LENGTH_DELIMITED), vec![2, b'h', b'i']].concat(),
            [key(6, FIXED32), vec![1; 4]].concat(),
            [key((1 << 29) - 1, VARINT), vec![0]].concat(),
            group,
        ] {
            let only = DeliverMessage::Block(Bytes::from_static(b"block"));
            let before = [unknown.clone(), block(b"block")].concat();
            assert_eq!(parse(before), Ok(only.clone()), "{unknown:?}");
            let after = [block(b"block"), unknown.clone()].concat();
            assert_eq!(parse(after), Ok(only), "{unknown:?}");
            assert_eq!(parse(unknown), Ok(DeliverMessage::Unset));
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        let deep = |depth| {
            let open = key(3, START_GROUP).repeat(depth);
            let close = key(3, END_GROUP).repeat(depth);
            [open, close].concat()
        };
        assert_eq!(parse(deep(MAX_GROUP_DEPTH)), Ok(DeliverMessage::Unset));

        let long = u64::from(u32::MAX) + 1;
        let mut key_too_long = Vec::new();
        put_varint(long, &mut key_too_long);
        let rows: &[(&str, Vec<u8>, DeliverDecodeError)] = &[
            ("a key cut off", vec![0x80], DeliverDecodeError::Truncated),
            (
                "a status cut off",
                vec![0x08],
                DeliverDecodeError::Truncated,
            ),
            (
                "a block cut off",
                vec![0x12, 2, 0],
                DeliverDecodeError::Truncated,
            ),
            (
                "a length beyond memory",
                [key(BLOCK, LENGTH_DELIMITED), vec![0xff; 9], vec![1]].concat(),
                DeliverDecodeError::Truncated,
            ),
            (
                "a fixed64 cut off",
                [key(3, FIXED64), vec![0; 7]].concat(),
                DeliverDecodeError::Truncated,
            ),
            (
                "a fixed32 cut off",
                [key(3, FIXED32), vec![0; 3]].concat(),
                DeliverDecodeError::Truncated,
            ),
            (
                "a group cut off",
                key(3, START_GROUP),
                DeliverDecodeError::Truncated,
            ),
            (
                "a number of 65 bits",
                [vec![0x08], vec![0xff; 9], vec![2]].concat(),
                DeliverDecodeError::Varint,
            ),
            (
                "a number of eleven bytes",
                [vec![0x08], vec![0x80; 10], vec![0]].concat(),
                DeliverDecodeError::Varint,
            ),
            ("field 0", vec![0, 0], DeliverDecodeError::Key { key: 0 }),
            (
                "wire type 6",
                vec![0x1e],
                DeliverDecodeError::Key { key: 0x1e },
            ),
            (
                "wire type 7",
                vec![0x1f],
                DeliverDecodeError::Key { key: 0x1f },
            ),
            (
                "a key of 33 bits",
                key_too_long,
                DeliverDecodeError::Key { key: long },
            ),
            (
                "a status of bytes",
                [key(STATUS, LENGTH_DELIMITED), vec![0]].concat(),
                DeliverDecodeError::WireType { field: 1, found: 2 },
            ),
            (
                "a block of a number",
                [key(BLOCK, VARINT), vec![0]].concat(),
                DeliverDecodeError::WireType { field: 2, found: 0 },
            ),
            (
                "an end without a start",
                key(3, END_GROUP),
                DeliverDecodeError::UnmatchedGroup { field: 3 },
            ),
            (
                "another group's end",
                [key(3, START_GROUP), key(4, END_GROUP)].concat(),
                DeliverDecodeError::UnmatchedGroup { field: 4 },
            ),
            (
                "too many groups",
                deep(MAX_GROUP_DEPTH + 1),
                DeliverDecodeError::GroupDepth,
            ),
        ];
        for (what, bytes, error) in rows {
            assert_eq!(parse(bytes.clone()), Err(*error), "{what}");
            let shown = error.to_string();
            assert!(shown.starts_with("malformed deliver response: "), "{shown}");
            assert!(Opaque::decode(bytes.as_slice()).is_err(), "{what}");
        }
    }

    /// If each piece cost a copy of all before it, this would copy over a hundred gigabytes.
    #[test]
    fn many_small_pieces_of_a_block_are_cheap() {
        let pieces = 500_000;
        let parsed = parse(block(b"x").repeat(pieces));
        assert_eq!(parsed, Ok(DeliverMessage::Block(vec![b'x'; pieces].into())));
    }

    #[test]
    fn debug_output_of_a_big_block_is_short() {
        let response = RawDeliverResponse::block(vec![0; 10_000].into());
        assert_eq!(
            format!("{response:?}"),
            "RawDeliverResponse(block of 10000 bytes)"
        );
        let response = RawDeliverResponse::from_bytes(response.into_bytes());
        assert_eq!(format!("{response:?}"), "RawDeliverResponse(10003 bytes)");
    }

    /// A field of a response: one of the two that are known, with a block that prost can decode, or
    /// one that is not, whose number may be that of a later Fabric.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let number = 3..(1u32 << 29);
        let small =
            (any::<Option<u64>>(), vec(vec(any::<u8>(), 0..8), 0..3)).prop_map(|(number, data)| {
                common::Block {
                    header: number.map(|number| common::BlockHeader {
                        number,
                        ..Default::default()
                    }),
                    data: Some(common::BlockData {
                        data: data.into_iter().map(Bytes::from).collect(),
                    }),
                    metadata: None,
                }
            });
        prop_oneof![
            any::<i32>().prop_map(status),
            small.prop_map(|small| block(&small.encode_to_vec())),
            (number.clone(), any::<u64>()).prop_map(|(field, value)| {
                let mut buf = key(field, VARINT);
                put_varint(value, &mut buf);
                buf
            }),
            (number.clone(), vec(any::<u8>(), 0..200)).prop_map(|(field, value)| {
                let mut buf = key(field, LENGTH_DELIMITED);
                put_varint(value.len() as u64, &mut buf);
                buf.extend(value);
                buf
            }),
            (number.clone(), any::<[u8; 8]>()).prop_map(|(field, value)| [
                key(field, FIXED64),
                value.to_vec()
            ]
            .concat()),
            (number.clone(), any::<[u8; 4]>()).prop_map(|(field, value)| [
                key(field, FIXED32),
                value.to_vec()
            ]
            .concat()),
            (number, vec(any::<i32>(), 0..3)).prop_map(|(field, inner)| {
                let inner = inner.into_iter().map(status).collect::<Vec<_>>().concat();
                [key(field, START_GROUP), inner, key(field, END_GROUP)].concat()
            }),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_judged_as_prost_judges_them(bytes in vec(any::<u8>(), 0..64)) {
            agrees_with_prost(bytes)?;
        }

        #[test]
        fn cut_and_flipped_responses_are_judged_as_prost_judges_them(
            fields in vec(fields(), 1..5),
            at in any::<prop::sample::Index>(),
            flip in any::<u8>(),
            cut in any::<bool>(),
        ) {
            let mut bytes = fields.concat();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if cut {
                bytes.truncate(at);
            }
            agrees_with_prost(bytes)?;
        }

        #[test]
        fn well_formed_responses_say_what_prost_reads_in_them(fields in vec(fields(), 0..6)) {
            let bytes = fields.concat();
            let wanted = DeliverResponse::decode(bytes.as_slice()).unwrap().r#type;
            match (parse(bytes).unwrap(), wanted) {
                (DeliverMessage::Unset, None) => {}
                (DeliverMessage::Status(found), Some(deliver_response::Type::Status(wanted))) => {
                    prop_assert_eq!(found, wanted);
                }
                (DeliverMessage::Block(found), Some(deliver_response::Type::Block(wanted))) => {
                    prop_assert_eq!(common::Block::decode(found).unwrap(), wanted);
                }
                (found, wanted) => prop_assert!(false, "{found:?} is not {wanted:?}"),
            }
        }

        #[test]
        fn what_is_sent_is_what_is_received(bytes in vec(any::<u8>(), 0..300), code in any::<i32>()) {
            let bytes = Bytes::from(bytes);
            let sent = RawDeliverResponse::block(bytes.clone());
            let len = sent.encoded_len();
            let sent = sent.into_bytes();
            prop_assert_eq!(sent.len(), len);
            prop_assert_eq!(parse(sent), Ok(DeliverMessage::Block(bytes)));

            let sent = RawDeliverResponse(Form::Status(code));
            let len = sent.encoded_len();
            let sent = sent.into_bytes();
            prop_assert_eq!(sent.len(), len);
            prop_assert_eq!(parse(sent), Ok(DeliverMessage::Status(code)));
        }
    }

    /// Well-formed or not, and which member counts; the block's bytes too, unless it has pieces,
    /// which prost keeps the last of where the field is not a message.
    fn agrees_with_prost(bytes: Vec<u8>) -> Result<(), TestCaseError> {
        let wanted = Opaque::decode(bytes.as_slice());
        match (parse(bytes), wanted.map(|wanted| wanted.r#type)) {
            (Err(_), Err(_)) | (Ok(DeliverMessage::Unset), Ok(None)) => {}
            (Ok(DeliverMessage::Status(found)), Ok(Some(OpaqueType::Status(wanted)))) => {
                prop_assert_eq!(found, wanted);
            }
            (Ok(DeliverMessage::Block(found)), Ok(Some(OpaqueType::Block(wanted)))) => {
                prop_assert!(found.ends_with(&wanted));
            }
            (found, wanted) => prop_assert!(false, "{found:?} is not {wanted:?}"),
        }
        Ok(())
    }
}
