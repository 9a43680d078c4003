// SPDX-License-Identifier: Apache-2.0
//! The header that stands before each block in a segment.

use block_api::{BlockNumber, HeaderHash, VerifiedBlock};

use crate::{
    codec::{Input, checked, put_checksum},
    error::RecordFault,
    preamble::SyncBytes,
};

/// How many bytes stand before each block.
pub(crate) const RECORD_HEADER_LEN: usize = 80;

/// The flag of a config block; no other one is defined.
const CONFIG_FLAG: u32 = 1;

/// What stands before a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) number: BlockNumber,
    /// The bytes of the block.
    pub(crate) length: u32,
    pub(crate) is_config: bool,
    pub(crate) last_config: BlockNumber,
    /// The first block of the batch that this one was written in. All blocks before that one were
    /// durable before this one was written: whoever finds this header knows that they were
    /// acknowledged.
    pub(crate) batch_first: BlockNumber,
    pub(crate) header_hash: HeaderHash,
    /// The checksum of the bytes of the block.
    pub(crate) checksum: u32,
}

impl RecordHeader {
    /// The header for a block; `None` when the block has more bytes than a length can say.
    pub(crate) fn of(block: &VerifiedBlock, batch_first: BlockNumber) -> Option<Self> {
        let raw = block.block().raw();
        Some(Self {
            number: block.number(),
            length: u32::try_from(raw.len()).ok()?,
            is_config: block.is_config(),
            last_config: block.last_config(),
            batch_first,
            header_hash: block.header_hash(),
            checksum: crc32c::crc32c(raw),
        })
    }

    pub(crate) fn encode(&self, sync: &SyncBytes) -> [u8; RECORD_HEADER_LEN] {
        let mut out = Vec::with_capacity(RECORD_HEADER_LEN);
        out.extend_from_slice(sync.as_bytes());
        out.extend_from_slice(&self.number.get().to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&if self.is_config { CONFIG_FLAG } else { 0 }.to_le_bytes());
        out.extend_from_slice(&self.last_config.get().to_le_bytes());
        out.extend_from_slice(&self.batch_first.get().to_le_bytes());
        out.extend_from_slice(self.header_hash.as_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
        put_checksum(&mut out);
        out.try_into()
            .expect("invariant: the fields fill a header exactly")
    }

    pub(crate) fn decode(
        bytes: &[u8; RECORD_HEADER_LEN],
        sync: &SyncBytes,
    ) -> Result<Self, RecordFault> {
        let content = checked(bytes).map_err(|_| RecordFault::Header)?;
        Self::fields(content, sync).ok_or(RecordFault::Header)
    }

    /// The same, for the block that is expected there.
    pub(crate) fn decode_expected(
        bytes: &[u8; RECORD_HEADER_LEN],
        sync: &SyncBytes,
        expected: BlockNumber,
    ) -> Result<Self, RecordFault> {
        let header = Self::decode(bytes, sync)?;
        if header.number == expected {
            Ok(header)
        } else {
            Err(RecordFault::Sequence {
                found: header.number,
            })
        }
    }

    fn fields(content: &[u8], sync: &SyncBytes) -> Option<Self> {
        let mut input = Input::new(content);
        if input.bytes(SyncBytes::LEN)? != sync.as_bytes() {
            return None;
        }
        let number = input.number()?;
        let length = input.u32()?;
        let is_config = match input.u32()? {
            0 => false,
            CONFIG_FLAG => true,
            _ => return None,
        };
        let header = Self {
            number,
            length,
            is_config,
            last_config: input.number()?,
            batch_first: input.number()?,
            header_hash: input.hash()?,
            checksum: input.u32()?,
        };
        (header.batch_first <= number).then_some(header)
    }

    /// How many bytes header and block take together.
    pub(crate) fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + u64::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SYNC: [u8; 8] = *b"syncsync";

    fn header() -> impl Strategy<Value = RecordHeader> {
        (
            any::<u64>(),
            any::<u64>(),
            any::<u32>(),
            any::<bool>(),
            any::<u64>(),
            any::<[u8; 32]>(),
            any::<u32>(),
        )
            .prop_map(
                |(one, other, length, is_config, last_config, hash, checksum)| RecordHeader {
                    number: BlockNumber::new(one.max(other)),
                    length,
                    is_config,
                    last_config: BlockNumber::new(last_config),
                    batch_first: BlockNumber::new(one.min(other)),
                    header_hash: HeaderHash::new(hash),
                    checksum,
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(header in header()) {
            let sync = SyncBytes::new(SYNC);
            let bytes = header.encode(&sync);
            prop_assert_eq!(RecordHeader::decode(&bytes, &sync), Ok(header));
            prop_assert_eq!(RecordHeader::decode_expected(&bytes, &sync, header.number), Ok(header));
            prop_assert_eq!(RecordHeader::decode(&bytes, &SyncBytes::new([0; 8])), Err(RecordFault::Header));
        }

        #[test]
        fn a_changed_byte_is_noticed(header in header(), at in 0..RECORD_HEADER_LEN, change in 1u8..) {
            let sync = SyncBytes::new(SYNC);
            let mut bytes = header.encode(&sync);
            bytes[at] ^= change;
            prop_assert_eq!(RecordHeader::decode(&bytes, &sync), Err(RecordFault::Header));
        }
    }

    #[test]
    fn another_number_than_the_expected_one_is_named() {
        let sync = SyncBytes::new(SYNC);
        let header = RecordHeader {
            number: BlockNumber::new(7),
            length: 1,
            is_config: false,
            last_config: BlockNumber::GENESIS,
            batch_first: BlockNumber::new(7),
            header_hash: HeaderHash::new([0; 32]),
            checksum: 0,
        };
        let found =
            RecordHeader::decode_expected(&header.encode(&sync), &sync, BlockNumber::new(8));
        assert_eq!(
            found,
            Err(RecordFault::Sequence {
                found: BlockNumber::new(7)
            })
        );
    }
}
