// SPDX-License-Identifier: Apache-2.0
//! A block as the bytes that came, and where its parts stand in them.

mod entries;
mod envelope;
mod forms;

use std::{fmt, ops::Range};

use bytes::Bytes;

pub use self::entries::{EnvelopeError, NotWellFormed, check_envelope};
use self::{
    envelope::ChannelHeader,
    forms::{header_field, metadata_field},
};
use crate::{
    BlockNumber, DataHash, DataHashing, HeaderHash, data_hash,
    wire::{Fields, Value, WireError, put_bytes},
};

/// The metadata slot of the orderers' signatures, the only one that they sign.
pub const SIGNATURES_SLOT: usize = 0;

/// How many metadata slots a block is kept with.
pub const SLOT_COUNT: usize = 5;

const HEADER_FIELD: u32 = 1;
const DATA_FIELD: u32 = 2;
const METADATA_FIELD: u32 = 3;

/// A block: the received bytes of `common.Block`, never decoded and encoded again, and where
/// header, data entries and metadata slots stand in them.
///
/// A block that was parsed has a header; its data may be absent (an attestation: header and
/// signatures) or empty. Nothing in it has been verified. Cloning shares the bytes.
///
/// Parsing gives Go's verdict (semantics §3.2): unknown fields are kept and skipped, parts that
/// come twice are merged. It allocates nothing, however many entries a block claims.
#[derive(Clone)]
pub struct Block {
    raw: Bytes,
    number: BlockNumber,
    previous_hash: Range<usize>,
    data_hash: Range<usize>,
    hash: HeaderHash,
    /// How many data entries there are; `None` when data is absent.
    entries: Option<usize>,
    slots: usize,
    signatures: Range<usize>,
}

/// The header of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader<'a> {
    /// The block's number.
    pub number: BlockNumber,
    /// The header hash of the block before, as the header claims it; empty in a genesis block.
    pub previous_hash: &'a [u8],
    /// The data hash, as the header claims it.
    pub data_hash: &'a [u8],
}

/// The form in which a block travels between nodes: all of it but the metadata slots that no
/// signature covers. The two parts, one after the other, are a `common.Block`.
#[derive(Debug, Clone)]
pub struct RelayBytes {
    /// Header and data.
    pub body: Bytes,
    /// The metadata, with the slot of the signatures alone.
    pub metadata: Bytes,
}

/// Bytes that are no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBlockError {
    /// The bytes are no protobuf message, or a part of the block is none.
    #[error("the {part} of the block does not parse: {source}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong, and at which byte.
        source: WireError,
    },
    /// There is no header, so the block has no number.
    #[error("the block has no header")]
    NoHeader,
}

/// The data entries of a block, each a marshalled envelope.
#[derive(Debug, Clone)]
pub struct DataEntries<'a>(Parts<'a>);

/// The metadata slots of a block.
#[derive(Debug, Clone)]
pub struct MetadataSlots<'a>(Parts<'a>);

/// The items of the repeated bytes field that is field 1 of every occurrence of one part.
#[derive(Debug, Clone)]
struct Parts<'a> {
    part: u32,
    outer: Fields<'a>,
    inner: Fields<'a>,
}

impl Block {
    /// Finds the parts of a block in the bytes of a `common.Block`.
    ///
    /// # Errors
    ///
    /// When the bytes are no such message, or one without a header (NEW-04).
    pub fn parse(raw: Bytes) -> Result<Self, ParseBlockError> {
        let malformed = |part| move |source| ParseBlockError::Malformed { part, source };
        let mut number = None;
        let (mut previous_hash, mut data_hash, mut signatures) = (0..0, 0..0, 0..0);
        let (mut entries, mut slots) = (None, 0);
        for field in Fields::new(&raw) {
            let field = field.map_err(malformed("outer message"))?;
            let Value::Bytes(part, base) = field.value else {
                continue;
            };
            match field.number {
                HEADER_FIELD => {
                    let number = number.get_or_insert(0);
                    for field in Fields::nested(part, base) {
                        let field = field.map_err(malformed("header"))?;
                        match (field.number, field.value) {
                            (1, Value::Varint(value)) => *number = value,
                            (2, Value::Bytes(hash, at)) => previous_hash = at..at + hash.len(),
                            (3, Value::Bytes(hash, at)) => data_hash = at..at + hash.len(),
                            _ => {}
                        }
                    }
                }
                DATA_FIELD => {
                    let entries = entries.get_or_insert(0);
                    for field in Fields::nested(part, base) {
                        let field = field.map_err(malformed("data"))?;
                        if let (1, Value::Bytes(..)) = (field.number, field.value) {
                            *entries += 1;
                        }
                    }
                }
                METADATA_FIELD => {
                    for field in Fields::nested(part, base) {
                        let field = field.map_err(malformed("metadata"))?;
                        if let (1, Value::Bytes(slot, at)) = (field.number, field.value) {
                            if slots == SIGNATURES_SLOT {
                                signatures = at..at + slot.len();
                            }
                            slots += 1;
                        }
                    }
                }
                _ => {}
            }
        }
        let number = BlockNumber::new(number.ok_or(ParseBlockError::NoHeader)?);
        let hash =
            HeaderHash::of_header(number, slice(&raw, &previous_hash), slice(&raw, &data_hash));
        Ok(Self {
            raw,
            number,
            previous_hash,
            data_hash,
            hash,
            entries,
            slots,
            signatures,
        })
    }

    /// Puts a block together: the encoding of a `common.Block` with one header, the data, and the slots.
    /// The data hash is computed from the entries, as Fabric does it.
    pub fn assemble<D: AsRef<[u8]>, S: AsRef<[u8]>>(
        number: BlockNumber,
        previous_hash: &[u8],
        entries: &[D],
        slots: &[S],
    ) -> Self {
        Self::assemble_hashing(
            DataHashing::Concatenated,
            number,
            previous_hash,
            entries,
            slots,
        )
    }

    /// Puts a block together, with a data hash by the rule of its channel.
    pub fn assemble_hashing<D: AsRef<[u8]>, S: AsRef<[u8]>>(
        hashing: DataHashing,
        number: BlockNumber,
        previous_hash: &[u8],
        entries: &[D],
        slots: &[S],
    ) -> Self {
        let hash = hashing.hash(entries.iter().map(AsRef::as_ref));
        let header = header_field(number, previous_hash, hash.as_ref());
        let mut data =
            Vec::with_capacity(entries.iter().map(|entry| entry.as_ref().len() + 6).sum());
        for entry in entries {
            put_bytes(&mut data, 1, entry.as_ref());
        }
        let mut raw = Vec::with_capacity(header.len() + data.len() + 64);
        raw.extend_from_slice(&header);
        put_bytes(&mut raw, DATA_FIELD, &data);
        raw.extend_from_slice(&metadata_field(slots.iter().map(AsRef::as_ref)));
        Self::parse(raw.into()).expect("invariant: what is put together here parses")
    }

    /// The bytes as they came.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The number in the header.
    pub fn number(&self) -> BlockNumber {
        self.number
    }

    /// The header.
    pub fn header(&self) -> BlockHeader<'_> {
        BlockHeader {
            number: self.number,
            previous_hash: slice(&self.raw, &self.previous_hash),
            data_hash: slice(&self.raw, &self.data_hash),
        }
    }

    /// The hash over the header: the identity of the block within its channel.
    pub fn header_hash(&self) -> HeaderHash {
        self.hash
    }

    /// Whether the header links to a block with this header hash.
    pub fn links_to(&self, previous: &HeaderHash) -> bool {
        slice(&self.raw, &self.previous_hash) == previous.as_ref()
    }

    /// Whether there is data, be it empty. A block without is an attestation.
    pub fn has_data(&self) -> bool {
        self.entries.is_some()
    }

    /// How many data entries there are.
    pub fn entry_count(&self) -> usize {
        self.entries.unwrap_or(0)
    }

    /// The data entries, in order.
    pub fn data(&self) -> DataEntries<'_> {
        DataEntries(Parts::new(&self.raw, DATA_FIELD))
    }

    /// The hash of the data that is there (semantics §2.3); whether the header claims the same is
    /// for the verifier to say.
    pub fn data_hash(&self) -> DataHash {
        data_hash(self.data())
    }

    /// The hash over the data entries, by the rule of its channel.
    pub fn data_hash_by(&self, hashing: DataHashing) -> DataHash {
        hashing.hash(self.data())
    }

    /// How many metadata slots there are.
    pub fn slot_count(&self) -> usize {
        self.slots
    }

    /// The metadata slots, in order.
    pub fn slots(&self) -> MetadataSlots<'_> {
        MetadataSlots(Parts::new(&self.raw, METADATA_FIELD))
    }

    /// The metadata slot with the orderers' signatures; `None` when there is no slot at all.
    pub fn signatures_slot(&self) -> Option<&[u8]> {
        (self.slots > SIGNATURES_SLOT).then(|| slice(&self.raw, &self.signatures))
    }

    /// Whether this is a config block: one data entry, which is an envelope with a channel header
    /// of type CONFIG (PRC-05, semantics §2.3).
    pub fn is_config(&self) -> bool {
        let mut entries = self.data();
        match (entries.next(), entries.next()) {
            (Some(entry), None) => {
                ChannelHeader::of_envelope(entry).is_some_and(|header| header.is_config())
            }
            _ => false,
        }
    }

    /// The channel that the first data entry names; `None` when there is none or it does not parse
    /// (PRB-04).
    pub fn channel_of_first_entry(&self) -> Option<String> {
        self.data()
            .next()
            .and_then(ChannelHeader::of_envelope)
            .map(|header| header.channel.to_owned())
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("number", &self.number.get())
            .field("header_hash", &format_args!("{}", self.hash))
            .field("entries", &self.entries)
            .field("slots", &self.slots)
            .field("bytes", &self.raw.len())
            .finish()
    }
}

impl RelayBytes {
    /// How many bytes the two parts have together.
    pub fn len(&self) -> usize {
        self.body.len() + self.metadata.len()
    }

    /// Whether there is nothing at all, which no block has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Both parts in one buffer.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.body);
        bytes.extend_from_slice(&self.metadata);
        bytes.into()
    }
}

impl<'a> Parts<'a> {
    fn new(raw: &'a [u8], part: u32) -> Self {
        Self {
            part,
            outer: Fields::new(raw),
            inner: Fields::new(&[]),
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            while let Some(Ok(field)) = self.inner.next() {
                if let (1, Value::Bytes(item, _)) = (field.number, field.value) {
                    return Some(item);
                }
            }
            let field = self.outer.next()?.ok()?;
            if let Value::Bytes(part, base) = field.value
                && field.number == self.part
            {
                self.inner = Fields::nested(part, base);
            }
        }
    }
}

impl<'a> Iterator for DataEntries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next()
    }
}

impl<'a> Iterator for MetadataSlots<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next()
    }
}

/// A range that was found in these very bytes.
fn slice<'a>(raw: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    raw.get(range.clone())
        .expect("invariant: the range was found in these bytes")
}

#[cfg(test)]
mod tests;
