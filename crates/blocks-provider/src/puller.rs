// SPDX-License-Identifier: Apache-2.0
//! The loop itself: connect, take blocks, fail, choose again.

use std::sync::Arc;

use block_api::{
    Block, BlockSource, BlockStream, ChainInfo, ChannelId, Delivery, Endpoint, Height, Start,
    StreamRequest,
};
use futures::StreamExt;
use tokio::{
    sync::{Notify, watch},
    time::{Duration, Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    BlockHandler, Config, Evidence, Failure, HandleError, Mode, PullState, Reason,
    choice::{Choice, Next},
    state::Shared,
    watch::{Leave, SourceView},
};

/// Keeps one stream open, whatever the endpoints do.
#[derive(Debug)]
pub(crate) struct Puller {
    channel: ChannelId,
    source: Arc<dyn BlockSource>,
    handler: Arc<dyn BlockHandler>,
    choice: Choice,
    state: watch::Sender<PullState>,
    shared: Arc<Shared>,
    view: watch::Sender<SourceView>,
    calls: Calls,
    last_failure: Option<(String, Reason)>,
}

/// The endpoint of an attempt, and how it was reached when that began.
#[derive(Debug)]
struct Way {
    source: Arc<dyn BlockSource>,
    endpoint: Endpoint,
    version: Option<u64>,
}

/// What calls the loop away from what it is doing.
#[derive(Debug)]
struct Calls {
    change_source: Arc<Notify>,
    leave: watch::Receiver<Option<Leave>>,
    endpoints: Option<watch::Receiver<u64>>,
}

/// A call that came.
#[derive(Debug)]
enum Call {
    ChangeSource,
    Leave(Leave),
    EndpointsChanged,
}

impl Puller {
    #[expect(
        clippy::too_many_arguments,
        reason = "the ends of what its one maker connects"
    )]
    pub(crate) fn new(
        channel: ChannelId,
        source: Arc<dyn BlockSource>,
        handler: Arc<dyn BlockHandler>,
        config: &Config,
        state: watch::Sender<PullState>,
        change_source: Arc<Notify>,
        shared: Arc<Shared>,
        view: watch::Sender<SourceView>,
        leave: watch::Receiver<Option<Leave>>,
    ) -> Self {
        let endpoints = source.endpoint_changes();
        Self {
            channel,
            source,
            handler,
            choice: Choice::new(config),
            state,
            shared,
            view,
            calls: Calls {
                change_source,
                leave,
                endpoints,
            },
            last_failure: None,
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while let Some(endpoint) = self.choose(&stop).await {
            let ended = self.attempt(&endpoint, &stop).await;
            self.view.send_modify(|view| {
                view.endpoint = None;
                view.handing_off = false;
            });
            match ended {
                Ok(())
                | Err(Failure::Handler {
                    source: HandleError::Closed,
                    ..
                }) => break,
                Err(failure) => self.note(&endpoint, &failure),
            }
        }
        self.tell(PullState::Idle);
    }

    /// The next endpoint, after a pause where one is due. `None` when it is told to stop.
    async fn choose(&mut self, stop: &CancellationToken) -> Option<Endpoint> {
        loop {
            // Seen before the endpoints are read, so that no change falls in between.
            if self.calls.see_endpoints() {
                self.choice.refreshed();
            }
            let endpoints = self.source.endpoints();
            {
                let mut details = self.shared.details();
                details
                    .failing
                    .retain(|endpoint, _| endpoints.contains(endpoint));
                if endpoints.is_empty() {
                    details.trouble.failed(Instant::now());
                }
            }
            let pause = match self.choice.next(&endpoints) {
                Next::Try(endpoint) => return Some(endpoint),
                Next::Pause(pause) => pause,
            };
            let (last_failure, reason) = self.last_failure.clone().unzip();
            warn!(channel = %self.channel, ?pause, failure = last_failure.as_deref(), "no endpoint gives blocks");
            self.tell(PullState::BackingOff {
                pause,
                last_failure,
                reason,
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.calls.endpoints_changed() => self.choice.refreshed(),
                () = sleep(pause) => {}
            }
        }
    }

    /// Opens a stream and takes its blocks. It ends well only when it is told to stop.
    async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        self.shared.details().stats.attempts += 1;
        let attempt = self.view.borrow().attempt + 1;
        self.view.send_modify(|view| view.attempt = attempt);
        self.tell(PullState::Connecting(endpoint.clone()));
        let position = self.handler.position();
        let way = Way {
            source: self.source.clone(),
            endpoint: endpoint.clone(),
            version: self.source.endpoint_version(endpoint),
        };
        let (stream, position) = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = self.calls.way_changed(&way) => {
                return Err(Failure::EndpointsChanged { endpoint: endpoint.clone() });
            }
            stream = open(&*self.source, &self.channel, endpoint, &position) => (stream?, position),
        };
        info!(channel = %self.channel, %endpoint, height = %position.height, "stream opened");
        self.shared.details().trouble.opened(Instant::now());
        self.tell(PullState::Streaming(endpoint.clone()));
        self.view.send_modify(|view| {
            view.endpoint = Some(endpoint.clone());
            view.height = position.height;
            view.at = Instant::now();
        });
        self.stream(&way, attempt, stream, position, stop).await
    }

    /// Takes blocks until the stream fails, or until it is told to stop.
    async fn stream(
        &mut self,
        way: &Way,
        attempt: u64,
        mut stream: BlockStream,
        mut position: ChainInfo,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let endpoint = &way.endpoint;
        let mut gives = false;
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                call = self.calls.next(attempt, way) => return Err(self.answer(endpoint, call)),
                delivery = stream.next() => delivery,
            };
            let block = match delivery {
                Some(Ok(Delivery::Block(block))) => block,
                Some(Ok(Delivery::Status(status))) => {
                    return Err(Failure::Status {
                        endpoint: endpoint.clone(),
                        status,
                    });
                }
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Failure::HungUp {
                        endpoint: endpoint.clone(),
                    });
                }
            };
            check_follows(endpoint, &position, &block)?;
            let (number, hash) = (block.number(), block.header_hash());
            let began = self.hand_off_begins();
            let handled = tokio::select! {
                biased;
                handled = self.handler.handle(block, endpoint) => handled,
                // A handler that waits for room is not waited for (NEW-09); the block is fetched again.
                () = stop.cancelled() => return Ok(()),
                call = self.calls.next(attempt, way) => return Err(self.answer(endpoint, call)),
            };
            handled.map_err(|source| Failure::Handler {
                endpoint: endpoint.clone(),
                source,
            })?;
            debug!(channel = %self.channel, block.number = %number, "block taken over");
            position.height = number.height();
            position.tip_hash = Some(hash);
            self.hand_off_ended(began, position.height);
            if !std::mem::replace(&mut gives, true) {
                let mut details = self.shared.details();
                details.failing.remove(endpoint);
                details.trouble.gives();
                self.last_failure = None;
            }
            self.choice.accepted();
        }
    }

    fn hand_off_begins(&self) -> Instant {
        // The watch need not wake: while it lasts there is nothing to do.
        self.view.send_if_modified(|view| {
            view.handing_off = true;
            false
        });
        Instant::now()
    }

    fn hand_off_ended(&self, began: Instant, height: Height) {
        let now = Instant::now();
        self.view.send_if_modified(|view| {
            view.handing_off = false;
            view.busy += now.saturating_duration_since(began);
            view.height = height;
            view.at = now;
            self.shared.is_progress_wanted()
        });
    }

    fn answer(&self, endpoint: &Endpoint, call: Call) -> Failure {
        let endpoint = endpoint.clone();
        let why = match call {
            Call::ChangeSource => return Failure::Changed { endpoint },
            Call::EndpointsChanged => return Failure::EndpointsChanged { endpoint },
            Call::Leave(leave) => leave.why,
        };
        let (number, shown_by, after) = (why.number, why.shown_by, why.after);
        match (why.evidence, self.shared.details().mode) {
            (Evidence::Stored, _) => Failure::Behind {
                endpoint,
                number,
                after,
            },
            (Evidence::Proven, Mode::Bft) => Failure::Withheld {
                endpoint,
                number,
                shown_by,
                after,
            },
            (Evidence::Proven, Mode::Cft) | (Evidence::Hint, _) => Failure::Doubted {
                endpoint,
                number,
                shown_by,
                after,
            },
        }
    }

    /// Takes note of why an attempt ended.
    fn note(&mut self, endpoint: &Endpoint, failure: &Failure) {
        let reason = failure.reason();
        let mut details = self.shared.details();
        *details.stats.restarts.entry(reason).or_default() += 1;
        details.trouble.failed(Instant::now());
        if reason != Reason::EndpointsChanged {
            details.failing.insert(endpoint.clone(), reason);
        }
        drop(details);
        if !failure.is_retryable() {
            error!(channel = %self.channel, %endpoint, %failure, "no endpoint can mend this; trying again later");
            self.choice.failed_everywhere(endpoint);
        } else {
            info!(channel = %self.channel, %endpoint, %failure, "stream given up");
            if reason == Reason::EndpointsChanged {
                self.choice.refreshed();
                return;
            }
            if reason == Reason::NoLeader {
                self.choice.unavailable(endpoint);
            } else if matches!(reason, Reason::Withheld | Reason::Behind) {
                self.choice.withheld(endpoint);
            } else {
                self.choice.failed(endpoint);
            }
        }
        self.last_failure = Some((failure.to_string(), reason));
    }

    fn tell(&self, state: PullState) {
        self.state.send_replace(state);
    }
}

impl Calls {
    /// Waits for a call to this attempt.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn next(&mut self, attempt: u64, way: &Way) -> Call {
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
    async fn way_changed(&mut self, way: &Way) {
        left(&mut self.endpoints, way).await;
    }

    async fn endpoints_changed(&mut self) {
        changed(&mut self.endpoints).await;
    }

    /// Whether the endpoints became others since they were looked at last.
    fn see_endpoints(&mut self) -> bool {
        self.endpoints.as_mut().is_some_and(|endpoints| {
            let changed = endpoints.has_changed().unwrap_or_default();
            endpoints.mark_unchanged();
            changed
        })
    }
}

impl SourceView {
    /// Before the first attempt.
    pub(crate) fn none() -> Self {
        Self {
            attempt: 0,
            endpoint: None,
            height: Height::ZERO,
            at: Instant::now(),
            busy: Duration::ZERO,
            handing_off: false,
        }
    }
}

/// Opens a stream at the handler's position (NEW-02, NEW-03).
async fn open(
    source: &dyn BlockSource,
    channel: &ChannelId,
    endpoint: &Endpoint,
    position: &ChainInfo,
) -> Result<BlockStream, Failure> {
    let start = match position.height {
        Height::ZERO => Start::Oldest,
        height => Start::At(height.next_block()),
    };
    let request = StreamRequest::blocks_from(channel.clone(), start);
    Ok(source.open(endpoint, &request).await?)
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

/// Checks that a block is the next one and links to the one before it (semantics §2.1).
fn check_follows(endpoint: &Endpoint, position: &ChainInfo, block: &Block) -> Result<(), Failure> {
    let expected = position.height.next_block();
    if block.number() != expected {
        return Err(Failure::WrongNumber {
            endpoint: endpoint.clone(),
            expected,
            actual: block.number(),
        });
    }
    match position.tip_hash {
        Some(expected) if !block.links_to(&expected) => Err(Failure::WrongPreviousHash {
            endpoint: endpoint.clone(),
            number: block.number(),
            expected,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, testing::within};

    use super::*;
    use crate::watch::Why;

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
