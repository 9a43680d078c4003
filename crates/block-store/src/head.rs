// SPDX-License-Identifier: Apache-2.0
//! The head file: up to which height blocks were acknowledged.
//!
//! Behind a preamble it has two slots that are written in turn, each in a sector of its own, so
//! that a torn write leaves the other one. A slot is written after the batch is durable and before
//! it is acknowledged, and is not synced itself: that would double the price of a batch. So the
//! head never says more than is durable. It is exact whenever the process alone ended; after the
//! machine ended it may lag behind by the batches of the last half minute, but never by more than
//! a segment, since it is synced before a new one begins.

use std::{
    io,
    path::{Path, PathBuf},
};

use block_api::{ChainInfo, Height};

use crate::{
    codec::{FormatError, Input, checked, put_checksum, put_optional_hash},
    dir::{self, WholeError},
    error::OpenError,
    file::{Files, WriteFile, read_whole},
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble, SyncBytes},
    report::HeadState,
};

/// Where the two slots stand: apart by the largest sector in use.
const SLOT_OFFSETS: [usize; 2] = [4096, 8192];

/// Sequence number, first block, height, tip hash and checksum.
const SLOT_LEN: usize = 8 + 8 + 8 + 33 + 4;

/// The head file of an open store.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: Box<dyn WriteFile>,
    path: PathBuf,
    /// The sequence number of the next slot to be written.
    next: u64,
}

/// What the bytes of a head file say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) identity: Identity,
    /// The newest state that was acknowledged, by what can be read.
    pub(crate) info: Option<ChainInfo>,
    /// The sequence number for the slot after the newest one.
    next: u64,
    /// Whether both slots are good: else the newest one may be missing.
    pub(crate) intact: bool,
}

impl Head {
    /// Reads the head file of a directory, where there is one that can be read at least in part.
    pub(crate) fn load(
        files: &dyn Files,
        dir: &Path,
        is_new: bool,
    ) -> Result<(HeadState, Option<Self>), OpenError> {
        let path = dir::head_path(dir);
        let bytes = match read_whole(files, &path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = if is_new {
                    HeadState::New
                } else {
                    HeadState::Missing
                };
                return Ok((state, None));
            }
            Err(error) => return Err(OpenError::io("read the head file", &path)(error)),
        };
        match Self::decode(&bytes) {
            Ok(head) => {
                let state = if head.intact {
                    HeadState::Intact
                } else {
                    HeadState::Damaged
                };
                Ok((state, Some(head)))
            }
            Err(FormatError::Version(version)) => Err(OpenError::UnknownVersion { path, version }),
            Err(
                FormatError::Magic
                | FormatError::Checksum
                | FormatError::Truncated
                | FormatError::Content(_),
            ) => Ok((HeadState::Damaged, None)),
        }
    }

    /// Reads a head file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        // A damaged head can be made anew, one of another version cannot be judged; so here the
        // checksum goes first.
        let preamble = match Preamble::decode(Kind::Head, bytes) {
            Err(FormatError::Version(version)) => {
                checked(bytes.get(..PREAMBLE_LEN).ok_or(FormatError::Truncated)?)?;
                return Err(FormatError::Version(version));
            }
            decoded => decoded?,
        };
        let slots =
            SLOT_OFFSETS.map(|offset| bytes.get(offset..offset + SLOT_LEN).and_then(decode_slot));
        let newest = slots
            .into_iter()
            .flatten()
            .max_by_key(|(sequence, _)| *sequence);
        Ok(Self {
            identity: preamble.identity,
            info: newest.map(|(_, info)| info),
            next: newest.map_or(0, |(sequence, _)| sequence.saturating_add(1)),
            intact: slots.iter().all(Option::is_some),
        })
    }
}

impl HeadFile {
    /// Makes a head file, or replaces the one that is there.
    pub(crate) fn create(
        files: &dyn Files,
        dir: &Path,
        identity: &Identity,
        info: &ChainInfo,
    ) -> Result<Self, OpenError> {
        let preamble = Preamble {
            kind: Kind::Head,
            sync: SyncBytes::new([0; SyncBytes::LEN]),
            first: identity.start,
            previous: identity.start_previous,
            identity: identity.clone(),
        };
        let mut content = preamble.encode();
        let mut next = 0;
        for offset in SLOT_OFFSETS {
            content.resize(offset, 0);
            content.extend(encode_slot(next, info));
            next += 1;
        }
        let path = dir::head_path(dir);
        dir::write_whole(files, dir, &path, &content).map_err(WholeError::opening(&path))?;
        Self::at(files, path, next)
    }

    /// Goes on with the head file that was read.
    pub(crate) fn go_on(files: &dyn Files, dir: &Path, head: &Head) -> Result<Self, OpenError> {
        Self::at(files, dir::head_path(dir), head.next)
    }

    fn at(files: &dyn Files, path: PathBuf, next: u64) -> Result<Self, OpenError> {
        let file = files
            .edit(&path)
            .map_err(OpenError::io("open the head file", &path))?;
        Ok(Self { file, path, next })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes what is about to be acknowledged.
    pub(crate) fn write(&mut self, info: &ChainInfo) -> io::Result<()> {
        let [even, odd] = SLOT_OFFSETS;
        let offset = if self.next.is_multiple_of(2) {
            even
        } else {
            odd
        };
        self.file
            .write_all_at(&encode_slot(self.next, info), offset as u64)?;
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// Waits until the disk has what was noted.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode_slot(sequence: u64, info: &ChainInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_LEN);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&info.first.get().to_le_bytes());
    out.extend_from_slice(&info.height.get().to_le_bytes());
    put_optional_hash(&mut out, info.tip_hash.as_ref());
    put_checksum(&mut out);
    out
}

fn decode_slot(bytes: &[u8]) -> Option<(u64, ChainInfo)> {
    let mut input = Input::new(checked(bytes).ok()?);
    let sequence = input.u64()?;
    let first = input.number()?;
    let height = Height::new(input.u64()?);
    let tip_hash = input.optional_hash()?;
    Some((
        sequence,
        ChainInfo {
            first,
            height,
            tip_hash,
        },
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use block_api::{BlockNumber, HeaderHash};
    use proptest::prelude::*;

    use super::*;
    use crate::file::SystemFiles;

    fn info(height: u64) -> ChainInfo {
        ChainInfo {
            first: BlockNumber::GENESIS,
            height: Height::new(height),
            tip_hash: (height > 0).then(|| HeaderHash::new([height as u8; 32])),
        }
    }

    fn head_bytes(heights: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::new("channel".parse().unwrap(), None, &ChainInfo::EMPTY);
        let mut file = HeadFile::create(&SystemFiles, dir.path(), &identity, &info(0)).unwrap();
        for height in heights {
            file.write(&info(height)).unwrap();
        }
        fs::read(dir::head_path(dir.path())).unwrap()
    }

    #[test]
    fn the_newest_slot_counts() {
        for height in 0..5 {
            let head = Head::decode(&head_bytes(1..=height)).unwrap();
            assert_eq!(head.info, Some(info(height)));
            assert!(head.intact);
            assert_eq!(head.next, height + 2);
        }
    }

    #[test]
    fn the_other_slot_counts_when_one_is_damaged() {
        let bytes = head_bytes([1, 2, 3]);
        let [even, odd] = SLOT_OFFSETS;
        for (offset, left) in [(even, 2), (odd, 3)] {
            for at in 0..SLOT_LEN {
                let mut damaged = bytes.clone();
                damaged[offset + at] ^= 1;
                let head = Head::decode(&damaged).unwrap();
                assert_eq!((head.info, head.intact), (Some(info(left)), false));
            }
        }
        let head = Head::decode(&bytes[..even + 5]).unwrap();
        assert_eq!((head.info, head.intact), (None, false));
    }

    #[test]
    fn an_unknown_version_is_told_from_a_damaged_one() {
        let mut bytes = head_bytes([]);
        bytes[8] = 9;
        assert_eq!(Head::decode(&bytes), Err(FormatError::Checksum));
        let mut preamble = bytes[..PREAMBLE_LEN - 4].to_vec();
        put_checksum(&mut preamble);
        bytes[..PREAMBLE_LEN].copy_from_slice(&preamble);
        assert_eq!(Head::decode(&bytes), Err(FormatError::Version(9)));
    }

    proptest! {
        #[test]
        fn a_changed_byte_never_raises_the_height(at in 0..SLOT_OFFSETS[1] + SLOT_LEN, change in 1u8..) {
            let mut bytes = head_bytes([1, 2, 3]);
            bytes[at] ^= change;
            if let Ok(head) = Head::decode(&bytes) {
                prop_assert!(head.info == Some(info(3)) || (!head.intact && head.info == Some(info(2))));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(Head::decode(&bytes).is_err());
        }
    }
}
