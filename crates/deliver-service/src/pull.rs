// SPDX-License-Identifier: Apache-2.0
//! The pull loop of a channel with its companions, run as one task.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use block_api::{BlockReader, BlockSource, GossipChannel};
use blocks_provider::{BlocksProvider, ProviderHandle, PullReport, PullState, PullStats};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::{Task, heads, intake::Intake, orderer::OrdererIntake};

/// The part of the takeover time that a stream is open before the others are told.
const SETTLING: u32 = 4;

/// A pull loop that was started.
#[derive(Debug)]
pub(crate) struct Pull {
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

/// How the pull loop of a channel does, whichever loop that is: the counts go on when one ends and
/// another begins.
#[derive(Debug, Default)]
pub(crate) struct PullView(Mutex<Viewed>);

#[derive(Debug, Default)]
struct Viewed {
    handle: Option<ProviderHandle>,
    before: PullStats,
}

impl Pull {
    pub(crate) fn start(
        intake: Arc<Intake>,
        gossip: Arc<dyn GossipChannel>,
        source: Arc<dyn BlockSource>,
        ledger: Arc<dyn BlockReader>,
        view: Arc<PullView>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let span = info_span!("pull", channel = %intake.channel);
        let mut tasks = JoinSet::new();
        // It has a report from here on, and not only once the task runs.
        let mut provider = view.provider(&intake, &source, &ledger);
        let supervised = async move {
            loop {
                let running = Box::pin(run(provider, &intake, &gossip, &stop));
                if !intake.supervision.run(Task::Pull, &stop, running).await {
                    break;
                }
                provider = view.provider(&intake, &source, &ledger);
            }
            gossip.set_pulling(false);
            view.ended();
        };
        tasks.spawn(supervised.instrument(span));
        Self { cancel, tasks }
    }

    /// Ends the loop. On return it has handed nothing off half-way.
    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        // Its panics were caught and counted.
        while self.tasks.join_next().await.is_some() {}
    }
}

impl PullView {
    /// How the loop that runs does; `None` while none does.
    pub(crate) fn report(&self) -> Option<PullReport> {
        let viewed = self.viewed();
        let mut report = viewed.handle.as_ref()?.report();
        report.stats.add(&viewed.before);
        Some(report)
    }

    /// The counts of all loops so far.
    pub(crate) fn stats(&self) -> PullStats {
        let viewed = self.viewed();
        let mut stats = viewed.before.clone();
        if let Some(handle) = &viewed.handle {
            stats.add(&handle.report().stats);
        }
        stats
    }

    /// Makes a loop, which takes the place of the one before.
    fn provider(
        &self,
        intake: &Arc<Intake>,
        source: &Arc<dyn BlockSource>,
        ledger: &Arc<dyn BlockReader>,
    ) -> BlocksProvider {
        let handler = Arc::new(OrdererIntake::new(intake.clone(), ledger.clone()));
        let config = intake.config.provider.clone();
        let provider = BlocksProvider::new(intake.channel.clone(), source.clone(), handler, config);
        self.ended();
        self.viewed().handle = Some(provider.handle());
        provider
    }

    fn ended(&self) {
        let mut viewed = self.viewed();
        if let Some(handle) = viewed.handle.take() {
            viewed.before.add(&handle.report().stats);
        }
    }

    fn viewed(&self) -> MutexGuard<'_, Viewed> {
        // Every state of it is a good one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a loop with its companions, in one task: if one of them panics, all of them begin anew.
async fn run(
    provider: BlocksProvider,
    intake: &Intake,
    gossip: &Arc<dyn GossipChannel>,
    stop: &CancellationToken,
) {
    let handle = provider.handle();
    let settled = intake.config.takeover / SETTLING;
    let ended = stop.child_token();
    let pulling = async {
        provider.run(stop.clone()).await;
        ended.cancel();
    };
    // One that panicked may not have said that its stream is closed.
    gossip.set_pulling(false);
    tokio::join!(
        pulling,
        tell_pulling(handle.clone(), &**gossip, settled),
        heads::tell(intake, &handle, &ended),
        leave_forks(intake, &handle, &ended),
    );
}

/// Tells the others whether a Deliver stream is open: for a while already, because whoever hears it
/// gives up a stream for this one, and an orderer may refuse one that was opened.
async fn tell_pulling(mut handle: ProviderHandle, gossip: &dyn GossipChannel, settled: Duration) {
    let mut state = handle.state();
    loop {
        let streams = matches!(state, PullState::Streaming(_));
        if !streams {
            gossip.set_pulling(false);
        }
        let changed = tokio::select! {
            biased;
            changed = handle.changed() => changed,
            () = sleep(settled), if streams => {
                gossip.set_pulling(true);
                handle.changed().await
            }
        };
        match changed {
            Some(changed) => state = changed,
            None => break,
        }
    }
    // The loop has ended, and with it the hand-off of its last block (hazard H26).
    gossip.set_pulling(false);
}

/// Has the pull loop leave its stream when a block of it did not link to the chain that is stored:
/// nothing after it would.
async fn leave_forks(intake: &Intake, handle: &ProviderHandle, ended: &CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = intake.reopen_stream.notified() => handle.change_source(),
        }
    }
}
