// SPDX-License-Identifier: Apache-2.0
//! Nodes that are behind: ranges from several peers, and from the orderers where no peer has them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockStore, Content, Gossip, Height, JoinRequest, ReadError, ReadLimits,
    Standing, Start, Stop, VerifiedBlock, WhenMissing,
    testing::{
        AlteredStore, GullibleVerifier, LiveChain, Manner, MemoryStore, Opening, Step, TestChain,
        within,
    },
};
use blockcast_deliver_service::Config;
use bytes::Bytes;
use gossip_memory::{Link, MemoryNetwork, NodeConfig};
use tokio::{sync::watch, time::Instant};

use crate::{
    harness::{Node, ORDERER, chain, count, fill, has, network},
    members::{Slow, member, member_of, plain},
};

const LINK: Link = Link {
    latency: Duration::from_millis(20),
    jitter: Duration::from_millis(15),
    loss: 0.0,
};

/// A chain of which nothing but the tip is given.
#[derive(Debug)]
struct Silent {
    store: MemoryStore,
    /// How many are waited for at this moment.
    asked: watch::Sender<usize>,
}

struct Asked<'a>(&'a watch::Sender<usize>);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|asked| *asked -= 1);
    }
}

#[async_trait]
impl AlteredStore for Silent {
    fn inner(&self) -> &dyn BlockStore {
        &self.store
    }

    async fn instead_of_read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        if Some(from) != self.inner().info().height.tip() {
            self.asked.send_modify(|asked| *asked += 1);
            let _asked = Asked(&self.asked);
            std::future::pending::<()>().await;
        }
        self.inner().read(from, limits).await
    }
}

async fn reaches_within(node: &Node, height: u64, limit: Duration) -> Duration {
    let begun = Instant::now();
    let height = Height::new(height);
    let reached = node.service.wait_for_height(&node.channel, height);
    let reached = tokio::time::timeout(limit, reached).await;
    assert_eq!(reached, Ok(true), "height {height} within {limit:?}");
    begun.elapsed()
}

/// Covers: STA-06
#[tokio::test(start_paused = true)]
async fn several_peers_give_ranges_at_one_time() {
    let blocks = plain(1001);
    let net = MemoryNetwork::new(3);
    let config = Config {
        range_blocks: count(50),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config).await;
    let (mut members, mut readers) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c", "d"] {
        let reader = Arc::new(Slow::new(&blocks, Duration::from_millis(10)).await);
        members.push(member(&net, name, &node, &blocks[0], reader.clone()).await);
        readers.push(reader);
    }
    net.link_all(LINK);
    node.meets(4).await;
    let took = reaches_within(&node, 1001, Duration::from_secs(60)).await;
    // One peer alone takes 10 s.
    assert!(took < Duration::from_secs(6), "{took:?}");
    let reads: Vec<_> = readers
        .iter()
        .map(|reader| reader.reads.load(Ordering::SeqCst))
        .collect();
    assert!(reads.iter().all(|reads| *reads > 100), "{reads:?}");
    assert!(reads.iter().sum::<u64>() < 1100, "{reads:?}");
    has(&node, &blocks).await;
    let stats = node.state().stats;
    assert_eq!((stats.from_catch_up, stats.rejected), (1000, 0));
    for (gossip, _) in members {
        gossip.stop().await;
    }
    node.stop().await;
}

/// The other one is nearer, and would be asked otherwise.
#[tokio::test(start_paused = true)]
async fn the_own_organisation_is_asked_first() {
    let blocks = plain(61);
    let net = MemoryNetwork::new(3);
    let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
    let (mut members, mut readers) = (Vec::new(), Vec::new());
    for (identity, count) in [("node", 61), ("stranger", 31)] {
        let reader = Arc::new(Slow::new(&blocks[..count], Duration::ZERO).await);
        let gossip = net.node_of(&format!("of-{identity}"), identity.into());
        members.push(member_of(gossip, &node, &blocks[0], reader.clone()).await);
        readers.push(reader);
    }
    net.link_all(LINK);
    node.meets(2).await;
    node.reaches(61).await;
    let reads = readers
        .iter()
        .map(|reader| reader.reads.load(Ordering::SeqCst));
    assert_eq!(reads.collect::<Vec<_>>(), [59, 0], "all but the tip");
    for (gossip, _) in members {
        gossip.stop().await;
    }
    node.stop().await;
}

/// Ranges behind config blocks wait for them, and are not fetched twice.
#[tokio::test(start_paused = true)]
async fn ranges_behind_config_blocks_wait_for_them() {
    let blocks = chain(400, 200);
    let net = MemoryNetwork::new(3);
    let config = Config {
        range_blocks: count(20),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config).await;
    let (mut members, mut readers) = (Vec::new(), Vec::new());
    for name in ["a", "b", "c"] {
        let reader = Arc::new(Slow::new(&blocks, Duration::from_millis(5)).await);
        members.push(member(&net, name, &node, &blocks[0], reader.clone()).await);
        readers.push(reader);
    }
    net.link_all(LINK);
    reaches_within(&node, 400, Duration::from_secs(10)).await;
    let reads = readers
        .iter()
        .map(|reader| reader.reads.load(Ordering::SeqCst));
    assert!(reads.sum::<u64>() < 440, "none twice, but for a few");
    let stats = node.state().stats;
    assert_eq!((stats.rejected, stats.unlinked), (0, 0));
    has(&node, &blocks).await;
    for (gossip, _) in members {
        gossip.stop().await;
    }
    node.stop().await;
}

/// The nearest peer gives a part of what is due and then nothing more.
#[tokio::test(start_paused = true)]
async fn the_range_of_a_peer_that_stalls_is_given_to_another_one() {
    let blocks = plain(61);
    let net = MemoryNetwork::new(4);
    let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
    let stalls = Slow {
        stuck_at: BlockNumber::new(5),
        ..Slow::new(&blocks[..60], Duration::ZERO).await
    };
    let stalls = member(&net, "stalls", &node, &blocks[0], Arc::new(stalls)).await;
    let honest = Slow::new(&blocks, Duration::ZERO).await;
    let honest = member(&net, "honest", &node, &blocks[0], Arc::new(honest)).await;
    net.link_all(LINK);
    node.meets(2).await;
    let patience = Config::default().catch_up_patience + Config::default().range_patience;
    let took = reaches_within(&node, 61, patience * 2).await;
    assert!(
        took > Config::default().range_patience,
        "the nearest is asked first"
    );
    has(&node, &blocks).await;
    for (gossip, _) in [stalls, honest] {
        gossip.stop().await;
    }
    node.stop().await;
}

/// Ten peers of the own organisation have everything and give nothing: however they come together, two
/// of them are waited for at a time, and the stranger who gives it gets its turn.
#[tokio::test(start_paused = true)]
async fn ranges_that_silent_peers_do_not_give_are_two_at_a_time() {
    let blocks = plain(61);
    let net = MemoryNetwork::new(4);
    let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
    let (asked, mut members) = (watch::Sender::new(0), Vec::new());
    for name in 0..10 {
        let silent = Silent {
            store: MemoryStore::default(),
            asked: asked.clone(),
        };
        fill(&silent.store, &blocks).await;
        let name = format!("silent-{name}");
        members.push(member(&net, &name, &node, &blocks[0], Arc::new(silent)).await);
    }
    let honest = Slow::new(&blocks, Duration::ZERO).await;
    let honest_node = net.node_of("honest", "stranger".into());
    members.push(member_of(honest_node, &node, &blocks[0], Arc::new(honest)).await);
    net.link_all(LINK);
    node.meets(11).await;
    let mut changes = asked.subscribe();
    let most = async {
        let mut most = 0;
        while changes.changed().await.is_ok() {
            most = most.max(*changes.borrow_and_update());
            // One that was given up hears of it when the next one has been asked.
            assert!(most <= 3, "{most} are asked at one time");
        }
    };
    let config = Config::default();
    let limit = config.catch_up_patience + config.range_patience * 11;
    tokio::select! {
        () = most => panic!("the members hold the other end"),
        _ = reaches_within(&node, 61, limit) => {}
    }
    has(&node, &blocks).await;
    for (gossip, _) in members {
        gossip.stop().await;
    }
    node.stop().await;
}

/// While a block is judged anew in its place, there is no hole; it is refused, nobody says anything
/// more, and what it took the place of is fetched.
#[tokio::test(start_paused = true)]
async fn a_hole_that_a_refused_block_leaves_is_closed() {
    let mut made = TestChain::new("ch");
    let mut blocks = vec![made.config(), made.data(50), made.data(50), made.config()];
    // So big that it is judged beside the runtime.
    blocks.push(made.data(300_000));
    let quiet = || NodeConfig {
        inline_limit: 1 << 20,
        status_interval: Duration::from_secs(3_600),
        silence_limit: Duration::from_secs(7_200),
        ..NodeConfig::default()
    };
    let net = MemoryNetwork::new(8);
    let store = MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await;
    let gossip = net.node_with("node", quiet());
    let (config, store) = (Config::default(), Arc::new(store));
    let node = Node::with(gossip, "node", &blocks[0], config, store).await;
    let gossip = net.node_with("other", quiet());
    let parts = node.parts(&blocks[0]);
    let reader = MemoryStore::default();
    fill(&reader, &blocks).await;
    let joined = gossip.join(JoinRequest {
        channel: parts.channel,
        genesis: parts.genesis,
        reader: Arc::new(reader),
        readers: parts.readers,
    });
    let other = joined.await.unwrap().channel;
    net.link_all(Link::default());
    // Which is told at once, with its height.
    other.set_pulling(true);
    node.meets(1).await;
    let publish = async |block: &Block| {
        let gullible = GullibleVerifier::default();
        let block = VerifiedBlock::new(block.clone(), &gullible, Standing::Linked).unwrap();
        other.publish(&block).await.unwrap();
    };
    publish(&TestChain::signed_by_others(
        &blocks[4],
        BlockNumber::GENESIS,
    ))
    .await;
    let held = async {
        while node.state().buffered_bytes == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the block that waits", held).await;
    for block in &blocks[1..4] {
        publish(block).await;
    }
    reaches_within(&node, 5, Duration::from_secs(60)).await;
    assert_eq!(node.state().stats.rejected, 1);
    has(&node, &blocks).await;
    gossip.stop().await;
    node.stop().await;
}

/// A part of the chain that was signed and is not of this chain comes ahead of its turn: it is found
/// out in its place, everything of it goes at once, and only who gave it is left alone.
#[tokio::test(start_paused = true)]
async fn what_does_not_link_in_its_place_is_fetched_again_from_others() {
    let (mut made, mut blocks) = TestChain::of_blocks("ch", 31, 200);
    let mut fork = made.clone();
    blocks.extend((0..170).map(|_| made.data(200)));
    let mut forked = blocks[..31].to_vec();
    forked.extend((0..170).map(|_| fork.data(300)));
    let net = MemoryNetwork::new(5);
    let config = Config {
        range_blocks: count(40),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config).await;
    let liar = Slow::new(&forked, Duration::ZERO).await;
    let liar = member(&net, "liar", &node, &blocks[0], Arc::new(liar)).await;
    let delay = Duration::from_millis(5);
    let honest = Slow::new(&blocks, delay).await;
    let honest = member(&net, "honest", &node, &blocks[0], Arc::new(honest)).await;
    net.link(&node.id(), &honest.0.node_id(), LINK);
    node.meets(1).await;
    net.link(&node.id(), &liar.0.node_id(), LINK);
    node.meets(2).await;
    reaches_within(&node, 201, Duration::from_secs(10)).await;
    has(&node, &blocks).await;
    assert!(node.state().stats.unlinked > 0, "the liar was asked");
    assert!(!node.finds(1).await.is_empty(), "it is evidence, too");
    for (gossip, _) in [liar, honest] {
        gossip.stop().await;
    }
    node.stop().await;
}

/// Everyone has pruned what is due: a node that does not pull fetches that from the ordering service,
/// in ranges with an end, and the rest from its peers.
#[tokio::test(start_paused = true)]
async fn what_every_peer_has_pruned_comes_from_the_ordering_service() {
    let blocks = plain(201);
    let net = MemoryNetwork::new(6);
    let config = Config {
        range_blocks: count(40),
        ..Config::default()
    };
    let node = Node::start(&net, "node", &blocks[0], config.clone()).await;
    let pruned = MemoryStore::after(BlockNumber::new(100), blocks[100].header_hash());
    fill(&pruned, &blocks[101..]).await;
    let peer = member(&net, "peer", &node, &blocks[0], Arc::new(pruned)).await;
    net.link_all(LINK);
    node.meets(1).await;
    // The first attempt fails.
    node.orderer.script(ORDERER, Opening::Refused);
    let live = LiveChain::new(blocks.clone());
    node.orderer.serve(ORDERER, &live, Manner::HONEST);
    tokio::time::sleep(config.orderer_patience / 2).await;
    assert_eq!(node.orderer.requests().len(), 0, "it is patient");
    let patience = config.orderer_patience + config.provider.censorship_timeout;
    reaches_within(&node, 201, patience * 2).await;
    has(&node, &blocks).await;
    let requests = node.orderer.requests();
    for (_, request) in &requests {
        assert!(matches!(
            (request.start, request.stop),
            (Start::At(_), Stop::At(_))
        ));
        assert_eq!(request.when_missing, WhenMissing::Fail);
        assert_eq!(request.content, Content::Blocks);
    }
    assert!(requests.len() <= 5, "{requests:?}");
    let stats = node.state().stats;
    assert_eq!(stats.from_orderer + stats.from_catch_up, 200);
    assert!(
        stats.from_orderer >= 100 && stats.from_catch_up >= 80,
        "{stats:?}"
    );
    peer.0.stop().await;
    node.stop().await;
}

/// The blocks that everyone has pruned hold the configuration that judges the tips of all: they show
/// nothing that anyone could believe, and are asked about all the same.
#[tokio::test(start_paused = true)]
async fn what_every_peer_has_pruned_is_asked_for_when_their_tips_cannot_be_judged() {
    let blocks: Vec<_> = chain(30, 100);
    let net = MemoryNetwork::new(6);
    let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
    let pruned = MemoryStore::after(BlockNumber::new(20), blocks[20].header_hash());
    fill(&pruned, &blocks[21..]).await;
    let peer = member(&net, "peer", &node, &blocks[0], Arc::new(pruned)).await;
    net.link_all(LINK);
    let live = LiveChain::new(blocks.clone());
    node.orderer.serve(ORDERER, &live, Manner::HONEST);
    let patience = Config::default().orderer_patience;
    reaches_within(&node, 30, patience * 2).await;
    has(&node, &blocks).await;
    peer.0.stop().await;
    node.stop().await;
}

/// A peer says to be higher, or to have pruned what is due, shows the header that orderers signed for
/// nobody, and gives nothing.
#[tokio::test(start_paused = true)]
async fn nobody_asks_the_ordering_service_because_of_a_claim() {
    let blocks = plain(21);
    let pruned = || MemoryStore::after(BlockNumber::new(10), blocks[10].header_hash());
    for (store, first) in [(MemoryStore::default(), 0), (pruned(), 11)] {
        let net = MemoryNetwork::new(7);
        let node = Node::start(&net, "node", &blocks[0], Config::default()).await;
        let mut forged = blocks[first..20].to_vec();
        forged.push(TestChain::forged(&blocks[20]));
        let gullible = GullibleVerifier::default();
        for block in forged {
            let linked = Standing::Linked;
            let block = VerifiedBlock::new(block, &gullible, linked).unwrap();
            store.append(vec![block]).await.unwrap();
        }
        let claims = Slow {
            store,
            delay: Duration::ZERO,
            stuck_at: BlockNumber::GENESIS,
            reads: AtomicU64::new(0),
        };
        let claims = member(&net, "claims", &node, &blocks[0], Arc::new(claims)).await;
        net.link_all(LINK);
        node.meets(1).await;
        let said: Vec<_> = node.state().peers.into_values().collect();
        assert_eq!(said[0].first.get(), first as u64);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(node.orderer.requests().len(), 0, "from block {first} on");
        claims.0.stop().await;
        node.stop().await;
    }
}

/// Covers: STA-14
#[tokio::test(start_paused = true)]
async fn fifteen_nodes_of_which_ten_come_late_get_everything() {
    let blocks = chain(100, 300);
    let (net, mut nodes) = network(5, &blocks[0], LINK).await;
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(100).await;
    }
    for index in 5..15 {
        let name = format!("node-{index}");
        nodes.push(Node::start(&net, &name, &blocks[0], Config::default()).await);
    }
    net.link_all(LINK);
    for node in &nodes {
        node.reaches(100).await;
        has(node, &blocks).await;
    }
    for node in nodes {
        node.stop().await;
    }
}
