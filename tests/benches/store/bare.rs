// SPDX-License-Identifier: Apache-2.0
//! The bare disk: a file that grows, and is read, with as few calls as there can be.

use std::{
    fs::{File, OpenOptions},
    io::{IoSlice, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Result, ensure};
use block_api::VerifiedBlock;
use bytes::Bytes;

/// What the store puts before each block.
const HEADER: [u8; 80] = [0x5a; 80];

/// A file that grows by blocks.
pub(super) struct BareFile {
    file: File,
}

impl BareFile {
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(dir.join("bare"))?;
        Ok(Self { file })
    }

    /// One vectored write of the blocks, each behind a header that was made before, and one
    /// `fdatasync`.
    pub(super) fn append<'a>(&mut self, blocks: impl IntoIterator<Item = &'a Bytes>) -> Result<()> {
        let mut buffers: Vec<_> = blocks
            .into_iter()
            .flat_map(|block| [IoSlice::new(&HEADER), IoSlice::new(block)])
            .collect();
        let mut buffers = buffers.as_mut_slice();
        while !buffers.is_empty() {
            let written = self.file.write_vectored(buffers)?;
            ensure!(written > 0, "the disk takes nothing");
            IoSlice::advance_slices(&mut buffers, written);
        }
        self.file.sync_data()?;
        Ok(())
    }

    /// Reads so many bytes from a place into memory of their own, as someone needs them who keeps
    /// them while the next ones are read.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// The bytes of blocks.
pub(super) fn raw(blocks: &[VerifiedBlock]) -> impl Iterator<Item = &Bytes> {
    blocks.iter().map(|block| block.block().raw())
}

/// The bytes that these blocks take in a file.
pub(super) fn length(blocks: &[VerifiedBlock]) -> usize {
    raw(blocks).map(|block| block.len() + HEADER.len()).sum()
}
