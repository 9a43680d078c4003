// SPDX-License-Identifier: Apache-2.0
//! A pull loop with its watch, and the handle to both.

use std::sync::Arc;

use block_api::{BlockSource, ChannelId, Height};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    BlockHandler, Config, Head, PullReport, PullState,
    puller::Puller,
    state::Shared,
    watch::{Sentry, SourceView},
};

/// Pulls the blocks of one channel.
#[derive(Debug)]
pub struct BlocksProvider {
    puller: Puller,
    sentry: Sentry,
    handle: ProviderHandle,
}

/// Watches a running [`BlocksProvider`], tells it what others know, and lets it change its source.
#[derive(Debug, Clone)]
pub struct ProviderHandle {
    state: watch::Receiver<PullState>,
    change_source: Arc<Notify>,
    shared: Arc<Shared>,
}

impl BlocksProvider {
    /// A pull loop that has not begun. Settings that [`Config::validate`] refuses give an odd
    /// rhythm, never an endless busy loop.
    pub fn new(
        channel: ChannelId,
        source: Arc<dyn BlockSource>,
        handler: Arc<dyn BlockHandler>,
        config: Config,
    ) -> Self {
        let state = watch::Sender::new(PullState::Idle);
        let handle = ProviderHandle {
            state: state.subscribe(),
            change_source: Arc::new(Notify::new()),
            shared: Arc::new(Shared::default()),
        };
        let view = watch::Sender::new(SourceView::none());
        let leave = watch::Sender::new(None);
        let sentry = Sentry::new(
            channel.clone(),
            source.clone(),
            handler.clone(),
            &config,
            handle.shared.clone(),
            view.subscribe(),
            leave.clone(),
        );
        let puller = Puller::new(
            channel,
            source,
            handler,
            &config,
            state,
            handle.change_source.clone(),
            handle.shared.clone(),
            view,
            leave.subscribe(),
        );
        Self {
            puller,
            sentry,
            handle,
        }
    }

    /// A handle to watch the loop by.
    pub fn handle(&self) -> ProviderHandle {
        self.handle.clone()
    }

    /// Pulls until `stop` is cancelled or the handler closes. A block that the handler is taking
    /// over at that moment is taken over to the end, or not at all. Every task has ended on return.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; use `stop` to have the hand-off finished.
    pub async fn run(self, stop: CancellationToken) {
        let Self { puller, sentry, .. } = self;
        // The watch ends when the loop has dropped its side of the view.
        tokio::join!(puller.run(stop.clone()), sentry.run(stop));
    }
}

impl ProviderHandle {
    /// What the loop is doing now.
    pub fn state(&self) -> PullState {
        self.state.borrow().clone()
    }

    /// What the loop is doing now, and how it came to that.
    pub fn report(&self) -> PullReport {
        self.shared.report(self.state())
    }

    /// Waits for the loop to do something else, and says what. `None` when it has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn changed(&mut self) -> Option<PullState> {
        self.state.changed().await.ok()?;
        Some(self.state.borrow_and_update().clone())
    }

    /// Has the open stream given up for another endpoint; without an open stream, the next one.
    pub fn change_source(&self) {
        self.change_source.notify_one();
    }

    /// Tells of a block whose header was verified, however it came: the source should deliver it.
    /// Of what comes faster than it is looked at, the highest of each kind of evidence counts.
    pub fn head_seen(&self, head: Head) {
        self.shared.inbox.head(head);
    }

    /// Tells how high the chain is, whichever way its blocks came: what another source gave, this
    /// one should have.
    pub fn chain_grew(&self, height: Height) {
        self.shared.inbox.chain(height);
    }
}

#[cfg(test)]
mod tests;
