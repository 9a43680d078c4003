// SPDX-License-Identifier: Apache-2.0
//! Verifies the blocks of a folder in order, one at a time.

use std::{
    io,
    path::{Path, PathBuf},
    vec,
};

use block_api::{Block, BlockNumber, ChainInfo, ChannelId, DataHashing, HeaderHash, VerifyError};
use channel_config::{ChainWalk, ChannelVerifier, ConfigError};

use crate::commands::{
    block_files::{self, BlockFileError},
    printable::{self, printable},
};

/// The rule that a file breaks in which there is no block.
const FORMAT: &str = "format";

/// The rule that a block without data breaks.
const WELL_FORMED: &str = "well-formed";

/// Verifies the blocks of a folder. It holds one block at a time.
#[derive(Debug)]
pub(super) struct FolderVerifier {
    dir: PathBuf,
    numbers: vec::IntoIter<BlockNumber>,
    first: BlockNumber,
    walk: ChainWalk,
    blocks: u64,
    config_blocks: u64,
    bytes: u64,
}

/// What a folder holds whose every block is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerifiedChain {
    pub(super) channel: ChannelId,
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    pub(super) blocks: u64,
    pub(super) config_blocks: u64,
    pub(super) bytes: u64,
    pub(super) tip_hash: HeaderHash,
}

/// A block that breaks a rule.
#[derive(Debug, thiserror::Error)]
#[error("block {number} ({}) breaks the rule {rule}: {reason}", file.display())]
pub(super) struct Broken {
    /// The number in the name of the file.
    pub(super) number: BlockNumber,
    pub(super) file: PathBuf,
    pub(super) rule: &'static str,
    /// Made fit to be shown.
    pub(super) reason: String,
}

/// The blocks of a folder are not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum VerifyFolderError {
    #[error("the genesis block: {0}")]
    GenesisFile(#[source] BlockFileError),
    #[error("the genesis block {} cannot be trusted to judge blocks by: {}", path.display(), printable(&reason.to_string(), printable::REASON))]
    Genesis { path: PathBuf, reason: ConfigError },
    #[error("the folder {} cannot be read: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("there is no block in {}: a block is in a file block_<n>.pb", dir.display())]
    NoBlocks { dir: PathBuf },
    #[error(
        "the first block in {} is {first}, and nothing says what the blocks before it were: a folder must begin \
         with block 0, or with block 1, which the genesis block then stands before",
        dir.display()
    )]
    NoAnchor { dir: PathBuf, first: BlockNumber },
    #[error(
        "block {missing} is missing: there is no file {} in {}, but there is block {next}",
        block_files::file_name(*missing), dir.display()
    )]
    Gap {
        dir: PathBuf,
        missing: BlockNumber,
        next: BlockNumber,
    },
    #[error("block {number}: {source}")]
    File {
        number: BlockNumber,
        source: BlockFileError,
    },
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl FolderVerifier {
    /// Takes the genesis block for trusted, and looks which blocks there are.
    pub(super) fn open(
        genesis: &Path,
        dir: &Path,
        hashing: DataHashing,
    ) -> Result<Self, VerifyFolderError> {
        let block = block_files::read(genesis).map_err(VerifyFolderError::GenesisFile)?;
        let verifier =
            ChannelVerifier::from_genesis_hashing(&block, hashing).map_err(|reason| {
                VerifyFolderError::Genesis {
                    path: genesis.to_owned(),
                    reason,
                }
            })?;
        let numbers = block_files::list(dir).map_err(|source| VerifyFolderError::Folder {
            dir: dir.to_owned(),
            source,
        })?;
        let first = *numbers.first().ok_or_else(|| VerifyFolderError::NoBlocks {
            dir: dir.to_owned(),
        })?;
        let chain = match first.get() {
            0 => ChainInfo::EMPTY,
            1 => ChainInfo {
                first,
                height: BlockNumber::GENESIS.height(),
                tip_hash: Some(verifier.trusted_hash()),
            },
            _ => {
                return Err(VerifyFolderError::NoAnchor {
                    dir: dir.to_owned(),
                    first,
                });
            }
        };
        let gap = (first.get()..)
            .zip(&numbers)
            .find(|(expected, number)| number.get() != *expected);
        if let Some((missing, next)) = gap {
            return Err(VerifyFolderError::Gap {
                dir: dir.to_owned(),
                missing: BlockNumber::new(missing),
                next: *next,
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            numbers: numbers.into_iter(),
            first,
            walk: ChainWalk::new(verifier, chain),
            blocks: 0,
            config_blocks: 0,
            bytes: 0,
        })
    }

    /// How many blocks are still to be verified.
    pub(super) fn remaining(&self) -> u64 {
        u64::try_from(self.numbers.len()).unwrap_or(u64::MAX)
    }

    /// Has the rest of the blocks in another folder.
    #[cfg(test)]
    pub(super) fn move_to(&mut self, dir: &Path) {
        self.dir = dir.to_owned();
    }

    /// Verifies the next block, which stays the next one.
    #[cfg(test)]
    pub(super) fn verify_again(&mut self) -> Result<bool, VerifyFolderError> {
        let numbers = self.numbers.clone();
        let verified = self.verify_next();
        self.numbers = numbers;
        verified
    }

    /// Verifies the next block; false when there is none.
    pub(super) fn verify_next(&mut self) -> Result<bool, VerifyFolderError> {
        let Some(number) = self.numbers.next() else {
            return Ok(false);
        };
        let file = self.dir.join(block_files::file_name(number));
        let broken = |rule, reason: String| Broken {
            number,
            file: file.clone(),
            rule,
            reason: printable(&reason, printable::REASON),
        };
        let block = match block_files::read(&file) {
            Ok(block) => block,
            // A byte that is wrong may leave no block at all.
            Err(BlockFileError::NoBlock { source, .. }) => {
                return Err(broken(FORMAT, source.to_string()).into());
            }
            Err(source) => return Err(VerifyFolderError::File { number, source }),
        };
        self.judge(block)
            .map_err(|(rule, reason)| broken(rule, reason))?;
        Ok(true)
    }

    /// Judges a block as the next one; the rule that it breaks, and how.
    fn judge(&mut self, block: Block) -> Result<(), (&'static str, String)> {
        let rejected =
            |rejection: block_api::Rejection| (rejection.rule(), rejection.reason().to_string());
        let length = block.raw().len();
        let verified = self.walk.take(block).map_err(|error| match error {
            VerifyError::Rejected(rejection) => rejected(rejection),
            other @ (VerifyError::NoData { .. } | _) => (WELL_FORMED, other.to_string()),
        })?;
        self.blocks += 1;
        self.config_blocks += u64::from(verified.is_config());
        self.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Where the chain stands, after all of it was verified.
    pub(super) fn finish(self) -> VerifiedChain {
        let (verifier, chain) = (self.walk.verifier(), self.walk.chain());
        VerifiedChain {
            channel: verifier.channel().clone(),
            first: self.first,
            last: chain.height.tip().unwrap_or_default(),
            blocks: self.blocks,
            config_blocks: self.config_blocks,
            bytes: self.bytes,
            tip_hash: chain.tip_hash.unwrap_or_else(|| verifier.trusted_hash()),
        }
    }
}
