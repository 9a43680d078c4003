// SPDX-License-Identifier: Apache-2.0
//! The file `configs`: the config blocks from before the oldest block that is kept.
//!
//! They judge blocks that are kept, and without them no verifier could be rebuilt. The file is
//! written, and durable, before a segment is dropped, and it is what says which block is the oldest:
//! segments below that are left over from a drop that was not finished.

use std::{path::Path, sync::Arc};

use block_api::{BlockNumber, HeaderHash};
use bytes::Bytes;

use crate::{
    codec::{CHECKSUM_LEN, FormatError, Input, checked, put_checksum},
    dir::{self, WholeError},
    error::{DamagedRecord, OpenError, RecordFault, StorageError},
    file::{Files, ReadAt, ReadFile},
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble, SyncBytes},
    segment_file::check_identity,
};

/// Number, length and checksum of a block.
const ENTRY_LEN: usize = 8 + 4 + 4;

/// How many there are.
const COUNT_LEN: usize = 8;

/// The config blocks below the oldest block that is kept. Clones share the file.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    path: Arc<Path>,
    file: Arc<dyn ReadFile>,
    preamble: Preamble,
    entries: Arc<[Entry]>,
}

/// Where a config block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: BlockNumber,
    offset: u64,
    length: u32,
    checksum: u32,
}

impl Archive {
    /// Opens the file, if there is one. The blocks are checked when they are read.
    pub(crate) fn load(
        files: &dyn Files,
        dir: &Path,
        chain: &Identity,
    ) -> Result<Option<Self>, OpenError> {
        let path = dir::archive_path(dir);
        let Some(archive) = Self::find(files, &path)? else {
            return Ok(None);
        };
        check_identity(&path, &archive.preamble.identity, chain)?;
        Ok(Some(archive))
    }

    fn find(files: &dyn Files, path: &Path) -> Result<Option<Self>, OpenError> {
        let io = || OpenError::io("read the config blocks in", path);
        let file = match files.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io()(error)),
        };
        let length = file.length().map_err(io())?;
        match read_table(&*file, length).map_err(io())? {
            Ok((preamble, entries)) => Ok(Some(Self {
                path: path.into(),
                file: file.into(),
                preamble,
                entries: entries.into(),
            })),
            Err(FormatError::Version(version)) => Err(OpenError::UnknownVersion {
                path: path.to_owned(),
                version,
            }),
            Err(error) => Err(OpenError::DamagedConfigs {
                path: path.to_owned(),
                reason: match error {
                    FormatError::Checksum => "is damaged: its checksum does not match",
                    FormatError::Magic => {
                        "is damaged: its first bytes are not those of such a file"
                    }
                    FormatError::Truncated => {
                        "is damaged: it has not the length that it should have"
                    }
                    FormatError::Content(_) | FormatError::Version(_) => {
                        "is damaged: it contradicts itself"
                    }
                },
            }),
        }
    }

    /// The oldest block that is kept.
    pub(crate) fn first(&self) -> BlockNumber {
        self.preamble.first
    }

    /// The header hash of the block before that one.
    pub(crate) fn previous(&self) -> Option<HeaderHash> {
        self.preamble.previous
    }

    /// Whose chain it is.
    pub(crate) fn identity(&self) -> &Identity {
        &self.preamble.identity
    }

    /// The config blocks, ascending.
    pub(crate) fn numbers(&self) -> impl DoubleEndedIterator<Item = BlockNumber> {
        self.entries.iter().map(|entry| entry.number)
    }

    /// The newest config block that is not behind this block.
    pub(crate) fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.numbers().rfind(|config| *config <= number)
    }

    /// The bytes of a config block; `None` when it is not one of these.
    pub(crate) fn read(&self, number: BlockNumber) -> Option<Result<Bytes, StorageError>> {
        let entry = self.entries.iter().find(|entry| entry.number == number)?;
        Some(self.read_entry(entry))
    }

    fn read_entry(&self, entry: &Entry) -> Result<Bytes, StorageError> {
        let mut bytes = vec![0; entry.length as usize];
        let read = self.file.read_full_at(&mut bytes, entry.offset);
        let read = read.map_err(StorageError::io("read the config blocks in", &self.path))?;
        let fault = if read < bytes.len() {
            RecordFault::Incomplete
        } else if crc32c::crc32c(&bytes) != entry.checksum {
            RecordFault::Payload
        } else {
            return Ok(bytes.into());
        };
        Err(DamagedRecord {
            segment: self.path.to_path_buf(),
            offset: entry.offset,
            block: entry.number,
            fault,
        }
        .into())
    }

    /// Replaces the file by one with these config blocks, below this oldest block.
    pub(crate) fn write(
        files: &dyn Files,
        dir: &Path,
        identity: Identity,
        first: BlockNumber,
        previous: Option<HeaderHash>,
        blocks: &[(BlockNumber, Bytes)],
    ) -> Result<Self, OpenError> {
        let preamble = Preamble {
            kind: Kind::Archive,
            sync: SyncBytes::new([0; SyncBytes::LEN]),
            first,
            previous,
            identity,
        };
        let path = dir::archive_path(dir);
        dir::write_whole(files, dir, &path, &encode(&preamble, blocks))
            .map_err(WholeError::opening(&path))?;
        Self::find(files, &path)?.ok_or(OpenError::DamagedConfigs {
            path,
            reason: "is gone",
        })
    }
}

fn encode(preamble: &Preamble, blocks: &[(BlockNumber, Bytes)]) -> Vec<u8> {
    let mut table = (blocks.len() as u64).to_le_bytes().to_vec();
    for (number, bytes) in blocks {
        // A record is never longer, and this is a block that was read of one.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        table.extend_from_slice(&number.get().to_le_bytes());
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    }
    put_checksum(&mut table);
    let mut out = preamble.encode();
    out.extend(table);
    for (_, bytes) in blocks {
        out.extend_from_slice(bytes);
    }
    out
}

/// Reads what stands before the blocks.
fn read_table<R: ReadAt + ?Sized>(
    file: &R,
    length: u64,
) -> std::io::Result<Result<(Preamble, Vec<Entry>), FormatError>> {
    let mut bytes = vec![0; PREAMBLE_LEN + COUNT_LEN];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let preamble = match Preamble::decode(Kind::Archive, &bytes) {
        Ok(preamble) => preamble,
        Err(error) => return Ok(Err(error)),
    };
    let count = bytes
        .get(PREAMBLE_LEN..)
        .and_then(|rest| Input::new(rest).u64());
    // A count that is not true cannot claim more memory than the file is long.
    let table = count
        .and_then(|count| count.checked_mul(ENTRY_LEN as u64))
        .and_then(|entries| entries.checked_add((COUNT_LEN + CHECKSUM_LEN) as u64))
        .filter(|table| *table <= length)
        .and_then(|table| usize::try_from(table).ok());
    let Some(table) = table else {
        return Ok(Err(FormatError::Truncated));
    };
    let mut bytes = vec![0; table];
    let read = file.read_full_at(&mut bytes, PREAMBLE_LEN as u64)?;
    bytes.truncate(read);
    Ok(checked(&bytes).and_then(|content| {
        let entries = entries(content, (PREAMBLE_LEN + table) as u64);
        let (entries, end) = entries.ok_or(FormatError::Truncated)?;
        let ascends = entries.is_sorted_by(|one, other| one.number < other.number);
        let is_below = entries
            .last()
            .is_none_or(|last| last.number < preamble.first);
        if end != length {
            Err(FormatError::Truncated)
        } else if ascends && is_below {
            Ok((preamble, entries))
        } else {
            Err(FormatError::Content("the config blocks are not in order"))
        }
    }))
}

/// The entries, and where the last block ends.
fn entries(content: &[u8], begin: u64) -> Option<(Vec<Entry>, u64)> {
    let mut input = Input::new(content);
    let mut offset = begin;
    let mut entries = Vec::new();
    for _ in 0..input.u64()? {
        let entry = Entry {
            number: input.number()?,
            offset,
            length: input.u32()?,
            checksum: input.u32()?,
        };
        offset = offset.checked_add(u64::from(entry.length))?;
        entries.push(entry);
    }
    Some((entries, offset))
}

#[cfg(test)]
mod tests {
    use block_api::ChainInfo;
    use proptest::prelude::*;

    use super::*;
    use crate::file::SystemFiles;

    fn identity() -> Identity {
        Identity::new("ch".parse().unwrap(), None, &ChainInfo::EMPTY)
    }

    fn written(lengths: &[usize]) -> (tempfile::TempDir, Archive, Vec<(BlockNumber, Bytes)>) {
        let dir = tempfile::tempdir().unwrap();
        let blocks: Vec<_> = (0u64..)
            .zip(lengths)
            .map(|(index, length)| {
                (
                    BlockNumber::new(7 * index),
                    vec![index as u8; *length].into(),
                )
            })
            .collect();
        let first = BlockNumber::new(1000);
        let previous = Some(HeaderHash::new([3; 32]));
        let archive = Archive::write(
            &SystemFiles,
            dir.path(),
            identity(),
            first,
            previous,
            &blocks,
        )
        .unwrap();
        (dir, archive, blocks)
    }

    #[test]
    fn what_is_written_is_read() {
        for lengths in [&[][..], &[0], &[5, 0, 700]] {
            let (dir, archive, blocks) = written(lengths);
            let loaded = Archive::load(&SystemFiles, dir.path(), &identity());
            for archive in [archive, loaded.unwrap().unwrap()] {
                assert_eq!(archive.first(), BlockNumber::new(1000));
                assert_eq!(archive.previous(), Some(HeaderHash::new([3; 32])));
                assert_eq!(archive.numbers().count(), blocks.len());
                for (number, bytes) in &blocks {
                    assert_eq!(archive.read(*number).unwrap().unwrap(), *bytes);
                    let behind = BlockNumber::new(number.get() + 6);
                    assert_eq!(archive.config_at(behind), Some(*number));
                    assert!(archive.read(behind).is_none());
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Archive::load(&SystemFiles, dir.path(), &identity())
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn an_unknown_version_is_named() {
        let (dir, ..) = written(&[4]);
        let path = dir::archive_path(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 9;
        std::fs::write(&path, bytes).unwrap();
        let error = Archive::load(&SystemFiles, dir.path(), &identity()).unwrap_err();
        assert!(
            matches!(error, OpenError::UnknownVersion { version: 9, .. }),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1u8..) {
            let (dir, _, blocks) = written(&[5, 30, 9]);
            let path = dir::archive_path(dir.path());
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            std::fs::write(&path, bytes).unwrap();
            if let Ok(archive) = Archive::load(&SystemFiles, dir.path(), &identity()) {
                let archive = archive.unwrap();
                let read: Vec<_> = blocks.iter().map(|(number, _)| archive.read(*number).unwrap()).collect();
                prop_assert_eq!(read.iter().filter(|read| read.is_err()).count(), 1);
                for (read, (_, expected)) in read.into_iter().zip(blocks) {
                    prop_assert!(read.is_err() || read.unwrap() == expected);
                }
            }
        }

        #[test]
        fn arbitrary_content_does_no_harm(
            content in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0..PREAMBLE_LEN + 200,
        ) {
            let (dir, ..) = written(&[]);
            let mut bytes = std::fs::read(dir::archive_path(dir.path())).unwrap();
            bytes.truncate(PREAMBLE_LEN);
            bytes.extend(content);
            bytes.truncate(cut);
            let length = bytes.len() as u64;
            let _ = read_table(bytes.as_slice(), length).unwrap();
        }
    }
}
