// SPDX-License-Identifier: Apache-2.0
//! What the health of a channel says while things go wrong, and when they are mended.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    AppendError, BlockNumber, BlockStore, ChainInfo, DeliverStatus, HeaderProof, Height,
    VerifiedBlock,
    testing::{AlteredStore, LiveChain, Manner, MemoryStore, Opening, Step, TestChain, within},
};
use blockcast_deliver_service::{
    ChannelParts, Config, DeliverService, Health, StorageFailureKind, StuckReason,
};
use gossip_memory::{Link, MemoryNetwork};
use tokio::time::sleep;

use crate::harness::{Node, ORDERER, chain, network};

/// A store whose disk is full until there is room.
#[derive(Debug)]
struct SmallDisk {
    store: Arc<MemoryStore>,
    has_room: AtomicBool,
}

#[async_trait]
impl AlteredStore for SmallDisk {
    fn inner(&self) -> &dyn BlockStore {
        &*self.store
    }

    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        match (self.has_room.load(Ordering::SeqCst), blocks.first()) {
            (false, Some(first)) => Err(AppendError::Storage {
                number: first.number(),
                source: io::Error::from(io::ErrorKind::StorageFull).into(),
            }),
            _ => self.inner().append(blocks).await,
        }
    }
}

async fn becomes(node: &Node, health: impl Fn(&Health) -> bool) {
    let mut last = None;
    for _ in 0..20_000 {
        let now = node.state().health;
        if health(&now) {
            return;
        }
        last = Some(now);
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the health is {last:?}");
}

fn is_stuck(expected: StuckReason) -> impl Fn(&Health) -> bool {
    move |health| matches!(health, Health::Stuck { reason, .. } if *reason == expected)
}

/// A full disk is told as such, and the channel goes on by itself when there is room.
#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_the_channel_until_there_is_room() {
    let blocks = chain(6, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let live = LiveChain::new(blocks.clone());
    node.orderer.serve(ORDERER, &live, Manner::HONEST);
    let gossip = Arc::new(MemoryNetwork::new(1).node("other"));
    let service = DeliverService::new(Config::default(), gossip).unwrap();
    let store = Arc::new(SmallDisk {
        store: Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await),
        has_room: AtomicBool::new(false),
    });
    let parts = ChannelParts {
        store: store.clone(),
        ..node.parts(&blocks[0])
    };
    service.join_channel(parts).await.unwrap();
    let started = service.start_deliver_for_channel(&node.channel, store.clone());
    started.await.unwrap();
    let full = async {
        while !is_stuck(StuckReason::DiskFull)(&service.state(&node.channel).unwrap().health) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("the full disk", full).await;
    let state = service.state(&node.channel).unwrap();
    let failure = state.storage_failure.unwrap();
    assert_eq!(failure.kind, StorageFailureKind::Full);
    assert_eq!(state.stats.appends, 0);

    store.has_room.store(true, Ordering::SeqCst);
    let reached = service.wait_for_height(&node.channel, Height::new(6));
    assert!(within("the tip", reached).await);
    let state = service.state(&node.channel).unwrap();
    assert_eq!((state.health, state.storage_failure), (Health::AtTip, None));
    assert!(state.stats.appends > 0);
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// What orderers answer has each its reason, and is over with the first stream that lasts.
#[tokio::test(start_paused = true)]
async fn what_orderers_answer_is_told_until_a_stream_lasts() {
    let blocks = chain(4, 100);
    let rows = [
        (DeliverStatus::Forbidden, StuckReason::IdentityRefused),
        (DeliverStatus::BadRequest, StuckReason::ClockSkew),
        (DeliverStatus::NotFound, StuckReason::UnknownChannel),
        (DeliverStatus::Unavailable, StuckReason::NoQuorum),
        (DeliverStatus::InternalError, StuckReason::OrderersFail),
    ];
    for (status, reason) in rows {
        let (_, nodes) = network(1, &blocks[0], Link::default()).await;
        let node = &nodes[0];
        for _ in 0..20 {
            let refusal = Opening::Stream(vec![Step::Status(status)]);
            node.orderer.script(ORDERER, refusal);
        }
        node.pull().await;
        assert_eq!(node.state().health, Health::Connecting);
        becomes(node, is_stuck(reason)).await;
        let live = LiveChain::new(blocks.clone());
        node.orderer.serve(ORDERER, &live, Manner::HONEST);
        becomes(node, |health| *health == Health::AtTip).await;
        for node in nodes {
            node.stop().await;
        }
    }
}

/// One orderer that fails among others that work makes nothing stuck.
#[tokio::test(start_paused = true)]
async fn an_orderer_that_fails_among_others_is_no_reason() {
    let blocks = chain(3, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let endpoints = ["one:7050", "two:7050"].map(|endpoint| endpoint.parse().unwrap());
    node.orderer.set_endpoints(endpoints.into());
    for _ in 0..100 {
        let refusal = Opening::Stream(vec![Step::Status(DeliverStatus::Forbidden)]);
        node.orderer.script("one:7050", refusal);
    }
    let live = LiveChain::new(blocks.clone());
    node.orderer.serve("two:7050", &live, Manner::HONEST);
    node.pull().await;
    for _ in 0..600 {
        let health = node.state().health;
        assert!(health.is_well(), "{health:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.state().health, Health::AtTip);
    for node in nodes {
        node.stop().await;
    }
}

/// A node that does not pull depends on one that does, and says so when there is none.
#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_pull_says_when_nobody_does() {
    let blocks = chain(5, 100);
    let (network, nodes) = network(2, &blocks[0], Link::default()).await;
    let [puller, other] = &nodes[..] else {
        panic!("two nodes")
    };
    becomes(other, is_stuck(StuckReason::NobodyPulls)).await;
    puller.orders(&blocks[1..], Step::Wait(Duration::from_secs(60)));
    for _ in 0..100 {
        puller.orderer.script(ORDERER, Opening::Refused);
    }
    puller.pull().await;
    other.reaches(5).await;
    for node in &nodes {
        becomes(node, |health| *health == Health::AtTip).await;
    }
    // Its orderer goes away.
    becomes(puller, is_stuck(StuckReason::NoOrdererReachable)).await;
    becomes(other, is_stuck(StuckReason::NobodyPulls)).await;
    network.cut(&puller.id(), &other.id());
    becomes(other, is_stuck(StuckReason::NoPeer)).await;
    for node in nodes {
        node.stop().await;
    }
}

/// Blocks that a quorum signed are missing once their headers are shown, and withheld when they do
/// not come.
#[tokio::test(start_paused = true)]
async fn proven_blocks_that_do_not_come_are_counted_and_then_withheld() {
    let blocks = chain(9, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.verifier.set_header_proof(HeaderProof::Quorum);
    let endpoints = ["one:7050", "two:7050"].map(|endpoint| endpoint.parse().unwrap());
    node.orderer.set_endpoints(endpoints.into());
    let live = LiveChain::new(blocks[..4].to_vec());
    for endpoint in ["one:7050", "two:7050"] {
        let manner = Manner::withholding_blocks(3);
        node.orderer.serve(endpoint, &live, manner);
    }
    node.pull().await;
    node.reaches(3).await;
    let missing = |health: &Health| matches!(health, Health::CatchingUp { blocks: 1, .. });
    becomes(node, missing).await;
    let number = BlockNumber::new(3);
    becomes(node, is_stuck(StuckReason::Withheld { number })).await;
    let since = node.state().missing.unwrap().since;
    assert!(since.elapsed() >= Duration::from_secs(30));
    for endpoint in ["one:7050", "two:7050"] {
        node.orderer.serve(endpoint, &live, Manner::HONEST);
    }
    becomes(node, |health| *health == Health::AtTip).await;
    assert_eq!(node.state().missing, None);
    for node in nodes {
        node.stop().await;
    }
}
