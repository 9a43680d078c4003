// SPDX-License-Identifier: Apache-2.0
//! One range, from whoever gives it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use block_api::{
    Block, BlockNumber, BlockSource, BlockStream, ChannelId, DeliverStatus, Delivery, Endpoint,
    Fault, SourceError, StreamRequest, VerifyError,
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    buffer::Giver,
    in_order::InOrder,
    intake::{Intake, JudgeError, below, from_peer},
    judges::{Ahead, Begun},
};

/// So many blocks of a range may have come that are not in the buffer; when there are, it waits.
const IN_HAND: usize = 64;

/// Why a range ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum RangeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("nothing came in time")]
    TimedOut,
    #[error("it ended with {0}")]
    Status(DeliverStatus),
    #[error("it ended early")]
    HungUp,
    #[error("block {actual} came where block {expected} was due")]
    WrongNumber {
        expected: BlockNumber,
        actual: BlockNumber,
    },
    #[error("block {0} does not link to the one before it in the range")]
    Unlinked(BlockNumber),
    /// There may be two chains that orderers signed.
    #[error("block {0} does not link to this chain")]
    OtherChain(BlockNumber),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// Nothing is known against whoever gave it.
    #[error("block {0} waited too long for room, or for the blocks before it")]
    Parked(BlockNumber),
}

/// A range that is being fetched.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) giver: Giver,
    pub(super) source: Arc<dyn BlockSource>,
    pub(super) endpoint: Endpoint,
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    pub(super) progress: Arc<Progress>,
}

/// What of a range has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    blocks: AtomicU64,
    bytes: AtomicU64,
}

/// How the blocks of a range are judged.
#[derive(Debug)]
enum Run {
    /// It begins at the tip: each by its place.
    InOrder(InOrder),
    /// Blocks below it are missing: as candidates are.
    Ahead,
}

impl Progress {
    /// Blocks and bytes.
    pub(super) fn get(&self) -> (u64, u64) {
        let blocks = self.blocks.load(Ordering::Relaxed);
        (blocks, self.bytes.load(Ordering::Relaxed))
    }

    fn add(&self, bytes: usize) -> u64 {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }
}

impl RangeError {
    /// What of it is the fault of a node that gave the range, which said that it has it. That orderers
    /// signed two chains is no fault of those who have the other one, and neither is what a node passes
    /// on to which the newest configuration has not come. A node that hangs up may have been stopped.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Judge(JudgeError::Verify(VerifyError::Rejected(rejection))) => {
                (!rejection.may_be_in_good_faith()).then_some(Fault::Invalid)
            }
            Self::WrongNumber { .. }
            | Self::Unlinked(_)
            | Self::Judge(JudgeError::Verify(VerifyError::NoData { .. }))
            | Self::Source(SourceError::Malformed { .. } | SourceError::MalformedBlock { .. }) => {
                Some(Fault::Invalid)
            }
            Self::TimedOut | Self::Source(SourceError::TimedOut { .. }) => Some(Fault::Stalled),
            Self::Source(_)
            | Self::Status(_)
            | Self::HungUp
            | Self::OtherChain(_)
            | Self::Judge(JudgeError::Verify(_) | JudgeError::Closed)
            | Self::Parked(_) => None,
        }
    }
}

impl Range {
    /// Fetches it, until its end or until as many bytes have come as one range may have. Every block
    /// that came is in the buffer then, unless one of them was refused.
    pub(super) async fn fetch(&self, intake: &Arc<Intake>) -> Result<(), RangeError> {
        let patience = intake.config.fetch_timeout;
        let request = self.request(&intake.channel);
        let opened = timeout(patience, self.source.open(&self.endpoint, &request)).await;
        let stream = opened.map_err(|_| RangeError::TimedOut)??;
        let (run, ahead) = self.begin(intake, patience).await?;
        let (queue, came) = mpsc::channel(IN_HAND);
        let receive = self.receive(intake, stream, ahead, queue);
        // What came before the range failed is taken, and what is wrong with it counts first.
        let (received, ()) = tokio::try_join!(receive.map(Ok), self.take(intake, run, came))?;
        received
    }

    /// Receives the blocks, checks that they follow one another, and begins to judge them.
    async fn receive(
        &self,
        intake: &Arc<Intake>,
        mut stream: BlockStream,
        mut ahead: Ahead,
        queue: mpsc::Sender<(Block, Option<Begun>)>,
    ) -> Result<(), RangeError> {
        let patience = intake.config.fetch_timeout;
        let (mut expected, mut previous) = (self.first, None);
        while expected <= self.last {
            let delivery = timeout(patience, stream.next())
                .await
                .map_err(|_| RangeError::TimedOut)?;
            let block = match delivery.ok_or(RangeError::HungUp)?? {
                Delivery::Block(block) => block,
                Delivery::Status(status) => return Err(RangeError::Status(status)),
            };
            if block.number() != expected {
                return Err(RangeError::WrongNumber {
                    expected,
                    actual: block.number(),
                });
            }
            if !is_linked(intake, &block, previous.as_ref()) {
                intake.counters.unlinked.add(1);
                return Err(match previous {
                    Some(_) => RangeError::Unlinked(expected),
                    None => RangeError::OtherChain(expected),
                });
            }
            previous = Some(block.header_hash());
            let came = self.progress.add(block.raw().len());
            let block = match self.giver {
                Giver::Peer(_) => from_peer(&block),
                Giver::Stream | Giver::Orderers => block,
            };
            let begun = ahead.begin(intake, &block);
            if queue.send((block, begun)).await.is_err() {
                // Whoever takes them says why he does so no more.
                break;
            }
            if came >= intake.config.range_bytes.get() as u64 {
                break;
            }
            match expected.next() {
                Some(next) => expected = next,
                None => break,
            }
        }
        Ok(())
    }

    /// Puts the blocks into the buffer, in order.
    async fn take(
        &self,
        intake: &Intake,
        mut run: Run,
        mut came: mpsc::Receiver<(Block, Option<Begun>)>,
    ) -> Result<(), RangeError> {
        let (patience, giver) = (intake.config.fetch_timeout, &self.giver);
        while let Some((block, begun)) = came.recv().await {
            let number = block.number();
            let taken = match &mut run {
                Run::InOrder(run) => timeout(patience, run.take(intake, block, begun, giver)).await,
                Run::Ahead => timeout(patience, take_ahead(intake, block, begun, giver)).await,
            };
            let taken = taken.map_err(|_| RangeError::Parked(number))?;
            if let Err(JudgeError::Verify(VerifyError::Rejected(_))) = &taken {
                intake.counters.rejected.add(1);
            }
            taken?;
        }
        Ok(())
    }

    fn request(&self, channel: &ChannelId) -> StreamRequest {
        StreamRequest::range(channel.clone(), self.first, self.last)
    }

    async fn begin(&self, intake: &Intake, patience: Duration) -> Result<(Run, Ahead), RangeError> {
        if self.first > intake.buffer.next() {
            return Ok((Run::Ahead, Ahead::default()));
        }
        // What is stored is not in force at once.
        let below = below(self.first);
        let applied = timeout(patience, intake.wait_until_applied(below)).await;
        applied.map_err(|_| RangeError::Parked(self.first))??;
        Ok((Run::InOrder(InOrder::behind(below)), Ahead::behind(below)))
    }
}

/// Whether a block links to the one before it, as far as that can be known.
fn is_linked(intake: &Intake, block: &Block, previous: Option<&block_api::HeaderHash>) -> bool {
    match previous {
        Some(previous) => block.links_to(previous),
        // What was due when the range began may be stored by now, and what is ahead links to nothing
        // that is known.
        None => {
            let applied = intake.applied();
            block.number() != applied.height.next_block() || applied.is_followed_by(block)
        }
    }
}

/// Judges a block whose predecessors may be missing, and puts it into the buffer. Where its
/// configuration is not known, it waits for that, and if need be for its turn.
async fn take_ahead(
    intake: &Intake,
    block: Block,
    mut begun: Option<Begun>,
    giver: &Giver,
) -> Result<(), JudgeError> {
    let number = block.number();
    loop {
        // A verdict against the block is older than what is in force by the time it is read, and is
        // heard here again.
        let begun = match begun.take() {
            Some(begun) => begun.judged().await.ok(),
            None => None,
        };
        let applied = intake.applied();
        if number < intake.buffer.next() {
            intake.evidence.note(&block, giver);
            return Ok(());
        }
        let waiting = intake.buffer.waiting(number, &block.header_hash());
        if waiting.is_some_and(|copy| Some(copy.judged_by) >= applied.config) {
            return Ok(());
        }
        let judged = match begun {
            Some(verified) => Ok(verified),
            None => intake.verify(block.clone(), intake.standing(&block)).await,
        };
        let needed = match judged {
            Ok(verified) => {
                return match intake.buffer.push(verified, giver).await {
                    true => Ok(()),
                    false => Err(JudgeError::Closed),
                };
            }
            Err(JudgeError::Verify(VerifyError::AwaitsConfig { config, .. }))
                if config < number && config.height() > applied.height =>
            {
                config.height()
            }
            // It does not tell, or what it tells cannot be: its turn will.
            Err(JudgeError::Verify(
                VerifyError::AwaitsConfig { .. } | VerifyError::AwaitsLink { .. },
            )) if below(number) > applied.height => below(number),
            Err(error) => return Err(error),
        };
        intake.wait_until_applied(needed).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use block_api::{
        BlockVerifier, NodeId, Rejection, Standing, Verdict, VerifiedBlock,
        testing::{GullibleVerifier, MemoryStore, TestChain, within},
    };

    use super::*;
    use crate::{Config, buffer::Budget};

    /// Says first what was true before the configuration came into force.
    #[derive(Debug)]
    struct Late {
        stale: Verdict,
        asked: AtomicBool,
    }

    impl BlockVerifier for Late {
        fn verify(&self, block: &Block, standing: Standing) -> Verdict {
            match self.asked.swap(true, Ordering::Relaxed) {
                false => self.stale.clone(),
                true => GullibleVerifier::default().verify(block, standing),
            }
        }

        fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
            self.verify(block, standing)
        }

        fn apply_config(&self, _: &VerifiedBlock) -> Result<(), Rejection> {
            Ok(())
        }
    }

    async fn intake(genesis: &Block, verifier: Late) -> Arc<Intake> {
        let config = Config::default();
        let store = MemoryStore::with(vec![TestChain::verified(genesis)]).await;
        let (intake, _) = Intake::new(
            &config,
            &Budget::new(config.total_buffer_bytes.get()),
            &Arc::default(),
            TestChain::new("ch").channel(),
            Arc::new(store),
            Arc::new(verifier),
        );
        Arc::new(intake)
    }

    /// What was found of a block before its turn may be older than the configuration in force.
    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_is_out_of_date_is_asked_for_again() {
        let blocks = TestChain::of_blocks("ch", 6, 50).1;
        for stale in [
            Verdict::AwaitsConfig(BlockNumber::GENESIS),
            Verdict::AwaitsLink,
        ] {
            let asked = AtomicBool::new(false);
            let intake = intake(&blocks[0], Late { stale, asked }).await;
            let begun = Ahead::default().begin(&intake, &blocks[5]);
            assert!(begun.is_some());
            let giver = Giver::Peer(NodeId::new("peer"));
            let taken = take_ahead(&intake, blocks[5].clone(), begun, &giver);
            within("the block", taken).await.unwrap();
            assert_eq!(intake.buffer.bytes(), blocks[5].raw().len());
        }
    }
}
