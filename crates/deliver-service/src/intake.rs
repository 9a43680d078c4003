// SPDX-License-Identifier: Apache-2.0
//! What the producers and the writer of one channel share.

use std::sync::Arc;

use block_api::{
    Block, BlockNumber, BlockStore, BlockVerifier, ChainInfo, ChannelId, HeaderHash, Height,
    Standing, Verdict, VerifiedBlock, VerifyError,
};
use blocks_provider::Head;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    buffer::{Buffer, Buffered},
    stats::Counters,
};

/// Blocks of more bytes than this are judged on a thread of their own, so that hashing them does
/// not hold up everything else that a worker of the runtime does.
const BIG_BLOCK: usize = 256 << 10;

/// One channel, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) channel: ChannelId,
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn BlockStore>,
    pub(crate) verifier: Arc<dyn BlockVerifier>,
    pub(crate) buffer: Buffer,
    pub(crate) counters: Counters,
    pub(crate) applied: watch::Sender<Applied>,
    /// What the storage said when the last append failed; `None` while it works.
    pub(crate) storage_failure: watch::Sender<Option<String>>,
    /// Places for candidates that wait for a configuration: not all that there are for candidates,
    /// because whose signatures they have is not known yet. For whom there is none is ignored.
    pub(crate) awaiting: Semaphore,
    /// What the nodes of the channel showed last: the pull loop holds its source against it.
    pub(crate) shown: watch::Sender<Option<Head>>,
    /// Told when a block of the ordering service did not link to the chain.
    pub(crate) orderer_unlinked: Notify,
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the writer has ended, told to or not: the height stays where it is.
    pub(crate) ended: CancellationToken,
}

/// The part of the chain that is stored and counted, and whose configuration is in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) height: Height,
    tip_hash: Option<HeaderHash>,
    /// The newest config block in it; `None` where the store knows of none.
    pub(crate) config: Option<BlockNumber>,
}

/// A block was not judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The channel was left.
    #[error("the channel is closing")]
    Closed,
}

/// One candidate's place among those that wait for a configuration, which it takes when it first
/// has to.
struct WaitingRoom<'a> {
    intake: &'a Intake,
    place: Option<SemaphorePermit<'a>>,
    deadline: Option<Instant>,
}

impl Intake {
    /// Has a block judged.
    pub(crate) async fn verify(
        &self,
        block: Block,
        standing: Standing,
    ) -> Result<VerifiedBlock, JudgeError> {
        if block.raw().len() < BIG_BLOCK {
            return Ok(VerifiedBlock::new(block, &*self.verifier, standing)?);
        }
        let verifier = self.verifier.clone();
        let (verdict, judged) = oneshot::channel();
        // The closure ends by itself; the channel to it says how.
        let task = spawn_blocking(move || {
            drop(verdict.send(VerifiedBlock::new(block, &*verifier, standing)));
        });
        match judged.await {
            Ok(judged) => Ok(judged?),
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => Err(JudgeError::Closed),
            },
        }
    }

    /// Has a block judged that may have come before others that it follows. Where its configuration
    /// is not known yet but on its way, it waits a while for it; a block for which that does not help
    /// is not judged.
    pub(crate) async fn verify_ahead(&self, block: &Block) -> Result<VerifiedBlock, JudgeError> {
        let mut waiting = WaitingRoom::new(self);
        loop {
            let judged = self.verify(block.clone(), self.standing(block)).await;
            let needed = match &judged {
                Err(JudgeError::Verify(VerifyError::AwaitsConfig { config, .. })) => {
                    config.height()
                }
                Err(JudgeError::Verify(VerifyError::AwaitsLink { number })) => below(*number),
                Ok(_) | Err(JudgeError::Verify(_) | JudgeError::Closed) => return judged,
            };
            if !waiting.wait(block.number(), needed).await? {
                return judged;
            }
        }
    }

    /// Has an announcement judged, in the same way.
    pub(crate) async fn verify_announcement(&self, block: &Block) -> Result<Verdict, JudgeError> {
        let mut waiting = WaitingRoom::new(self);
        loop {
            let standing = self.standing(block);
            let verdict = self.verifier.verify_attestation(block, standing);
            let needed = match &verdict {
                Verdict::AwaitsConfig(config) => config.height(),
                Verdict::AwaitsLink => below(block.number()),
                Verdict::Accepted(_) | Verdict::Rejected(_) => return Ok(verdict),
            };
            if !waiting.wait(block.number(), needed).await? {
                return Ok(verdict);
            }
        }
    }

    /// The part of the chain by which blocks are judged.
    pub(crate) fn applied(&self) -> Applied {
        *self.applied.borrow()
    }

    pub(crate) async fn wait_until_applied(&self, height: Height) -> Result<(), JudgeError> {
        let mut applied = self.applied.subscribe();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| applied.height >= height) => {
                reached.map(drop).map_err(|_| JudgeError::Closed)
            }
            () = self.cancel.cancelled() => Err(JudgeError::Closed),
            () = self.ended.cancelled() => Err(JudgeError::Closed),
        }
    }

    /// How a block stands to the chain.
    pub(crate) fn standing(&self, block: &Block) -> Standing {
        match self.applied().is_followed_by(block) {
            true => Standing::Linked,
            false => Standing::Ahead,
        }
    }
}

impl Applied {
    /// What is in a store whose config blocks were all applied.
    pub(crate) fn of_store(store: &dyn BlockStore) -> Self {
        let ChainInfo {
            height, tip_hash, ..
        } = store.info();
        Self {
            height,
            tip_hash,
            config: height.tip().and_then(|tip| store.config_at(tip)),
        }
    }

    /// With these blocks stored and their configuration in force.
    pub(crate) fn grown_by(mut self, tip: &ChainInfo, batch: &[Buffered]) -> Self {
        (self.height, self.tip_hash) = (tip.height, tip.tip_hash);
        let configs = batch.iter().filter(|stored| stored.block.is_config());
        self.config = configs
            .last()
            .map(|config| config.block.number())
            .or(self.config);
        self
    }

    /// Whether a block is the next one, and links.
    pub(crate) fn is_followed_by(&self, block: &Block) -> bool {
        let links = self.tip_hash.is_none_or(|tip| block.links_to(&tip));
        block.number() == self.height.next_block() && links
    }
}

impl<'a> WaitingRoom<'a> {
    fn new(intake: &'a Intake) -> Self {
        Self {
            intake,
            place: None,
            deadline: None,
        }
    }

    /// Waits until the chain has a height at which a block may be judged. `false` when it has it
    /// already, when it does not reach it in time, or when too many candidates wait.
    async fn wait(&mut self, block: BlockNumber, height: Height) -> Result<bool, JudgeError> {
        let intake = self.intake;
        let is_due = height <= below(block) && intake.buffer.in_window(height.next_block());
        if intake.applied().height >= height || !is_due {
            return Ok(false);
        }
        if self.place.is_none() {
            let Ok(place) = intake.awaiting.try_acquire() else {
                return Ok(false);
            };
            self.place = Some(place);
        }
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + intake.config.fetch_timeout);
        match timeout_at(deadline, intake.wait_until_applied(height)).await {
            Ok(applied) => applied.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}

/// The height of the chain that ends below a block.
fn below(number: BlockNumber) -> Height {
    Height::new(number.get())
}
