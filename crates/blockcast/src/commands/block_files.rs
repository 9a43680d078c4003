// SPDX-License-Identifier: Apache-2.0
//! Blocks as files: a folder with one file `block_<n>.pb` each, the encoding of a `common.Block`.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use block_api::{Block, BlockNumber, ParseBlockError};

use crate::commands::printable::grouped;

/// A bigger file is not read. No ordering service sends messages of more than 100 MiB.
pub(crate) const MAX_FILE_BYTES: u64 = 128 << 20;

const PREFIX: &str = "block_";
const SUFFIX: &str = ".pb";

/// A file that gives no block.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockFileError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "{} has {} bytes, more than any block: at most {} are read",
        path.display(), grouped(*bytes), grouped(MAX_FILE_BYTES)
    )]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error(
        "{} holds no block: {source}; a file holds the encoding of one common.Block",
        path.display()
    )]
    NoBlock {
        path: PathBuf,
        source: ParseBlockError,
    },
}

/// The name of the file with this block.
pub(crate) fn file_name(number: BlockNumber) -> String {
    format!("{PREFIX}{number}{SUFFIX}")
}

/// The numbers of the blocks that a folder has files of, in order. Files of other names do not
/// count, nor do numbers that are written in another way than this one would.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<BlockNumber>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let number = digits
            .and_then(|digits| digits.parse().ok())
            .map(BlockNumber::new);
        numbers.extend(number.filter(|number| name.to_str() == Some(&file_name(*number))));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the block in a file. What is in it may be anything: nothing of it is checked but its form.
pub(crate) fn read(path: &Path) -> Result<Block, BlockFileError> {
    let unreadable = |source| BlockFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Asked before it is opened, because the opening of a pipe waits for a writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(BlockFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let too_large = |bytes| BlockFileError::TooLarge {
        path: path.to_owned(),
        bytes,
    };
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    let length = u64::try_from(read.map_err(unreadable)?).unwrap_or(u64::MAX);
    if length > MAX_FILE_BYTES {
        // It grew meanwhile.
        return Err(too_large(length));
    }
    Block::parse(bytes.into()).map_err(|source| BlockFileError::NoBlock {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_listed_by_number_and_other_names_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "block_10.pb",
            "block_9.pb",
            "block_0.pb",
            "block_18446744073709551615.pb",
            "block_18446744073709551616.pb",
            "block_007.pb",
            "block_+7.pb",
            "block_.pb",
            "block_1.pb.tmp",
            "xblock_1.pb",
            "blocks.txt",
        ];
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let numbers: Vec<u64> = list(dir.path())
            .unwrap()
            .into_iter()
            .map(u64::from)
            .collect();
        assert_eq!(numbers, [0, 9, 10, u64::MAX]);
        assert!(list(&dir.path().join("none")).is_err());
    }

    #[test]
    fn what_holds_no_block_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        let error = || read(&file).unwrap_err().to_string();
        assert!(error().contains("cannot be read"), "{}", error());
        fs::write(&file, "").unwrap();
        assert!(error().contains("the block has no header"), "{}", error());
        fs::write(&file, "not a block").unwrap();
        assert!(error().contains("holds no block"), "{}", error());
        // A hole takes no room.
        File::create(&file)
            .unwrap()
            .set_len(MAX_FILE_BYTES + 1)
            .unwrap();
        assert!(error().contains("134,217,729 bytes, more"), "{}", error());
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not a file"), "{error}");
    }
}
