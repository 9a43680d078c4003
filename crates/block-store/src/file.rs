// SPDX-License-Identifier: Apache-2.0
//! What the store does with files, as traits: so that bytes can stand in for a file that is read,
//! and a disk that fails or is cut off for the one that is written.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::Path,
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

/// A file that is open for reading.
pub(crate) trait ReadFile: ReadAt + fmt::Debug + Send + Sync {
    fn length(&self) -> io::Result<u64>;
}

/// A file that is open for writing.
pub(crate) trait WriteFile: fmt::Debug + Send + Sync {
    /// Writes some bytes to the end, if the file was opened for that.
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes at a place, if the file was opened for that.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Waits until the disk has the content.
    fn sync_data(&self) -> io::Result<()>;

    /// Waits until the disk has the content and what is known of the file.
    fn sync_all(&self) -> io::Result<()>;

    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// The files of a store, and what is done to their directory.
pub(crate) trait Files: fmt::Debug + Send + Sync {
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;

    /// Makes a file that is not there yet, for writing to its end.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens a file for writing to its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens a file for writing at places.
    fn edit(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes what was created, renamed or removed in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The files of the operating system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemFiles;

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

impl ReadFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl WriteFile for File {
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        io::Write::write_vectored(self, buffers)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

impl Files for SystemFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).open(path)?;
        Ok(Box::new(file))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The whole content of a file.
pub(crate) fn read_whole(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path)?;
    let length = usize::try_from(file.length()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut content = vec![0; length];
    let read = file.read_full_at(&mut content, 0)?;
    content.truncate(read);
    Ok(content)
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(files: &dyn Files, path: &Path) -> io::Result<()> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes all of several buffers with as few calls as the operating system allows.
pub(crate) fn write_all_vectored(
    file: &mut dyn WriteFile,
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
