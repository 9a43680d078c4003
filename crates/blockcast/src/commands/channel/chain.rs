// SPDX-License-Identifier: Apache-2.0
//! The blocks that configurations are looked up in: a node's store, or a folder of files.

use std::{
    io,
    path::{Path, PathBuf},
};

use block_api::{
    Block, BlockNumber, BlockReader as _, ChannelId, ParseBlockError, ReadError, ReadLimits,
};
use block_store::{OpenError, StoreSnapshot};
use channel_config::ChannelConfig;

use crate::commands::{
    block_files::{self, BlockFileError},
    printable::{self, printable},
};

/// The blocks of a channel, of which there is one at least.
#[derive(Debug)]
pub(super) struct Chain {
    blocks: Blocks,
    first: BlockNumber,
    tip: BlockNumber,
}

#[derive(Debug)]
enum Blocks {
    Store(StoreSnapshot),
    Folder {
        dir: PathBuf,
        /// Ascending.
        numbers: Vec<BlockNumber>,
    },
}

/// A configuration, and the block that brought it.
#[derive(Debug)]
pub(super) struct FoundConfig {
    pub(super) number: BlockNumber,
    pub(super) config: ChannelConfig,
}

/// No configuration was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ChainError {
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the block store {} is that of channel {kept}, not of {asked}", dir.display())]
    OtherChannel {
        dir: PathBuf,
        kept: ChannelId,
        asked: ChannelId,
    },
    #[error("the folder {} cannot be read: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("the block store {} has no block yet", dir.display())]
    EmptyStore { dir: PathBuf },
    #[error(
        "there is no block in {}: give a folder with blocks in files block_<n>.pb, or the directory of one channel's \
         store (channels/<channel> in the data_dir of a node)",
        dir.display()
    )]
    NoBlocks { dir: PathBuf },
    #[error("block {number} is not here yet: the newest block is {tip}")]
    Above {
        number: BlockNumber,
        tip: BlockNumber,
    },
    #[error("block {number} is not kept here: the oldest block is {first}")]
    Below {
        number: BlockNumber,
        first: BlockNumber,
    },
    #[error(
        "the configuration in force after block {number} is not here: there is no config block from the oldest block, \
         {first}, up to it"
    )]
    NoConfig {
        number: BlockNumber,
        first: BlockNumber,
    },
    #[error(
        "block {missing} is missing in {}, so it is not known which configuration is in force after block {number}",
        dir.display()
    )]
    Gap {
        dir: PathBuf,
        missing: BlockNumber,
        number: BlockNumber,
    },
    #[error("block {number}: {source}")]
    File {
        number: BlockNumber,
        source: BlockFileError,
    },
    #[error("the file {} has block {found} in it", file.display())]
    OtherNumber { file: PathBuf, found: BlockNumber },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("block {number} in the store is no block: {source}")]
    NoBlock {
        number: BlockNumber,
        source: ParseBlockError,
    },
    #[error("the configuration in block {number} cannot be used: {reason}")]
    Config {
        number: BlockNumber,
        /// Made fit to be shown.
        reason: String,
    },
    #[error("block {one} is of channel {first}, block {other} is of channel {second}")]
    TwoChannels {
        one: BlockNumber,
        first: ChannelId,
        other: BlockNumber,
        second: ChannelId,
    },
}

impl ChainError {
    /// Whether there is no store, or nothing in it.
    pub(super) fn is_absent(&self) -> bool {
        matches!(
            self,
            Self::EmptyStore { .. } | Self::Store(OpenError::NoStore { .. })
        ) || matches!(
            self,
            Self::Store(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound
        )
    }
}

impl Chain {
    /// The blocks in a directory: those of a store if it is one, else those in files.
    pub(super) fn in_dir(dir: &Path) -> Result<Self, ChainError> {
        match StoreSnapshot::open(dir) {
            Ok(store) => Self::of_snapshot(store),
            Err(OpenError::NoStore { .. }) => Self::of_folder(dir),
            Err(error) => Err(error.into()),
        }
    }

    /// The blocks of this channel in a store.
    pub(super) fn of_store(dir: &Path, channel: &ChannelId) -> Result<Self, ChainError> {
        let store = StoreSnapshot::open(dir)?;
        if store.channel() != channel {
            return Err(ChainError::OtherChannel {
                dir: dir.to_owned(),
                kept: store.channel().clone(),
                asked: channel.clone(),
            });
        }
        Self::of_snapshot(store)
    }

    fn of_snapshot(store: StoreSnapshot) -> Result<Self, ChainError> {
        let info = store.info();
        let empty = || ChainError::EmptyStore {
            dir: store.dir().to_owned(),
        };
        let tip = info.height.tip().filter(|tip| *tip >= info.first);
        Ok(Self {
            first: info.first,
            tip: tip.ok_or_else(empty)?,
            blocks: Blocks::Store(store),
        })
    }

    fn of_folder(dir: &Path) -> Result<Self, ChainError> {
        let numbers = block_files::list(dir).map_err(|source| ChainError::Folder {
            dir: dir.to_owned(),
            source,
        })?;
        let (Some(first), Some(tip)) = (numbers.first(), numbers.last()) else {
            return Err(ChainError::NoBlocks {
                dir: dir.to_owned(),
            });
        };
        Ok(Self {
            first: *first,
            tip: *tip,
            blocks: Blocks::Folder {
                dir: dir.to_owned(),
                numbers,
            },
        })
    }

    /// The newest block.
    pub(super) fn tip(&self) -> BlockNumber {
        self.tip
    }

    /// Where the blocks are from, in a word: `store` or `folder`.
    pub(super) fn source(&self) -> &'static str {
        match self.blocks {
            Blocks::Store(_) => "store",
            Blocks::Folder { .. } => "folder",
        }
    }

    /// Where the blocks are from, and what that says of them.
    pub(super) fn told(&self) -> String {
        match &self.blocks {
            Blocks::Store(store) => {
                format!(
                    "the store {}, whose blocks the node verified",
                    store.dir().display()
                )
            }
            Blocks::Folder { dir, .. } => format!(
                "the folder {}, not verified here (`blockcast verify` does that)",
                dir.display()
            ),
        }
    }

    /// The configuration in force after a block.
    pub(super) async fn config_at(&self, at: BlockNumber) -> Result<FoundConfig, ChainError> {
        let (first, tip) = (self.first, self.tip);
        if at > tip {
            return Err(ChainError::Above { number: at, tip });
        }
        // A store keeps the config blocks from before its oldest block.
        let aside = match &self.blocks {
            Blocks::Store(store) => store.config_at(at),
            Blocks::Folder { .. } => None,
        };
        if at < first && aside.is_none() {
            return Err(ChainError::Below { number: at, first });
        }
        let block = match &self.blocks {
            Blocks::Store(store) => match aside {
                Some(number) => Some(from_store(store, number).await?),
                None => None,
            },
            Blocks::Folder { dir, numbers } => newest_config(dir, numbers, at)?,
        };
        let block = block.ok_or(ChainError::NoConfig { number: at, first })?;
        let number = block.number();
        let config = ChannelConfig::from_block(&block).map_err(|error| ChainError::Config {
            number,
            reason: printable(&error.to_string(), printable::REASON),
        })?;
        Ok(FoundConfig { number, config })
    }

    /// Up to which block a configuration that is in force after this block is known to be, and the
    /// config block that changes it then.
    pub(super) fn held(&self, found: &FoundConfig, at: BlockNumber) -> Result<Held, ChainError> {
        match &self.blocks {
            Blocks::Store(store) => Ok(in_store(store, found.number, at, self.tip)),
            Blocks::Folder { dir, numbers } => in_folder(dir, numbers, at),
        }
    }
}

/// How long a configuration is known to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The last block after which it is known to be.
    pub(super) to: BlockNumber,
    /// The config block that changes it.
    pub(super) replaced_by: Option<BlockNumber>,
}

async fn from_store(store: &StoreSnapshot, number: BlockNumber) -> Result<Block, ChainError> {
    let read = store.read(number, ReadLimits::one()).await?;
    let raw = read.into_iter().next().unwrap_or_default();
    Block::parse(raw).map_err(|source| ChainError::NoBlock { number, source })
}

/// Halves the blocks above this one until the first one is found after which another configuration
/// is in force.
fn in_store(store: &StoreSnapshot, config: BlockNumber, at: BlockNumber, tip: BlockNumber) -> Held {
    let is_other = |number: u64| store.config_at(BlockNumber::new(number)) != Some(config);
    let (mut same, mut other) = (at.get(), tip.get());
    if !is_other(other) {
        return Held {
            to: tip,
            replaced_by: None,
        };
    }
    while other - same > 1 {
        let middle = same + (other - same) / 2;
        match is_other(middle) {
            true => other = middle,
            false => same = middle,
        }
    }
    Held {
        to: BlockNumber::new(same),
        replaced_by: Some(BlockNumber::new(other)),
    }
}

/// Goes down from a block to the config block whose configuration is in force after it. What a
/// block says of itself is not believed: nobody has verified it.
fn newest_config(
    dir: &Path,
    numbers: &[BlockNumber],
    at: BlockNumber,
) -> Result<Option<Block>, ChainError> {
    let mut expected = Some(at);
    let behind = numbers.partition_point(|number| *number <= at);
    for number in numbers.iter().take(behind).rev() {
        let Some(wanted) = expected else { break };
        if *number != wanted {
            return Err(ChainError::Gap {
                dir: dir.to_owned(),
                missing: wanted,
                number: at,
            });
        }
        let block = from_folder(dir, *number)?;
        if is_config(&block) {
            return Ok(Some(block));
        }
        expected = number.previous();
    }
    Ok(None)
}

/// Goes up from a block to the next config block, to a gap or to the tip.
fn in_folder(dir: &Path, numbers: &[BlockNumber], at: BlockNumber) -> Result<Held, ChainError> {
    let mut to = at;
    let above = numbers.partition_point(|number| *number <= at);
    for number in numbers.iter().skip(above) {
        if to.next() != Some(*number) {
            break;
        }
        if is_config(&from_folder(dir, *number)?) {
            return Ok(Held {
                to,
                replaced_by: Some(*number),
            });
        }
        to = *number;
    }
    Ok(Held {
        to,
        replaced_by: None,
    })
}

fn from_folder(dir: &Path, number: BlockNumber) -> Result<Block, ChainError> {
    let file = dir.join(block_files::file_name(number));
    let block = block_files::read(&file).map_err(|source| ChainError::File { number, source })?;
    match block.number() {
        found if found == number => Ok(block),
        found => Err(ChainError::OtherNumber { file, found }),
    }
}

/// A genesis block is one whatever the type of its transaction.
fn is_config(block: &Block) -> bool {
    block.number() == BlockNumber::GENESIS || block.is_config()
}
