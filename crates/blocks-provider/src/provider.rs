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
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    BlockHandler, Config, Failure, HandleError, PullState,
    choice::{Choice, Next},
};

/// Pulls the blocks of one channel.
#[derive(Debug)]
pub struct BlocksProvider {
    channel: ChannelId,
    source: Arc<dyn BlockSource>,
    handler: Arc<dyn BlockHandler>,
    choice: Choice,
    state: watch::Sender<PullState>,
    change_source: Arc<Notify>,
}

/// Watches a running [`BlocksProvider`], and lets it change its source.
#[derive(Debug, Clone)]
pub struct ProviderHandle {
    state: watch::Receiver<PullState>,
    change_source: Arc<Notify>,
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
        Self {
            channel,
            source,
            handler,
            choice: Choice::new(&config),
            state: watch::Sender::new(PullState::Idle),
            change_source: Arc::new(Notify::new()),
        }
    }

    /// A handle to watch the loop by.
    pub fn handle(&self) -> ProviderHandle {
        ProviderHandle {
            state: self.state.subscribe(),
            change_source: self.change_source.clone(),
        }
    }

    /// Pulls until `stop` is cancelled or the handler closes. A block that the handler is taking
    /// over at that moment is taken over to the end, or not at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; use `stop` to have the hand-off finished.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut last_failure = None;
        loop {
            let endpoint = match self.choice.next(&self.source.endpoints()) {
                Next::Try(endpoint) => endpoint,
                Next::Pause(pause) => {
                    warn!(channel = %self.channel, ?pause, failure = last_failure.as_deref(), "no endpoint gives blocks");
                    self.tell(PullState::BackingOff {
                        pause,
                        last_failure: last_failure.clone(),
                    });
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(pause) => continue,
                    }
                }
            };
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                opened = self.open(&endpoint) => match opened {
                    // From here on the hand-off of a block must not be dropped half-way.
                    Ok((stream, position)) => self.stream(&endpoint, stream, position, &stop).await,
                    Err(failure) => Err(failure),
                },
            };
            match ended {
                Ok(())
                | Err(Failure::Handler {
                    source: HandleError::Closed,
                    ..
                }) => break,
                Err(failure) if failure.is_retryable() => {
                    info!(channel = %self.channel, %endpoint, %failure, "stream given up");
                    self.choice.failed(&endpoint);
                    last_failure = Some(failure.to_string());
                }
                Err(failure) => {
                    error!(channel = %self.channel, %endpoint, %failure, "no endpoint can mend this; trying again later");
                    self.choice.failed_everywhere(&endpoint);
                    last_failure = Some(failure.to_string());
                }
            }
        }
        self.tell(PullState::Idle);
    }

    /// Opens a stream at the handler's position (NEW-02, NEW-03).
    async fn open(&self, endpoint: &Endpoint) -> Result<(BlockStream, ChainInfo), Failure> {
        self.tell(PullState::Connecting(endpoint.clone()));
        let position = self.handler.position();
        let start = match position.height {
            Height::ZERO => Start::Oldest,
            height => Start::At(height.next_block()),
        };
        let request = StreamRequest::blocks_from(self.channel.clone(), start);
        let stream = self.source.open(endpoint, &request).await?;
        info!(channel = %self.channel, %endpoint, height = %position.height, "stream opened");
        self.tell(PullState::Streaming(endpoint.clone()));
        Ok((stream, position))
    }

    /// Takes blocks until the stream fails, or until it is told to stop.
    async fn stream(
        &mut self,
        endpoint: &Endpoint,
        mut stream: BlockStream,
        mut position: ChainInfo,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.change_source.notified() => {
                    return Err(Failure::Changed { endpoint: endpoint.clone() });
                }
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
            let handled = tokio::select! {
                biased;
                handled = self.handler.handle(block, endpoint) => handled,
                // A handler that waits for room is not waited for (NEW-09); the block is fetched again.
                () = stop.cancelled() => return Ok(()),
                () = self.change_source.notified() => {
                    return Err(Failure::Changed { endpoint: endpoint.clone() });
                }
            };
            handled.map_err(|source| Failure::Handler {
                endpoint: endpoint.clone(),
                source,
            })?;
            debug!(channel = %self.channel, block.number = %number, "block taken over");
            position.height = number.height();
            position.tip_hash = Some(hash);
            self.choice.accepted();
        }
    }

    fn tell(&self, state: PullState) {
        self.state.send_replace(state);
    }
}

impl ProviderHandle {
    /// What the loop is doing now.
    pub fn state(&self) -> PullState {
        self.state.borrow().clone()
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
mod tests;
