// SPDX-License-Identifier: Apache-2.0
//! A source that does what a test says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::sync::{Notify, watch};

use crate::{
    Block, BlockSource, BlockStream, DeliverStatus, Delivery, Endpoint, SourceError, StreamRequest,
};

/// A [`BlockSource`] whose streams are written down beforehand, endpoint by endpoint. An endpoint
/// without a script (or whose scripts are used up) opens a stream that never gives anything.
#[derive(Debug)]
pub struct ScriptedSource {
    state: Mutex<State>,
    opened: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    endpoints: Vec<Endpoint>,
    scripts: BTreeMap<Endpoint, VecDeque<Opening>>,
    requests: Vec<(Endpoint, StreamRequest)>,
}

/// What becomes of one attempt to open a stream.
#[derive(Debug)]
pub enum Opening {
    /// It fails with an error that another attempt may not meet.
    Refused,
    /// The signer fails, which no other attempt will mend.
    NotSigned,
    /// The stream does these steps, then ends without a status.
    Stream(Vec<Step>),
}

/// One step of a scripted stream.
#[derive(Debug, Clone)]
pub enum Step {
    /// Gives a block.
    Block(Block),
    /// Gives a status.
    Status(DeliverStatus),
    /// Breaks.
    Break,
    /// Waits until the test notifies.
    Until(Arc<Notify>),
    /// Gives nothing more, for ever.
    Hang,
}

impl ScriptedSource {
    /// A source with these endpoints.
    ///
    /// # Panics
    ///
    /// When a text is no endpoint.
    pub fn new(endpoints: &[&str]) -> Self {
        let endpoints = endpoints
            .iter()
            .map(|text| text.parse().expect("a test writes HOST:PORT"))
            .collect();
        Self {
            state: Mutex::new(State {
                endpoints,
                scripts: BTreeMap::new(),
                requests: Vec::new(),
            }),
            opened: watch::Sender::new(0),
        }
    }

    /// Says what becomes of the next attempt at this endpoint that nothing was said of.
    ///
    /// # Panics
    ///
    /// When the text is no endpoint.
    pub fn script(&self, endpoint: &str, opening: Opening) {
        let endpoint = endpoint.parse().expect("a test writes HOST:PORT");
        self.state()
            .scripts
            .entry(endpoint)
            .or_default()
            .push_back(opening);
    }

    /// Replaces the endpoints.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.state().endpoints = endpoints;
    }

    /// Every attempt so far.
    pub fn requests(&self) -> Vec<(Endpoint, StreamRequest)> {
        self.state().requests.clone()
    }

    /// Waits until there were so many attempts.
    pub async fn wait_for_requests(&self, count: usize) {
        let mut opened = self.opened.subscribe();
        opened
            .wait_for(|opened| *opened >= count)
            .await
            .expect("invariant: the sender is in self");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

#[async_trait]
impl BlockSource for ScriptedSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.state().endpoints.clone()
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let opening = {
            let mut state = self.state();
            state.requests.push((endpoint.clone(), request.clone()));
            state
                .scripts
                .get_mut(endpoint)
                .and_then(VecDeque::pop_front)
        };
        self.opened.send_modify(|opened| *opened += 1);
        let endpoint = endpoint.clone();
        match opening {
            Some(Opening::Refused) => Err(SourceError::Connect {
                endpoint,
                source: "refused".into(),
            }),
            Some(Opening::NotSigned) => Err(SourceError::Sign {
                endpoint,
                source: crate::SignError::new("no key"),
            }),
            Some(Opening::Stream(steps)) => Ok(stream::iter(steps)
                .filter_map(move |step| {
                    let endpoint = endpoint.clone();
                    async move {
                        match step {
                            Step::Block(block) => Some(Ok(Delivery::Block(block))),
                            Step::Status(status) => Some(Ok(Delivery::Status(status))),
                            Step::Break => Some(Err(SourceError::Broken {
                                endpoint,
                                source: "broken".into(),
                            })),
                            Step::Until(notify) => {
                                notify.notified().await;
                                None
                            }
                            Step::Hang => std::future::pending().await,
                        }
                    }
                })
                .boxed()),
            None => Ok(stream::pending().boxed()),
        }
    }
}
