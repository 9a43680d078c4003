// SPDX-License-Identifier: Apache-2.0
//! The orderers as a node asks them: what it asks for is noted, and held against what it has.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    BlockNumber, BlockSource, BlockStream, Content, Delivery, Endpoint, SourceError, Start, Stop,
    StreamRequest,
};
use orderer_client::OrdererClient;
use tokio::sync::watch;
use tokio_stream::Stream;

use crate::{
    node::Node,
    run::Broken,
    scene::{BLOCK_EVERY, ORDERERS, Scene, node_name, orderer_name},
    schedule::Schedule,
};

/// So long after a stream was dropped its orderer may go on, where the link is as it should be.
const LINGER: Duration = Duration::from_secs(1);
/// So long it may where the link is cut: the longest fault, and what is late.
const LINGER_UNHEARD: Duration = Duration::from_secs(35);

/// What all nodes asked of the orderers of one channel. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<Asking>>>);

/// A client whose requests are noted.
#[derive(Debug)]
pub(crate) struct SimSource {
    pub(crate) client: Arc<OrdererClient>,
    pub(crate) node: Arc<Node>,
    pub(crate) node_index: usize,
    pub(crate) channel: usize,
}

/// One request for whole blocks.
#[derive(Debug, Clone, Copy)]
struct Asking {
    node: usize,
    orderer: usize,
    first: u64,
    /// The last block, where there is one.
    last: Option<u64>,
    open: bool,
    /// When it was dropped, unless by the death of its node.
    dropped: Option<Duration>,
    /// Whether no orderer got it.
    failed: bool,
}

/// A request whose end is noted when this is dropped.
#[derive(Debug)]
struct Open {
    asked: Asked,
    index: usize,
}

/// A stream that was asked for.
struct Noted {
    stream: BlockStream,
    /// The same once more, where the node is broken so.
    _unasked: Option<BlockStream>,
    _open: Open,
}

impl Asked {
    /// How many requests may have let a block leave an orderer.
    pub(crate) fn over(&self, number: BlockNumber, schedule: &Schedule) -> u64 {
        let asked = self.lock();
        let over = asked
            .iter()
            .filter(|asking| asking.is_over(number.get(), schedule));
        over.count() as u64
    }

    /// The orderer that most endless streams are open at.
    pub(crate) fn most_used(&self) -> Option<usize> {
        let mut uses = [0; ORDERERS];
        for asking in self.lock().iter() {
            if asking.open && asking.last.is_none() {
                uses[asking.orderer] += 1;
            }
        }
        let used = (0..ORDERERS).filter(|orderer| uses[*orderer] > 0);
        used.max_by_key(|orderer| uses[*orderer])
    }

    fn begin(&self, node: usize, orderer: usize, request: &StreamRequest) -> Open {
        let mut asked = self.lock();
        asked.push(Asking {
            node,
            orderer,
            first: first_of(request),
            last: match request.stop {
                Stop::At(last) => Some(last.get()),
                Stop::Newest | Stop::Never => None,
            },
            open: true,
            dropped: None,
            failed: false,
        });
        let index = asked.len() - 1;
        drop(asked);
        Open {
            asked: self.clone(),
            index,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Asking>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    fn is_over(&self, number: u64, schedule: &Schedule) -> bool {
        let ordered = |at: Duration| 1 + (at.as_millis() / BLOCK_EVERY.as_millis()) as u64;
        let linger = match schedule.disturbs(self.node, self.orderer) {
            true => LINGER_UNHEARD,
            false => LINGER,
        };
        !self.failed
            && self.first <= number
            && self.last.is_none_or(|last| number <= last)
            && self.dropped.is_none_or(|at| number < ordered(at + linger))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut asked = self.asked.lock();
        asked[self.index].open = false;
        asked[self.index].dropped = turmoil::sim_elapsed();
    }
}

#[async_trait]
impl BlockSource for SimSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.client.endpoints()
    }

    fn endpoint_changes(&self) -> Option<watch::Receiver<u64>> {
        self.client.endpoint_changes()
    }

    fn endpoint_version(&self, endpoint: &Endpoint) -> Option<u64> {
        self.client.endpoint_version(endpoint)
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        if request.content == Content::Headers {
            return self.client.open(endpoint, request).await;
        }
        let mut request = request.clone();
        if self.node.broken == Broken::AsksAgain {
            request.start = Start::Oldest;
        }
        let height = self.node.stores[self.channel].height();
        if request.stop == Stop::Never && first_of(&request) != height {
            let id = &Scene::get().channels[self.channel].id;
            let start = request.start;
            let what = format!("{id}: a stream begins at {start:?} upon height {height}");
            self.node.trace.violated(&node_name(self.node_index), what);
        }
        let orderer = (0..ORDERERS).find(|index| orderer_name(*index) == endpoint.host());
        let orderer = orderer.unwrap();
        let open = self.node.asked[self.channel].begin(self.node_index, orderer, &request);
        let unasked = match self.node.broken == Broken::AsksTwice {
            true => Some(self.client.open(endpoint, &request).await?),
            false => None,
        };
        match self.client.open(endpoint, &request).await {
            Ok(stream) => Ok(Box::pin(Noted {
                stream,
                _unasked: unasked,
                _open: open,
            })),
            Err(error) => {
                open.asked.lock()[open.index].failed = true;
                Err(error)
            }
        }
    }
}

impl Stream for Noted {
    type Item = Result<Delivery, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

fn first_of(request: &StreamRequest) -> u64 {
    match request.start {
        Start::At(first) => first.get(),
        Start::Oldest | Start::Newest => 0,
    }
}
