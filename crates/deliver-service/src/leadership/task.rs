// SPDX-License-Identifier: Apache-2.0
//! Does what is decided: starts and stops the pull loop, and has orderers asked.

use std::sync::{Arc, Weak};

use block_api::BlockReader;
use futures::future::{BoxFuture, FutureExt as _, OptionFuture};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Candidates, Leadership, Settings, probe::finds_next, ranking::Ranking};
use crate::{channel::Channel, intake::Intake, peers::Peers};

/// Keeps this node pulling as long as its place asks for it, until it is cancelled. What pulls then
/// goes on.
pub(crate) async fn run(
    channel: &Weak<Channel>,
    (intake, peers): (&Arc<Intake>, &Peers),
    ledger: &Arc<dyn BlockReader>,
    candidates: &Candidates,
    leadership: &watch::Sender<Option<Leadership>>,
    cancel: &CancellationToken,
) {
    let config = &intake.config;
    let settings = Settings {
        pullers: config.pullers.get(),
        takeover: config.takeover,
        censorship: config.provider.censorship_timeout,
    };
    let (mut seen, mut applied) = (peers.subscribe(), intake.applied.subscribe());
    let height = applied.borrow().height;
    // Where the task before this one died, what it began goes on.
    let pulls = match channel.upgrade() {
        Some(channel) => channel.pull.lock().await.is_some(),
        None => return,
    };
    let now = Instant::now();
    let mut ranking = Ranking::new(settings, candidates.own(), height, pulls, now);
    let mut probe: Option<BoxFuture<'static, bool>> = None;
    let mut probes: usize = 0;
    loop {
        seen.mark_unchanged();
        let (height, fed) = {
            let applied = applied.borrow_and_update();
            (applied.height, applied.fed)
        };
        let now = Instant::now();
        ranking.see(candidates.own(), candidates.others(peers.candidates()), now);
        ranking.grew(height, fed, now);
        // Whoever asked for a range knows the same already.
        if let Some(asked) = *intake.asked_in_vain.borrow() {
            ranking.probed(asked);
        }
        let decision = ranking.decide(now);
        let Leadership { role, rank, .. } = decision.leadership;
        let before = leadership.send_replace(Some(decision.leadership));
        if before.is_none_or(|before| before.role != role) {
            info!(channel = %intake.channel, ?role, rank, "place among those who may pull");
        }
        {
            let Some(channel) = channel.upgrade() else {
                return;
            };
            // It returns when the hand-off has ended: only then are the others told.
            channel.pull_or_not(role.pulls(), ledger).await;
            // One that is under way goes on when this node begins to pull: that may last a moment.
            if decision.probe && probe.is_none() {
                ranking.probed(now);
                probe = next_probe(&channel, intake, probes);
                probes = probes.wrapping_add(1);
            }
        }
        let wake: OptionFuture<_> = decision.wake.map(sleep_until).into();
        let probing: OptionFuture<_> = probe.as_mut().into();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            Some(withheld) = probing => {
                probe = None;
                if withheld {
                    ranking.found_withheld(Instant::now());
                }
            }
            told = seen.changed() => if told.is_err() { return },
            told = applied.changed() => if told.is_err() { return },
            Some(()) = wake => {}
        }
    }
}

/// Has the next orderer in turn asked; `None` where there is none.
fn next_probe(
    channel: &Channel,
    intake: &Arc<Intake>,
    probes: usize,
) -> Option<BoxFuture<'static, bool>> {
    let (intake, source) = (intake.clone(), channel.source.clone());
    let endpoints = source.endpoints();
    let endpoint = endpoints.get(probes.checked_rem(endpoints.len())?)?.clone();
    Some(async move { finds_next(&intake, &*source, &endpoint).await }.boxed())
}
