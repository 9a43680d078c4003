// SPDX-License-Identifier: Apache-2.0
//! Tasks that die, what health says of it, and channels that hold nobody else up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    AppendError, Block, BlockNumber, BlockReader, BlockStore, BlockVerifier, ChainInfo,
    HeaderProof, Height, ReadError, ReadLimits, Rejection, Standing, Verdict, VerifiedBlock,
    testing::{
        AlteredStore, LiveChain, Manner, MemoryStore, Step, TestChain, TestVerifier, within,
    },
};
use blockcast_deliver_service::{
    ChannelParts, Config, DeliverService, Health, JoinError, StorageFailureKind, StuckReason, Task,
};
use bytes::Bytes;
use gossip_memory::{Link, MemoryNetwork};
use tokio::time::sleep;

use crate::harness::{Node, ORDERER, chain, network};

/// A store that panics so often in an append, or never returns from one.
#[derive(Debug)]
struct Faulty {
    store: Arc<MemoryStore>,
    panics: AtomicUsize,
    /// What it has stored by the time it panics.
    stores_first: bool,
    hangs: bool,
    /// Whether no block can be read.
    unreadable: AtomicBool,
}

/// A verifier that panics so often, at the block of one number.
#[derive(Debug)]
struct Panicking {
    verifier: TestVerifier,
    number: BlockNumber,
    panics: AtomicUsize,
    /// So often when the configuration is taken into force.
    applying: AtomicUsize,
}

fn take_one(count: &AtomicUsize) -> bool {
    let taken = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    taken.is_ok()
}

#[async_trait]
impl AlteredStore for Faulty {
    fn inner(&self) -> &dyn BlockStore {
        &*self.store
    }

    async fn instead_of_read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(ReadError::Storage {
                number: from,
                source: "the test said so".into(),
            });
        }
        self.inner().read(from, limits).await
    }

    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if !take_one(&self.panics) {
            return self.inner().append(blocks).await;
        }
        if self.stores_first {
            self.inner().append(blocks).await?;
        }
        panic!("the test said so")
    }
}

impl BlockVerifier for Panicking {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        assert!(
            block.number() != self.number || !take_one(&self.panics),
            "the test said so"
        );
        self.verifier.verify(block, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        let genesis = stored.number() == BlockNumber::GENESIS;
        assert!(genesis || !take_one(&self.applying), "the test said so");
        self.verifier.apply_config(stored)
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

async fn faulty(genesis: &Block, panics: usize) -> Faulty {
    Faulty {
        store: Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await),
        panics: AtomicUsize::new(panics),
        stores_first: false,
        hangs: false,
        unreadable: AtomicBool::new(false),
    }
}

fn panicking(number: u64, panics: usize, applying: usize) -> Panicking {
    Panicking {
        verifier: TestVerifier::strict(),
        number: BlockNumber::new(number),
        panics: AtomicUsize::new(panics),
        applying: AtomicUsize::new(applying),
    }
}

/// A service of its own for a channel of a node, with other parts.
async fn join(network: &MemoryNetwork, parts: ChannelParts) -> DeliverService {
    let gossip = Arc::new(network.node("other"));
    let service = DeliverService::new(Config::default(), gossip).unwrap();
    let (channel, store) = (parts.channel.clone(), parts.store.clone());
    service.join_channel(parts).await.unwrap();
    let started = service.start_deliver_for_channel(&channel, store);
    started.await.unwrap();
    service
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, so).await;
}

fn serve(node: &Node, blocks: &[Block]) {
    let chain = LiveChain::new(blocks.to_vec());
    node.orderer.serve(ORDERER, &chain, Manner::HONEST);
}

/// The writer's batch is lost with it, stored or not, and comes again.
#[tokio::test(start_paused = true)]
async fn a_channel_whose_writer_dies_goes_on() {
    let blocks = chain(23, 100);
    for stores_first in [false, true] {
        let (network, nodes) = network(1, &blocks[0], Link::default()).await;
        let node = &nodes[0];
        serve(node, &blocks);
        let store = Arc::new(Faulty {
            stores_first,
            ..faulty(&blocks[0], 2).await
        });
        let parts = ChannelParts {
            store: store.clone(),
            ..node.parts(&blocks[0])
        };
        let service = join(&network, parts).await;
        let reached = service.wait_for_height(&node.channel, Height::new(23));
        assert!(within("the tip", reached).await);
        let state = service.state(&node.channel).unwrap();
        assert_eq!(state.deaths.get(&Task::Writer), Some(&2), "{state:?}");
        assert_eq!((state.health, state.buffered_bytes), (Health::AtTip, 0));
        let read = store.read(0.into(), ReadLimits::new(50, usize::MAX)).await;
        assert_eq!(read.unwrap().len(), 23);
        within("stopping", service.stop()).await;
        for node in nodes {
            node.stop().await;
        }
    }
}

/// What dies in the pull loop, or when a configuration is taken into force, holds up neither: the
/// counts go on, and other nodes are fed.
#[tokio::test(start_paused = true)]
async fn a_channel_whose_verifier_panics_goes_on() {
    let blocks = chain(23, 100);
    for (panics, applying, task) in [(2, 0, Task::Pull), (0, 2, Task::Writer)] {
        let (network, nodes) = network(1, &blocks[0], Link::default()).await;
        let node = &nodes[0];
        serve(node, &blocks);
        let store = MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await;
        let parts = ChannelParts {
            store: Arc::new(store),
            verifier: Arc::new(panicking(7, panics, applying)),
            ..node.parts(&blocks[0])
        };
        let service = join(&network, parts).await;
        let reached = service.wait_for_height(&node.channel, Height::new(23));
        assert!(within("the tip", reached).await);
        let state = service.state(&node.channel).unwrap();
        assert_eq!(state.deaths.get(&task), Some(&2), "{state:?}");
        let report = state.pull_report.unwrap();
        assert_eq!(report.stats, state.pull_stats);
        assert!(
            report.stats.attempts >= 3 || task == Task::Writer,
            "{report:?}"
        );
        within("stopping", service.stop()).await;
        for node in nodes {
            node.stop().await;
        }
    }
}

/// A writer dies over a configuration, and the block that holds it cannot be read for a while.
#[tokio::test(start_paused = true)]
async fn a_writer_that_cannot_read_its_configuration_tries_again() {
    let blocks = chain(23, 100);
    let (network, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    serve(node, &blocks);
    let store = Arc::new(faulty(&blocks[0], 0).await);
    let parts = ChannelParts {
        store: store.clone(),
        verifier: Arc::new(panicking(7, 0, 1)),
        ..node.parts(&blocks[0])
    };
    let gossip = Arc::new(network.node("other"));
    let service = DeliverService::new(Config::default(), gossip).unwrap();
    service.join_channel(parts).await.unwrap();
    store.unreadable.store(true, Ordering::SeqCst);
    let started = service.start_deliver_for_channel(&node.channel, node.store.clone());
    started.await.unwrap();
    let failure = || service.state(&node.channel).unwrap().storage_failure;
    until("the failure", || failure().is_some()).await;
    assert_eq!(failure().unwrap().kind, StorageFailureKind::Failed);
    sleep(Config::default().store_retry * 3).await;
    assert!(failure().is_some(), "it is told until it is over");
    store.unreadable.store(false, Ordering::SeqCst);
    let reached = service.wait_for_height(&node.channel, Height::new(23));
    assert!(within("the tip", reached).await);
    assert_eq!(failure(), None);
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// A block from a peer on which the verifier panics costs that block, and not the topic.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_makes_the_verifier_panic_is_one_less() {
    let blocks = chain(5, 100);
    let (network, nodes) = network(1, &blocks[0], Link::default()).await;
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
    let parts = ChannelParts {
        store: store.clone(),
        verifier: Arc::new(panicking(2, 1, 0)),
        ..nodes[0].parts(&blocks[0])
    };
    let gossip = Arc::new(network.node("fragile"));
    let service = DeliverService::new(Config::default(), gossip).unwrap();
    service.join_channel(parts).await.unwrap();
    network.link_all(Link::default());
    nodes[0].meets(1).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    // The missing one comes as a range.
    let reached = service.wait_for_height(&nodes[0].channel, Height::new(5));
    assert!(within("the tip", reached).await);
    let state = service.state(&nodes[0].channel).unwrap();
    assert_eq!(state.deaths.get(&Task::Topic), Some(&1), "{state:?}");
    assert!(state.health.is_well(), "{:?}", state.health);
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// A writer that always dies is told by the health of its channel, and other channels do not notice.
/// Stopping carries no panic on.
///
/// Covers: STA-09
#[tokio::test(start_paused = true)]
async fn a_channel_that_dies_again_and_again_says_so_and_holds_up_no_other() {
    let blocks = chain(5, 100);
    let (network, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    serve(node, &blocks);
    let parts = ChannelParts {
        store: Arc::new(faulty(&blocks[0], usize::MAX).await),
        ..node.parts(&blocks[0])
    };
    let service = join(&network, parts).await;
    let task = Task::Writer;
    until("the health", || {
        let health = service.state(&node.channel).unwrap().health;
        matches!(health, Health::Stuck { reason, .. } if reason == StuckReason::TaskDies { task })
    })
    .await;
    let (other, other_blocks) = TestChain::of_blocks("other", 9, 10);
    let id = other.channel();
    let orderer = Arc::new(block_api::testing::ScriptedSource::new(&[ORDERER]));
    orderer.serve(
        ORDERER,
        &LiveChain::new(other_blocks.clone()),
        Manner::HONEST,
    );
    let parts = ChannelParts {
        channel: other.channel(),
        genesis: other_blocks[0].header_hash(),
        store: Arc::new(MemoryStore::default()),
        verifier: Arc::new(TestVerifier::default()),
        source: orderer,
        ..node.parts(&blocks[0])
    };
    let store = parts.store.clone();
    service.join_channel(parts).await.unwrap();
    let started = service.start_deliver_for_channel(&id, store);
    started.await.unwrap();
    let reached = service.wait_for_height(&id, Height::new(9));
    assert!(within("the other channel", reached).await);
    let healths: Vec<_> = service
        .states()
        .into_iter()
        .map(|(channel, state)| (channel, state.health.is_well()))
        .collect();
    assert_eq!(
        healths,
        [(node.channel.clone(), false), (other.channel(), true)]
    );
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// Where a store never returns from an append its own channel waits for it, and no other one does.
#[tokio::test(start_paused = true)]
async fn stopping_a_channel_waits_for_no_other_one() {
    let blocks = chain(5, 100);
    let (network, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    serve(node, &blocks);
    let parts = ChannelParts {
        store: Arc::new(Faulty {
            hangs: true,
            ..faulty(&blocks[0], 0).await
        }),
        ..node.parts(&blocks[0])
    };
    let service = join(&network, parts).await;
    let (other, other_blocks) = TestChain::of_blocks("other", 2, 10);
    let id = other.channel();
    let parts = || async {
        let store = MemoryStore::with(vec![TestChain::verified(&other_blocks[0])]).await;
        ChannelParts {
            channel: other.channel(),
            genesis: other_blocks[0].header_hash(),
            store: Arc::new(store),
            ..node.parts(&blocks[0])
        }
    };
    service.join_channel(parts().await).await.unwrap();
    until("the append", || {
        service.state(&node.channel).unwrap().buffered_bytes > 0
    })
    .await;

    sleep(Duration::from_secs(30)).await;
    until("the health", || {
        let health = service.state(&node.channel).unwrap().health;
        matches!(health, Health::Stuck { reason, .. } if reason == StuckReason::StoreHangs)
    })
    .await;
    let hanging = service.leave_channel(&node.channel);
    tokio::pin!(hanging);
    assert!(futures::poll!(&mut hanging).is_pending());
    let left = service.leave_channel(&id);
    within("leaving the other channel", left).await.unwrap();
    service.join_channel(parts().await).await.unwrap();
    let state = service.state(&node.channel).unwrap();
    assert_eq!(
        state.chain.height,
        Height::new(1),
        "it tells its state still"
    );

    // The whole service waits for the one that hangs, after all others have ended.
    let stopping = service.stop();
    tokio::pin!(stopping);
    let ended = service.wait_for_height(&id, Height::new(100));
    tokio::select! {
        () = &mut stopping => panic!("an append is under way"),
        reached = within("the end of the other channel", ended) => assert!(!reached),
    }
    let late = service.join_channel(parts().await).await;
    assert!(matches!(late, Err(JoinError::Stopping { .. })), "{late:?}");
}
