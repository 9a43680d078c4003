// SPDX-License-Identifier: Apache-2.0
//! The other forms of a block: to be proven, to travel, to be kept.

use bytes::Bytes;

use super::{Block, DATA_FIELD, HEADER_FIELD, METADATA_FIELD, RelayBytes, SLOT_COUNT, slice};
use crate::{
    BlockNumber, DataHashing,
    wire::{Fields, Value, put_bytes, put_length, put_uint},
};

impl Block {
    /// The same block without its data: what proves it, without what is in it.
    pub fn without_data(&self) -> Self {
        self.rebuilt(|field| field != DATA_FIELD, None)
    }

    /// The form in which the block travels between nodes. The body is a slice of the block's own
    /// bytes wherever the metadata comes last, as it does in every block that Fabric writes.
    pub fn relay(&self) -> RelayBytes {
        RelayBytes {
            body: self.body(),
            metadata: metadata_field(self.slots().take(1)).into(),
        }
    }

    /// The block with five metadata slots at least. Missing ones are added: the number of the last
    /// config block, when it is given, and empty ones. A block that has them is returned as it is.
    #[must_use]
    pub fn with_all_slots(&self, last_config: Option<BlockNumber>) -> Self {
        if self.slots >= SLOT_COUNT {
            return self.clone();
        }
        let mut last_config_slot = Vec::new();
        if let Some(number) = last_config.filter(|number| number.get() != 0) {
            let mut value = Vec::new();
            put_uint(&mut value, 1, number.get());
            put_bytes(&mut last_config_slot, 1, &value);
        }
        let own = [&[], last_config_slot.as_slice(), &[], &[], &[]];
        let slots = self.slots().chain(own.into_iter().skip(self.slots));
        self.rebuilt(|_| true, Some(metadata_field(slots)))
    }

    /// The block without any metadata slot but that of the signatures, as peers hand it on.
    #[must_use]
    pub fn with_signatures_slot_only(&self) -> Self {
        if self.slots <= 1 {
            return self.clone();
        }
        self.rebuilt(|_| true, Some(metadata_field(self.slots().take(1))))
    }

    /// The block with header, data and the slot of the signatures alone, and nothing beside them.
    /// Neither hashes nor signatures cover what else a message may hold, so that whoever hands a
    /// block on could make it as long as he likes. Shares the bytes where there is nothing else.
    #[must_use]
    pub fn without_extras(&self) -> Self {
        let header = self.header();
        let mut raw = header_field(header.number, header.previous_hash, header.data_hash);
        let data = self.entries.map(|_| self.data_length());
        let slot = metadata_field(self.slots().take(1));
        let data_field = data.map_or(0, |data| 1 + length_of(data) + data);
        let length = raw.len() + data_field + if self.slots == 0 { 0 } else { slot.len() };
        if length == self.raw.len() {
            return self.clone();
        }
        raw.reserve_exact(length);
        if let Some(data) = data {
            put_length(&mut raw, DATA_FIELD, data);
            self.data().for_each(|entry| put_bytes(&mut raw, 1, entry));
        }
        if self.slots > 0 {
            raw.extend_from_slice(&slot);
        }
        Self::parse(raw.into()).expect("invariant: what is put together here parses")
    }

    /// The data as it is transferred by itself: the entries, each as a field, and nothing beside
    /// them, so that it is the same from every node that has the block. `None` without data. Shares
    /// the bytes where they stand so, as they do in every block that Fabric writes.
    pub fn data_bytes(&self) -> Option<Bytes> {
        self.entries?;
        let length = self.data_length();
        let mut fields = Fields::new(&self.raw)
            .flatten()
            .filter(|field| field.number == DATA_FIELD);
        // An entry is never shorter than in this form, so that equal length is equal bytes.
        if let (Some(field), None) = (fields.next(), fields.next())
            && let Value::Bytes(data, at) = field.value
            && data.len() == length
        {
            return Some(self.raw.slice(at..at + length));
        }
        let mut data = Vec::with_capacity(length);
        self.data().for_each(|entry| put_bytes(&mut data, 1, entry));
        Some(data.into())
    }

    /// What stands before and behind the data of this block in its relay form, when the data has so
    /// many bytes: header and signatures, which an announcement has.
    pub fn around_data(&self, length: usize) -> (Vec<u8>, Vec<u8>) {
        let header = self.header();
        let mut head = header_field(header.number, header.previous_hash, header.data_hash);
        put_length(&mut head, DATA_FIELD, length);
        let tail = match self.slots {
            0 => Vec::new(),
            _ => metadata_field(self.slots().take(1)),
        };
        (head, tail)
    }

    /// Whether the data is that of the header: it has the hash that the header claims, by whichever
    /// rule (a channel has one, which the verifier knows), and no other entries have it. Where the
    /// hash does not tell where an entry ends, each must be well formed
    /// ([`check_well_formed`](Self::check_well_formed)), so that nobody can cut true data elsewhere.
    pub fn has_claimed_data(&self) -> bool {
        let claimed = self.header().data_hash;
        let is = |rule| self.data_hash_by(rule).as_ref() == claimed;
        self.has_data()
            && (is(DataHashing::Concatenated) && self.check_well_formed().is_ok()
                || is(DataHashing::LengthPrefixed))
    }

    fn data_length(&self) -> usize {
        let length = |entry: &[u8]| 1 + length_of(entry.len()) + entry.len();
        self.data().map(length).sum()
    }

    /// All fields but the metadata, sharing the bytes when they stand together.
    fn body(&self) -> Bytes {
        let mut end = 0;
        let mut metadata_seen = false;
        for field in Fields::new(&self.raw).flatten() {
            if field.number == METADATA_FIELD {
                metadata_seen = true;
            } else if metadata_seen {
                // Something stands behind the metadata, so the body is in pieces.
                let mut body = Vec::with_capacity(self.raw.len());
                self.copy_fields(&mut body, |number| number != METADATA_FIELD);
                return body.into();
            } else {
                end = field.span.end;
            }
        }
        self.raw.slice(..end)
    }

    /// Copies the chosen fields as they stand, with other metadata behind them if it is given.
    fn rebuilt(&self, keep: impl Fn(u32) -> bool, metadata: Option<Vec<u8>>) -> Self {
        let keeps_metadata = metadata.is_none();
        let metadata = metadata.unwrap_or_default();
        let keep = |number| keep(number) && (keeps_metadata || number != METADATA_FIELD);
        let kept = Fields::new(&self.raw)
            .flatten()
            .filter(|field| keep(field.number));
        // Of a block of 100 MiB every byte too many counts.
        let length: usize = kept.map(|field| field.span.len()).sum();
        let mut raw = Vec::with_capacity(length + metadata.len());
        self.copy_fields(&mut raw, keep);
        raw.extend_from_slice(&metadata);
        Self::parse(raw.into()).expect("invariant: whole fields of a block that parsed parse again")
    }

    fn copy_fields(&self, out: &mut Vec<u8>, keep: impl Fn(u32) -> bool) {
        for field in Fields::new(&self.raw)
            .flatten()
            .filter(|field| keep(field.number))
        {
            out.extend_from_slice(slice(&self.raw, &field.span));
        }
    }
}

/// The metadata of a block as a field of it.
pub(super) fn metadata_field<'a>(slots: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut content = Vec::new();
    for slot in slots {
        put_bytes(&mut content, 1, slot);
    }
    let mut field = Vec::with_capacity(content.len() + 6);
    put_length(&mut field, METADATA_FIELD, content.len());
    field.extend_from_slice(&content);
    field
}

/// The field of a header, as Go writes it.
pub(super) fn header_field(number: BlockNumber, previous_hash: &[u8], data_hash: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(80);
    put_uint(&mut content, 1, number.get());
    for (field, hash) in [(2, previous_hash), (3, data_hash)] {
        if !hash.is_empty() {
            put_bytes(&mut content, field, hash);
        }
    }
    let mut field = Vec::with_capacity(content.len() + 6);
    put_bytes(&mut field, HEADER_FIELD, &content);
    field
}

/// How many bytes a length takes as a varint.
fn length_of(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}
