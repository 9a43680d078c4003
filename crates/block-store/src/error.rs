// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with the files of a store.

use std::{
    io,
    path::{Path, PathBuf},
};

use block_api::{BlockNumber, ChannelId, HeaderHash, Height};

use crate::config::ConfigError;

/// A store was not opened. Nothing that was acknowledged has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration does not fit together.
    #[error("the configuration of the block store is not valid: {0}")]
    Config(#[from] ConfigError),
    /// Another store, here or in another process, has the directory open.
    #[error(
        "the block store {} is in use by {}: stop that process, or give this one a directory of its own",
        dir.display(), holder(*pid)
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who has it open, where that can be read.
        pid: Option<u32>,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory holds another channel.
    #[error("{} belongs to channel {kept}, not to {asked}: give each channel a directory of its own", path.display())]
    OtherChannel {
        /// The file that says so.
        path: PathBuf,
        /// The channel that is kept there.
        kept: ChannelId,
        /// The channel of the configuration.
        asked: ChannelId,
    },
    /// The directory holds the chain of another genesis block.
    #[error(
        "{} belongs to a chain whose genesis block has the hash {kept}, not {asked}: it is a channel of the same \
         name in another network, give it a directory of its own",
        path.display()
    )]
    OtherGenesis {
        /// The file that says so.
        path: PathBuf,
        /// The genesis hash of the chain that is kept there.
        kept: HeaderHash,
        /// The genesis hash of the configuration.
        asked: HeaderHash,
    },
    /// The directory holds a chain that begins elsewhere.
    #[error(
        "{} belongs to a chain that begins with block {kept} behind hash {}, not with block {asked} behind hash {}: \
         configure the same beginning, or give the new chain a directory of its own",
        path.display(), hash_or_none(kept_previous.as_ref()), hash_or_none(asked_previous.as_ref())
    )]
    OtherStart {
        /// The file that says so.
        path: PathBuf,
        /// The first block of the chain that is kept there.
        kept: BlockNumber,
        /// The hash that this block must link to.
        kept_previous: Option<HeaderHash>,
        /// The first block by the configuration.
        asked: BlockNumber,
        /// The hash that this block must link to.
        asked_previous: Option<HeaderHash>,
    },
    /// The directory holds a chain that began with another config block.
    #[error(
        "{} begins with {}, not with config block {asked}: configure the same one, or give the new chain a \
         directory of its own",
        path.display(), kept.map_or_else(|| "no config block".to_owned(), |kept| format!("config block {kept}"))
    )]
    OtherStartConfig {
        /// The file that says so.
        path: PathBuf,
        /// The config block with which the chain began that is kept there.
        kept: Option<BlockNumber>,
        /// The one by the configuration; another block where the numbers are the same.
        asked: BlockNumber,
    },
    /// A file was written by a release with another format.
    #[error(
        "{} has format version {version}, this release reads version {}: use the release that wrote it, or a newer one",
        path.display(), crate::codec::VERSION
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A segment is damaged or not there, such that blocks that were acknowledged cannot be found.
    #[error(
        "{damage}; these blocks were acknowledged, so the file is left as it is: `blockcast store repair` fetches them \
         again, or restore the file"
    )]
    DamagedSegment {
        /// Which segment with which blocks, and what is wrong with it.
        damage: Damage,
    },
    /// The config blocks of segments that were dropped cannot be read.
    #[error(
        "the file {} with the config blocks from before the oldest block {reason}: restore the file, or remove the \
         directory and fetch the chain again",
        path.display()
    )]
    DamagedConfigs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two segments do not link.
    #[error(
        "the segment {} does not link to block {}: its files are not of one chain; restore them, or remove the \
         directory and fetch the chain again",
        path.display(), before.map_or_else(|| "0".to_owned(), |block| block.to_string())
    )]
    Unlinked {
        /// The segment.
        path: PathBuf,
        /// The block before it.
        before: Option<BlockNumber>,
    },
    /// Blocks that were acknowledged are not there.
    #[error(
        "the block store {} has acknowledged blocks up to height {acknowledged}, but its segments reach height {found} \
         only: restore the files, or remove the directory and fetch the chain again",
        dir.display()
    )]
    Lost {
        /// The directory.
        dir: PathBuf,
        /// The height that was acknowledged.
        acknowledged: Height,
        /// The height that is there.
        found: Height,
    },
    /// There is no store to be read.
    #[error("there is no block store in {}: give the directory of one channel's blocks", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// A store that may not be repaired has no head file that can be read.
    #[error(
        "the head file of the block store {} {reason}, so nothing says which blocks were acknowledged: it is made anew \
         when a node opens the store",
        dir.display()
    )]
    NoHead {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the file.
        reason: &'static str,
    },
    /// The chain in the segments is not the one that was acknowledged.
    #[error(
        "block {number} in {} is not the one that was acknowledged: files of two stores were mixed; restore them, or \
         remove the directory and fetch the chain again",
        path.display()
    )]
    OtherTip {
        /// The segment.
        path: PathBuf,
        /// The block.
        number: BlockNumber,
    },
}

/// A segment whose blocks cannot be read, or not all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the segment {} with the blocks {from}..{} is damaged: {fault}", segment.display(), number_or_none(*to))]
pub struct Damage {
    /// The segment file.
    pub segment: PathBuf,
    /// The first block that belongs there.
    pub from: BlockNumber,
    /// The last block that belongs there; `None` when nothing tells.
    pub to: Option<BlockNumber>,
    /// What is wrong.
    pub fault: SegmentFault,
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentFault {
    /// There is no such file.
    #[error("it is missing")]
    Missing,
    /// Its first bytes are not what was written there.
    #[error("{reason}")]
    Preamble {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A record is damaged; when there are several, this is the first one.
    #[error("block {} at byte {}: {}", .0.block, .0.offset, .0.fault)]
    Record(DamagedRecord),
    /// It is a segment of another chain, or overlaps with the one before it.
    #[error("it does not link to the blocks beside it")]
    Unlinked,
    /// The disk does not give it.
    #[error("it cannot be read: {reason}")]
    Unreadable {
        /// What the operating system said.
        reason: String,
    },
}

/// Where a record is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {block} in the segment {} is damaged at byte {offset}: {fault}", segment.display())]
pub struct DamagedRecord {
    /// The segment file.
    pub segment: PathBuf,
    /// Where the record begins in it.
    pub offset: u64,
    /// The block that belongs there.
    pub block: BlockNumber,
    /// What is wrong.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The file ends inside the record.
    #[error("the file ends inside the record")]
    Incomplete,
    /// The bytes where the record's header belongs are no header.
    #[error("there is no record header, or its checksum does not match")]
    Header,
    /// The record is that of another block.
    #[error("the record there is that of block {found}")]
    Sequence {
        /// The block.
        found: BlockNumber,
    },
    /// The bytes of the block are not the ones that were written.
    #[error("the checksum of the block does not match")]
    Payload,
}

/// Why the storage did not do what an append or a read asked: the cause in
/// [`block_api::AppendError::Storage`], [`block_api::AppendError::Unusable`] and [`block_api::ReadError::Storage`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused something. The store is as before and can be used on.
    #[error("cannot {action} {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A record is damaged.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
    /// A sync failed, or what a failed write left behind could not be removed. What the disk holds
    /// is not known, so nothing more is appended until the store was opened anew.
    #[error(
        "the block store takes no more blocks since it could not {action} {}: {reason}; check the disk, then open the \
         store anew",
        path.display()
    )]
    Poisoned {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A block is too large for a record.
    #[error(
        "a block of {bytes} bytes is too large for a record, which holds at most {} bytes",
        u32::MAX
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl OpenError {
    /// Turns an error of the operating system into one that names what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

impl StorageError {
    /// Turns an error of the operating system into one that names what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

fn number_or_none(number: Option<BlockNumber>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn hash_or_none(hash: Option<&HeaderHash>) -> String {
    hash.map_or_else(|| "none".to_owned(), HeaderHash::to_string)
}

/// What an operator can do about an error of the operating system.
fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user that runs this read and write there"
    } else if matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    ) {
        "make room on the disk"
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        "mount the file system writable"
    } else if matches!(
        error.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists
    ) {
        "give a path at which there is a directory or nothing"
    } else {
        "check the path and the state of the disk"
    }
}
