// SPDX-License-Identifier: Apache-2.0
//! Receiving, judging, storing and publishing at the same time.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    AppendError, Block, BlockNumber, BlockReader, BlockStore, BlockVerifier, ChainInfo, Height,
    Rejection, Standing, Start, Verdict, VerifiedBlock,
    testing::{AlteredStore, MemoryStore, Opening, Step, TestChain, TestVerifier, within},
};
use blockcast_deliver_service::{ChannelParts, Config, DeliverService};
use gossip_memory::{Link, MemoryGossip, MemoryNetwork};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    harness::{Node, ORDERER, chain, fill, has, network},
    members::plain,
};

/// A store whose appends begin and do not end until it is let go.
#[derive(Debug)]
struct Held {
    store: Arc<MemoryStore>,
    begun: watch::Sender<usize>,
    free: watch::Sender<bool>,
}

impl Held {
    async fn behind(genesis: &Block) -> Arc<Self> {
        let store = MemoryStore::with(vec![TestChain::verified(genesis)]).await;
        Arc::new(Self {
            store: Arc::new(store),
            begun: watch::Sender::new(0),
            free: watch::Sender::new(false),
        })
    }

    async fn begins(&self, appends: usize) {
        let mut begun = self.begun.subscribe();
        within("an append", begun.wait_for(|begun| *begun >= appends))
            .await
            .unwrap();
    }

    /// The sizes of what was appended since the genesis block.
    fn batches(&self) -> Vec<usize> {
        self.store.batches().split_off(1)
    }
}

#[async_trait]
impl AlteredStore for Held {
    fn inner(&self) -> &dyn BlockStore {
        &*self.store
    }

    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        self.begun.send_modify(|begun| *begun += 1);
        let mut free = self.free.subscribe();
        // Its sender lives as long as the store.
        drop(free.wait_for(|free| *free).await);
        self.inner().append(blocks).await
    }
}

/// Notes what is judged, in order, and tells when the first one is.
#[derive(Debug)]
struct Noted {
    verifier: TestVerifier,
    channel: &'static str,
    seen: Arc<Mutex<Vec<&'static str>>>,
    first: Arc<Notify>,
}

impl BlockVerifier for Noted {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        self.seen.lock().unwrap().push(self.channel);
        self.first.notify_one();
        self.verifier.verify(block, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        self.verifier.apply_config(stored)
    }
}

/// A service of its own with a store that is held, in front of the orderer of a node.
async fn in_front_of(
    node: &Node,
    gossip: MemoryGossip,
    genesis: &Block,
    config: Config,
) -> (DeliverService, Arc<Held>) {
    let store = Held::behind(genesis).await;
    let service = DeliverService::new(config, Arc::new(gossip)).unwrap();
    let parts = ChannelParts {
        store: store.clone(),
        verifier: Arc::new(TestVerifier::strict()),
        ..node.parts(genesis)
    };
    service.join_channel(parts).await.unwrap();
    (service, store)
}

/// What follows a block that is refused is judged already, and goes with it.
///
/// Covers: HND-01, VER-19
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_refused_block_is_taken() {
    let blocks = plain(9);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let mut bad = blocks.clone();
    bad[3] = TestChain::forged(&blocks[3]);
    node.orders(&bad[1..], Step::Hang);
    let gate = Arc::new(Notify::new());
    let rest = blocks[3..].iter().cloned().map(Step::Block);
    let steps = [Step::Until(gate.clone())].into_iter().chain(rest);
    let opening = Opening::Stream(steps.chain([Step::Hang]).collect());
    node.orderer.script(ORDERER, opening);
    node.pull().await;
    within("the next stream", node.orderer.wait_for_requests(2)).await;
    let start = node.orderer.requests()[1].1.start;
    assert_eq!(
        start,
        Start::At(BlockNumber::new(3)),
        "what was before it is there"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (node.store.info().height.get(), node.state().buffered_bytes),
        (3, 0)
    );
    assert_eq!(node.state().stats.rejected, 1);
    gate.notify_one();
    node.reaches(9).await;
    has(node, &blocks).await;
    assert_eq!(node.state().stats.rejected, 1);
    for node in nodes {
        node.stop().await;
    }
}

/// Every block is judged once, those behind config blocks by these.
///
/// Covers: PRC-05
#[tokio::test(start_paused = true)]
async fn what_follows_a_config_block_waits_for_it_and_is_judged_once() {
    let blocks = chain(23, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let config = Config {
        // No batch ends for its sake.
        group_commit_delay: Duration::from_secs(3600),
        ..Config::default()
    };
    let gossip = MemoryNetwork::new(3).node("other");
    let (service, store) = in_front_of(node, gossip, &blocks[0], config).await;
    store.free.send_replace(true);
    node.orders(&blocks[1..], Step::Hang);
    let began = Instant::now();
    service
        .start_deliver_for_channel(&node.channel, store.clone())
        .await
        .unwrap();
    let reached = service.wait_for_height(&node.channel, Height::new(23));
    assert!(within("height 23", reached).await);
    assert_eq!(
        store.batches(),
        [5, 5, 5, 5, 2],
        "a config block ends a batch"
    );
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "and nothing waited for anything else"
    );
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_gathers_while_a_batch_is_stored_becomes_one() {
    let blocks = plain(42);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let gossip = MemoryNetwork::new(3).node("other");
    let (service, store) = in_front_of(node, gossip, &blocks[0], Config::default()).await;
    let more = Arc::new(Notify::new());
    let steps = [Step::Block(blocks[1].clone()), Step::Until(more.clone())];
    let rest = blocks[2..].iter().cloned().map(Step::Block);
    let steps = steps.into_iter().chain(rest).chain([Step::Hang]).collect();
    node.orderer.script(ORDERER, Opening::Stream(steps));
    let began = Instant::now();
    service
        .start_deliver_for_channel(&node.channel, store.clone())
        .await
        .unwrap();
    store.begins(1).await;
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "nothing follows it, so it does not wait"
    );
    more.notify_one();
    let bytes = |blocks: &[Block]| blocks.iter().map(|block| block.raw().len()).sum::<usize>();
    let all = async {
        let state = || service.state(&node.channel).unwrap();
        while state().buffered_bytes < bytes(&blocks[1..]) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within("the others, which are taken meanwhile", all).await;
    store.free.send_replace(true);
    let reached = service.wait_for_height(&node.channel, Height::new(42));
    assert!(within("height 42", reached).await);
    assert_eq!(store.batches(), [1, 40]);
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// What was begun behind a block that is refused does not come: the writer waits for it no more.
#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_that_a_stream_left_behind() {
    let mut blocks = plain(9);
    blocks[3] = TestChain::forged(&blocks[3]);
    let hour = Duration::from_secs(3600);
    let mut config = Config {
        group_commit_delay: hour,
        ..Config::default()
    };
    // No further stream tells that this one has ended.
    config.provider.first_back_off = hour;
    config.provider.longest_back_off = hour;
    let net = MemoryNetwork::new(4);
    let node = Node::start(&net, "node", &blocks[0], config).await;
    node.orders(&blocks[1..], Step::Hang);
    let began = Instant::now();
    node.pull().await;
    node.reaches(3).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    node.stop().await;
}

/// A channel that catches up has so many blocks judged at a time, and no more: another one's comes
/// between them.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_one_channel_does_not_hold_up_another() {
    let at_once = 2 * std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let blocks = plain(20 * at_once);
    let (_, others) = TestChain::of_blocks("other", 2, 50);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let (node, seen, first) = (&nodes[0], Arc::<Mutex<Vec<_>>>::default(), Arc::default());
    let gossip = MemoryNetwork::new(3).node("other");
    let mut config = Config::default();
    // All of it can wait to be judged, however many cores there are: a shorter line would bound how
    // many are judged at a time, too.
    config.provider.ahead_blocks = NonZeroUsize::new(blocks.len()).unwrap();
    let service = DeliverService::new(config, Arc::new(gossip)).unwrap();
    let mut stores = Vec::new();
    for (name, genesis) in [("ch", &blocks[0]), ("other", &others[0])] {
        let store = Arc::new(MemoryStore::default());
        fill(&store, std::slice::from_ref(genesis)).await;
        let verifier = Noted {
            verifier: TestVerifier::strict(),
            channel: name,
            seen: seen.clone(),
            first: Arc::clone(&first),
        };
        let parts = ChannelParts {
            channel: name.parse().unwrap(),
            genesis: genesis.header_hash(),
            store: store.clone(),
            verifier: Arc::new(verifier),
            ..node.parts(genesis)
        };
        service.join_channel(parts).await.unwrap();
        stores.push(store);
    }
    // The genesis blocks were judged on joining.
    seen.lock().unwrap().clear();
    within("what was told of that", first.notified()).await;
    let lone = [
        Step::Until(first),
        Step::Block(others[1].clone()),
        Step::Hang,
    ];
    node.orderer.script(ORDERER, Opening::Stream(lone.into()));
    let start = async |name: &str, store: &Arc<MemoryStore>| {
        let channel = name.parse().unwrap();
        let started = service.start_deliver_for_channel(&channel, store.clone());
        started.await.unwrap();
    };
    start("other", &stores[1]).await;
    within("its stream", node.orderer.wait_for_requests(1)).await;
    node.orders(&blocks[1..], Step::Hang);
    start("ch", &stores[0]).await;
    for (store, height) in stores.iter().zip([blocks.len() as u64, 2]) {
        let reached = store.wait_for(Height::new(height));
        within("both chains", reached).await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    let place = seen.iter().position(|channel| *channel == "other");
    assert!(
        place.is_some_and(|place| place <= 3 * at_once),
        "{place:?} of {}",
        seen.len()
    );
    within("stopping", service.stop()).await;
    for node in nodes {
        node.stop().await;
    }
}

/// Who passes a block on does not wait for its own disk.
#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_hangs_forwards() {
    let blocks = plain(5);
    let net = MemoryNetwork::new(4);
    let puller = Node::start(&net, "puller", &blocks[0], Config::default()).await;
    let last = Node::start(&net, "last", &blocks[0], Config::default()).await;
    let between = net.node("between");
    let (service, store) =
        in_front_of(&puller, between.clone(), &blocks[0], Config::default()).await;
    let [one, middle, other] = [puller.id(), block_api::Gossip::node_id(&between), last.id()];
    net.link(&one, &middle, Link::default());
    net.link(&middle, &other, Link::default());
    puller.meets(1).await;
    last.meets(1).await;
    puller.orders(&blocks[1..], Step::Hang);
    puller.pull().await;
    last.reaches(5).await;
    store.begins(1).await;
    assert_eq!(store.info().height.get(), 1);
    store.free.send_replace(true);
    within("stopping", service.stop()).await;
    for node in [puller, last] {
        node.stop().await;
    }
}

/// Covers: HND-02
#[tokio::test(start_paused = true)]
async fn a_block_is_published_before_it_is_stored_only_if_that_is_wanted() {
    let blocks = plain(2);
    for early in [false, true] {
        let net = MemoryNetwork::new(4);
        let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
        let puller = net.node("puller");
        let config = Config {
            publish_before_durable: early,
            ..Config::default()
        };
        let (service, store) = in_front_of(&node, puller, &blocks[0], config).await;
        net.link_all(Link::default());
        node.meets(1).await;
        node.orders(&blocks[1..], Step::Hang);
        service
            .start_deliver_for_channel(&node.channel, store.clone())
            .await
            .unwrap();
        store.begins(1).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(node.store.info().height.get() == 2, early);
        assert_eq!(store.info().height.get(), 1);
        store.free.send_replace(true);
        node.reaches(2).await;
        within("stopping", service.stop()).await;
        node.stop().await;
    }
}

/// Blocks that are judged, that wait for a configuration, and that wait for room: leaving waits for
/// none of them, and no task is left.
///
/// Covers: NEW-09
#[tokio::test(start_paused = true)]
async fn a_channel_is_left_in_the_middle_of_everything() {
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    for (blocks, bytes) in [(chain(40, 200), 64 << 20), (plain(40), 3_000)] {
        let (_, nodes) = network(1, &blocks[0], Link::default()).await;
        let gossip = MemoryNetwork::new(3).node("other");
        let config = Config {
            buffer_bytes: bytes.try_into().unwrap(),
            topic_buffer_bytes: NonZeroUsize::MIN,
            ..Config::default()
        };
        let store = Arc::new(MemoryStore::default());
        fill(&store, &blocks[..1]).await;
        let node = Node::with(gossip, "node", &blocks[0], config, store).await;
        node.store.fail_appends(usize::MAX);
        node.orders(&blocks[1..], Step::Hang);
        node.pull().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(node.state().storage_failure.is_some());
        let began = Instant::now();
        node.stop().await;
        assert!(began.elapsed() < Duration::from_millis(100));
        for node in nodes {
            node.stop().await;
        }
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        assert_eq!(left, before);
    }
}
