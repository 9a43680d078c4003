// SPDX-License-Identifier: Apache-2.0
//! A channel of a node that is wrong in one way.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a flaw is named where it shows, and every other one is right there"
)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockSource, BlockStream, Candidate, DeliverStatus, Delivery, Endpoint, Fault,
    FetchError, GossipChannel, GossipError, GossipEvent, NodeId, SourceError, StreamRequest,
    VerifiedBlock, testing::TestChain,
};
use futures::{StreamExt as _, future::ready};
use tokio::{sync::mpsc, time::timeout};

use crate::broken::{CutOff, Flaw};

/// After so many blocks a publisher waits for ever that has this flaw.
const PATIENCE: u64 = 1000;

/// In this time a body is there or not.
const ONE_ATTEMPT: Duration = Duration::from_millis(1);

/// A channel with a flaw.
#[derive(Debug)]
pub(crate) struct BrokenChannel {
    pub(crate) inner: Arc<dyn GossipChannel>,
    pub(crate) flaw: Flaw,
    pub(crate) node: NodeId,
    pub(crate) events: mpsc::WeakSender<GossipEvent>,
    pub(crate) published: AtomicU64,
    pub(crate) cut_off: CutOff,
}

/// A source with a flaw. Without an inner one it gives nothing.
#[derive(Debug)]
struct BrokenSource {
    inner: Option<Arc<dyn BlockSource>>,
    flaw: Flaw,
}

#[async_trait]
impl GossipChannel for BrokenChannel {
    async fn publish(&self, block: &VerifiedBlock) -> Result<(), GossipError> {
        let published = self.published.fetch_add(1, Ordering::SeqCst);
        if self.flaw == Flaw::PublisherWaits && published == PATIENCE {
            pending::<()>().await;
        }
        if self.flaw == Flaw::HearsItself
            && let Some(events) = self.events.upgrade()
        {
            let (own, _) = Candidate::new(block.block().clone(), self.node.clone());
            let _ = events.try_send(GossipEvent::Candidate(own));
        }
        match self.inner.publish(block).await {
            Err(GossipError::Closed) if self.flaw == Flaw::NeverCloses => Ok(()),
            published => published,
        }
    }

    async fn fetch(&self, announcement: &Block) -> Result<Block, FetchError> {
        match self.flaw {
            Flaw::GivesAnotherBlock => Ok(TestChain::new("ch").config()),
            Flaw::AsksOnce => {
                let fetched = timeout(ONE_ATTEMPT, self.inner.fetch(announcement)).await;
                fetched.unwrap_or(Err(FetchError::Closed))
            }
            _ => self.inner.fetch(announcement).await,
        }
    }

    fn blame(&self, node: &NodeId, fault: Fault) {
        self.inner.blame(node, fault);
        self.cut_off.lock().unwrap().insert(node.clone());
    }

    fn set_pulling(&self, pulling: bool) {
        self.inner.set_pulling(pulling);
    }

    fn source(&self, node: &NodeId) -> Option<Arc<dyn BlockSource>> {
        let inner = self.inner.source(node);
        match self.flaw {
            Flaw::IsABroker | Flaw::KnowsNobody => None,
            Flaw::BrokerOfFirstCopies
            | Flaw::BrokerThatFilters
            | Flaw::BrokerThatRepeats
            | Flaw::BrokerThatQueuesEverything => None,
            Flaw::KnowsStrangers => Some(self.spoilt(inner)),
            _ => Some(self.spoilt(Some(inner?))),
        }
    }

    async fn leave(&self) {
        self.inner.leave().await;
    }
}

impl BrokenChannel {
    fn spoilt(&self, inner: Option<Arc<dyn BlockSource>>) -> Arc<dyn BlockSource> {
        let flaw = self.flaw;
        Arc::new(BrokenSource { inner, flaw })
    }
}

#[async_trait]
impl BlockSource for BrokenSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoints = self.inner.as_ref().map(|inner| inner.endpoints());
        endpoints.unwrap_or_default()
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let Some(inner) = &self.inner else {
            return Ok(futures::stream::empty().boxed());
        };
        let stream = inner.open(endpoint, request).await?;
        let (flaw, mut count) = (self.flaw, 0);
        let stream = stream.map(move |delivery| match delivery {
            Ok(Delivery::Block(_)) if flaw == Flaw::GivesAnotherBlock => {
                Ok(Delivery::Block(TestChain::new("ch").config()))
            }
            Ok(Delivery::Status(_)) if flaw == Flaw::AlwaysSucceeds => {
                Ok(Delivery::Status(DeliverStatus::Success))
            }
            other => other,
        });
        Ok(stream
            .filter(move |_| {
                count += 1;
                ready(flaw != Flaw::LeavesHoles || count != 2)
            })
            .boxed())
    }
}
