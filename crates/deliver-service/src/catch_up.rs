// SPDX-License-Identifier: Apache-2.0
//! Ranges from peers as a producer: closes holes, and brings a node that is behind to the tip.

use std::{collections::BTreeMap, sync::Arc};

use block_api::{
    BlockNumber, DeliverStatus, Delivery, Endpoint, GossipChannel, Height, NodeId, StreamRequest,
    VerifyError,
};
use futures::StreamExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::{
    Origin,
    intake::{Intake, JudgeError},
    topic::Peers,
};

/// Why a range ended early.
#[derive(Debug, thiserror::Error)]
enum RangeError {
    #[error(transparent)]
    Source(#[from] block_api::SourceError),
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
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("the peer is gone")]
    Gone,
}

/// Fetches ranges whenever a peer is ahead and nothing else brings the chain forward.
pub(crate) async fn run(intake: Arc<Intake>, gossip: Arc<dyn GossipChannel>, peers: Arc<Peers>) {
    let mut resting = BTreeMap::new();
    let cancel = intake.cancel.clone();
    tokio::select! {
        () = cancel.cancelled() => {}
        () = catch_up(&intake, &*gossip, &peers, &mut resting) => {}
    }
}

async fn catch_up(
    intake: &Intake,
    gossip: &dyn GossipChannel,
    peers: &Peers,
    resting: &mut BTreeMap<NodeId, Instant>,
) {
    let mut applied = intake.applied.subscribe();
    let mut patience = intake.config.catch_up_patience;
    loop {
        let due = intake.buffer.next();
        if !peers
            .all()
            .values()
            .any(|status| status.height.next_block() > due)
        {
            patience = intake.config.catch_up_patience;
            tokio::select! {
                () = peers.changed() => {}
                _ = applied.changed() => {}
            }
            continue;
        }
        // Somebody is ahead. The topic or the orderer may bring the block any moment.
        applied.borrow_and_update();
        if !patience.is_zero() {
            tokio::select! {
                _ = applied.changed() => continue,
                () = sleep(patience) => {}
            }
        }
        let now = Instant::now();
        resting.retain(|_, until| *until > now);
        let Some((peer, height)) = choose(peers, resting, intake.buffer.next()) else {
            // Everyone who is ahead rests, or has pruned what is due.
            let until = resting
                .values()
                .min()
                .copied()
                .unwrap_or(now + intake.config.peer_rest);
            tokio::select! {
                () = peers.changed() => {}
                () = sleep_until(until) => {}
            }
            continue;
        };
        match range(intake, gossip, &peer, height).await {
            // There is more where this came from.
            Ok(()) => patience = std::time::Duration::ZERO,
            Err(RangeError::Judge(JudgeError::Closed)) => return,
            Err(error) => {
                info!(channel = %intake.channel, %peer, %error, "a range from a peer failed");
                resting.insert(peer, Instant::now() + intake.config.peer_rest);
            }
        }
    }
}

/// The peer with the most to give from what is due on; `None` when nobody has that block.
fn choose(
    peers: &Peers,
    resting: &BTreeMap<NodeId, Instant>,
    due: BlockNumber,
) -> Option<(NodeId, Height)> {
    let able = peers.all().into_iter().filter(|(node, status)| {
        status.first <= due && status.height.next_block() > due && !resting.contains_key(node)
    });
    able.map(|(node, status)| (node, status.height))
        .max_by_key(|(_, height)| *height)
}

/// Fetches from what is due to the next block that waits already, or to the peer's tip.
async fn range(
    intake: &Intake,
    gossip: &dyn GossipChannel,
    peer: &NodeId,
    height: Height,
) -> Result<(), RangeError> {
    let (first, waiting) = intake.buffer.gap();
    let most = first
        .get()
        .saturating_add(intake.config.range_blocks.get() as u64 - 1);
    let tip = height.tip().map_or(0, BlockNumber::get);
    let gap_end = waiting
        .and_then(BlockNumber::previous)
        .map_or(u64::MAX, BlockNumber::get);
    let last = BlockNumber::new(most.min(tip).min(gap_end).max(first.get()));
    debug!(channel = %intake.channel, %peer, %first, %last, "fetching a range");

    let source = gossip.source(peer).ok_or(RangeError::Gone)?;
    let request = StreamRequest::range(intake.channel.clone(), first, last);
    let patience = intake.config.fetch_timeout;
    let endpoint = Endpoint::of_node(peer);
    let opened = timeout(patience, source.open(&endpoint, &request)).await;
    let mut stream = opened.map_err(|_| RangeError::TimedOut)??;
    let mut expected = first;
    while expected <= last {
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
        if !intake.buffer.knows(block.number(), &block.header_hash()) {
            let verified = match intake.verify_in_order(block).await {
                Ok(verified) => verified,
                Err(error) => {
                    if let JudgeError::Verify(VerifyError::Rejected(_)) = &error {
                        intake.counters.rejected.add(1);
                    }
                    return Err(error.into());
                }
            };
            if !intake.buffer.push(verified, Origin::CatchUp).await {
                return Err(JudgeError::Closed.into());
            }
        }
        match expected.next() {
            Some(next) => expected = next,
            None => break,
        }
    }
    // The next range begins where this one ends, so what came must be stored first.
    let mut applied = intake.applied.subscribe();
    let stored = applied.wait_for(|applied| *applied >= last.height());
    match timeout(patience, stored).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(JudgeError::Closed.into()),
        // What came does not link, or the store fails: another peer may have other blocks.
        Err(_) => Err(RangeError::TimedOut),
    }
}
