// SPDX-License-Identifier: Apache-2.0
//! The orderer's stream as a producer: what the pull loop hands its blocks to.

use std::sync::{Arc, Mutex, MutexGuard};

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
        self.ahead
            .lock()
            .expect("invariant: no holder of this lock panics")
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
