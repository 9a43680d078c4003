// SPDX-License-Identifier: Apache-2.0
//! What calls the pull loop away from what it is doing.

use std::sync::Arc;

use block_api::{BlockSource, Endpoint};
use tokio::sync::{Notify, watch};

use crate::watch::Leave;

/// The endpoint of an attempt, and how it was reached when that began.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) endpoint: Endpoint,
    pub(crate) version: Option<u64>,
}

/// What calls the loop away from what it is doing.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) change_source: Arc<Notify>,
    pub(crate) leave: watch::Receiver<Option<Leave>>,
    pub(crate) endpoints: Option<watch::Receiver<u64>>,
}

/// A call that came.
#[derive(Debug)]
pub(crate) enum Call {
    ChangeSource,
    Leave(Leave),
    EndpointsChanged,
}

impl Calls {
    /// Waits for a call to this attempt.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self, attempt: u64, way: &Way) -> Call {
        let Self {
            change_source,
            leave,
            endpoints,
        } = self;
        tokio::select! {
            biased;
            () = left(endpoints, way) => Call::EndpointsChanged,
            () = change_source.notified() => Call::ChangeSource,
            leave = called(leave, attempt) => Call::Leave(leave),
        }
    }

    /// Waits until the endpoint of this attempt is gone or reached otherwise. That others come and go
    /// is no reason to leave it.
    pub(crate) async fn way_changed(&mut self, way: &Way) {
        left(&mut self.endpoints, way).await;
    }

    pub(crate) async fn endpoints_changed(&mut self) {
        changed(&mut self.endpoints).await;
    }

    /// Whether the endpoints became others since they were looked at last.
    pub(crate) fn see_endpoints(&mut self) -> bool {
        self.endpoints.as_mut().is_some_and(|endpoints| {
            let changed = endpoints.has_changed().unwrap_or_default();
            endpoints.mark_unchanged();
            changed
        })
    }
}

/// Waits until the endpoints become others; for ever where they never do.
async fn changed(endpoints: &mut Option<watch::Receiver<u64>>) {
    match endpoints {
        Some(receiver) => {
            if receiver.changed().await.is_err() {
                *endpoints = None;
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// Waits until an endpoint is gone, or reached otherwise than when its attempt began.
async fn left(endpoints: &mut Option<watch::Receiver<u64>>, way: &Way) {
    while way.source.endpoint_version(&way.endpoint) == way.version {
        changed(endpoints).await;
    }
}

/// Waits until this attempt is told to leave its stream.
async fn called(leave: &mut watch::Receiver<Option<Leave>>, attempt: u64) -> Leave {
    let told = leave.wait_for(|leave| leave.as_ref().is_some_and(|leave| leave.attempt == attempt));
    let told = told.await.ok().and_then(|leave| leave.clone());
    match told {
        Some(leave) => leave,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, testing::within};
    use tokio::time::Duration;

    use super::*;
    use crate::{Evidence, watch::Why};

    /// What is said of one attempt does not end another (hazard H8).
    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_left_only_when_it_is_meant() {
        let why = Why {
            number: BlockNumber::new(8),
            evidence: Evidence::Proven,
            shown_by: None,
            after: Duration::ZERO,
        };
        let sender = watch::Sender::new(Some(Leave { attempt: 1, why }));
        let mut leave = sender.subscribe();
        assert_eq!(called(&mut leave, 1).await.attempt, 1);
        let day = Duration::from_secs(24 * 3600);
        let stale = tokio::time::timeout(day, called(&mut leave, 2)).await;
        assert!(stale.is_err(), "{stale:?}");
        sender.send_modify(|leave| {
            if let Some(leave) = leave {
                leave.attempt = 2;
            }
        });
        within("the call", called(&mut leave, 2)).await;
    }
}
