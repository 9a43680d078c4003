// SPDX-License-Identifier: Apache-2.0
//! Fixed-width, little-endian fields, and the checksums over them.

use block_api::{BlockNumber, HeaderHash};

/// The version that every file of this release states.
pub(crate) const VERSION: u32 = 1;

/// The width of a checksum.
pub(crate) const CHECKSUM_LEN: usize = 4;

/// Takes fields off the front of a buffer; `None` when too little is left.
#[derive(Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

/// Why bytes are not the file that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("the first bytes are not those of such a file")]
    Magic,
    #[error("format version {0} is unknown")]
    Version(u32),
    #[error("the checksum does not match")]
    Checksum,
    #[error("the file is cut off")]
    Truncated,
    #[error("{0}")]
    Content(&'static str),
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn number(&mut self) -> Option<BlockNumber> {
        self.u64().map(BlockNumber::new)
    }

    pub(crate) fn hash(&mut self) -> Option<HeaderHash> {
        self.array().map(HeaderHash::new)
    }

    /// A hash that may be absent; the outer `None` when the field is cut off or malformed.
    #[expect(
        clippy::option_option,
        reason = "one says whether the field parses, the other whether there is a hash"
    )]
    pub(crate) fn optional_hash(&mut self) -> Option<Option<HeaderHash>> {
        let present = self.u8()?;
        let hash = self.hash()?;
        match present {
            0 => Some(None),
            1 => Some(Some(hash)),
            _ => None,
        }
    }
}

/// Appends a hash that may be absent.
pub(crate) fn put_optional_hash(out: &mut Vec<u8>, hash: Option<&HeaderHash>) {
    out.push(u8::from(hash.is_some()));
    out.extend_from_slice(hash.map(HeaderHash::as_bytes).unwrap_or(&[0; 32]));
}

/// Appends the checksum over everything that is there.
pub(crate) fn put_checksum(out: &mut Vec<u8>) {
    let checksum = crc32c::crc32c(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// What stands before the checksum at the end of `bytes`, if the checksum is that of it.
pub(crate) fn checked(bytes: &[u8]) -> Result<&[u8], FormatError> {
    let (content, checksum) = bytes
        .split_last_chunk::<CHECKSUM_LEN>()
        .ok_or(FormatError::Truncated)?;
    if crc32c::crc32c(content) == u32::from_le_bytes(*checksum) {
        Ok(content)
    } else {
        Err(FormatError::Checksum)
    }
}
