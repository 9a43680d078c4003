// SPDX-License-Identifier: Apache-2.0
//! What the producers and the writer of one channel share.

use std::sync::Arc;

use block_api::{
    Block, BlockNumber, BlockStore, BlockVerifier, ChannelId, Height, Verdict, VerifiedBlock,
    VerifyError,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Config, buffer::Buffer, stats::Counters};

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
    /// The height up to which blocks are stored and counted, and their configuration is in force.
    pub(crate) applied: watch::Sender<Height>,
    /// What the storage said when the last append failed; `None` while it works.
    pub(crate) storage_failure: watch::Sender<Option<String>>,
    /// Places for candidates that wait for a configuration: not all that there are for candidates,
    /// because whose signatures they have is not known yet.
    pub(crate) awaiting: Semaphore,
    /// Told when a block of the ordering service did not link to the chain.
    pub(crate) orderer_unlinked: Notify,
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the writer has ended, told to or not: the height stays where it is.
    pub(crate) ended: CancellationToken,
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

impl Intake {
    /// Has a block judged.
    pub(crate) async fn verify(&self, block: Block) -> Result<VerifiedBlock, JudgeError> {
        if block.raw().len() < BIG_BLOCK {
            return Ok(VerifiedBlock::new(block, &*self.verifier)?);
        }
        let verifier = self.verifier.clone();
        let (verdict, judged) = oneshot::channel();
        // The closure ends by itself; the channel to it says how.
        let task =
            spawn_blocking(move || drop(verdict.send(VerifiedBlock::new(block, &*verifier))));
        match judged.await {
            Ok(judged) => Ok(judged?),
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => Err(JudgeError::Closed),
            },
        }
    }

    /// Has a block judged whose predecessors are all on their way to the store: where its
    /// configuration is not in force yet, it waits until they are stored.
    pub(crate) async fn verify_in_order(&self, block: Block) -> Result<VerifiedBlock, JudgeError> {
        match self.verify(block.clone()).await {
            Err(JudgeError::Verify(VerifyError::AwaitsConfig { .. })) => {}
            judged => return judged,
        }
        self.wait_until_applied(Height::new(block.number().get()))
            .await?;
        self.verify(block).await
    }

    /// Has a block from the topic judged. Where its configuration is not in force yet but on its
    /// way, it waits a while for it; a block for which that does not help is not judged.
    pub(crate) async fn verify_ahead(&self, block: &Block) -> Result<VerifiedBlock, JudgeError> {
        let judged = self.verify(block.clone()).await;
        match judged {
            Err(JudgeError::Verify(VerifyError::AwaitsConfig { config, .. }))
                if self.is_due_before(config, block) =>
            {
                match self.wait_for_config(config).await? {
                    true => self.verify(block.clone()).await,
                    false => judged,
                }
            }
            judged => judged,
        }
    }

    /// Has an announcement judged, in the same way.
    pub(crate) async fn verify_announcement(&self, block: &Block) -> Result<Verdict, JudgeError> {
        let verdict = self.verifier.verify_attestation(block);
        match &verdict {
            Verdict::AwaitsConfig(config) if self.is_due_before(*config, block) => {
                match self.wait_for_config(*config).await? {
                    true => Ok(self.verifier.verify_attestation(block)),
                    false => Ok(verdict),
                }
            }
            Verdict::AwaitsConfig(_) | Verdict::Accepted(_) | Verdict::Rejected(_) => Ok(verdict),
        }
    }

    pub(crate) async fn wait_until_applied(&self, height: Height) -> Result<(), JudgeError> {
        let mut applied = self.applied.subscribe();
        tokio::select! {
            biased;
            reached = applied.wait_for(|applied| *applied >= height) => {
                reached.map(drop).map_err(|_| JudgeError::Closed)
            }
            () = self.cancel.cancelled() => Err(JudgeError::Closed),
            () = self.ended.cancelled() => Err(JudgeError::Closed),
        }
    }

    /// Waits for a configuration. `false` when it does not come in time, or when too many
    /// candidates wait for one already.
    async fn wait_for_config(&self, config: BlockNumber) -> Result<bool, JudgeError> {
        let Ok(_place) = self.awaiting.try_acquire() else {
            return Ok(false);
        };
        let applied = self.wait_until_applied(config.height());
        match timeout(self.config.fetch_timeout, applied).await {
            Ok(applied) => applied.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether a config block can come into force before this block: it is lower and near.
    fn is_due_before(&self, config: BlockNumber, block: &Block) -> bool {
        config < block.number() && self.buffer.in_window(config)
    }
}
