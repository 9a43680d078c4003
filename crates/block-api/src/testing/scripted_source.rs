// SPDX-License-Identifier: Apache-2.0
//! A source that does what a test says.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    Block, BlockSource, BlockStream, DeliverStatus, Delivery, Endpoint, SourceError, StreamRequest,
    testing::{LiveChain, Manner},
};

/// A [`BlockSource`] whose streams are written down beforehand, endpoint by endpoint. An endpoint
/// without a script (or whose scripts are used up) answers from the chain that it
/// [serves](Self::serve), or opens a stream that never gives anything.
#[derive(Debug)]
pub struct ScriptedSource {
    state: Mutex<State>,
    opened: watch::Sender<usize>,
    changes: watch::Sender<u64>,
    /// How many streams are open.
    open: Arc<watch::Sender<usize>>,
}

/// A stream that is open, or being opened, until this is dropped.
#[derive(Debug)]
struct Open(Arc<watch::Sender<usize>>);

#[derive(Debug)]
struct State {
    endpoints: Vec<Endpoint>,
    scripts: BTreeMap<Endpoint, VecDeque<Opening>>,
    serving: BTreeMap<Endpoint, (LiveChain, Manner)>,
    requests: Vec<(Endpoint, StreamRequest)>,
}

/// What becomes of one attempt to open a stream.
#[derive(Debug)]
pub enum Opening {
    /// It fails with an error that another attempt may not meet.
    Refused,
    /// The signer fails, which no other attempt will mend.
    NotSigned,
    /// It never comes to an end.
    Hangs,
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
    /// Waits so long.
    Wait(Duration),
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
                serving: BTreeMap::new(),
                requests: Vec::new(),
            }),
            opened: watch::Sender::new(0),
            changes: watch::Sender::new(0),
            open: Arc::new(watch::Sender::new(0)),
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

    /// Has an endpoint answer from a chain in this manner, from the next attempt on that has no
    /// script.
    ///
    /// # Panics
    ///
    /// When the text is no endpoint.
    pub fn serve(&self, endpoint: &str, chain: &LiveChain, manner: Manner) {
        let endpoint = endpoint.parse().expect("a test writes HOST:PORT");
        let serving = (chain.clone(), manner);
        self.state().serving.insert(endpoint, serving);
    }

    /// Replaces the endpoints, and tells so.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        self.state().endpoints = endpoints;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// How many streams are open, or being opened.
    pub fn open_streams(&self) -> usize {
        *self.open.borrow()
    }

    /// The same, and tells of every change.
    pub fn watch_open_streams(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
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

impl Open {
    fn new(open: &Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[async_trait]
impl BlockSource for ScriptedSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.state().endpoints.clone()
    }

    fn endpoint_changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.changes.subscribe())
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let open = Open::new(&self.open);
        let (opening, serving) = {
            let mut state = self.state();
            state.requests.push((endpoint.clone(), request.clone()));
            let scripts = state.scripts.get_mut(endpoint);
            let opening = scripts.and_then(VecDeque::pop_front);
            (opening, state.serving.get(endpoint).cloned())
        };
        self.opened.send_modify(|opened| *opened += 1);
        let endpoint = endpoint.clone();
        let stream = match opening {
            Some(Opening::Refused) => {
                return Err(SourceError::Connect {
                    endpoint,
                    source: "refused".into(),
                });
            }
            Some(Opening::NotSigned) => {
                return Err(SourceError::Sign {
                    endpoint,
                    source: crate::SignError::new("no key"),
                });
            }
            Some(Opening::Hangs) => std::future::pending().await,
            Some(Opening::Stream(steps)) => stream::iter(steps)
                .filter_map(move |step| perform(step, endpoint.clone()))
                .boxed(),
            None => match serving {
                Some((chain, manner)) => chain.answer(request, manner),
                None => stream::pending().boxed(),
            },
        };
        // The stream is open until it is dropped.
        Ok(stream
            .inspect(move |_| {
                let _open = &open;
            })
            .boxed())
    }
}

async fn perform(step: Step, endpoint: Endpoint) -> Option<Result<Delivery, SourceError>> {
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
        Step::Wait(time) => {
            sleep(time).await;
            None
        }
        Step::Hang => std::future::pending().await,
    }
}
