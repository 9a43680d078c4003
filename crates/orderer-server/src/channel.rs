// SPDX-License-Identifier: Apache-2.0
//! The channels that are served, which come and go while the server runs.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use block_api::{BlockReader, ChannelId, Readers};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::recent::Sharing;

/// Whether the node that serves a channel takes part in ordering it (semantics §6.4). A relay is
/// always ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsenterState {
    /// It does.
    #[default]
    Ready,
    /// It has no leader or no quorum, or was halted: requests that are STRICT are refused, and cut
    /// while they wait.
    InError,
}

/// A channel that is served: its blocks, and who may have them.
#[derive(Debug)]
pub struct ServedChannel {
    pub(crate) reader: Arc<dyn BlockReader>,
    pub(crate) readers: Arc<dyn Readers>,
    pub(crate) consenter: Option<watch::Receiver<ConsenterState>>,
    /// Cancelled when the channel is served no more.
    pub(crate) removed: CancellationToken,
    pub(crate) sharing: Sharing,
}

/// The channels that are served.
#[derive(Debug, Default)]
pub(crate) struct Channels(RwLock<Served>);

#[derive(Debug, Default)]
struct Served {
    by_id: BTreeMap<ChannelId, Arc<ServedChannel>>,
    /// How many were ever added.
    added: u64,
}

impl ServedChannel {
    /// A channel that is always ready.
    pub fn new(reader: Arc<dyn BlockReader>, readers: Arc<dyn Readers>) -> Self {
        Self {
            reader,
            readers,
            consenter: None,
            removed: CancellationToken::new(),
            sharing: Sharing::default(),
        }
    }

    /// The same channel, ready as long as its consenter is. When the sender is gone, the last state
    /// stays.
    #[must_use]
    pub fn with_consenter(self, consenter: watch::Receiver<ConsenterState>) -> Self {
        Self {
            consenter: Some(consenter),
            ..self
        }
    }

    /// Whether the consenter is in error now.
    pub(crate) fn in_error(&self) -> bool {
        self.consenter
            .as_ref()
            .is_some_and(|consenter| *consenter.borrow() == ConsenterState::InError)
    }

    /// Waits until the consenter is in error.
    pub(crate) async fn until_error(&self) {
        if let Some(mut consenter) = self.consenter.clone()
            && consenter
                .wait_for(|state| *state == ConsenterState::InError)
                .await
                .is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

impl Channels {
    pub(crate) fn get(&self, id: &ChannelId) -> Option<Arc<ServedChannel>> {
        let served = self.0.read().unwrap_or_else(PoisonError::into_inner);
        served.by_id.get(id).cloned()
    }

    /// Adds a channel, and gives the one that was served under its id.
    pub(crate) fn add(
        &self,
        id: ChannelId,
        mut channel: ServedChannel,
    ) -> Option<Arc<ServedChannel>> {
        let mut served = self.write();
        served.added += 1;
        channel.sharing.serial = served.added;
        let replaced = served.by_id.insert(id, Arc::new(channel));
        end(replaced)
    }

    /// Removes a channel, and gives it.
    pub(crate) fn remove(&self, id: &ChannelId) -> Option<Arc<ServedChannel>> {
        let removed = self.write().by_id.remove(id);
        end(removed)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Served> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(channel: Option<Arc<ServedChannel>>) -> Option<Arc<ServedChannel>> {
    channel.inspect(|channel| channel.removed.cancel())
}
