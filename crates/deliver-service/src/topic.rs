// SPDX-License-Identifier: Apache-2.0
//! The gossip topic as a producer: judges candidates, answers the network, fetches announced bodies.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use block_api::{
    Answer, Block, BlockNumber, Candidate, GossipChannel, GossipEvent, NodeId, Rejection, Verdict,
    VerifiedBlock, VerifyError,
};
use futures::FutureExt as _;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{Instrument, debug, info};

use crate::{
    Origin, Task,
    buffer::{Giver, Push},
    heads,
    intake::{Intake, JudgeError, from_peer},
    peers::Peers,
};

/// How often to look whether an announced block came by another way.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is worked on beside the loop.
#[derive(Debug)]
enum Work {
    Block,
    Announcement(BlockNumber),
    /// The tip of this node.
    Tip(NodeId),
}

/// Takes the events of a channel until they end or the channel is cancelled.
pub(crate) async fn run(
    intake: &Arc<Intake>,
    gossip: &Arc<dyn GossipChannel>,
    events: &mut mpsc::Receiver<GossipEvent>,
    peers: &Arc<Peers>,
) {
    let mut at_work: JoinSet<(Work, std::thread::Result<()>)> = JoinSet::new();
    // How many announcements of each number are worked on. A signed header may stand for a block
    // that nobody has, and its fetching takes a while to be given up.
    let mut announced = BTreeMap::new();
    // Whose tips are being judged: not more than a quarter as many as candidates, and beside them.
    let mut tips = BTreeSet::new();
    let most_tips = (intake.config.candidates_at_work.get() / 4).max(1);
    loop {
        let event = tokio::select! {
            biased;
            () = intake.cancel.cancelled() => break,
            Some(done) = at_work.join_next(), if !at_work.is_empty() => {
                // A task that was aborted is not waited for.
                let Ok((work, done)) = done else { continue };
                match work {
                    Work::Block => {}
                    Work::Announcement(number) => forget(&mut announced, number),
                    Work::Tip(node) => drop(tips.remove(&node)),
                }
                if let Err(panic) = done {
                    // It costs its candidate, and no other one: whoever sends such blocks must not
                    // keep this node from hearing others.
                    intake.supervision.survived(Task::Topic, &*panic);
                }
                continue;
            }
            event = events.recv() => event,
        };
        match event {
            Some(GossipEvent::Candidate(candidate)) => {
                // Before anything is verified that it may only have made up.
                if !intake.failing.may(candidate.from(), Instant::now()) {
                    intake.counters.limited.add(1);
                    candidate.answer(Answer::Ignore);
                    continue;
                }
                let (number, has_data) = (candidate.block().number(), candidate.block().has_data());
                let same: usize = announced.get(&number).copied().unwrap_or_default();
                if at_work.len() - tips.len() >= intake.config.candidates_at_work.get()
                    || !has_data && same >= intake.config.candidates_per_height.get()
                    || !is_wanted(intake, candidate.block())
                {
                    intake.counters.ignored.add(1);
                    let giver = Giver::Peer(candidate.from().clone());
                    intake.evidence.note(candidate.block(), &giver);
                    missed(intake, number);
                    candidate.answer(Answer::Ignore);
                    continue;
                }
                if !has_data {
                    announced.insert(number, same + 1);
                }
                let task = take_in(intake.clone(), gossip.clone(), candidate);
                let task = AssertUnwindSafe(task).catch_unwind();
                let work = match has_data {
                    true => Work::Block,
                    false => Work::Announcement(number),
                };
                let task = task.map(move |done| (work, done));
                at_work.spawn(task.in_current_span());
            }
            Some(GossipEvent::Status {
                from,
                identity,
                status,
            }) => {
                let may = intake.failing.may(&from, Instant::now());
                if let Some(tip) = &status.tip {
                    let giver = Giver::Peer(from.clone());
                    match may {
                        true => intake.evidence.note(tip, &giver),
                        false => intake.counters.limited.add(1),
                    }
                }
                // A tip that finds no place comes again with the next status.
                if let Some(tip) = &status.tip
                    && may
                    && heads::is_news(intake, tip)
                    && tips.len() < most_tips
                    && tips.insert(from.clone())
                {
                    let (intake, tip, node) = (intake.clone(), tip.clone(), from.clone());
                    let peers = peers.clone();
                    let task = async move {
                        if let Some(unjudged) = heads::note_tip(&intake, &tip, &node).await {
                            peers.judged(&node, unjudged);
                        }
                    };
                    let task = AssertUnwindSafe(task).catch_unwind();
                    let work = Work::Tip(from.clone());
                    at_work.spawn(task.map(move |done| (work, done)).in_current_span());
                }
                peers.heard(from, identity, status);
            }
            Some(GossipEvent::Left(node)) => peers.left(&node),
            None => break,
        }
    }
    at_work.shutdown().await;
}

fn forget(announced: &mut BTreeMap<BlockNumber, usize>, number: BlockNumber) {
    match announced.get_mut(&number) {
        Some(count) if *count > 1 => *count -= 1,
        Some(_) | None => drop(announced.remove(&number)),
    }
}

/// Whether a block is worth being judged: it is not stored, not too far ahead, and no copy of it
/// waits that the newest configuration judged.
fn is_wanted(intake: &Intake, block: &Block) -> bool {
    let number = block.number();
    if number < intake.buffer.next() || !intake.buffer.in_window(number) {
        return false;
    }
    match intake.buffer.waiting(number, &block.header_hash()) {
        Some(copy) => Some(copy.judged_by) < intake.applied().config,
        None => true,
    }
}

/// Judges a candidate, answers, and brings its block into the buffer.
async fn take_in(intake: Arc<Intake>, gossip: Arc<dyn GossipChannel>, candidate: Candidate) {
    let number = candidate.block().number();
    let judged = match candidate.block().has_data() {
        true => intake
            .verify_ahead(&from_peer(candidate.block()), candidate.from())
            .await
            .map(Some)
            .map_err(rejection),
        false => match intake
            .verify_announcement(candidate.block(), candidate.from())
            .await
        {
            Ok(Verdict::Accepted(_)) => Ok(None),
            Ok(Verdict::Rejected(rejection)) => Err(Some(rejection)),
            Ok(Verdict::AwaitsConfig(_) | Verdict::AwaitsLink) | Err(_) => Err(None),
        },
    };
    match judged {
        Err(Some(rejection)) => {
            intake.counters.rejected.add(1);
            intake.failing.refused(candidate.from(), Instant::now());
            info!(channel = %intake.channel, from = %candidate.from(), %rejection, "candidate rejected");
            // Neither way it goes on.
            candidate.answer(match rejection.may_be_in_good_faith() {
                true => Answer::Ignore,
                false => Answer::Reject,
            });
        }
        Err(None) => {
            intake.counters.ignored.add(1);
            missed(&intake, number);
            candidate.answer(Answer::Ignore);
        }
        Ok(Some(verified)) => {
            heads::note(&intake, verified.block(), candidate.from());
            candidate.answer(Answer::Accept);
            keep(&intake, verified, Origin::Topic);
        }
        Ok(None) => {
            let from = candidate.from().clone();
            heads::note(&intake, candidate.block(), &from);
            let announcement = candidate.answer(Answer::Accept);
            let fetched = timeout(intake.config.fetch_timeout, async {
                tokio::select! {
                    biased;
                    // However long the nodes that are asked take.
                    () = came_by_another_way(&intake, &announcement) => Ok(None),
                    block = gossip.fetch(&announcement) => block.map(Some),
                }
            })
            .await;
            // Without the body, it comes with a range.
            match fetched {
                Ok(Ok(Some(block))) => match intake.verify_ahead(&from_peer(&block), &from).await {
                    Ok(verified) => keep(&intake, verified, Origin::Pull),
                    Err(JudgeError::Verify(VerifyError::Rejected(rejection))) => {
                        intake.counters.rejected.add(1);
                        intake.failing.rejected(&from, &rejection, Instant::now());
                        info!(channel = %intake.channel, %from, %rejection, "the body of an announced block was refused");
                    }
                    // It was not judged, for which nobody is to blame.
                    Err(error) => {
                        intake.counters.ignored.add(1);
                        debug!(channel = %intake.channel, block.number = %number, %from, %error, "the body of an announced block was not judged");
                    }
                },
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    debug!(channel = %intake.channel, block.number = %number, %from, %error, "announced block not fetched");
                }
                Err(_) => {
                    debug!(channel = %intake.channel, block.number = %number, %from, "announced block not fetched in time");
                }
            }
        }
    }
}

/// A candidate was ignored: the topic does not bring its block again.
fn missed(intake: &Intake, number: BlockNumber) {
    let due = intake.buffer.next();
    if number >= due && intake.buffer.in_window(number) {
        intake.missed.note(number);
    }
    if number == due {
        intake.dropped.notify_one();
    }
}

/// The rule that a block breaks; `None` when it was not judged.
fn rejection(error: JudgeError) -> Option<Rejection> {
    match error {
        JudgeError::Verify(VerifyError::Rejected(rejection)) => Some(rejection),
        JudgeError::Verify(_) | JudgeError::Closed => None,
    }
}

fn keep(intake: &Intake, verified: VerifiedBlock, origin: Origin) {
    let number = verified.number();
    intake.evidence.note_accepted(verified.block());
    let pushed = intake.buffer.try_push(verified, origin);
    if pushed == Push::Full {
        debug!(channel = %intake.channel, block.number = %number, "no room for a block from the topic");
    }
}

/// Waits until a block is here by another way, or another one is in its place, or the channel closes.
async fn came_by_another_way(intake: &Intake, announcement: &Block) {
    let (number, hash) = (announcement.number(), announcement.header_hash());
    while !intake.buffer.knows(number, &hash) {
        let applied = intake.wait_until_applied(number.height());
        // Where it only waits to be stored, nobody tells.
        if timeout(LOOK_AGAIN, applied).await.is_ok() {
            return;
        }
    }
}
