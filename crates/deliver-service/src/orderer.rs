// SPDX-License-Identifier: Apache-2.0
//! The orderer's stream as a producer: what the pull loop hands its blocks to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, Endpoint, HeaderHash, HeaderProof, ReadLimits,
    VerifyError,
};
use blocks_provider::{BlockHandler, HandleError, HeaderVerdict};

use crate::{
    buffer::Giver,
    heads,
    in_order::InOrder,
    intake::{Intake, JudgeError},
    judges::Ahead,
};

/// Takes blocks from the ordering service into the buffer; while that is full, the stream waits.
#[derive(Debug)]
pub(crate) struct OrdererIntake {
    pub(crate) intake: Arc<Intake>,
    pub(crate) ledger: Arc<dyn BlockReader>,
    /// The stream that is open: the pull loop gives blocks that link, from the position on.
    stream: Mutex<InOrder>,
    /// What of it is judged before its turn.
    ahead: Mutex<Ahead>,
}

/// The ordering service and the store have different blocks of one number. The stored one was signed
/// as the channel demands; whether the other one was is not asked, the stream is not gone on with.
#[derive(Debug, thiserror::Error)]
#[error(
    "block {number} as this orderer gives it ({offered}) is not the one that is stored ({stored}), which the orderers \
     signed; if other orderers give it too, compare the chain with other nodes"
)]
struct Fork {
    number: BlockNumber,
    offered: HeaderHash,
    stored: HeaderHash,
}

impl OrdererIntake {
    pub(crate) fn new(intake: Arc<Intake>, ledger: Arc<dyn BlockReader>) -> Self {
        Self {
            intake,
            ledger,
            stream: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    fn stream(&self) -> MutexGuard<'_, InOrder> {
        self.stream
            .lock()
            .expect("invariant: no holder of this lock panics")
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        // Its holder asks the buffer, whose lock a producer that died may have left poisoned. Whatever
        // that leaves behind is a line of blocks that were begun, and the stream ends with it: what is
        // left to do is to forget them, while the panic goes on, and a second one would be the end of
        // the process.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that a block whose number is stored is the stored one.
    async fn check_same(&self, block: &Block) -> Result<(), HandleError> {
        let number = block.number();
        let Ok(read) = self.intake.store.read(number, ReadLimits::one()).await else {
            // It was pruned meanwhile, or cannot be read: the store says so to whoever needs it.
            return Ok(());
        };
        let stored = read
            .into_iter()
            .next()
            .and_then(|bytes| Block::parse(bytes).ok());
        match stored.map(|stored| stored.header_hash()) {
            Some(stored) if stored != block.header_hash() => {
                self.intake.counters.unlinked.add(1);
                self.intake.evidence.doubt(block, &Giver::Stream);
                let offered = block.header_hash();
                Err(HandleError::Failed(
                    Fork {
                        number,
                        offered,
                        stored,
                    }
                    .into(),
                ))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[async_trait]
impl BlockHandler for OrdererIntake {
    fn position(&self) -> ChainInfo {
        let position = self.ledger.info();
        // Where the ledger is another one than the store, nobody may ever store what is below it.
        let stored = self.intake.store.info().height.min(position.height);
        *self.stream() = InOrder::behind(stored);
        *self.ahead() = Ahead::behind(stored);
        position
    }

    fn prepare(&self, block: &Block, _from: &Endpoint) {
        self.ahead().prepare(&self.intake, block);
    }

    fn forget(&self) {
        self.ahead().forget();
    }

    async fn handle(&self, block: Block, _from: &Endpoint) -> Result<(), HandleError> {
        let intake = &self.intake;
        let begun = self.ahead().take(&block);
        if block.number() < intake.buffer.next() {
            // Another way was quicker; nothing is lost by taking its copy.
            self.stream().pass(block.number());
            return self.check_same(&block).await;
        }
        let mut stream = *self.stream();
        let taken = stream.take(intake, block, begun, &Giver::Stream).await;
        *self.stream() = stream;
        match taken {
            Ok(()) => Ok(()),
            Err(JudgeError::Closed) => Err(HandleError::Closed),
            Err(JudgeError::Verify(VerifyError::Rejected(rejection))) => {
                intake.counters.rejected.add(1);
                Err(rejection.into())
            }
            Err(JudgeError::Verify(other)) => Err(HandleError::Failed(other.into())),
        }
    }

    fn judge_header(&self, header: &Block) -> HeaderVerdict {
        let verdict = heads::judge(&self.intake, header);
        if matches!(verdict, HeaderVerdict::Proven) {
            self.intake.proven(header.number());
        }
        verdict
    }

    fn header_proof(&self) -> HeaderProof {
        self.intake.verifier.header_proof()
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::{LiveChain, Manner, ScriptedSource, TestChain};

    use crate::{Config, Task, scene::Scene};

    /// A producer died with the buffer's lock in hand, and a block of the stream is the first thing to
    /// come upon it: the loop dies of that, and of nothing else, and begins anew as the writer does.
    #[tokio::test(start_paused = true)]
    async fn a_block_that_comes_before_the_buffer_begins_anew_ends_the_loop_and_no_more() {
        let blocks = TestChain::of_blocks("ch", 5, 10).1;
        let source = ScriptedSource::new(&["orderer:1"]);
        source.serve("orderer:1", &LiveChain::new(blocks.clone()), Manner::HONEST);
        let scene = Scene::joined(Config::default(), &blocks[0], source).await;
        scene.intake().buffer.poison();
        let (service, channel) = (&scene.service, &scene.channel);
        let started = service.start_deliver_for_channel(channel, scene.store.clone());
        started.await.unwrap();
        scene.reaches(5).await;
        let deaths = service.state(channel).unwrap().deaths;
        // More than once, where its pause is the shorter one.
        assert!(deaths.contains_key(&Task::Pull), "{deaths:?}");
        assert_eq!(deaths.get(&Task::Writer), Some(&1), "{deaths:?}");
        scene.stop().await;
    }
}
