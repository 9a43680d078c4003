// SPDX-License-Identifier: Apache-2.0
//! The record of a node: where it can be reached, signed with the key that its id is made of.
//!
//! ```text
//! message: version | 1 record, repeated
//! record:  1 body | 2 signature over DOMAIN and the body
//! body:    1 key (Ed25519, 32 bytes) | 2 scope | 3 issued (ms since 1970) | 4 address, repeated
//!          | 5 MSP id of its organisation, if it says so
//! ```
//!
//! External and internal addresses are in records of their own, so that each can be passed on alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use block_api::wire::{Fields, Value, WireError, put_bytes, put_uint};
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity};

use crate::{identity::Keypair, wire::VERSION};

/// How long a record holds after it was issued.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// How far the clock of another node may be ahead.
const SKEW: Duration = Duration::from_secs(600);

/// How many addresses a record may have.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// The longest address, in bytes: a DNS name and a port with room to spare.
const MAX_ADDRESS: usize = 300;

/// The longest MSP id, in bytes.
const MAX_ORGANISATION: usize = 255;

/// The longest record.
const MAX_RECORD: usize = 4 * 1024;

/// How many records a message may have.
pub(crate) const MAX_RECORDS: usize = 16;

/// The longest message.
pub(crate) const MAX_MESSAGE: usize = MAX_RECORDS * (MAX_RECORD + 8) + 8;

/// Keeps the signature apart from every other one that the key makes. The byte before the text is
/// no tag of protobuf, so that no other signed message is taken for a record.
const DOMAIN: &[u8] = b"\0blockcast node 1\0";

/// Whom a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Every node that shares a channel with it.
    External,
    /// Nodes of the same organisation.
    Internal,
}

/// Where a node can be reached, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) node: PeerId,
    pub(crate) scope: Scope,
    /// When it was signed, in milliseconds since 1970: of two records of one scope, the later one
    /// counts.
    pub(crate) issued: u64,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Of which organisation it says that it is, by its MSP id: a reason to dial it, and no right.
    pub(crate) organisation: Option<String>,
    /// The record as it travels.
    raw: Bytes,
}

/// Why a message with records is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnreadableRecord {
    #[error("the message has version {0}, and this node understands {VERSION}")]
    Version(u8),
    #[error("the message is empty")]
    Empty,
    #[error("the message has more than {MAX_RECORDS} records")]
    TooMany,
    #[error("a record has {0} bytes, the limit is {MAX_RECORD}")]
    TooLong(usize),
    #[error("a record does not parse: {0}")]
    Wire(#[from] WireError),
    #[error("a record has no key of a node")]
    NoKey,
    #[error(
        "a record has more than {MAX_ADDRESSES} addresses, or one of more than {MAX_ADDRESS} bytes"
    )]
    Addresses,
    #[error("the MSP id in a record has more than {MAX_ORGANISATION} bytes, or is no text")]
    Organisation,
    #[error("the signature of a record is not that of the node it is about")]
    Signature,
}

impl Record {
    /// The record of the node with this key, which says of which organisation it is unless that has
    /// too long a name. There is none for a key that cannot sign.
    pub(crate) fn sign(
        keypair: &Keypair,
        scope: Scope,
        issued: u64,
        addresses: Vec<Multiaddr>,
        organisation: Option<&str>,
    ) -> Option<Self> {
        let key = keypair.inner().public().try_into_ed25519().ok()?;
        let mut body = Vec::new();
        put_bytes(&mut body, 1, &key.to_bytes());
        put_uint(&mut body, 2, scope.number());
        put_uint(&mut body, 3, issued);
        for address in &addresses {
            put_bytes(&mut body, 4, address.as_ref());
        }
        let organisation = organisation.filter(|name| is_told(name.as_bytes()));
        if let Some(name) = organisation {
            put_bytes(&mut body, 5, name.as_bytes());
        }
        let signature = keypair.inner().sign(&signed(&body)).ok()?;
        let mut raw = Vec::new();
        put_bytes(&mut raw, 1, &body);
        put_bytes(&mut raw, 2, &signature);
        Some(Self {
            node: keypair.peer_id(),
            scope,
            issued,
            addresses,
            organisation: organisation.map(str::to_owned),
            raw: raw.into(),
        })
    }

    /// Reads a record and checks its signature; `None` for one of a scope that a later release has.
    pub(crate) fn parse(raw: Bytes) -> Result<Option<Self>, UnreadableRecord> {
        if raw.len() > MAX_RECORD {
            return Err(UnreadableRecord::TooLong(raw.len()));
        }
        let (mut body, mut signature): (&[u8], &[u8]) = (&[], &[]);
        for field in Fields::new(&raw) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => body = bytes,
                (2, Value::Bytes(bytes, _)) => signature = bytes,
                _ => {}
            }
        }
        let (mut key, mut scope, mut issued, mut addresses) = (None, 0, 0, Vec::new());
        let mut organisation: &[u8] = &[];
        for field in Fields::new(body) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => {
                    key = identity::ed25519::PublicKey::try_from_bytes(bytes).ok();
                }
                (2, Value::Varint(number)) => scope = number,
                (3, Value::Varint(number)) => issued = number,
                (4, Value::Bytes(bytes, _)) => addresses.push(bytes),
                (5, Value::Bytes(bytes, _)) => organisation = bytes,
                _ => {}
            }
        }
        if addresses.len() > MAX_ADDRESSES
            || addresses.iter().any(|address| address.len() > MAX_ADDRESS)
        {
            return Err(UnreadableRecord::Addresses);
        }
        let organisation = match organisation {
            [] => None,
            name if is_told(name) => str::from_utf8(name).ok(),
            _ => return Err(UnreadableRecord::Organisation),
        };
        let key = key.ok_or(UnreadableRecord::NoKey)?;
        if !key.verify(&signed(body), signature) {
            return Err(UnreadableRecord::Signature);
        }
        let Some(scope) = Scope::of(scope) else {
            return Ok(None);
        };
        // An address of a kind that this release does not know is none that it could dial.
        let addresses = addresses
            .into_iter()
            .filter_map(|address| Multiaddr::try_from(address.to_vec()).ok())
            .collect();
        Ok(Some(Self {
            node: identity::PublicKey::from(key).to_peer_id(),
            scope,
            issued,
            addresses,
            organisation: organisation.map(str::to_owned),
            raw,
        }))
    }

    /// The record as it travels.
    pub(crate) fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it holds at a time, given in milliseconds since 1970.
    pub(crate) fn holds_at(&self, now: u64) -> bool {
        self.issued <= now.saturating_add(millis(SKEW))
            && now <= self.issued.saturating_add(millis(LIFETIME))
    }
}

impl Scope {
    fn number(self) -> u64 {
        match self {
            Self::External => 0,
            Self::Internal => 1,
        }
    }

    fn of(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::External),
            1 => Some(Self::Internal),
            _ => None,
        }
    }
}

/// A message with these records, at most [`MAX_RECORDS`] of them.
pub(crate) fn encode_records<'a>(records: impl IntoIterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut out = vec![VERSION];
    for record in records.into_iter().take(MAX_RECORDS) {
        put_bytes(&mut out, 1, record);
    }
    out
}

/// The records of a message, each with a signature that holds. One that does not makes the whole
/// message worthless: whoever sent it did not check what it passes on.
pub(crate) fn parse_records(message: &Bytes) -> Result<Vec<Record>, UnreadableRecord> {
    let (version, fields) = message.split_first().ok_or(UnreadableRecord::Empty)?;
    if *version != VERSION {
        return Err(UnreadableRecord::Version(*version));
    }
    let mut found = Vec::new();
    // The fields stand behind the version byte.
    for field in Fields::nested(fields, 1) {
        let field = field?;
        if let (1, Value::Bytes(bytes, at)) = (field.number, field.value) {
            if found.len() >= MAX_RECORDS {
                return Err(UnreadableRecord::TooMany);
            }
            found.push(message.slice(at..at + bytes.len()));
        }
    }
    let mut records = Vec::new();
    for raw in found {
        records.extend(Record::parse(raw)?);
    }
    Ok(records)
}

/// A time in milliseconds since 1970.
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a record may have this for an MSP id.
fn is_told(organisation: &[u8]) -> bool {
    (1..=MAX_ORGANISATION).contains(&organisation.len()) && str::from_utf8(organisation).is_ok()
}

fn signed(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn key() -> Keypair {
        Keypair::from_seed([1; 32])
    }

    fn addresses(count: usize) -> Vec<Multiaddr> {
        (0..count)
            .map(|n| format!("/ip4/10.0.0.1/tcp/{}", 7000 + n).parse().unwrap())
            .collect()
    }

    fn record(scope: Scope, count: usize) -> Record {
        Record::sign(&key(), scope, NOW, addresses(count), Some("Org1MSP")).unwrap()
    }

    #[test]
    fn records_come_back_each_by_itself() {
        let told = [
            record(Scope::External, MAX_ADDRESSES),
            record(Scope::Internal, 0),
        ];
        let message = encode_records(told.iter().map(Record::raw));
        assert!(message.len() <= MAX_MESSAGE);
        let heard = parse_records(&message.into()).unwrap();
        assert_eq!(heard, told);
        assert_eq!(heard[0].node, key().peer_id());
        assert_eq!(
            Record::parse(heard[1].raw().clone()).unwrap().as_ref(),
            Some(&told[1])
        );
    }

    #[test]
    fn no_bit_of_a_record_can_be_changed() {
        let raw = record(Scope::External, 2).raw().to_vec();
        for place in 0..raw.len() {
            let mut changed = raw.clone();
            changed[place] ^= 1;
            let read = Record::parse(changed.into());
            assert!(!matches!(read, Ok(Some(_))), "byte {place}: {read:?}");
        }
    }

    /// Covers: GOS-08
    #[test]
    fn the_signature_of_another_node_is_none() {
        let (own, other) = (record(Scope::External, 1), Keypair::from_seed([2; 32]));
        let mut body = Vec::new();
        let public = key().inner().public().try_into_ed25519().unwrap();
        put_bytes(&mut body, 1, &public.to_bytes());
        put_uint(&mut body, 3, NOW);
        for (signature, result) in [
            (
                other.inner().sign(&signed(&body)).unwrap(),
                Err(UnreadableRecord::Signature),
            ),
            // Without the domain, it is a signature under something else.
            (
                key().inner().sign(&body).unwrap(),
                Err(UnreadableRecord::Signature),
            ),
            (key().inner().sign(&signed(&body)).unwrap(), Ok(true)),
        ] {
            let mut raw = Vec::new();
            put_bytes(&mut raw, 1, &body);
            put_bytes(&mut raw, 2, &signature);
            assert_eq!(Record::parse(raw.into()).map(|read| read.is_some()), result);
        }
        assert_eq!(own.node, key().peer_id());
    }

    #[test]
    fn a_record_holds_for_its_time() {
        let record = record(Scope::External, 1);
        let (life, skew) = (millis(LIFETIME), millis(SKEW));
        for (now, holds) in [
            (NOW, true),
            (NOW + life, true),
            (NOW + life + 1, false),
            (NOW - skew, true),
            (NOW - skew - 1, false),
            (0, false),
            (u64::MAX, false),
        ] {
            assert_eq!(record.holds_at(now), holds, "{now}");
        }
    }

    #[test]
    fn what_is_too_much_or_makes_no_sense_is_refused() {
        let good = record(Scope::External, 1);
        let many: Vec<u8> = {
            let mut out = vec![VERSION];
            for _ in 0..=MAX_RECORDS {
                put_bytes(&mut out, 1, good.raw());
            }
            out
        };
        let mut no_key = vec![VERSION];
        put_bytes(&mut no_key, 1, b"");
        let mut too_long = vec![VERSION];
        put_bytes(&mut too_long, 1, &[0; MAX_RECORD + 1]);
        let mut addresses_over = vec![VERSION];
        put_bytes(
            &mut addresses_over,
            1,
            record(Scope::External, MAX_ADDRESSES + 1).raw(),
        );
        let rows = [
            (vec![], UnreadableRecord::Empty),
            (vec![9, 1], UnreadableRecord::Version(9)),
            (
                vec![VERSION, 8],
                UnreadableRecord::Wire(WireError::Truncated { at: 1 }),
            ),
            (many, UnreadableRecord::TooMany),
            (no_key, UnreadableRecord::NoKey),
            (too_long, UnreadableRecord::TooLong(MAX_RECORD + 1)),
            (addresses_over, UnreadableRecord::Addresses),
        ];
        for (message, error) in rows {
            assert_eq!(parse_records(&message.into()).unwrap_err(), error);
        }
    }

    #[test]
    fn an_organisation_is_told_as_far_as_it_has_a_name_of_its_length() {
        let longest = "x".repeat(MAX_ORGANISATION);
        let too_long = "x".repeat(MAX_ORGANISATION + 1);
        for (told, heard) in [
            (None, None),
            (Some(""), None),
            (Some("Org1MSP"), Some("Org1MSP")),
            (Some(&*longest), Some(&*longest)),
            (Some(&*too_long), None),
        ] {
            let record = Record::sign(&key(), Scope::External, NOW, addresses(1), told).unwrap();
            assert_eq!(record.organisation.as_deref(), heard);
            assert_eq!(Record::parse(record.raw().clone()), Ok(Some(record)));
        }
        for name in [too_long.as_bytes(), &[0xff]] {
            let mut body = Vec::new();
            let public = key().inner().public().try_into_ed25519().unwrap();
            put_bytes(&mut body, 1, &public.to_bytes());
            put_bytes(&mut body, 5, name);
            let mut raw = Vec::new();
            put_bytes(&mut raw, 1, &body);
            put_bytes(&mut raw, 2, &key().inner().sign(&signed(&body)).unwrap());
            let read = Record::parse(raw.into());
            assert_eq!(read, Err(UnreadableRecord::Organisation));
        }
    }

    #[test]
    fn what_a_later_release_adds_is_skipped() {
        let mut body = Vec::new();
        let public = key().inner().public().try_into_ed25519().unwrap();
        put_bytes(&mut body, 1, &public.to_bytes());
        put_uint(&mut body, 2, 7);
        put_uint(&mut body, 99, 7);
        let mut raw = Vec::new();
        put_bytes(&mut raw, 1, &body);
        put_bytes(&mut raw, 2, &key().inner().sign(&signed(&body)).unwrap());
        let raw: Bytes = raw.into();
        let good = record(Scope::External, 1);
        let mut message = encode_records([&raw, good.raw()]);
        put_bytes(&mut message, 77, b"new");
        assert_eq!(parse_records(&message.into()).unwrap(), [good]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            mut message in proptest::collection::vec(any::<u8>(), 0..400),
            place in 0usize..400,
            byte in any::<u8>(),
        ) {
            let _ = parse_records(&Bytes::from(message.clone()));
            // The same beside bytes that are a message up to one place.
            message = encode_records([record(Scope::External, 2).raw()]);
            if let Some(at) = message.get_mut(place) {
                *at = byte;
            }
            let _ = parse_records(&message.into());
        }
    }
}
