// SPDX-License-Identifier: Apache-2.0
//! The one writer of a channel: from the buffer into the store, in order, and to gossip.

use block_api::{AppendError, ChainInfo, Standing, VerifiedBlock};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, error, info, warn};

use crate::{
    Origin, StorageFailure, StorageFailureKind,
    buffer::Buffered,
    intake::{Applied, Intake, JudgeError},
    restore::restore_config,
};

/// Makes good what a writer that died left behind: its batch is lost, it may have been stored or
/// not, and its configuration may not be in force. What waited is dropped and comes again. `false`
/// when the configuration cannot be taken into force, which ends the channel, or when that closes.
async fn recover(intake: &Intake) -> bool {
    intake.appending.send_replace(None);
    let (channel, store, verifier) = (&intake.channel, &*intake.store, &*intake.verifier);
    let mut in_force = intake.applied().height;
    while let Err(error) = restore_config(channel, store, verifier, &mut in_force).await {
        let failure = StorageFailure::of_restoring(&error);
        let again = failure.kind == StorageFailureKind::Failed;
        tell(intake, failure);
        if !again {
            error!(%channel, %error, "the configuration cannot be restored; the channel stops");
            return false;
        }
        error!(%channel, %error, "the configuration cannot be restored; trying again");
        if !pause(intake).await {
            return false;
        }
    }
    // The next append says whether it can be written, too.
    intake.storage_failure.send_replace(None);
    let applied = Applied::of_store(&*intake.store);
    intake.buffer.restart(applied.height.next_block());
    intake.applied.send_replace(applied);
    intake.reopen_stream.notify_one();
    true
}

/// Writes until the channel is cancelled, then what is due and waits already. One that takes the
/// place of a writer that died makes that good first.
pub(crate) async fn run(intake: &Intake, publish: &mpsc::Sender<VerifiedBlock>, takes_over: bool) {
    if takes_over && !recover(intake).await {
        return;
    }
    loop {
        gather(intake).await;
        let batch = intake.buffer.take(&intake.store.info());
        for rival in &batch.rivals {
            let reopen = rival.passed;
            note_evidence(intake, rival, "another block was taken", reopen);
        }
        for unlinked in &batch.unlinked {
            note_evidence(
                intake,
                unlinked,
                "it does not link to the chain",
                unlinked.passed,
            );
            blame(intake, unlinked);
        }
        if batch.blocks.is_empty() {
            if !batch.unlinked.is_empty() {
                intake.dropped.notify_one();
                continue;
            }
            tokio::select! {
                biased;
                () = intake.buffer.ready() => {}
                // Nothing is due: what waits behind a gap is fetched again after a restart.
                () = intake.cancel.cancelled() => break,
            }
            continue;
        }
        let Some(blocks) = judged_in_place(intake, batch.blocks).await else {
            break;
        };
        if blocks.is_empty() {
            continue;
        }
        // They link to the tip, and were judged by the configuration in their place.
        if intake.config.publish_before_durable {
            publish_all(intake, publish, &blocks);
        }
        let Some(tip) = append(intake, &blocks).await else {
            break;
        };
        if !take_into_force(intake, &blocks) {
            break;
        }
        for late in intake.buffer.stored(&blocks, &tip) {
            note_evidence(intake, &late, "another block was taken", late.passed);
        }
        for Buffered { block, origin, .. } in &blocks {
            intake.evidence.stored(block.number(), block.header_hash());
            intake.counters.stored(*origin, block.block().raw().len());
            debug!(channel = %intake.channel, block.number = %block.number(), ?origin, "block stored");
        }
        intake
            .applied
            .send_modify(|applied| *applied = applied.grown_by(&tip, &blocks));
        if !intake.config.publish_before_durable {
            publish_all(intake, publish, &blocks);
        }
    }
}

/// Has those blocks published that came from the ordering service. What came from peers has been
/// passed on by the network, or is asked for as a range.
fn publish_all(intake: &Intake, publish: &mpsc::Sender<VerifiedBlock>, blocks: &[Buffered]) {
    for Buffered { block, .. } in blocks
        .iter()
        .filter(|buffered| buffered.origin == Origin::Orderer && buffered.passed)
    {
        if publish.try_send(block.clone()).is_err() {
            intake.counters.unpublished.add(1);
        }
    }
}

/// Waits for more to store at one go: until there is as much as one append may have, the delay is over
/// since it began to wait, or nothing more is coming. At the tip a block is stored at once.
async fn gather(intake: &Intake) {
    let delay = intake.config.group_commit_delay;
    // Even a sleep of none lasts until the clock's next millisecond.
    if delay.is_zero() || !intake.buffer.gathers() {
        return;
    }
    let delay = sleep(delay);
    tokio::pin!(delay);
    while intake.buffer.gathers() {
        tokio::select! {
            biased;
            () = intake.cancel.cancelled() => return,
            () = &mut delay => return,
            () = intake.buffer.ready() => {}
        }
    }
}

/// Has catch-up leave the node alone that gave this block, if one did, and drops what else it gave.
fn blame(intake: &Intake, block: &Buffered) {
    if let Some(giver) = &block.giver {
        intake.buffer.drop_given_by(giver);
        intake.blamed.add(giver);
    }
}

/// Counts and tells of a signed block that is not stored, has it examined, and the stream opened anew
/// if that is called for.
fn note_evidence(intake: &Intake, evidence: &Buffered, reason: &str, reopen: bool) {
    intake.counters.unlinked.add(1);
    intake.evidence.suspect(evidence.block.block());
    warn!(
        channel = %intake.channel,
        block.number = %evidence.block.number(),
        block.hash = %evidence.block.header_hash(),
        origin = ?evidence.origin,
        reason,
        "a signed block is not stored"
    );
    if reopen {
        intake.reopen_stream.notify_one();
    }
}

/// The blocks of a batch, each judged by the configuration at its place: what was judged ahead of
/// its turn by an older one is judged again. With one that is refused go those that follow it.
/// `None` when the channel closes.
async fn judged_in_place(intake: &Intake, mut batch: Vec<Buffered>) -> Option<Vec<Buffered>> {
    // Nothing in a batch follows a config block, so that one configuration judges all of it.
    let Some(in_force) = intake.applied().config else {
        return Some(batch);
    };
    for index in 0..batch.len() {
        let Some(buffered) = batch.get_mut(index) else {
            break;
        };
        if buffered.block.judged_by() == in_force {
            continue;
        }
        let block = buffered.block.block().clone();
        match intake.verify(block, Standing::Linked).await {
            Ok(block) => buffered.block = block,
            Err(JudgeError::Closed) => return None,
            Err(JudgeError::Verify(error)) => {
                let refused = batch.split_off(index);
                intake.counters.rejected.add(1);
                warn!(
                    channel = %intake.channel,
                    blocks = refused.len(),
                    %error,
                    "a block that was accepted ahead of its turn is refused in its place"
                );
                let passed = intake.buffer.refused(&refused);
                intake.dropped.notify_one();
                if let Some(refused) = refused.first() {
                    blame(intake, refused);
                }
                // A stream that went past it does not bring another copy.
                if passed {
                    intake.reopen_stream.notify_one();
                }
                break;
            }
        }
    }
    Some(batch)
}

/// Appends a batch, however often it takes. `None` when the channel closes before it is stored.
async fn append(intake: &Intake, batch: &[Buffered]) -> Option<ChainInfo> {
    loop {
        // An attempt that failed may have stored a part of the batch.
        let due = intake.store.info().height.next_block();
        let blocks = batch
            .iter()
            .map(|buffered| buffered.block.clone())
            .filter(|block| block.number() >= due)
            .collect();
        let began = Instant::now();
        intake.appending.send_replace(Some(began));
        let appended = intake.store.append(blocks).await;
        intake.appending.send_replace(None);
        match appended {
            Ok(tip) => {
                intake.counters.appended(began.elapsed());
                if intake.storage_failure.send_replace(None).is_some() {
                    info!(channel = %intake.channel, height = %tip.height, "the store works again");
                }
                return Some(tip);
            }
            Err(error) if error.is_retryable() => {
                intake.counters.failed_appends.add(1);
                error!(channel = %intake.channel, %error, "the store failed; trying again");
                tell(intake, StorageFailure::of_append(&error));
            }
            Err(AppendError::Closed) if intake.cancel.is_cancelled() => return None,
            Err(error) => {
                // The storage is lost, or it changed under its only writer: no block can follow.
                error!(channel = %intake.channel, %error, "the store takes no more blocks; the channel stops");
                tell(intake, StorageFailure::of_append(&error));
                return None;
            }
        }
        if !pause(intake).await {
            return None;
        }
    }
}

/// Waits until the store is tried again. `false` when the channel closes.
async fn pause(intake: &Intake) -> bool {
    tokio::select! {
        () = intake.cancel.cancelled() => false,
        () = sleep(intake.config.store_retry) => true,
    }
}

/// Says why nothing is stored.
fn tell(intake: &Intake, failure: StorageFailure) {
    intake.storage_failure.send_replace(Some(failure));
}

/// Takes the configuration of stored config blocks into force. `false` when that is not possible,
/// which ends the channel: nothing after it could be judged.
fn take_into_force(intake: &Intake, batch: &[Buffered]) -> bool {
    for block in batch
        .iter()
        .map(|buffered| &buffered.block)
        .filter(|block| block.is_config())
    {
        if let Err(rejection) = intake.verifier.apply_config(block) {
            error!(channel = %intake.channel, %rejection, "a stored configuration cannot be taken into force; the channel stops");
            tell(intake, StorageFailure::of_config(&rejection));
            return false;
        }
        info!(channel = %intake.channel, block.number = %block.number(), "configuration in force");
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use block_api::testing::{ScriptedSource, TestChain};
    use tokio::time::advance;

    use super::*;
    use crate::{Config, scene::Scene};

    const DELAY: Duration = Duration::from_millis(5);

    /// When each of these two blocks is stored, from when the first one is due: the second one is 3 ms
    /// late, and more is coming all the time.
    async fn stored_after(group_commit_delay: Duration) -> ([Duration; 2], Vec<usize>) {
        let blocks = TestChain::of_blocks("ch", 3, 10).1;
        let config = Config {
            group_commit_delay,
            ..Config::default()
        };
        let scene = Scene::joined(config, &blocks[0], ScriptedSource::new(&[])).await;
        let intake = scene.intake();
        intake.buffer.comes();
        intake.buffer.comes();
        let began = Instant::now();
        let push = |block| {
            let block = TestChain::verified(block);
            intake.buffer.try_push(block, Origin::Topic);
        };
        let comes = async {
            push(&blocks[1]);
            sleep(Duration::from_millis(3)).await;
            push(&blocks[2]);
            // One that was refused has the writer look again.
            intake.buffer.does_not_come();
        };
        let at = async |height| {
            scene.reaches(height).await;
            began.elapsed()
        };
        let ((), first, second) = tokio::join!(comes, at(2), at(3));
        let store = scene.store.clone();
        scene.stop().await;
        ([first, second], store.batches().split_off(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_waits_so_long_for_others_and_not_longer() {
        let (at, batches) = stored_after(DELAY).await;
        // Looking again meanwhile does not make it wait anew.
        assert_eq!((at, batches), ([DELAY; 2], vec![2]));
        // A sleep that begins in the middle of a millisecond lasts for one more, even one of none. Each
        // block is stored as it comes.
        advance(Duration::from_micros(500)).await;
        let (at, batches) = stored_after(Duration::ZERO).await;
        let comes = [Duration::ZERO, Duration::from_millis(4)];
        assert_eq!((at, batches), (comes, vec![1, 1]));
    }
}
