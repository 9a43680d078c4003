// SPDX-License-Identifier: Apache-2.0
//! What the producers and the writer of one channel share.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use block_api::{
    Block, BlockNumber, BlockStore, BlockVerifier, ChainInfo, ChannelId, HeaderHash, Height,
    NodeId, Standing, Verdict, VerifiedBlock, VerifyError,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Origin, StorageFailure,
    buffer::{Budget, Buffer, Buffered},
    evidence::{Evidence, Suspect},
    failing::Failing,
    heads::Shown,
    judges::Judges,
    lag::Lag,
    stats::Counters,
    supervision::Supervision,
    waiting_room::{Missed, Place, WaitingRoom},
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
    pub(crate) judges: Judges,
    pub(crate) buffer: Buffer,
    pub(crate) counters: Counters,
    pub(crate) applied: watch::Sender<Applied>,
    /// What the storage said when the last append failed; `None` while it works.
    pub(crate) storage_failure: watch::Sender<Option<StorageFailure>>,
    /// Since when an append is under way.
    pub(crate) appending: watch::Sender<Option<Instant>>,
    /// The blocks that are proven and not stored.
    pub(crate) lag: Lag,
    pub(crate) supervision: Supervision,
    /// Places for candidates that wait for a configuration: not all that there are for candidates,
    /// because whose signatures they have is not known yet. For whom there is none is ignored.
    pub(crate) awaiting: WaitingRoom,
    /// What it ignored for want of room.
    pub(crate) missed: Missed,
    pub(crate) evidence: Evidence,
    /// What each node made this one refuse.
    pub(crate) failing: Arc<Failing>,
    /// Nodes of whose ranges a block was not of this chain.
    pub(crate) blamed: Blamed,
    /// Told when a block that was due is dropped: where it was, there is a hole.
    pub(crate) dropped: Notify,
    /// Whether this node pulls.
    pub(crate) pulls: AtomicBool,
    /// What the nodes of the channel showed: the pull loop holds its source against it.
    pub(crate) shown: watch::Sender<Shown>,
    /// Told when the stream of the ordering service has to be opened anew: a block of it did not
    /// link, or one that it went past is not stored after all.
    pub(crate) reopen_stream: Notify,
    /// When an orderer that was asked for what is due, in a range, gave nothing last.
    pub(crate) asked_in_vain: watch::Sender<Option<Instant>>,
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the writer has ended, told to or not: the height stays where it is.
    pub(crate) ended: CancellationToken,
}

/// The part of the chain that is stored and counted, and whose configuration is in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) height: Height,
    tip_hash: Option<HeaderHash>,
    /// The height after the newest block that another node brought before the ordering service gave it
    /// to this one, since the channel was joined.
    pub(crate) fed: Height,
    /// The newest config block in it; `None` where the store knows of none.
    pub(crate) config: Option<BlockNumber>,
    /// When it became so high.
    pub(crate) at: Instant,
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

/// Nodes that catch-up has to be told of, each once however often it is blamed meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Blamed {
    nodes: Mutex<BTreeSet<NodeId>>,
    told: Notify,
}

/// One candidate that may have to wait, and takes a place when it first has to.
struct Waiting<'a> {
    intake: &'a Intake,
    from: &'a NodeId,
    place: Option<Place<'a>>,
    deadline: Option<Instant>,
}

impl Intake {
    /// The intake of a channel that goes on from where its store stands, and the queue of what it
    /// wants examined.
    pub(crate) fn new(
        config: &Config,
        budget: &Arc<Budget>,
        failing: &Arc<Failing>,
        channel: ChannelId,
        store: Arc<dyn BlockStore>,
        verifier: Arc<dyn BlockVerifier>,
    ) -> (Self, mpsc::Receiver<Suspect>) {
        let applied = Applied::of_store(&*store);
        let (evidence, suspects) = Evidence::new();
        if let (Some(tip), Some(hash)) = (applied.height.tip(), applied.tip_hash) {
            evidence.stored(tip, hash);
        }
        let intake = Self {
            channel,
            config: config.clone(),
            store,
            verifier,
            judges: Judges::new(),
            buffer: Buffer::new(config, budget, applied.height.next_block()),
            counters: Counters::default(),
            applied: watch::Sender::new(applied),
            storage_failure: watch::Sender::new(None),
            appending: watch::Sender::new(None),
            lag: Lag::default(),
            supervision: Supervision::default(),
            awaiting: WaitingRoom::new(config.candidates_at_work),
            missed: Missed::default(),
            evidence,
            failing: failing.clone(),
            blamed: Blamed::default(),
            dropped: Notify::new(),
            pulls: AtomicBool::new(false),
            shown: watch::Sender::default(),
            reopen_stream: Notify::new(),
            asked_in_vain: watch::Sender::new(None),
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        (intake, suspects)
    }

    /// Has a block judged.
    pub(crate) async fn verify(
        &self,
        block: Block,
        standing: Standing,
    ) -> Result<VerifiedBlock, JudgeError> {
        let judge = move |block, verifier: &dyn BlockVerifier| {
            VerifiedBlock::new(block, verifier, standing)
        };
        Ok(self.judge(block, judge).await??)
    }

    /// Has header and signatures of a block judged.
    pub(crate) async fn judge_header(
        &self,
        block: Block,
        standing: Standing,
    ) -> Result<Verdict, JudgeError> {
        let judge = move |block: Block, verifier: &dyn BlockVerifier| {
            verifier.verify_attestation(&block, standing)
        };
        self.judge(block, judge).await
    }

    /// Judges here, or beside the runtime where that may take long.
    pub(crate) async fn judge<T: Send + 'static>(
        &self,
        block: Block,
        judge: impl FnOnce(Block, &dyn BlockVerifier) -> T + Send + 'static,
    ) -> Result<T, JudgeError> {
        if block.raw().len() < BIG_BLOCK {
            return Ok(judge(block, &*self.verifier));
        }
        let verifier = self.verifier.clone();
        let (verdict, judged) = oneshot::channel();
        // The closure ends by itself; the channel to it says how.
        let task = spawn_blocking(move || drop(verdict.send(judge(block, &*verifier))));
        match judged.await {
            Ok(judged) => Ok(judged),
            Err(_) => match task.await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => Err(JudgeError::Closed),
            },
        }
    }

    /// Has a block judged that may have come before others that it follows. Where its configuration
    /// is not known yet but on its way, it waits a while for it; a block for which that does not help
    /// is not judged.
    pub(crate) async fn verify_ahead(
        &self,
        block: &Block,
        from: &NodeId,
    ) -> Result<VerifiedBlock, JudgeError> {
        let mut waiting = Waiting::new(self, from);
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
    pub(crate) async fn verify_announcement(
        &self,
        block: &Block,
        from: &NodeId,
    ) -> Result<Verdict, JudgeError> {
        let mut waiting = Waiting::new(self, from);
        loop {
            let standing = self.standing(block);
            let verdict = self.judge_header(block.clone(), standing).await?;
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

    /// There is a block of this number: it, or its header, was proven.
    pub(crate) fn proven(&self, number: BlockNumber) {
        let due = self.applied().height.next_block();
        self.lag.proven(number, due, Instant::now());
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
            fed: Height::default(),
            config: height.tip().and_then(|tip| store.config_at(tip)),
            at: Instant::now(),
        }
    }

    /// With these blocks stored and their configuration in force.
    pub(crate) fn grown_by(mut self, tip: &ChainInfo, batch: &[Buffered]) -> Self {
        (self.height, self.tip_hash) = (tip.height, tip.tip_hash);
        self.at = Instant::now();
        let brought = batch
            .iter()
            .filter(|stored| stored.origin != Origin::Orderer);
        self.fed = brought
            .last()
            .map_or(self.fed, |block| block.block.number().height());
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

impl Blamed {
    pub(crate) fn add(&self, node: &NodeId) {
        self.nodes().insert(node.clone());
        self.told.notify_one();
    }

    /// Waits until a node was blamed.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }

    pub(crate) fn take(&self) -> BTreeSet<NodeId> {
        std::mem::take(&mut *self.nodes())
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Waiting<'a> {
    fn new(intake: &'a Intake, from: &'a NodeId) -> Self {
        Self {
            intake,
            from,
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
            self.place = intake.awaiting.enter(self.from);
        }
        let Some(place) = &self.place else {
            return Ok(false);
        };
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + intake.config.fetch_timeout);
        let applied = timeout_at(deadline, intake.wait_until_applied(height));
        match place.needed.run_until_cancelled(applied).await {
            Some(Ok(applied)) => applied.map(|()| true),
            Some(Err(_)) | None => Ok(false),
        }
    }
}

/// A block that came from a peer: of its metadata only the signatures are believed (semantics
/// App. B, H20), and what is covered by neither hashes nor signatures is not kept, whatever the
/// network let through.
pub(crate) fn from_peer(block: &Block) -> Block {
    block.without_extras()
}

/// The height of the chain that ends below a block.
pub(crate) fn below(number: BlockNumber) -> Height {
    Height::new(number.get())
}
