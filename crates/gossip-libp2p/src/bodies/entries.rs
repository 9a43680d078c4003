// SPDX-License-Identifier: Apache-2.0
//! The data hash of a body while it comes, and the form that a body must have.

use block_api::DataHashing;
use sha2::{Digest, Sha256};

/// The tag of an entry: field 1, a length, bytes.
const TAG: u8 = 0x0a;

/// Hashes the entries in the data of a block, which is given in pieces and in order.
#[derive(Debug, Clone)]
pub(crate) struct Entries {
    hashing: DataHashing,
    hash: Sha256,
    place: Place,
}

/// The data is not entries alone, each in the one form that they have on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data of the block is not in the form in which it is transferred")]
pub(crate) struct NotEntries;

#[derive(Debug, Clone, Copy)]
enum Place {
    Tag,
    Length { value: u32, shift: u32 },
    Entry { left: usize },
}

impl Entries {
    /// By the rule of the channel.
    pub(crate) fn new(hashing: DataHashing) -> Self {
        Self {
            hashing,
            hash: Sha256::new(),
            place: Place::Tag,
        }
    }

    /// Takes what comes next.
    pub(crate) fn push(&mut self, mut data: &[u8]) -> Result<(), NotEntries> {
        loop {
            if let Place::Entry { left } = self.place {
                let (entry, rest) = data.split_at(left.min(data.len()));
                self.hash.update(entry);
                data = rest;
                self.place = match left - entry.len() {
                    0 => Place::Tag,
                    left => Place::Entry { left },
                };
            }
            let Some((byte, rest)) = data.split_first() else {
                return Ok(());
            };
            data = rest;
            self.place = match self.place {
                Place::Tag if *byte == TAG => Place::Length { value: 0, shift: 0 },
                Place::Tag => return Err(NotEntries),
                Place::Length { value, shift } => self.length(*byte, value, shift)?,
                // It has bytes left, and there were none.
                entry @ Place::Entry { .. } => entry,
            };
        }
    }

    /// The hash, when the last entry is whole.
    pub(crate) fn finish(self) -> Result<[u8; 32], NotEntries> {
        match self.place {
            Place::Tag => Ok(self.hash.finalize().into()),
            Place::Length { .. } | Place::Entry { .. } => Err(NotEntries),
        }
    }

    fn length(&mut self, byte: u8, value: u32, shift: u32) -> Result<Place, NotEntries> {
        let bits = u32::from(byte & 0x7f);
        // Five bytes at most, of which the last one fits, and none too many.
        if shift > 28 || shift == 28 && bits > 0x0f || byte == 0 && shift > 0 {
            return Err(NotEntries);
        }
        let value = value | bits << shift;
        if byte >= 0x80 {
            return Ok(Place::Length {
                value,
                shift: shift + 7,
            });
        }
        match self.hashing {
            DataHashing::Concatenated => {}
            DataHashing::LengthPrefixed => self.hash.update(value.to_be_bytes()),
        }
        Ok(match value as usize {
            0 => Place::Tag,
            left => Place::Entry { left },
        })
    }
}

#[cfg(test)]
mod tests {
    use block_api::{Block, BlockNumber};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn hash(hashing: DataHashing, pieces: &[&[u8]]) -> Result<[u8; 32], NotEntries> {
        let mut entries = Entries::new(hashing);
        for piece in pieces {
            entries.push(piece)?;
        }
        entries.finish()
    }

    proptest! {
        #[test]
        fn in_whatever_pieces_the_hash_is_that_of_the_block(
            entries in vec(vec(any::<u8>(), 0..300), 0..6),
            cuts in vec(any::<prop::sample::Index>(), 0..6),
        ) {
            for hashing in [DataHashing::Concatenated, DataHashing::LengthPrefixed] {
                let block = Block::assemble_hashing(hashing, BlockNumber::new(1), &[], &entries, &[b""]);
                let data = block.data_bytes().unwrap();
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
                cuts.extend([0, data.len()]);
                cuts.sort_unstable();
                let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &data[cut[0]..cut[1]]).collect();
                prop_assert_eq!(hash(hashing, &pieces).unwrap(), *block.data_hash_by(hashing).as_bytes());
            }
        }

        #[test]
        fn what_passes_is_what_a_block_gives(data in vec(prop_oneof![Just(TAG), 0u8..4, any::<u8>()], 0..40)) {
            let mut raw = vec![0x0a, 0, 0x12];
            raw.push(data.len() as u8);
            raw.extend(&data);
            let given = Block::parse(raw.into()).ok().and_then(|block| block.data_bytes());
            let same = given.is_some_and(|given| given == data);
            prop_assert_eq!(hash(DataHashing::Concatenated, &[&data]).is_ok(), same);
        }
    }

    #[test]
    fn what_is_cut_off_or_written_otherwise_is_refused() {
        let rows: [&[u8]; 8] = [
            &[TAG],
            &[TAG, 0x80],
            &[TAG, 2, 1],
            &[0x12, 0],
            &[TAG, 0x80, 0],
            &[TAG, 0x81, 0x80, 0, 1],
            &[TAG, 0xff, 0xff, 0xff, 0xff, 0x1f],
            &[TAG, 0x80, 0x80, 0x80, 0x80, 0x80, 1],
        ];
        for data in rows {
            assert_eq!(
                hash(DataHashing::Concatenated, &[data]),
                Err(NotEntries),
                "{data:?}"
            );
        }
        assert!(hash(DataHashing::Concatenated, &[&[TAG, 0, TAG, 1, 7]]).is_ok());
    }
}
