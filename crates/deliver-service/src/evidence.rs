// SPDX-License-Identifier: Apache-2.0
//! Two blocks of one number that orderers signed: both headers are kept, and an alarm is raised.
//!
//! Which of them is stored follows from the chain and from who came first; nobody here decides
//! which one is right. Where one identity satisfies the channel's rule, one orderer can do this.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use block_api::{Block, BlockNumber, HeaderHash, ReadLimits, Standing, Verdict};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, error};

use crate::{buffer::Giver, intake::Intake};

/// How many pairs are kept. Whoever sees one has reason enough to look.
const KEPT: usize = 16;
/// How many headers wait to be examined; further ones are dropped. So many blocks of different hashes
/// come only where something is wrong, and then more of them follow.
const SUSPECTS: usize = 64;
/// The part of them that nobody has judged.
const UNJUDGED: usize = SUSPECTS / 2;
/// How many of those one giver may have: who makes headers up must not keep out what others show.
const UNJUDGED_OF_ONE: usize = 4;
/// How many headers that nobody who may had signed are remembered: a status is told again and again.
const REFUSED: usize = 256;
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
    suspects: mpsc::Sender<Suspect>,
    recent: Mutex<BTreeMap<BlockNumber, HeaderHash>>,
    /// How many of each giver are in the queue that nobody has judged.
    unjudged: Mutex<BTreeMap<Giver, usize>>,
    refused: Mutex<Refused>,
    found: Mutex<Vec<Equivocation>>,
}

/// A header that has to be examined.
#[derive(Debug)]
pub(crate) struct Suspect {
    header: Block,
    /// Who gave it, where nobody has judged it yet.
    giver: Option<Giver>,
}

/// Headers with their signatures that were refused, by a hash that nobody outside can foretell: with
/// other signatures the same header may be good.
#[derive(Debug, Default)]
struct Refused {
    state: RandomState,
    hashes: VecDeque<u64>,
}

impl Evidence {
    /// Evidence, and the queue of what has to be [examined](run).
    pub(crate) fn new() -> (Self, mpsc::Receiver<Suspect>) {
        let (suspects, queue) = mpsc::channel(SUSPECTS);
        let evidence = Self {
            suspects,
            recent: Mutex::default(),
            unjudged: Mutex::default(),
            refused: Mutex::default(),
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

    /// Has a block that nobody has judged examined if it is another one than the one of its number
    /// that was stored lately.
    pub(crate) fn note(&self, block: &Block, giver: &Giver) {
        if self.is_other(block) == Some(true) {
            self.doubt(block, giver);
        }
    }

    /// The same for a block that was accepted.
    pub(crate) fn note_accepted(&self, block: &Block) {
        if self.is_other(block) == Some(true) {
            self.suspect(block);
        }
    }

    /// Has a block that nobody has judged examined, if this giver has not too many that are.
    pub(crate) fn doubt(&self, block: &Block, giver: &Giver) {
        let header = block.without_data().with_signatures_slot_only();
        if self.refused().knows(&header) {
            return;
        }
        let mut unjudged = self.unjudged();
        let own = unjudged.get(giver).copied().unwrap_or_default();
        if own >= UNJUDGED_OF_ONE || unjudged.values().sum::<usize>() >= UNJUDGED {
            return;
        }
        let suspect = Suspect {
            header,
            giver: Some(giver.clone()),
        };
        if self.suspects.try_send(suspect).is_ok() {
            unjudged.insert(giver.clone(), own + 1);
        }
    }

    /// Has a block that was accepted examined, once there is a stored one of its number.
    pub(crate) fn suspect(&self, block: &Block) {
        let suspect = Suspect {
            header: block.without_data().with_signatures_slot_only(),
            giver: None,
        };
        if self.suspects.try_send(suspect).is_err() {
            debug!(block.number = %block.number(), "too many suspects to examine another one");
        }
    }

    /// Takes what came out of the queue.
    fn take(&self, suspect: Suspect) -> Suspect {
        if let Some(giver) = &suspect.giver {
            let mut unjudged = self.unjudged();
            match unjudged.get_mut(giver) {
                Some(own) if *own > 1 => *own -= 1,
                Some(_) | None => drop(unjudged.remove(giver)),
            }
        }
        suspect
    }

    /// Whether it is another block than the one of its number; `None` where that was not stored
    /// lately.
    fn is_other(&self, block: &Block) -> Option<bool> {
        let stored = self.recent().get(&block.number()).copied();
        stored.map(|stored| stored != block.header_hash())
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

    fn unjudged(&self) -> MutexGuard<'_, BTreeMap<Giver, usize>> {
        self.unjudged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pairs(&self) -> MutexGuard<'_, Vec<Equivocation>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn knows(&self, header: &Block) -> bool {
        self.hashes.contains(&self.state.hash_one(header.raw()))
    }

    fn add(&mut self, header: &Block) {
        self.hashes.push_back(self.state.hash_one(header.raw()));
        if self.hashes.len() > REFUSED {
            self.hashes.pop_front();
        }
    }
}

/// Examines suspects until the channel is cancelled: each once a block of its number is stored and
/// the configuration at its place is in force.
pub(crate) async fn run(intake: &Intake, suspects: &mut mpsc::Receiver<Suspect>) {
    let mut applied = intake.applied.subscribe();
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = intake.cancel.cancelled() => return,
            Some(suspect) = suspects.recv() => {
                waiting.push_back(intake.evidence.take(suspect));
                if waiting.len() > SUSPECTS {
                    waiting.pop_front();
                }
            }
            changed = applied.changed() => if changed.is_err() { return },
        }
        let height = intake.applied().height;
        let due: VecDeque<Suspect>;
        (due, waiting) = waiting
            .into_iter()
            .partition(|suspect: &Suspect| suspect.header.number() < height.next_block());
        for suspect in due {
            examine(intake, suspect).await;
        }
    }
}

/// Keeps a block as evidence if it is another one than the stored one, and if those who may sign at
/// its place signed it, wherever it links to.
async fn examine(intake: &Intake, suspect: Suspect) {
    let evidence = &intake.evidence;
    let Suspect {
        header: other,
        giver,
    } = suspect;
    if evidence.is_settled(&other) || evidence.is_other(&other) == Some(false) {
        return;
    }
    let number = other.number();
    // Before the store is read: anybody may make a header up.
    match intake.judge_header(other.clone(), Standing::Linked).await {
        Ok(Verdict::Accepted(_)) => {}
        Ok(Verdict::Rejected(rejection)) => {
            debug!(channel = %intake.channel, block.number = %number, "a block that differs from the stored one is not signed");
            evidence.refused().add(&other);
            if let Some(Giver::Peer(node)) = &giver {
                intake.failing.rejected(node, &rejection, Instant::now());
            }
            return;
        }
        // It was not judged, for which nobody is to blame.
        Ok(Verdict::AwaitsConfig(_) | Verdict::AwaitsLink) | Err(_) => return,
    }
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

#[cfg(test)]
mod tests {
    use block_api::{NodeId, testing::TestChain};

    use super::*;

    #[test]
    fn headers_that_nobody_judged_take_few_places() {
        let (mut chain, blocks) = TestChain::of_blocks("ch", 2, 10);
        let (evidence, mut queue) = Evidence::new();
        let stored = chain.data(10);
        evidence.stored(stored.number(), stored.header_hash());
        let mut other = TestChain::of_blocks("ch", 1, 10).0;
        other.data(20);
        let mut others = (0..).map(|bytes| other.clone().data(30 + bytes));
        let mut other = || others.next().expect("there is no end of them");
        let giver = |name: &str| Giver::Peer(NodeId::new(name));
        for _ in 0..20 {
            evidence.note(&other(), &giver("a"));
        }
        evidence.note(&stored, &giver("b"));
        evidence.note(&blocks[1], &giver("b"));
        assert_eq!(queue.len(), UNJUDGED_OF_ONE, "nothing else is suspected");
        for name in 0..100 {
            evidence.note(&other(), &giver(&name.to_string()));
        }
        assert_eq!(queue.len(), UNJUDGED, "further ones have no place");
        for _ in UNJUDGED..SUSPECTS {
            evidence.note_accepted(&other());
        }
        assert_eq!(queue.len(), SUSPECTS, "what was accepted has");
        let header = evidence.take(queue.try_recv().unwrap()).header;
        evidence.note(&other(), &giver("a"));
        assert_eq!(queue.len(), SUSPECTS, "the place is given back");
        while let Ok(suspect) = queue.try_recv() {
            evidence.take(suspect);
        }
        assert!(evidence.unjudged().is_empty());
        evidence.refused().add(&header);
        evidence.note(&header, &giver("a"));
        assert_eq!(queue.len(), 0, "it was refused before");
    }
}
