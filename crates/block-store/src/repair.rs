// SPDX-License-Identifier: Apache-2.0
//! Finds the damaged segments of a store, and replaces them by blocks that came from elsewhere.
//!
//! [`check`] looks at a directory as it stands, also beside a node that writes it. [`StoreRepair`]
//! holds the lock: it lists the damage, gives the config blocks by which a verifier is rebuilt, and
//! takes the missing blocks, oldest first.

mod replace;
mod survey;
mod walk;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_api::{
    AppendError, BlockNumber, ChainInfo, ChannelId, Height, ReadError, ReadLimits, VerifiedBlock,
};
use bytes::Bytes;

pub use self::replace::Replacement;
use self::survey::Survey;
use crate::{
    catalog::{Catalog, Shared},
    config::{Config, ValidConfig},
    dir,
    error::{Damage, OpenError, StorageError},
    file::{Files, SystemFiles},
    lock::DirLock,
    preamble::Identity,
    read::read_range,
};

/// For how many bytes of a segment one entry is kept in memory while a store is checked.
const INDEX_INTERVAL: u64 = 256 * 1024;

/// How often a directory is looked at whose segments are dropped meanwhile.
const LOOKS: usize = 4;

/// What a look at every byte of a store found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// The channel.
    pub channel: ChannelId,
    /// The oldest block that is kept.
    pub first: BlockNumber,
    /// The height up to which was looked: what was acknowledged, or, without a head file that tells,
    /// what is there.
    pub height: Height,
    /// How many segments are as they should be.
    pub sound: usize,
    /// The segments that are not, oldest first.
    pub damages: Vec<Damage>,
}

/// A damaged store, locked. Dropping it frees the directory.
pub struct StoreRepair {
    dir: PathBuf,
    config: ValidConfig,
    files: Arc<dyn Files>,
    survey: Survey,
    _lock: DirLock,
}

/// A segment was not replaced. The directory is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Nothing is damaged.
    #[error("no segment is damaged")]
    Sound,
    /// What the segment held cannot be told.
    #[error(
        "{damage}, and nothing tells how far it went, because the head file is gone: remove the segment, and the node \
         fetches what was in it"
    )]
    NoEnd {
        /// The damage.
        damage: Box<Damage>,
    },
    /// A block does not belong there.
    #[error("the block does not replace a damaged one: {0}")]
    Block(#[source] AppendError),
    /// More blocks came than are missing.
    #[error("block {number} is past the damaged segment, which ends with block {last}")]
    PastTheEnd {
        /// The block.
        number: BlockNumber,
        /// The last block of the segment.
        last: BlockNumber,
    },
    /// The blocks ended too early.
    #[error("block {next} is missing, the damaged segment goes up to block {last}")]
    Incomplete {
        /// The block that would have been next.
        next: BlockNumber,
        /// The last block of the segment.
        last: BlockNumber,
    },
    /// The last block is not the one to which what comes behind the segment links.
    #[error(
        "block {number} is not the one to which the chain behind it links: these blocks are of another chain, or the \
         files behind the segment are"
    )]
    OtherEnd {
        /// The block.
        number: BlockNumber,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads every byte of a store and tells which segments are damaged, without a lock and without
/// changing anything. A node may have the store open: what it appends meanwhile is not looked at.
/// This blocks for as long as it takes to read the store.
///
/// # Errors
///
/// When there is no store, when it is of an unknown version or files of two chains were mixed, when
/// config blocks of segments that were dropped are damaged, or when the directory cannot be read.
pub fn check(dir: impl AsRef<Path>) -> Result<CheckReport, OpenError> {
    let dir = dir.as_ref();
    let mut looks = 1;
    loop {
        let report = Survey::look(&SystemFiles, dir, None, INDEX_INTERVAL)?.report();
        // A segment may have been dropped since it was listed.
        if report.damages.is_empty() || looks == LOOKS {
            return Ok(report);
        }
        let again = Survey::look(&SystemFiles, dir, None, INDEX_INTERVAL)?.report();
        if again.first == report.first {
            return Ok(again);
        }
        looks += 1;
    }
}

impl StoreRepair {
    /// Locks a store and reads every byte of it. This blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// As for [`check`]; when the store is open elsewhere, or is not the one of this configuration.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<Self, OpenError> {
        Self::open_with(dir.as_ref(), config, Arc::new(SystemFiles))
    }

    pub(crate) fn open_with(
        dir: &Path,
        config: Config,
        files: Arc<dyn Files>,
    ) -> Result<Self, OpenError> {
        let config = config.validate()?;
        if dir::list(dir)?.segments.is_empty() && !dir::head_path(dir).exists() {
            return Err(OpenError::NoStore {
                dir: dir.to_owned(),
            });
        }
        let lock = DirLock::acquire(dir)?;
        let chain = Identity::new(
            config.get().channel.clone(),
            config.genesis(),
            &config.beginning(),
        );
        let interval = config.get().index_interval_bytes.get() as u64;
        let survey = Survey::look(&*files, dir, Some(chain), interval)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            files,
            survey,
            _lock: lock,
        })
    }

    /// What was found, and what is left of it.
    pub fn report(&self) -> CheckReport {
        self.survey.report()
    }

    /// The damaged segment that is to be replaced next: the oldest one. `None` when all is sound.
    pub fn next_damage(&self) -> Option<Damage> {
        self.survey.damages().next()
    }

    /// The config blocks from before a block, oldest first, as far as they are in sound segments; all
    /// of them, up to the damage that is to be replaced next.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn configs_below(&self, number: BlockNumber) -> Result<Vec<Bytes>, ReadError> {
        let segments = self.survey.segments();
        let catalog = Catalog::new(segments, self.survey.archive().cloned());
        let mut numbers = Vec::new();
        let mut below = number.previous();
        while let Some(config) = below.and_then(|below| catalog.config_at(below)) {
            numbers.push(config);
            below = config.previous();
        }
        let info = ChainInfo {
            first: self.survey.origin().first,
            height: number.previous().map_or(Height::ZERO, BlockNumber::height),
            tip_hash: None,
        };
        let shared = Shared::new(catalog, info, 1, Arc::clone(&self.files));
        let mut blocks = Vec::with_capacity(numbers.len());
        for number in numbers.into_iter().rev() {
            blocks.extend(read_range(&shared, info, number, ReadLimits::one())?);
        }
        Ok(blocks)
    }

    /// Begins to replace the damaged segment that is next. What is pushed is not seen in the store
    /// until [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// When nothing is damaged, when nothing tells how far the segment went, or when a file cannot be
    /// made.
    pub fn begin(&self) -> Result<Replacement, RepairError> {
        let gap = self.survey.gap()?;
        Replacement::create(Arc::clone(&self.files), &self.dir, gap, self.interval())
    }

    /// Puts the new segment in the place of the damaged one. It is durable on return; until then the
    /// damaged one is there.
    ///
    /// # Errors
    ///
    /// When blocks are missing, or the last one is not that to which the chain behind it links; else
    /// when the operating system refuses something.
    pub fn finish(&mut self, replacement: Replacement) -> Result<(), RepairError> {
        let segment = replacement.put_in_place()?;
        self.survey.mend(segment);
        Ok(())
    }

    /// Replaces the damaged segment that is next by these blocks, which must be exactly the ones that
    /// belong there.
    ///
    /// # Errors
    ///
    /// As for [`begin`](Self::begin), [`Replacement::push`] and [`finish`](Self::finish).
    pub fn replace(
        &mut self,
        blocks: impl IntoIterator<Item = VerifiedBlock>,
    ) -> Result<(), RepairError> {
        let mut replacement = self.begin()?;
        for block in blocks {
            replacement.push(&block)?;
        }
        self.finish(replacement)
    }

    fn interval(&self) -> u64 {
        self.config.get().index_interval_bytes.get() as u64
    }
}

impl fmt::Debug for StoreRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreRepair")
            .field("dir", &self.dir)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}
