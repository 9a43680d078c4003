// SPDX-License-Identifier: Apache-2.0
//! Fields of the wrong wire type, in every message of a configuration and in soups of them.

use std::{collections::BTreeMap, fmt::Debug};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{common, etcdraft, msp, orderer, peer, smartbft};

/// A message with a field of every kind.
#[derive(Clone, PartialEq, Message)]
struct Soup {
    #[prost(int32, tag = "1")]
    varint: i32,
    #[prost(fixed32, tag = "2")]
    fixed32: u32,
    #[prost(fixed64, tag = "3")]
    fixed64: u64,
    #[prost(bytes = "bytes", tag = "4")]
    bytes: Bytes,
    #[prost(message, optional, boxed, tag = "5")]
    message: Option<Box<Self>>,
    #[prost(uint64, repeated, tag = "6")]
    numbers: Vec<u64>,
    #[prost(btree_map = "string, message", tag = "7")]
    map: BTreeMap<String, Self>,
}

#[derive(Debug, Clone)]
enum Piece {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Text(String),
    Packed(Vec<u64>),
    Message(Vec<(u32, Self)>),
    Group(Vec<(u32, Self)>),
}

/// What the number of a field means in the message that it stands in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Within {
    Soup,
    Entry,
    Unknown,
}

impl Described for Soup {
    fn fields() -> &'static [Field] {
        const fn one(number: u32, kind: Kind) -> Field {
            Field {
                number,
                kind,
                repeated: false,
            }
        }
        const fn many(number: u32, kind: Kind) -> Field {
            Field {
                number,
                kind,
                repeated: true,
            }
        }
        const ENTRY: &[Field] = &[one(1, Kind::Bytes), one(2, Kind::Message(Soup::fields))];
        const FIELDS: &[Field] = &[
            one(1, Kind::Varint),
            one(2, Kind::Fixed32),
            one(3, Kind::Fixed64),
            one(4, Kind::Bytes),
            one(5, Kind::Message(Soup::fields)),
            many(6, Kind::Varint),
            many(7, Kind::Message(|| ENTRY)),
        ];
        FIELDS
    }
}

/// Writes a field; those of another type than declared only if `all` are wanted.
fn write(number: u32, piece: &Piece, within: Within, all: bool, out: &mut Vec<u8>) {
    let inner = match (within, number) {
        (Within::Soup, 5) | (Within::Entry, 2) => Within::Soup,
        (Within::Soup, 7) => Within::Entry,
        _ => Within::Unknown,
    };
    let is_declared = matches!(
        (within, number, piece),
        (Within::Unknown, ..)
            | (Within::Soup, 1 | 6, Piece::Varint(_))
            | (Within::Soup, 2, Piece::Fixed32(_))
            | (Within::Soup, 3, Piece::Fixed64(_))
            | (
                Within::Soup,
                4..=7,
                Piece::Text(_) | Piece::Packed(_) | Piece::Message(_)
            )
            | (
                Within::Entry,
                1 | 2,
                Piece::Text(_) | Piece::Packed(_) | Piece::Message(_)
            )
    );
    if !is_declared && !all {
        return;
    }
    // What is a message or a list of numbers must be one, and a key of a map is text.
    let content = match (within, number, piece) {
        (Within::Soup, 6, Piece::Text(_) | Piece::Message(_)) => vec![1, 2],
        (Within::Entry, 1, Piece::Packed(_) | Piece::Message(_)) => b"key".to_vec(),
        (_, _, Piece::Text(_) | Piece::Packed(_)) if inner != Within::Unknown => Vec::new(),
        (_, _, Piece::Text(text)) => text.clone().into_bytes(),
        (_, _, Piece::Packed(numbers)) => {
            let mut content = Vec::new();
            for number in numbers {
                put_varint(*number, &mut content);
            }
            content
        }
        (_, _, Piece::Message(pieces)) => soup(pieces, inner, all),
        (_, _, Piece::Group(pieces)) => soup(pieces, Within::Unknown, true),
        (_, _, Piece::Varint(_) | Piece::Fixed32(_) | Piece::Fixed64(_)) => Vec::new(),
    };
    match piece {
        Piece::Varint(value) => {
            put_key(number, VARINT, out);
            put_varint(*value, out);
        }
        Piece::Fixed32(value) => {
            put_key(number, FIXED32, out);
            out.extend(value.to_le_bytes());
        }
        Piece::Fixed64(value) => {
            put_key(number, FIXED64, out);
            out.extend(value.to_le_bytes());
        }
        Piece::Text(_) | Piece::Packed(_) | Piece::Message(_) => {
            put_key(number, LENGTH_DELIMITED, out);
            put_varint(content.len() as u64, out);
            out.extend(content);
        }
        Piece::Group(_) => {
            put_key(number, START_GROUP, out);
            out.extend(content);
            put_key(number, START_GROUP + 1, out);
        }
    }
}

fn soup(pieces: &[(u32, Piece)], within: Within, all: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, piece) in pieces {
        write(*number, piece, within, all, &mut out);
    }
    out
}

fn pieces() -> impl Strategy<Value = Vec<(u32, Piece)>> {
    let piece = prop_oneof![
        any::<u64>().prop_map(Piece::Varint),
        any::<u32>().prop_map(Piece::Fixed32),
        any::<u64>().prop_map(Piece::Fixed64),
        "[a-c]{0,3}".prop_map(Piece::Text),
        vec(any::<u64>(), 0..3).prop_map(Piece::Packed),
    ];
    let piece = piece.prop_recursive(4, 64, 6, |piece| {
        let pieces = vec((1..9u32, piece), 0..6).boxed();
        prop_oneof![
            3 => pieces.clone().prop_map(Piece::Message),
            1 => pieces.prop_map(Piece::Group),
        ]
    });
    vec((1..9u32, piece), 0..8)
}

/// A field of that number with each wire type.
fn of_every_type(number: u32) -> [(u8, Vec<u8>); 5] {
    let field = |wire_type, content: &[u8]| {
        let mut field = Vec::new();
        put_key(number, wire_type, &mut field);
        field.extend_from_slice(content);
        (wire_type, field)
    };
    let mut end = Vec::new();
    put_key(number, START_GROUP + 1, &mut end);
    [
        field(VARINT, &[0]),
        field(FIXED64, &[0; 8]),
        field(LENGTH_DELIMITED, &[0]),
        field(START_GROUP, &end),
        field(FIXED32, &[0; 4]),
    ]
}

/// Every field with every wire type: prost refuses those that the description says are not the
/// field's, so the description is that of the message.
fn check<M: Described + Message + Default + PartialEq + Debug>(name: &str) {
    for declared in M::fields() {
        for (wire_type, field) in of_every_type(declared.number) {
            let key = Key {
                field: declared.number,
                wire_type,
            };
            let place = format!("{name}.{} of wire type {wire_type}", declared.number);
            // prost does not look at the wire type of a map.
            let is_map = declared.repeated && matches!(declared.kind, Kind::Message(_));
            if !is_map || declared.is(key) {
                assert_eq!(M::decode(&*field).is_ok(), declared.is(key), "{place}");
            }
            let decoded = decode_as_go::<M>(&*field).expect(&place);
            if !declared.is(key) {
                assert_eq!(decoded, M::default(), "{place}");
                let cut = field.get(..field.len() - 1).unwrap_or_default();
                assert!(decode_as_go::<M>(cut).is_err(), "{place}, cut off");
            }
        }
    }
    let unknown = of_every_type(1000).map(|(_, field)| field).concat();
    assert_eq!(decode_as_go::<M>(&*unknown), Ok(M::default()), "{name}");
}

macro_rules! check_all {
    ($($message:ty),* $(,)?) => {
        $(check::<$message>(stringify!($message));)*
    };
}

#[test]
fn every_message_is_described_as_it_is() {
    check_all!(
        common::BlockDataHashingStructure,
        common::BlockMetadata,
        common::Capabilities,
        common::Capability,
        common::ChannelHeader,
        common::CombinedPrincipal,
        common::Config,
        common::ConfigEnvelope,
        common::ConfigGroup,
        common::ConfigPolicy,
        common::ConfigValue,
        common::Consenter,
        common::Consortium,
        common::Envelope,
        common::HashingAlgorithm,
        common::Header,
        common::IdentifierHeader,
        common::ImplicitMetaPolicy,
        common::LastConfig,
        common::Metadata,
        common::MetadataSignature,
        common::MspIdentityAnonymity,
        common::MspPrincipal,
        common::MspRole,
        common::OrdererAddresses,
        common::OrdererBlockMetadata,
        common::Orderers,
        common::OrganizationUnit,
        common::Payload,
        common::Policy,
        common::SignatureHeader,
        common::SignaturePolicy,
        common::SignaturePolicyEnvelope,
        common::signature_policy::NOutOf,
        etcdraft::BlockMetadata,
        etcdraft::ConfigMetadata,
        etcdraft::Consenter,
        etcdraft::Options,
        msp::FabricCryptoConfig,
        msp::FabricMspConfig,
        msp::FabricNodeOUs,
        msp::FabricOuIdentifier,
        msp::KeyInfo,
        msp::MspConfig,
        msp::SerializedIdentity,
        msp::SigningIdentityInfo,
        orderer::BatchSize,
        orderer::BatchTimeout,
        orderer::ChannelRestrictions,
        orderer::ConsensusType,
        orderer::KafkaBrokers,
        peer::Acls,
        peer::AnchorPeer,
        peer::AnchorPeers,
        peer::ApiResource,
        prost_types::Timestamp,
        smartbft::Options,
        Soup,
    );
}

#[test]
fn what_is_taken_without_a_copy_stays_so() {
    let bytes = Bytes::from_static(&[0x22, 3, 1, 2, 3]);
    let soup: Soup = decode_as_go(bytes.clone()).unwrap();
    assert_eq!(soup.bytes.as_ptr(), bytes.slice(2..).as_ptr());
}

/// prost makes an entry of each of these.
#[test]
fn entries_of_maps_are_of_their_type() {
    for (_, field) in of_every_type(7) {
        let is_entry = field.first() == Some(&0x3a);
        let soup: Soup = decode_as_go(&*field).unwrap();
        assert_eq!(!soup.map.is_empty(), is_entry, "{field:?}");
    }
    let soup = Soup::decode(&[0x38, 0][..]).unwrap();
    assert_eq!(soup.map.len(), 1);
}

#[test]
fn groups_nest_as_deep_as_for_go_and_messages_as_deep_as_for_prost() {
    let groups = |count: usize| {
        let starts = vec![0x0b; count];
        let ends = vec![0x0c; count];
        [starts, ends].concat()
    };
    assert!(decode_as_go::<Soup>(&*groups(MAX_GROUPS)).is_ok());
    assert!(decode_as_go::<Soup>(&*groups(MAX_GROUPS + 1)).is_err());
    let messages = |count: usize| {
        let mut message = vec![0x0d, 0, 0, 0, 0];
        for _ in 0..count {
            let mut outer = Vec::new();
            put_key(5, LENGTH_DELIMITED, &mut outer);
            put_varint(message.len() as u64, &mut outer);
            outer.append(&mut message);
            message = outer;
        }
        message
    };
    assert!(decode_as_go::<Soup>(&*messages(MAX_DEPTH)).is_ok());
    assert!(decode_as_go::<Soup>(&*messages(MAX_DEPTH + 1)).is_err());
    assert!(decode_as_go::<Soup>(&*messages(10_000)).is_err());
}

proptest! {
    #[test]
    fn what_is_left_is_what_is_declared(pieces in pieces()) {
        let all = soup(&pieces, Within::Soup, true);
        let declared = soup(&pieces, Within::Soup, false);
        let expected = Soup::decode(&*declared).unwrap();
        prop_assert_eq!(decode_as_go::<Soup>(&*all), Ok(expected));
    }

    #[test]
    fn what_prost_takes_is_taken_unchanged_and_nothing_panics(bytes in vec(prop_oneof![0..0x40u8, any::<u8>()], 0..60)) {
        let decoded = decode_as_go::<Soup>(&*bytes);
        match Soup::decode(&*bytes) {
            // Of what prost takes, only entries of maps may be none for Go.
            Ok(expected) if expected.map.is_empty() => prop_assert_eq!(decoded, Ok(expected)),
            Ok(_) => {}
            Err(_) => drop(decoded),
        }
    }

    #[test]
    fn what_is_cut_off_is_refused(pieces in pieces(), unknown in any::<bool>()) {
        let number = if unknown { 9 } else { 1 };
        for (_, field) in of_every_type(number) {
            let mut bytes = soup(&pieces, Within::Soup, true);
            bytes.extend(field);
            prop_assert!(decode_as_go::<Soup>(&*bytes).is_ok());
            bytes.pop();
            prop_assert!(decode_as_go::<Soup>(&*bytes).is_err());
        }
    }
}
