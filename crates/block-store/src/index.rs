// SPDX-License-Identifier: Apache-2.0
//! The sparse index of a segment: where some of its blocks stand, and which are config blocks.

use block_api::{BlockNumber, HeaderHash};

use crate::{
    codec::{FormatError, Input, VERSION, checked, put_checksum, put_optional_hash},
    preamble::{PREAMBLE_LEN, Preamble, SyncBytes},
    record::RecordHeader,
};

const MAGIC: [u8; 8] = *b"BCASTIDX";

/// What is known of a segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    /// The first record, and then the first one of each interval.
    entries: Vec<Entry>,
    /// The config blocks in the segment, ascending.
    configs: Vec<BlockNumber>,
    /// The number of the block after the last one.
    pub(crate) next: BlockNumber,
    /// The header hash of the last block, or of the one before the segment when it is empty.
    pub(crate) last_hash: Option<HeaderHash>,
    /// Where the last record ends.
    pub(crate) end: u64,
    interval: u64,
}

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: BlockNumber,
    pub(crate) offset: u64,
}

impl SegmentIndex {
    /// The index of a segment without a record.
    pub(crate) fn new(preamble: &Preamble, interval: u64) -> Self {
        Self {
            entries: Vec::new(),
            configs: Vec::new(),
            next: preamble.first,
            last_hash: preamble.previous,
            end: PREAMBLE_LEN as u64,
            interval,
        }
    }

    /// Adds the record that follows the last one.
    pub(crate) fn push(&mut self, header: &RecordHeader) {
        let spanned = self.entries.last().map(|entry| self.end - entry.offset);
        if spanned.is_none_or(|spanned| spanned >= self.interval) {
            self.entries.push(Entry {
                number: header.number,
                offset: self.end,
            });
        }
        if header.is_config {
            self.configs.push(header.number);
        }
        self.next = header.number.height().next_block();
        self.last_hash = Some(header.header_hash);
        self.end += header.record_len();
    }

    /// The last known record that is not behind this block.
    pub(crate) fn locate(&self, number: BlockNumber) -> Option<Entry> {
        let behind = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.get(behind.checked_sub(1)?).copied()
    }

    /// Where the first known record begins that is not before this block, or the last one ends.
    pub(crate) fn behind(&self, number: BlockNumber) -> u64 {
        let before = self.entries.partition_point(|entry| entry.number < number);
        self.entries
            .get(before)
            .map_or(self.end, |entry| entry.offset)
    }

    /// The last config block that is not behind this block.
    pub(crate) fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        let behind = self.configs.partition_point(|config| *config <= number);
        self.configs.get(behind.checked_sub(1)?).copied()
    }

    /// The content of the index file.
    pub(crate) fn encode(&self, preamble: &Preamble) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + 16 * self.entries.len() + 8 * self.configs.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(preamble.sync.as_bytes());
        out.extend_from_slice(&preamble.first.get().to_le_bytes());
        out.extend_from_slice(&self.next.get().to_le_bytes());
        put_optional_hash(&mut out, self.last_hash.as_ref());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.number.get().to_le_bytes());
            out.extend_from_slice(&entry.offset.to_le_bytes());
        }
        out.extend_from_slice(&(self.configs.len() as u64).to_le_bytes());
        for config in &self.configs {
            out.extend_from_slice(&config.get().to_le_bytes());
        }
        put_checksum(&mut out);
        out
    }

    /// Reads the index file of the segment with this preamble. It says what the segment held when it
    /// was written: all of it, or what was there at a point on the way.
    ///
    /// In every version the checksum stands at the end of the file, so that a damaged index, which
    /// can be made anew, is told from one of an unknown version.
    pub(crate) fn decode(
        bytes: &[u8],
        preamble: &Preamble,
        interval: u64,
    ) -> Result<Self, FormatError> {
        let mut input = Input::new(checked(bytes)?);
        if input.array() != Some(MAGIC) {
            return Err(FormatError::Magic);
        }
        match input.u32().ok_or(FormatError::Truncated)? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let sync = input.array().map(SyncBytes::new);
        let first = input.number();
        if sync != Some(preamble.sync) || first != Some(preamble.first) {
            return Err(FormatError::Content("the index is that of another segment"));
        }
        let index = Self::fields(&mut input, interval).ok_or(FormatError::Truncated)?;
        if !index.is_sound(preamble.first) {
            return Err(FormatError::Content("the index contradicts itself"));
        }
        Ok(index)
    }

    /// The config blocks of the segment, ascending.
    pub(crate) fn configs(&self) -> &[BlockNumber] {
        &self.configs
    }

    fn fields(input: &mut Input<'_>, interval: u64) -> Option<Self> {
        let next = input.number()?;
        let last_hash = input.optional_hash()?;
        let end = input.u64()?;
        // The lists grow as they are read: a count that is not true cannot claim memory.
        let mut entries = Vec::new();
        for _ in 0..input.u64()? {
            entries.push(Entry {
                number: input.number()?,
                offset: input.u64()?,
            });
        }
        let mut configs = Vec::new();
        for _ in 0..input.u64()? {
            configs.push(input.number()?);
        }
        Some(Self {
            entries,
            configs,
            next,
            last_hash,
            end,
            interval,
        })
    }

    fn is_sound(&self, first: BlockNumber) -> bool {
        let begins = self.entries.first()
            == Some(&Entry {
                number: first,
                offset: PREAMBLE_LEN as u64,
            });
        let ascends = self
            .entries
            .is_sorted_by(|one, other| one.number < other.number && one.offset < other.offset);
        let inside = self
            .entries
            .last()
            .is_some_and(|last| last.number < self.next && last.offset < self.end);
        let configs = self.configs.is_sorted_by(|one, other| one < other)
            && self.configs.first().is_none_or(|config| *config >= first)
            && self.configs.last().is_none_or(|config| *config < self.next);
        begins && ascends && inside && configs
    }
}

#[cfg(test)]
mod tests {
    use block_api::ChainInfo;
    use proptest::prelude::*;

    use super::*;
    use crate::preamble::{Identity, Kind};

    const INTERVAL: u64 = 300;

    fn preamble(first: u64) -> Preamble {
        Preamble {
            kind: Kind::Segment,
            sync: SyncBytes::new([7; 8]),
            first: BlockNumber::new(first),
            previous: Some(HeaderHash::new([1; 32])),
            identity: Identity::new("channel".parse().unwrap(), None, &ChainInfo::EMPTY),
        }
    }

    fn filled(first: u64, records: &[(u32, bool)]) -> (SegmentIndex, Vec<Entry>) {
        let mut index = SegmentIndex::new(&preamble(first), INTERVAL);
        let mut all = Vec::new();
        for (number, (length, is_config)) in (first..).zip(records) {
            let number = BlockNumber::new(number);
            all.push(Entry {
                number,
                offset: index.end,
            });
            index.push(&RecordHeader {
                number,
                length: *length,
                is_config: *is_config,
                last_config: BlockNumber::GENESIS,
                batch_first: number,
                header_hash: HeaderHash::new([number.get() as u8; 32]),
                checksum: 0,
            });
        }
        (index, all)
    }

    fn records() -> impl Strategy<Value = Vec<(u32, bool)>> {
        proptest::collection::vec((0u32..400, any::<bool>()), 1..40)
    }

    proptest! {
        #[test]
        fn every_block_is_near_a_known_one(first in 0u64..1000, records in records()) {
            let (index, all) = filled(first, &records);
            for record in &all {
                let entry = index.locate(record.number).unwrap();
                prop_assert!(all.contains(&entry));
                prop_assert!(entry.number <= record.number);
                prop_assert!(record.offset - entry.offset < INTERVAL + 400 + 80);
            }
            prop_assert_eq!(first.checked_sub(1).and_then(|before| index.locate(BlockNumber::new(before))), None);
            let mut configs = all.iter().zip(&records).filter(|(_, (_, config))| *config).map(|(entry, _)| entry.number);
            prop_assert_eq!(index.config_at(BlockNumber::new(u64::MAX)), configs.next_back());
        }

        #[test]
        fn what_is_written_is_read(first in 0u64..1000, records in records()) {
            let (index, _) = filled(first, &records);
            let bytes = index.encode(&preamble(first));
            prop_assert_eq!(SegmentIndex::decode(&bytes, &preamble(first), INTERVAL), Ok(index));
            prop_assert!(SegmentIndex::decode(&bytes, &preamble(first + 1), INTERVAL).is_err());
        }

        #[test]
        fn a_changed_byte_is_noticed(records in records(), at in any::<proptest::sample::Index>(), change in 1u8..) {
            let (index, _) = filled(5, &records);
            let mut bytes = index.encode(&preamble(5));
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert_eq!(SegmentIndex::decode(&bytes, &preamble(5), INTERVAL), Err(FormatError::Checksum));
        }

        #[test]
        fn arbitrary_content_does_no_harm(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(VERSION.to_le_bytes());
            bytes.extend([7; 8]);
            bytes.extend(5u64.to_le_bytes());
            bytes.extend(content);
            put_checksum(&mut bytes);
            let _ = SegmentIndex::decode(&bytes, &preamble(5), INTERVAL);
        }
    }

    #[test]
    fn an_unknown_version_is_told_from_a_damaged_one() {
        let (index, _) = filled(5, &[(10, false)]);
        let mut bytes = index.encode(&preamble(5));
        bytes.truncate(bytes.len() - 4);
        bytes[8] = 3;
        put_checksum(&mut bytes);
        assert_eq!(
            SegmentIndex::decode(&bytes, &preamble(5), INTERVAL),
            Err(FormatError::Version(3))
        );
    }
}
