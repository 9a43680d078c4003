// SPDX-License-Identifier: Apache-2.0
//! Configurations that come and go: each block is judged by the one at its place.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use block_api::{
    AppendError, Block, BlockNumber, BlockStore, ChainInfo, Gossip, GossipChannel, Height,
    JoinRequest, Membership, Standing, VerifiedBlock,
    testing::{
        AlteredStore, GullibleVerifier, MemoryStore, Opening, Step, TestChain, TestVerifier, within,
    },
};
use blockcast_deliver_service::{ChannelParts, Config, DeliverService};
use gossip_memory::{Link, MemoryGossip, MemoryNetwork};
use tokio::sync::Notify;

use crate::harness::{Node, ORDERER, fill, has};

/// Blocks 0 and 3 of 8 are config blocks.
fn chain() -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    let is_config = |number| number == 0 || number == 3;
    (0..8)
        .map(|number| match is_config(number) {
            true => chain.config(),
            false => chain.data(50),
        })
        .collect()
}

/// A member that publishes what it likes.
async fn publisher(
    network: &MemoryNetwork,
    victim: &Node,
    genesis: &Block,
) -> (MemoryGossip, Membership) {
    let gossip = network.node("publisher");
    let parts = victim.parts(genesis);
    let store = MemoryStore::with(vec![TestChain::verified(genesis)]).await;
    let membership = gossip
        .join(JoinRequest {
            channel: parts.channel,
            genesis: parts.genesis,
            reader: Arc::new(store),
            readers: parts.readers,
        })
        .await
        .unwrap();
    network.link(&victim.id(), &gossip.node_id(), Link::default());
    victim.meets(1).await;
    (gossip, membership)
}

async fn publish(channel: &dyn GossipChannel, block: &Block) {
    let block = VerifiedBlock::new(
        block.clone(),
        &GullibleVerifier::default(),
        Standing::Linked,
    )
    .unwrap();
    channel.publish(&block).await.unwrap();
}

/// Waits until a node holds blocks that are not due yet.
async fn holds_some(node: &Node) {
    let held = async {
        while node.state().buffered_bytes == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("a block that waits", held).await;
}

/// Orderers that a configuration removed sign a block above it, and deny that they know of it. A
/// node that is behind has to believe them for the time being.
///
/// Covers: NEW-11
#[tokio::test(start_paused = true)]
async fn a_copy_of_removed_orderers_never_takes_the_place_of_the_real_one() {
    let blocks = chain();
    let false_copy = TestChain::signed_by_others(&blocks[5], BlockNumber::GENESIS);
    for brought_by_orderer in [true, false] {
        let network = MemoryNetwork::new(5);
        let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
        let (gossip, membership) = publisher(&network, &victim, &blocks[0]).await;
        publish(&*membership.channel, &false_copy).await;
        holds_some(&victim).await;
        let honest = Node::start(&network, "honest", &blocks[0], Config::default()).await;
        if brought_by_orderer {
            victim.orders(&blocks[1..], Step::Hang);
            victim.pull().await;
        } else {
            fill(&honest.store, &blocks[1..]).await;
            network.link(&victim.id(), &honest.id(), Link::default());
        }
        victim.reaches(8).await;
        has(&victim, &blocks).await;
        gossip.stop().await;
        honest.stop().await;
        victim.stop().await;
    }
}

/// Nobody brings the real one: the false one is refused when its turn comes, and the room that it
/// took is given back.
#[tokio::test(start_paused = true)]
async fn what_was_accepted_ahead_is_judged_again_in_its_place() {
    let blocks = chain();
    let network = MemoryNetwork::new(6);
    let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
    let (gossip, membership) = publisher(&network, &victim, &blocks[0]).await;
    let channel = &*membership.channel;
    publish(
        channel,
        &TestChain::signed_by_others(&blocks[4], BlockNumber::GENESIS),
    )
    .await;
    holds_some(&victim).await;
    for block in &blocks[1..4] {
        publish(channel, block).await;
    }
    victim.reaches(4).await;
    let refused = async {
        while victim.state().stats.rejected == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("the refusal", refused).await;
    let state = victim.state();
    assert_eq!(state.chain.height, Height::new(4));
    assert_eq!(state.buffered_bytes, 0);
    // The real one is welcome.
    publish(channel, &blocks[4]).await;
    victim.reaches(5).await;
    has(&victim, &blocks[..5]).await;
    gossip.stop().await;
    victim.stop().await;
}

/// A config block is judged by its predecessor, so it waits; and what it judges waits for it.
#[tokio::test(start_paused = true)]
async fn config_blocks_ahead_of_their_turn_wait_for_it() {
    let blocks = chain();
    let network = MemoryNetwork::new(7);
    let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
    let (gossip, membership) = publisher(&network, &victim, &blocks[0]).await;
    for index in [3, 4, 7, 6, 2, 1, 5] {
        publish(&*membership.channel, &blocks[index]).await;
    }
    victim.reaches(8).await;
    has(&victim, &blocks).await;
    let stats = victim.state().stats;
    assert_eq!(
        (stats.from_topic, stats.rejected, stats.ignored),
        (7, 0, 0),
        "none was lost"
    );
    gossip.stop().await;
    victim.stop().await;
}

/// A linked block is judged by its position, whatever its signatures say of configurations: a
/// Fabric peer takes it, too.
#[tokio::test(start_paused = true)]
async fn a_linked_block_may_name_any_config_block() {
    let genesis = TestChain::new("ch").config();
    let naming = |last_config: u64| {
        let assemble = |slot: &[u8]| {
            let previous = genesis.header_hash();
            Block::assemble(BlockNumber::new(1), previous.as_ref(), &[b"data"], &[slot])
        };
        let number = BlockNumber::new(last_config);
        assemble(&TestVerifier::mark(
            &assemble(&[]),
            number,
            BlockNumber::GENESIS,
        ))
    };
    for last_config in [0, 1, 500, u64::MAX] {
        for by_topic in [true, false] {
            let network = MemoryNetwork::new(8);
            let node = Node::start(&network, "node", &genesis, Config::default()).await;
            let (gossip, membership) = publisher(&network, &node, &genesis).await;
            let block = naming(last_config);
            if by_topic {
                publish(&*membership.channel, &block).await;
            } else {
                node.orders(&[block], Step::Hang);
                node.pull().await;
            }
            node.reaches(2).await;
            gossip.stop().await;
            node.stop().await;
        }
    }
}

/// A store that takes its time to say that a config block is stored, as a busy machine may.
#[derive(Debug)]
struct SlowToSay {
    store: Arc<MemoryStore>,
    stored: Arc<Notify>,
}

#[async_trait]
impl AlteredStore for SlowToSay {
    fn inner(&self) -> &dyn BlockStore {
        &*self.store
    }

    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        let is_config = blocks.iter().any(VerifiedBlock::is_config);
        let info = self.inner().append(blocks).await?;
        if is_config {
            self.stored.notify_one();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(info)
    }
}

/// A stream that is opened while a config block is stored and not in force yet begins behind it:
/// its blocks wait for that configuration and are not judged by the one before.
#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_behind_a_config_block_waits_for_its_configuration() {
    let blocks = chain();
    let network = MemoryNetwork::new(9);
    let node = Node::start(&network, "node", &blocks[0], Config::default()).await;
    let stored = Arc::new(Notify::new());
    let before = blocks[1..4].iter().cloned().map(Step::Block);
    let until = [Step::Until(stored.clone()), Step::Break];
    node.orderer
        .script(ORDERER, Opening::Stream(before.chain(until).collect()));
    node.orders(&blocks[4..], Step::Hang);

    let gossip = network.node("other");
    let service = DeliverService::new(Config::default(), Arc::new(gossip)).unwrap();
    let parts = ChannelParts {
        store: Arc::new(SlowToSay {
            store: node.store.clone(),
            stored,
        }),
        ..node.parts(&blocks[0])
    };
    service.join_channel(parts).await.unwrap();
    service
        .start_deliver_for_channel(&node.channel, node.store.clone())
        .await
        .unwrap();
    let reached = service.wait_for_height(&node.channel, Height::new(8));
    let patience = Duration::from_secs(120);
    assert_eq!(tokio::time::timeout(patience, reached).await, Ok(true));
    has(&node, &blocks).await;
    let stats = service.state(&node.channel).unwrap().stats;
    assert_eq!((stats.from_orderer, stats.rejected), (7, 0));
    within("stopping", service.stop()).await;
    node.stop().await;
}
