// SPDX-License-Identifier: Apache-2.0
//! The verification stage: blocks of a run are judged side by side, while those before them wait for
//! room or for the disk.
//!
//! A block is judged by a task of its own on the workers of the runtime, for as long as one block
//! takes at a time, so that the stage uses every core and whatever else is due comes in between.

use std::{collections::VecDeque, num::NonZeroUsize, panic::resume_unwind, sync::Arc};

use block_api::{Block, BlockNumber, BlockVerifier, HeaderHash, Height, Standing, VerifiedBlock};
use tokio::{sync::Semaphore, task::yield_now};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument;

use crate::intake::{Intake, JudgeError};

/// So many blocks of one channel are judged at one time for each core: one that is being judged, and
/// one for which a core need not wait. With more, another channel's block would wait for longer.
const PER_CORE: usize = 2;

/// The places and the tasks of one channel.
#[derive(Debug)]
pub(crate) struct Judges {
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A run of blocks that are judged before their turn.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The height that has to be in force before the next block of a run that begins at the tip is
    /// judged; `None` where blocks below the run are missing, and each is judged by what is known.
    in_force: Option<Height>,
    /// Those that were begun and not asked for.
    line: VecDeque<Begun>,
}

/// A block whose judging was begun. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Begun {
    number: BlockNumber,
    hash: HeaderHash,
    /// `None` where blocks below it are missing: it follows nothing that waits.
    coming: Option<Coming>,
    judged: AbortOnDropHandle<Result<VerifiedBlock, JudgeError>>,
}

/// One of the blocks that follow what waits to be stored: the writer may wait for it.
#[derive(Debug)]
struct Coming {
    intake: Arc<Intake>,
    counted: bool,
}

impl Judges {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            places: Arc::new(Semaphore::new(cores * PER_CORE)),
            tasks: TaskTracker::new(),
        }
    }

    /// Waits until no task is left, once the channel was cancelled.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Ahead {
    /// A run that begins at the tip of a store of this height.
    pub(crate) fn behind(stored: Height) -> Self {
        Self {
            in_force: Some(stored),
            line: VecDeque::new(),
        }
    }

    /// Begins to judge the next block of a run, unless that is known. What follows a config block
    /// waits until that is in force.
    pub(crate) fn begin(&mut self, intake: &Arc<Intake>, block: &Block) -> Option<Begun> {
        let (number, hash) = (block.number(), block.header_hash());
        let in_force = self.in_force;
        let known = number < intake.buffer.next();
        if let Some(height) = &mut self.in_force
            && (known || block.is_config())
        {
            *height = (*height).max(number.height());
        }
        if known || intake.buffer.waiting(number, &hash).is_some() {
            return None;
        }
        let task = judge(intake.clone(), block.clone(), in_force);
        let task = intake.judges.tasks.spawn(task.in_current_span());
        Some(Begun {
            number,
            hash,
            coming: in_force.map(|_| Coming::new(intake.clone())),
            judged: AbortOnDropHandle::new(task),
        })
    }

    /// The same, and keeps it until it is [asked for](Self::take).
    pub(crate) fn prepare(&mut self, intake: &Arc<Intake>, block: &Block) {
        let begun = self.begin(intake, block);
        self.line.extend(begun);
    }

    /// What was begun of a block; what was begun before it is dropped.
    pub(crate) fn take(&mut self, block: &Block) -> Option<Begun> {
        while let Some(begun) = self.line.pop_front() {
            if begun.number == block.number() && begun.hash == block.header_hash() {
                return Some(begun);
            }
            if begun.number > block.number() {
                self.line.push_front(begun);
                break;
            }
        }
        None
    }

    /// Ends what was begun and not asked for.
    pub(crate) fn forget(&mut self) {
        self.line.clear();
    }
}

impl Begun {
    /// What was found of the block. The writer waits for it no more: it is about to be there.
    pub(crate) async fn judged(self) -> Result<VerifiedBlock, JudgeError> {
        let Self { coming, judged, .. } = self;
        let judged = judged.await;
        if let Some(coming) = coming {
            coming.came();
        }
        match judged {
            Ok(judged) => judged,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            Err(_) => Err(JudgeError::Closed),
        }
    }
}

impl Coming {
    fn new(intake: Arc<Intake>) -> Self {
        intake.buffer.comes();
        Self {
            intake,
            counted: true,
        }
    }

    fn came(mut self) {
        self.counted = false;
        self.intake.buffer.came();
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.counted {
            self.intake.buffer.does_not_come();
        }
    }
}

/// Judges a block once a height is in force, or by what is known.
async fn judge(
    intake: Arc<Intake>,
    block: Block,
    in_force: Option<Height>,
) -> Result<VerifiedBlock, JudgeError> {
    if let Some(height) = in_force
        && intake.applied().height < height
    {
        intake.wait_until_applied(height).await?;
    }
    let place = intake.judges.places.clone().acquire_owned().await;
    let place = place.map_err(|_| JudgeError::Closed)?;
    // Whatever is ready on this worker goes first, another channel's block for one; and while this one
    // is away with its place, the others of its channel do not run.
    yield_now().await;
    let standing = match in_force {
        Some(_) => Standing::Linked,
        None => intake.standing(&block),
    };
    // A thread of its own cannot be ended: the place is free when that is done with the block, whether
    // or not somebody still waits for it.
    let judge = move |block, verifier: &dyn BlockVerifier| {
        let _place = place;
        VerifiedBlock::new(block, verifier, standing)
    };
    Ok(intake.judge(block, judge).await??)
}
