// SPDX-License-Identifier: Apache-2.0
//! The directory of a store: its file names, and changes to it that are whole or not at all.

use std::{
    fs::{self, File},
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use block_api::BlockNumber;

use crate::{
    error::{OpenError, StorageError},
    file::{Files, WriteFile, remove_if_there, write_all_vectored},
};

const SEGMENT_SUFFIX: &str = ".seg";
const INDEX_SUFFIX: &str = ".idx";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// How many digits a file name has: as many as the highest block number, so that names sort.
const DIGITS: usize = 20;

/// What a directory holds of a store.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The first blocks of the segments, ascending.
    pub(crate) segments: Vec<BlockNumber>,
    /// The first blocks of the segments that have an index.
    pub(crate) indexes: Vec<BlockNumber>,
    /// Files that were not finished.
    pub(crate) temporary: Vec<PathBuf>,
}

/// A file that was not made or replaced, by the step that failed.
#[derive(Debug)]
pub(crate) struct WholeError {
    /// What was tried on the file.
    action: &'static str,
    source: io::Error,
    /// Whether the file may have its name already, and nobody knows whether for good.
    pub(crate) is_in_doubt: bool,
}

pub(crate) fn segment_path(dir: &Path, first: BlockNumber) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{SEGMENT_SUFFIX}", first.get()))
}

pub(crate) fn index_path(dir: &Path, first: BlockNumber) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{INDEX_SUFFIX}", first.get()))
}

pub(crate) fn head_path(dir: &Path) -> PathBuf {
    dir.join("head")
}

pub(crate) fn archive_path(dir: &Path) -> PathBuf {
    dir.join("configs")
}

pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Makes the directory, with those above it, if it is not there. What was made survives the end of
/// the machine.
pub(crate) fn create(dir: &Path) -> Result<(), OpenError> {
    let missing: Vec<_> = dir
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    fs::create_dir_all(dir).map_err(OpenError::io("create the directory", dir))?;
    for made in missing {
        let parent = made
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(OpenError::io("sync the directory", parent))?;
    }
    Ok(())
}

/// Lists the files of the store. Files of other names are none of its business.
pub(crate) fn list(dir: &Path) -> Result<Listing, OpenError> {
    let mut listing = Listing::default();
    let entries = fs::read_dir(dir).map_err(OpenError::io("list the directory", dir))?;
    for entry in entries {
        let entry = entry.map_err(OpenError::io("list the directory", dir))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(first) = name.strip_suffix(SEGMENT_SUFFIX).and_then(number) {
            listing.segments.push(first);
        } else if let Some(first) = name.strip_suffix(INDEX_SUFFIX).and_then(number) {
            listing.indexes.push(first);
        } else if let Some(of) = name.strip_suffix(TEMPORARY_SUFFIX)
            && (of == "head"
                || of == "configs"
                || of
                    .strip_suffix(SEGMENT_SUFFIX)
                    .or(of.strip_suffix(INDEX_SUFFIX))
                    .and_then(number)
                    .is_some())
        {
            listing.temporary.push(entry.path());
        }
    }
    listing.segments.sort_unstable();
    Ok(listing)
}

/// Makes a file with this content, or replaces it: after an error or a crash there is the whole
/// new file, or what was there before. The file is returned open for appending.
pub(crate) fn write_whole(
    files: &dyn Files,
    dir: &Path,
    path: &Path,
    content: &[u8],
) -> Result<Box<dyn WriteFile>, WholeError> {
    let temporary = temporary_path(path);
    let written = write_new(files, &temporary, content).and_then(|file| {
        file.sync_all().map_err(WholeError::of("sync"))?;
        put_in_place(files, dir, &temporary, path)?;
        Ok(file)
    });
    if written.is_err() {
        // What is left over is removed when the store is opened, if it cannot be removed here.
        let _ = files.remove(&temporary);
    }
    written
}

/// Makes a file with this content, or replaces it, without waiting for the disk: after a crash it
/// may be anything, and only a checksum tells.
pub(crate) fn write_hint(files: &dyn Files, path: &Path, content: &[u8]) -> Result<(), WholeError> {
    let temporary = temporary_path(path);
    let written = write_new(files, &temporary, content).and_then(|_| {
        let renamed = files.rename(&temporary, path);
        renamed.map_err(WholeError::of("give its name to"))
    });
    if written.is_err() {
        let _ = files.remove(&temporary);
    }
    written
}

/// Puts a longer hint in the place of one, without a new file: that would be for the disk to remember
/// with the next sync, whoever waits for it.
pub(crate) fn rewrite_hint(
    files: &dyn Files,
    path: &Path,
    content: &[u8],
) -> Result<(), WholeError> {
    let mut file = files.edit(path).map_err(WholeError::of("open"))?;
    let written = file.write_all_at(content, 0);
    written.map_err(WholeError::of("write"))
}

/// Gives a file that is durable its name, and makes that durable too.
pub(crate) fn put_in_place(
    files: &dyn Files,
    dir: &Path,
    temporary: &Path,
    path: &Path,
) -> Result<(), WholeError> {
    let renamed = files.rename(temporary, path);
    renamed.map_err(WholeError::of("give its name to"))?;
    files.sync_dir(dir).map_err(|source| WholeError {
        action: "sync the directory of",
        source,
        is_in_doubt: true,
    })
}

/// Makes a file that has no content yet, in place of one that was not finished.
pub(crate) fn create_new(files: &dyn Files, path: &Path) -> Result<Box<dyn WriteFile>, WholeError> {
    remove_if_there(files, path).map_err(WholeError::of("make room for"))?;
    files.create(path).map_err(WholeError::of("create"))
}

/// The name that a file has until it is finished.
pub(crate) fn temporary_path(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    PathBuf::from(temporary)
}

fn write_new(
    files: &dyn Files,
    path: &Path,
    content: &[u8],
) -> Result<Box<dyn WriteFile>, WholeError> {
    let mut file = create_new(files, path)?;
    write_all_vectored(&mut *file, &mut [IoSlice::new(content)])
        .map_err(WholeError::of("write"))?;
    Ok(file)
}

impl WholeError {
    fn of(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            source,
            is_in_doubt: false,
        }
    }

    pub(crate) fn action(&self) -> &'static str {
        self.action
    }

    pub(crate) fn source(&self) -> &io::Error {
        &self.source
    }

    /// The error of an opening that names the file.
    pub(crate) fn opening(path: &Path) -> impl FnOnce(Self) -> OpenError {
        move |error| OpenError::io(error.action, path)(error.source)
    }

    /// The error of an append that names the file.
    pub(crate) fn storing(self, path: &Path) -> StorageError {
        StorageError::io(self.action, path)(self.source)
    }
}

fn number(digits: &str) -> Option<BlockNumber> {
    (digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok().map(BlockNumber::new))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::SystemFiles;

    #[test]
    fn only_files_of_the_store_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "head",
            "lock",
            "notes.txt",
            "1.seg",
            "x.tmp",
            "99999999999999999999.seg",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for first in [300, 7, u64::MAX] {
            fs::write(segment_path(dir.path(), BlockNumber::new(first)), "").unwrap();
        }
        let temporary = dir.path().join("00000000000000000007.idx.tmp");
        fs::write(&temporary, "").unwrap();
        let listing = list(dir.path()).unwrap();
        assert_eq!(listing.segments, [7, 300, u64::MAX].map(BlockNumber::new));
        assert_eq!(listing.temporary, [temporary]);
    }

    #[test]
    fn errors_name_path_reason_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let message = create(&file.join("store")).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot create the directory /"),
            "{message}"
        );
        assert!(message.contains("file/store: Not a directory"), "{message}");
        assert!(
            message.ends_with("; give a path at which there is a directory or nothing"),
            "{message}"
        );
        let message = list(&dir.path().join("none")).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot list the directory /"),
            "{message}"
        );
        assert!(message.contains("none: No such file"), "{message}");
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        fs::write(dir.path().join("head.tmp"), "left over").unwrap();
        write_whole(&SystemFiles, dir.path(), &path, b"one").unwrap();
        write_whole(&SystemFiles, dir.path(), &path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(list(dir.path()).unwrap().temporary.is_empty());
    }
}
