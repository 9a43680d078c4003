// SPDX-License-Identifier: Apache-2.0
//! What the store does with a file, as traits: so that bytes can stand in for a file that is read,
//! and a failing disk for one that is written.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
};

/// Reads at a position.
pub(crate) trait ReadAt {
    /// Reads some bytes, as `pread` does; none at the end.
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads until the buffer is full or the file ends, and says how much was read.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_some_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// A segment that is written. Every write goes to its end.
pub(crate) trait WriteEnd: Send {
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until the disk has what was written.
    fn sync_data(&mut self) -> io::Result<()>;

    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// Makes the segment that is written out of an open file.
pub(crate) type Wrap = Box<dyn Fn(File) -> Box<dyn WriteEnd> + Send>;

impl ReadAt for File {
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_some_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }
}

impl WriteEnd for File {
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(self, buffers)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

/// Writes all of several buffers with as few calls as the operating system allows.
pub(crate) fn write_all_vectored(
    file: &mut dyn WriteEnd,
    mut buffers: &mut [IoSlice<'_>],
) -> io::Result<()> {
    // Empty buffers at the front would make a write of nothing look like a full disk.
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        match file.write_vectored(buffers) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut buffers, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
