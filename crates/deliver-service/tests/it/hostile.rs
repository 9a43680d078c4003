// SPDX-License-Identifier: Apache-2.0
//! Peers that claim and send what does the most harm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, Fault, Gossip, GossipChannel, Height, NodeId,
    ReadError, ReadLimits, Standing, VerifiedBlock,
    testing::{GullibleVerifier, MemoryStore, Opening, Step, TestChain, TestVerifier, within},
};
use blockcast_deliver_service::Config;
use bytes::Bytes;
use gossip_memory::{Link, MemoryNetwork};
use tokio::sync::Notify;

use crate::{
    harness::{Node, ORDERER, chain, count, fill, has},
    members::{member, member_of},
};

/// Says that it has a long chain, and never gives a block of it.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl BlockReader for Silent {
    fn info(&self) -> ChainInfo {
        ChainInfo {
            height: Height::new(u64::MAX),
            ..ChainInfo::EMPTY
        }
    }

    async fn read(&self, from: BlockNumber, _: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        if Some(from) == self.info().height.tip() {
            return Err(ReadError::Closed);
        }
        std::future::pending().await
    }

    async fn wait_for(&self, _: Height) -> Result<ChainInfo, ReadError> {
        Ok(self.info())
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}

/// A block whose signers name a config block.
fn naming(number: u64, config: u64) -> VerifiedBlock {
    let assemble =
        |slot: &[u8]| Block::assemble(BlockNumber::new(number), &[1; 32], &[b"data"], &[slot]);
    let mark = TestVerifier::mark(
        &assemble(&[]),
        BlockNumber::new(config),
        BlockNumber::GENESIS,
    );
    VerifiedBlock::new(
        assemble(&mark),
        &GullibleVerifier::default(),
        Standing::Linked,
    )
    .unwrap()
}

async fn publish(channel: &dyn GossipChannel, blocks: impl IntoIterator<Item = VerifiedBlock>) {
    for block in blocks {
        channel.publish(&block).await.unwrap();
    }
}

/// Two peers that claim the longest chain and never answer: while one rests, the other one is
/// asked, and by then the first one has rested.
#[tokio::test(start_paused = true)]
async fn peers_that_only_claim_a_chain_do_not_keep_the_ones_who_have_it_from_being_asked() {
    let blocks = chain(40, 100);
    let net = MemoryNetwork::new(3);
    let victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let honest = Node::start(&net, "honest", &blocks[0], Config::default()).await;
    fill(&honest.store, &blocks[1..]).await;
    let mut attackers = Vec::new();
    for name in ["attacker-0", "attacker-1"] {
        attackers.push(member(&net, name, &victim, &blocks[0], Arc::new(Silent)).await);
    }
    net.link_all(Link::default());
    victim.meets(3).await;
    let reached = victim
        .service
        .wait_for_height(&victim.channel, Height::new(40));
    let patience = Config::default().fetch_timeout * 4;
    assert!(
        tokio::time::timeout(patience, reached).await == Ok(true),
        "the honest peer was not asked"
    );
    has(&victim, &blocks).await;
    tokio::time::sleep(Config::default().fetch_timeout).await;
    let blamed = victim.gossip.blamed();
    let attackers_only = |(node, fault): &(NodeId, Fault)| {
        node.as_str().starts_with("attacker") && *fault == Fault::Stalled
    };
    assert!(
        !blamed.is_empty() && blamed.iter().all(attackers_only),
        "{blamed:?}"
    );
    for (gossip, _) in attackers {
        gossip.stop().await;
    }
    honest.stop().await;
    victim.stop().await;
}

/// A chain that the orderers signed and that does not link fills the buffer and never leaves it.
#[tokio::test(start_paused = true)]
async fn a_peer_with_another_chain_does_not_hold_up_catching_up() {
    let blocks = chain(40, 1_000);
    let mut other = TestChain::new("ch");
    let plain: Vec<_> = (0..80).map(|_| other.data(1_500)).collect();
    let mut other = TestChain::new("ch");
    let with_configs: Vec<_> = (0..80)
        .map(|number| {
            if number % 5 == 1 {
                other.config()
            } else {
                other.data(10)
            }
        })
        .collect();
    let tight = Config {
        buffer_bytes: count(20_000),
        topic_buffer_bytes: count(8_000),
        ..Config::default()
    };
    // What follows waits for room in one case, for a configuration in the other.
    for (config, others) in [(tight, plain), (Config::default(), with_configs)] {
        let net = MemoryNetwork::new(3);
        let victim = Node::start(&net, "victim", &blocks[0], config).await;
        let honest = Node::start(&net, "honest", &blocks[0], Config::default()).await;
        fill(&honest.store, &blocks[1..]).await;
        let store = Arc::new(MemoryStore::default());
        fill(&store, &others).await;
        let (gossip, _membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
        // The other chain alone at first, so that it is what the buffer is filled with.
        net.link(&victim.id(), &gossip.node_id(), Link::default());
        victim.meets(1).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        net.link(&victim.id(), &honest.id(), Link::default());
        let reached = victim
            .service
            .wait_for_height(&victim.channel, Height::new(40));
        let patience = Config::default().fetch_timeout * 4;
        assert!(
            tokio::time::timeout(patience, reached).await == Ok(true),
            "the honest peer was not asked"
        );
        assert!(victim.state().stats.unlinked > 0);
        has(&victim, &blocks).await;
        // Whoever has the other one of two signed chains did nothing wrong.
        assert_eq!(victim.gossip.blamed(), []);
        gossip.stop().await;
        honest.stop().await;
        victim.stop().await;
    }
}

/// Whoever names a config block to come may be right, so the candidate waits; but not for ever, and
/// not in everybody's place.
#[tokio::test(start_paused = true)]
async fn candidates_that_wait_for_a_configuration_leave_room_for_others() {
    let blocks = chain(5, 100);
    let net = MemoryNetwork::new(3);
    let few = Config {
        candidates_at_work: count(8),
        ..Config::default()
    };
    let victim = Node::start(&net, "victim", &blocks[0], few.clone()).await;
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
    let (gossip, membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link_all(Link::default());
    victim.meets(1).await;
    let channel = &*membership.channel;
    publish(channel, (0..20).map(|more| naming(600 + more, 500))).await;
    let ignored = async {
        while victim.state().stats.ignored < 16 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the waiting of the others", ignored).await;
    publish(channel, blocks[1..].iter().map(TestChain::verified)).await;
    victim.reaches(5).await;
    let stats = victim.state().stats;
    assert_eq!((stats.from_topic, stats.ignored), (4, 16));

    tokio::time::sleep(few.fetch_timeout).await;
    assert_eq!(
        victim.state().stats.ignored,
        20,
        "those that waited are given up"
    );
    gossip.stop().await;
    within("stopping", victim.stop()).await;
}

/// One node brings a chain faster than its configurations come into force: it has room, as long as no
/// other one needs it.
#[tokio::test(start_paused = true)]
async fn a_fast_chain_of_one_node_finds_room_to_wait_for_its_configuration() {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let config = chain.config();
    let plain: Vec<Block> = (0..30).map(|_| chain.data(100)).collect();
    let net = MemoryNetwork::new(3);
    let node = Node::start(&net, "node", &genesis, Config::default()).await;
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
    let (gossip, membership) = member(&net, "puller", &node, &genesis, store).await;
    net.link_all(Link::default());
    node.meets(1).await;
    let channel = &*membership.channel;
    publish(channel, plain.iter().map(TestChain::verified)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(node.state().stats.ignored, 0);
    publish(channel, [TestChain::verified(&config)]).await;
    node.reaches(32).await;
    let stats = node.state().stats;
    assert_eq!((stats.from_topic, stats.ignored), (31, 0));
    gossip.stop().await;
    node.stop().await;
}

/// Blocks of the topic that find no room are not waited for: their ranges are asked for at once.
#[tokio::test(start_paused = true)]
async fn what_found_no_room_comes_soon_with_a_range() {
    let mut chain = TestChain::new("ch");
    let mut blocks = vec![chain.config(), chain.config()];
    blocks.extend((0..30).map(|_| chain.data(100)));
    let few = Config {
        candidates_at_work: count(8),
        ..Config::default()
    };
    let net = MemoryNetwork::new(3);
    let node = Node::start(&net, "node", &blocks[0], few).await;
    let store = Arc::new(MemoryStore::default());
    fill(&store, &blocks).await;
    let (gossip, membership) = member(&net, "puller", &node, &blocks[0], store).await;
    net.link_all(Link::default());
    let channel = &*membership.channel;
    publish(channel, blocks[2..].iter().map(TestChain::verified)).await;
    publish(channel, [TestChain::verified(&blocks[1])]).await;
    let patience = Config::default().catch_up_patience;
    let reached = node.service.wait_for_height(&node.channel, Height::new(32));
    assert_eq!(tokio::time::timeout(patience / 2, reached).await, Ok(true));
    let stats = node.state().stats;
    assert!(stats.ignored > 0 && stats.from_catch_up > 0, "{stats:?}");
    gossip.stop().await;
    node.stop().await;
}

/// Config blocks of the number that is due, signed by one who may and linking to nothing, one after
/// the other for as long as the stream takes to begin.
#[tokio::test(start_paused = true)]
async fn a_flood_of_config_blocks_that_do_not_link_does_not_end_the_stream() {
    let blocks = chain(10, 100);
    let net = MemoryNetwork::new(3);
    let victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
    let (gossip, membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link_all(Link::default());
    victim.meets(1).await;
    let begin = Arc::new(Notify::new());
    let steps = [Step::Until(begin.clone())].into_iter();
    let steps = steps.chain(blocks[1..].iter().cloned().map(Step::Block));
    let script = steps.chain([Step::Hang]).collect();
    victim.orderer.script(ORDERER, Opening::Stream(script));
    victim.pull().await;
    let mut other = TestChain::new("ch");
    other.config_with(7);
    for more in 0..20 {
        let forged = other.clone().config_with(more);
        let forged = TestChain::signed_by_others(&forged, BlockNumber::GENESIS);
        let forged =
            VerifiedBlock::new(forged, &GullibleVerifier::default(), Standing::Linked).unwrap();
        assert!(forged.is_config());
        publish(&*membership.channel, [forged]).await;
        let dropped = async {
            while victim.state().stats.unlinked <= more as u64 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("its turn", dropped).await;
    }
    begin.notify_one();
    victim.reaches(10).await;
    assert_eq!(victim.orderer.requests().len(), 1, "the stream goes on");
    has(&victim, &blocks).await;
    gossip.stop().await;
    victim.stop().await;
}

/// Blocks that nobody signed, far more of them than a node may have refused: the rest is not verified,
/// the good ones of others are, and its own are again after a while.
///
/// Covers: GCH-15
#[tokio::test(start_paused = true)]
async fn who_sends_what_is_refused_is_soon_not_verified_any_more() {
    const MANY: usize = 500;
    let blocks = chain(5, 100);
    let net = MemoryNetwork::new(3);
    let victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let honest = Node::start(&net, "honest", &blocks[0], Config::default()).await;
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
    let (gossip, membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link(&victim.id(), &gossip.node_id(), Link::default());
    net.link(&victim.id(), &honest.id(), Link::default());
    victim.meets(2).await;
    let judged = victim.verifier.judged();
    let forged = |number: usize, data: usize| {
        let block = Block::assemble(
            BlockNumber::new(number as u64),
            &[1; 32],
            &[data.to_string()],
            &[b"nobody's"],
        );
        VerifiedBlock::new(block, &GullibleVerifier::default(), Standing::Linked).unwrap()
    };
    // In small groups, so that each finds room in the queue.
    for group in 0..MANY / 20 {
        let forged = (0..20).map(|more| forged(1 + more, group));
        publish(&*membership.channel, forged).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let all = async {
        loop {
            let stats = victim.state().stats;
            if stats.rejected + stats.limited >= MANY as u64 {
                break stats;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let stats = within("the end of the flood", all).await;
    let verified = victim.verifier.judged() - judged;
    // Ten in hand, two a second, and those that were being judged when the tenth was refused.
    assert!((10..=30).contains(&verified), "{verified} were verified");
    assert_eq!(stats.rejected, verified);

    // What the orderers signed is taken from others meanwhile, and from it again later.
    fill(&honest.store, &blocks[1..3]).await;
    victim.reaches(3).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    publish(
        &*membership.channel,
        blocks[3..].iter().map(TestChain::verified),
    )
    .await;
    victim.reaches(5).await;
    assert_eq!(victim.state().stats.from_topic, 2);
    gossip.stop().await;
    honest.stop().await;
    victim.stop().await;
}

/// A node that may have two channels has no more refused in both together than in one.
#[tokio::test(start_paused = true)]
async fn what_is_refused_in_one_channel_counts_in_the_others() {
    let blocks = chain(1, 100);
    let (_, others) = TestChain::of_blocks("other", 1, 100);
    let net = MemoryNetwork::new(3);
    let mut victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let store = victim.store.clone();
    let (gossip, here) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link(&victim.id(), &gossip.node_id(), Link::default());
    victim.meets(1).await;
    let first = victim.channel.clone();
    victim.channel = TestChain::new("other").channel();
    victim.store = Arc::new(MemoryStore::with(vec![TestChain::verified(&others[0])]).await);
    let joined = victim.service.join_channel(victim.parts(&others[0]));
    joined.await.unwrap();
    let store = victim.store.clone();
    let (_, there) = member_of(gossip.clone(), &victim, &others[0], store).await;
    victim.meets(1).await;

    let forged = |data: usize| {
        let number = BlockNumber::new(1);
        let block = Block::assemble(number, &[1; 32], &[data.to_string()], &[b"nobody's"]);
        VerifiedBlock::new(block, &GullibleVerifier::default(), Standing::Linked).unwrap()
    };
    let stats = |channel| victim.service.state(channel).unwrap().stats;
    let all = |channel| async move {
        while stats(channel).rejected + stats(channel).limited < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    publish(&*here.channel, (0..20).map(forged)).await;
    within("the end of the first flood", all(&first)).await;
    assert!(stats(&first).rejected >= 10, "what it has in hand");
    publish(&*there.channel, (0..20).map(forged)).await;
    within("the end of the second flood", all(&victim.channel)).await;
    assert_eq!(stats(&victim.channel).rejected, 0, "it has nothing left");
    gossip.stop().await;
    victim.stop().await;
}

/// A range whose second block nobody signed, from a node that says to have the whole chain.
///
/// Covers: GCH-16
#[tokio::test(start_paused = true)]
async fn a_node_whose_range_breaks_a_rule_is_blamed_and_nothing_of_it_is_stored() {
    let blocks = chain(10, 100);
    let net = MemoryNetwork::new(3);
    let victim = Node::start(&net, "victim", &blocks[0], Config::default()).await;
    let honest = Node::start(&net, "honest", &blocks[0], Config::default()).await;
    fill(&honest.store, &blocks[1..]).await;
    let mut bad: Vec<VerifiedBlock> = blocks.iter().map(TestChain::verified).collect();
    let forged = TestChain::forged(&blocks[2]);
    let gullible = GullibleVerifier::default();
    bad[2] = VerifiedBlock::new(forged, &gullible, Standing::Linked).unwrap();
    let store = Arc::new(MemoryStore::with(bad).await);
    let (gossip, _membership) = member(&net, "attacker", &victim, &blocks[0], store).await;
    net.link(&victim.id(), &gossip.node_id(), Link::default());
    victim.meets(1).await;
    let blamed = async {
        while victim.gossip.blamed().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the blame", blamed).await;
    net.link(&victim.id(), &honest.id(), Link::default());
    victim.reaches(10).await;
    has(&victim, &blocks).await;
    let blamed = victim.gossip.blamed();
    let attacker = (gossip.node_id(), Fault::Invalid);
    assert!(blamed.iter().all(|one| *one == attacker), "{blamed:?}");
    gossip.stop().await;
    honest.stop().await;
    victim.stop().await;
}
