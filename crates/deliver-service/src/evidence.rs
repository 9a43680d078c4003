// SPDX-License-Identifier: Apache-2.0
//! Two blocks of one number that orderers signed: both headers are kept, and an alarm is raised.
//!
//! Which of them is stored follows from the chain and from who came first; nobody here decides
//! which one is right. Where one identity satisfies the channel's rule, one orderer can do this.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use block_api::{Block, BlockNumber, HeaderHash, ReadLimits, Standing, Verdict};
use tokio::sync::mpsc;
use tracing::{debug, error};

use crate::intake::Intake;

/// How many pairs are kept. Whoever sees one has reason enough to look.
const KEPT: usize = 16;
/// How many headers wait to be examined; further ones are dropped. So many blocks of different hashes
/// come only where something is wrong, and then more of them follow.
const SUSPECTS: usize = 64;
/// For how many of the newest blocks a copy with another hash is noticed without a look at the store.
const RECENT: usize = 256;

/// Two blocks of one number, both signed as the channel demands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Equivocation {
    /// The number.
    pub number: BlockNumber,
    /// Header and signatures of the block that is stored.
    pub stored: Block,
    /// Header and signatures of the other one.
    pub other: Block,
}

/// What is known and suspected of one channel.
#[derive(Debug)]
pub(crate) struct Evidence {
    suspects: mpsc::Sender<Block>,
    recent: Mutex<BTreeMap<BlockNumber, HeaderHash>>,
    found: Mutex<Vec<Equivocation>>,
}

impl Evidence {
    /// Evidence, and the queue of what has to be [examined](run).
    pub(crate) fn new() -> (Self, mpsc::Receiver<Block>) {
        let (suspects, queue) = mpsc::channel(SUSPECTS);
        let evidence = Self {
            suspects,
            recent: Mutex::default(),
            found: Mutex::default(),
        };
        (evidence, queue)
    }

    /// Remembers which block of a number is stored.
    pub(crate) fn stored(&self, number: BlockNumber, hash: HeaderHash) {
        let mut recent = self.recent();
        recent.insert(number, hash);
        while recent.len() > RECENT {
            recent.pop_first();
        }
    }

    /// Has a block examined if it is another one than the one of its number that was stored lately.
    pub(crate) fn note(&self, block: &Block) {
        let stored = self.recent().get(&block.number()).copied();
        if stored.is_some_and(|stored| stored != block.header_hash()) {
            self.suspect(block);
        }
    }

    /// Has a block examined, once there is a stored one of its number.
    pub(crate) fn suspect(&self, block: &Block) {
        let header = block.without_data().with_signatures_slot_only();
        if self.suspects.try_send(header).is_err() {
            debug!(block.number = %block.number(), "too many suspects to examine another one");
        }
    }

    /// The pairs that were found.
    pub(crate) fn found(&self) -> Vec<Equivocation> {
        self.pairs().clone()
    }

    /// Whether such a pair is kept, or no further one will be.
    fn is_settled(&self, other: &Block) -> bool {
        let pairs = self.pairs();
        pairs.len() >= KEPT
            || pairs
                .iter()
                .any(|pair| pair.other.header_hash() == other.header_hash())
    }

    fn recent(&self) -> MutexGuard<'_, BTreeMap<BlockNumber, HeaderHash>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pairs(&self) -> MutexGuard<'_, Vec<Equivocation>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Examines suspects until the channel is cancelled: each once a block of its number is stored and
/// the configuration at its place is in force.
pub(crate) async fn run(intake: &Intake, suspects: &mut mpsc::Receiver<Block>) {
    let mut applied = intake.applied.subscribe();
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = intake.cancel.cancelled() => return,
            Some(suspect) = suspects.recv() => {
                waiting.push_back(suspect);
                if waiting.len() > SUSPECTS {
                    waiting.pop_front();
                }
            }
            changed = applied.changed() => if changed.is_err() { return },
        }
        let height = intake.applied().height;
        let due: VecDeque<Block>;
        (due, waiting) = waiting
            .into_iter()
            .partition(|suspect: &Block| suspect.number() < height.next_block());
        for suspect in due {
            examine(intake, suspect).await;
        }
    }
}

/// Keeps a block as evidence if it is another one than the stored one, and if those who may sign at
/// its place signed it, wherever it links to.
async fn examine(intake: &Intake, other: Block) {
    if intake.evidence.is_settled(&other) {
        return;
    }
    let number = other.number();
    let Ok(read) = intake.store.read(number, ReadLimits::one()).await else {
        // It was pruned, or cannot be read: the store says so to whoever needs it.
        return;
    };
    let stored = read
        .into_iter()
        .next()
        .and_then(|bytes| Block::parse(bytes).ok());
    let Some(stored) = stored.filter(|stored| stored.header_hash() != other.header_hash()) else {
        return;
    };
    let judged = intake.judge_header(other.clone(), Standing::Linked).await;
    let Ok(Verdict::Accepted(_)) = judged else {
        debug!(channel = %intake.channel, block.number = %number, "a block that differs from the stored one is not signed");
        return;
    };
    error!(
        channel = %intake.channel,
        block.number = %number,
        stored = %stored.header_hash(),
        other = %other.header_hash(),
        "orderers signed two blocks of one number; compare the chain with other nodes"
    );
    intake.counters.equivocations.add(1);
    intake.evidence.pairs().push(Equivocation {
        number,
        stored: stored.without_data().with_signatures_slot_only(),
        other,
    });
}
