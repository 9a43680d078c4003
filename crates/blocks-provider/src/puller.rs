// SPDX-License-Identifier: Apache-2.0
//! The loop itself: connect, take blocks, fail, choose again.

use std::sync::Arc;

use block_api::{
    Block, BlockSource, BlockStream, ChainInfo, ChannelId, Delivery, Endpoint, Height, SourceError,
    Start, StreamRequest,
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
    calls::{Call, Calls, Way},
    choice::{Choice, Next},
    hand_off::HandOffs,
    state::Shared,
    watch::{Leave, SourceView},
};

/// Keeps one stream open, whatever the endpoints do.
#[derive(Debug)]
pub(crate) struct Puller {
    channel: ChannelId,
    source: Arc<dyn BlockSource>,
    handler: Arc<dyn BlockHandler>,
    config: Config,
    choice: Choice,
    state: watch::Sender<PullState>,
    shared: Arc<Shared>,
    view: watch::Sender<SourceView>,
    calls: Calls,
    last_failure: Option<(String, Reason)>,
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
            config: config.clone(),
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

    /// Takes blocks until the stream fails, or until it is told to stop. What came before the stream
    /// failed is handed over first.
    async fn stream(
        &mut self,
        way: &Way,
        attempt: u64,
        mut stream: BlockStream,
        mut position: ChainInfo,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let endpoint = &way.endpoint;
        let handler = self.handler.clone();
        let mut hand_offs = HandOffs::new(&*handler, endpoint, &self.config);
        let (mut gives, mut since, mut failed) = (false, Instant::now(), None);
        loop {
            if hand_offs.is_empty()
                && let Some(failure) = failed.take()
            {
                return Err(failure);
            }
            tokio::select! {
                biased;
                handled = hand_offs.next(), if !hand_offs.is_empty() => {
                    let number = handled.map_err(|source| Failure::Handler {
                        endpoint: endpoint.clone(),
                        source,
                    })?;
                    debug!(channel = %self.channel, block.number = %number, "block taken over");
                    since = self.handed_over(since, number.height(), !hand_offs.is_empty());
                    if !std::mem::replace(&mut gives, true) {
                        let mut details = self.shared.details();
                        details.failing.remove(endpoint);
                        details.trouble.gives();
                        self.last_failure = None;
                    }
                    self.choice.accepted();
                }
                // A handler that waits for room is not waited for (NEW-09); the block is fetched again.
                () = stop.cancelled() => return Ok(()),
                call = self.calls.next(attempt, way) => return Err(self.answer(endpoint, call)),
                delivery = stream.next(), if failed.is_none() && hand_offs.has_room() => {
                    match received(endpoint, &mut position, delivery) {
                        Ok(block) => {
                            if hand_offs.is_empty() {
                                since = self.hand_off_begins();
                            }
                            hand_offs.push(block);
                        }
                        Err(failure) => failed = Some(failure),
                    }
                }
            }
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

    /// Notes that a block was taken over, and whether there are more; says when that was.
    fn handed_over(&self, since: Instant, height: Height, goes_on: bool) -> Instant {
        let now = Instant::now();
        self.view.send_if_modified(|view| {
            view.handing_off = goes_on;
            view.busy += now.saturating_duration_since(since);
            view.height = height;
            view.at = now;
            self.shared.is_progress_wanted()
        });
        now
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

/// The next block of a stream, which is the position from then on, or why the stream has failed.
fn received(
    endpoint: &Endpoint,
    position: &mut ChainInfo,
    delivery: Option<Result<Delivery, SourceError>>,
) -> Result<Block, Failure> {
    match delivery {
        Some(Ok(Delivery::Block(block))) => {
            check_follows(endpoint, position, &block)?;
            position.height = block.number().height();
            position.tip_hash = Some(block.header_hash());
            Ok(block)
        }
        Some(Ok(Delivery::Status(status))) => Err(Failure::Status {
            endpoint: endpoint.clone(),
            status,
        }),
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::HungUp {
            endpoint: endpoint.clone(),
        }),
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
