// SPDX-License-Identifier: Apache-2.0
//! Ranges from peers as a producer: closes holes, and brings a node that is behind to the tip.

use std::{cmp::Reverse, collections::BTreeMap};

use block_api::{
    BlockNumber, ChannelStatus, DeliverStatus, Delivery, Endpoint, GossipChannel, Height, NodeId,
    StreamRequest, VerifyError,
};
use futures::StreamExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use crate::{
    buffer::Giver,
    in_order::InOrder,
    intake::{Intake, JudgeError, below, from_peer},
    peers::Peers,
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
    #[error("block {0} does not link to the one before it")]
    Unlinked(BlockNumber),
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("the peer is gone")]
    Gone,
}

/// How a peer that failed to give a range stands.
#[derive(Debug)]
struct Failed {
    /// It is left alone until then.
    until: Instant,
    /// How often it failed since it last gave a range.
    times: u32,
}

/// Fetches ranges whenever a peer is ahead and nothing else brings the chain forward.
pub(crate) async fn run(intake: &Intake, gossip: &dyn GossipChannel, peers: &Peers) {
    let mut failed = BTreeMap::new();
    let cancel = intake.cancel.clone();
    tokio::select! {
        () = cancel.cancelled() => {}
        () = catch_up(intake, gossip, peers, &mut failed) => {}
    }
}

async fn catch_up(
    intake: &Intake,
    gossip: &dyn GossipChannel,
    peers: &Peers,
    failed: &mut BTreeMap<NodeId, Failed>,
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
        let known = peers.all();
        // Leaving and coming back does not shorten a rest.
        failed.retain(|node, failed| failed.until > now || known.contains_key(node));
        let Some((peer, height)) = choose(known, failed, intake.buffer.next(), now) else {
            // Everyone who is ahead rests, or has pruned what is due.
            let rests = failed.values().map(|failed| failed.until);
            let until = rests
                .filter(|until| *until > now)
                .min()
                .unwrap_or(now + intake.config.peer_rest);
            tokio::select! {
                () = peers.changed() => {}
                () = sleep_until(until) => {}
            }
            continue;
        };
        match range(intake, gossip, &peer, height).await {
            Ok(()) => {
                failed.remove(&peer);
                // There is more where this came from.
                patience = std::time::Duration::ZERO;
            }
            Err(RangeError::Judge(JudgeError::Closed)) => return,
            Err(error) => {
                info!(channel = %intake.channel, %peer, %error, "a range from a peer failed");
                let until = Instant::now() + intake.config.peer_rest;
                let failed = failed.entry(peer).or_insert(Failed { until, times: 0 });
                failed.until = until;
                failed.times = failed.times.saturating_add(1);
            }
        }
    }
}

/// Of the peers that failed least often the one with the most to give from what is due on; `None`
/// when nobody has that block. A height is only a claim: if it counted for more than failures, two
/// peers that claim the highest would be asked in turns for ever.
fn choose(
    peers: BTreeMap<NodeId, ChannelStatus>,
    failed: &BTreeMap<NodeId, Failed>,
    due: BlockNumber,
    now: Instant,
) -> Option<(NodeId, Height)> {
    let able = peers.into_iter().filter(|(node, status)| {
        let rests = failed.get(node).is_some_and(|failed| failed.until > now);
        status.first <= due && status.height.next_block() > due && !rests
    });
    able.map(|(node, status)| (node, status.height))
        .min_by_key(|(node, height)| {
            let times = failed.get(node).map_or(0, |failed| failed.times);
            (times, Reverse(*height))
        })
}

/// Fetches from what is due to the next block that waits already, or to the peer's tip.
async fn range(
    intake: &Intake,
    gossip: &dyn GossipChannel,
    peer: &NodeId,
    height: Height,
) -> Result<(), RangeError> {
    let tip = height.tip().unwrap_or_default();
    let Some(hole) = intake.buffer.holes(tip).into_iter().next() else {
        // Everything waits already, or is being stored.
        let stored = intake.wait_until_applied(height);
        return Ok(timeout(intake.config.fetch_timeout, stored)
            .await
            .map_err(|_| RangeError::TimedOut)??);
    };
    let first = *hole.start();
    let most = first
        .get()
        .saturating_add(intake.config.range_blocks.get() as u64 - 1);
    let last = BlockNumber::new(most.min(hole.end().get()));
    let giver = Giver::Peer(peer.clone());
    debug!(channel = %intake.channel, %peer, %first, %last, "fetching a range");

    let source = gossip.source(peer).ok_or(RangeError::Gone)?;
    let request = StreamRequest::range(intake.channel.clone(), first, last);
    let patience = intake.config.fetch_timeout;
    let endpoint = Endpoint::of_node(peer);
    let opened = timeout(patience, source.open(&endpoint, &request)).await;
    let mut stream = opened.map_err(|_| RangeError::TimedOut)??;
    let mut expected = first;
    let (mut run, mut previous) = (InOrder::behind(below(first)), None);
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
        let links = match previous {
            Some(previous) => block.links_to(&previous),
            // What is due when the range begins may be stored by now.
            None => {
                block.number() < intake.buffer.next() || intake.applied().is_followed_by(&block)
            }
        };
        if !links {
            intake.counters.unlinked.add(1);
            return Err(RangeError::Unlinked(expected));
        }
        previous = Some(block.header_hash());
        // Where another chain is stored meanwhile, a configuration of this one never comes into
        // force, and the room that its blocks take is never given back.
        let taken = timeout(patience, run.take(intake, from_peer(&block), &giver)).await;
        let taken = taken.map_err(|_| RangeError::TimedOut)?;
        if let Err(JudgeError::Verify(VerifyError::Rejected(_))) = &taken {
            intake.counters.rejected.add(1);
        }
        taken?;
        match expected.next() {
            Some(next) => expected = next,
            None => break,
        }
    }
    // The next range begins where this one ends, so what came must be stored first.
    let mut applied = intake.applied.subscribe();
    let stored = applied.wait_for(|applied| applied.height >= last.height());
    match timeout(patience, stored).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(JudgeError::Closed.into()),
        // What came does not link, or the store fails: another peer may have other blocks.
        Err(_) => Err(RangeError::TimedOut),
    }
}
