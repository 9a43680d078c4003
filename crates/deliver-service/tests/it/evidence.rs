// SPDX-License-Identifier: Apache-2.0
//! Orderers that sign two blocks of one number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockStore, Gossip, GossipChannel, Height, Membership, ReadError,
    ReadLimits, Standing, VerifiedBlock,
    testing::{AlteredStore, GullibleVerifier, MemoryStore, Step, TestChain, within},
};
use blockcast_deliver_service::{ChannelParts, ChannelState, Config, DeliverService, Equivocation};
use bytes::Bytes;
use gossip_memory::{Link, MemoryGossip, MemoryNetwork};

use crate::{
    harness::{Node, fill, has},
    members,
};

/// A chain of three blocks, and another one that has the first one of them alone in common.
fn fork() -> (Vec<Block>, Vec<Block>) {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let mut other = chain.clone();
    let blocks = vec![genesis.clone(), chain.data(10), chain.data(10)];
    let others = vec![genesis, other.data(20), other.data(20)];
    (blocks, others)
}

/// A member without the service, with a store of its own.
async fn member(
    network: &MemoryNetwork,
    victim: &Node,
    blocks: &[Block],
) -> (MemoryGossip, Membership) {
    let store = Arc::new(MemoryStore::default());
    fill(&store, blocks).await;
    let (gossip, membership) = members::member(network, "member", victim, &blocks[0], store).await;
    network.link(&victim.id(), &gossip.node_id(), Link::default());
    victim.meets(1).await;
    (gossip, membership)
}

async fn publish(channel: &dyn GossipChannel, block: &Block) {
    let gullible = GullibleVerifier::default();
    let block = VerifiedBlock::new(block.clone(), &gullible, Standing::Linked).unwrap();
    channel.publish(&block).await.unwrap();
}

fn is_pair(found: &Equivocation, stored: &Block, other: &Block) {
    assert_eq!(found.number, stored.number());
    for (kept, block) in [(&found.stored, stored), (&found.other, other)] {
        assert_eq!(kept.header_hash(), block.header_hash());
        assert_eq!(kept.signatures_slot(), block.signatures_slot());
        assert!(!kept.has_data(), "header and signatures are enough");
    }
}

/// A store that counts the reads of what is below its tip.
#[derive(Debug)]
struct Counted(Arc<MemoryStore>, AtomicU64);

#[async_trait]
impl AlteredStore for Counted {
    fn inner(&self) -> &dyn BlockStore {
        &*self.0
    }

    async fn instead_of_read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        if Some(from) < self.inner().info().height.tip() {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
        self.inner().read(from, limits).await
    }
}

/// Headers that nobody signed cost no look at the store, and do not keep those out that are signed.
#[tokio::test(start_paused = true)]
async fn the_store_is_not_read_for_what_nobody_signed() {
    let (blocks, others) = fork();
    let network = MemoryNetwork::new(5);
    let node = Node::start(&network, "node", &blocks[0], Config::default()).await;
    let gossip = network.node("victim");
    let id = gossip.node_id();
    let service = DeliverService::new(Config::default(), Arc::new(gossip)).unwrap();
    let store = MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await;
    let store = Arc::new(Counted(Arc::new(store), AtomicU64::new(0)));
    let parts = ChannelParts {
        store: store.clone(),
        ..node.parts(&blocks[0])
    };
    service.join_channel(parts).await.unwrap();
    let (gossip, membership) = member(&network, &node, &blocks[..1]).await;
    network.link(&id, &gossip.node_id(), Link::default());
    let state = || service.state(&node.channel).unwrap();
    let until = async |what: &str, done: fn(&ChannelState) -> bool| {
        let done = async {
            while !done(&state()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(what, done).await;
    };
    until("the neighbour", |state| !state.peers.is_empty()).await;
    let channel = &*membership.channel;
    for block in &blocks[1..] {
        publish(channel, block).await;
    }
    let height = service.wait_for_height(&node.channel, Height::new(3));
    assert!(within("the chain", height).await);
    let reads = store.1.load(Ordering::SeqCst);
    let made_up = TestChain::of_blocks("ch", 1, 10).0;
    for bytes in 0..200 {
        let block = made_up.clone().data(30 + bytes);
        publish(channel, &TestChain::forged(&block)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let flood = |state: &ChannelState| state.stats.ignored + state.stats.limited >= 200;
    until("the flood", flood).await;
    assert_eq!(store.1.load(Ordering::SeqCst), reads);
    assert!(state().evidence.is_empty());
    // Nothing of who floods is looked at for a while.
    tokio::time::sleep(Duration::from_secs(20)).await;
    publish(channel, &others[1]).await;
    until("the evidence", |state| state.evidence.len() == 1).await;
    assert_eq!(store.1.load(Ordering::SeqCst), reads + 1);
    within("stopping", service.stop()).await;
    gossip.stop().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_block_of_a_stored_number_is_kept_as_evidence() {
    let (blocks, others) = fork();
    let network = MemoryNetwork::new(1);
    let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
    let (gossip, membership) = member(&network, &victim, &blocks[..1]).await;
    victim.orders(&blocks[1..], Step::Hang);
    victim.pull().await;
    victim.reaches(3).await;
    assert!(victim.state().evidence.is_empty());
    let channel = &*membership.channel;
    // What nobody signed is nothing.
    publish(channel, &TestChain::forged(&others[2])).await;
    publish(channel, &others[1]).await;
    let found = victim.finds(1).await;
    is_pair(&found[0], &blocks[1], &others[1]);
    publish(channel, &others[2]).await;
    let found = victim.finds(2).await;
    is_pair(&found[1], &blocks[2], &others[2]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(victim.finds(2).await.len(), 2);
    has(&victim, &blocks).await;
    gossip.stop().await;
    victim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn blocks_of_one_number_that_wait_together_are_evidence() {
    let (blocks, others) = fork();
    let network = MemoryNetwork::new(2);
    let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
    let (gossip, membership) = member(&network, &victim, &blocks[..1]).await;
    for block in [&others[2], &blocks[2], &blocks[1]] {
        publish(&*membership.channel, block).await;
    }
    victim.reaches(3).await;
    is_pair(&victim.finds(1).await[0], &blocks[2], &others[2]);
    has(&victim, &blocks).await;
    gossip.stop().await;
    victim.stop().await;
}

/// A node that shows the tip of another chain, and says nothing else.
#[tokio::test(start_paused = true)]
async fn the_tip_of_a_fork_is_evidence() {
    let (blocks, others) = fork();
    let network = MemoryNetwork::new(3);
    let store = MemoryStore::with(blocks.iter().map(TestChain::verified).collect()).await;
    let config = Config::default();
    let victim = Node::restart(&network, "victim", &blocks[0], config, Arc::new(store)).await;
    let (gossip, _membership) = member(&network, &victim, &others).await;
    is_pair(&victim.finds(1).await[0], &blocks[2], &others[2]);
    gossip.stop().await;
    victim.stop().await;
}

/// Whom a configuration removed may sign what he likes: it is no evidence against the others.
#[tokio::test(start_paused = true)]
async fn what_removed_orderers_sign_is_no_evidence() {
    let mut chain = TestChain::new("ch");
    let blocks = [chain.config(), chain.config()];
    let (mut real, mut other) = (chain.clone(), chain);
    let real = real.data(1);
    let other = TestChain::signed_by_others(&other.data(2), BlockNumber::GENESIS);
    let network = MemoryNetwork::new(4);
    let victim = Node::start(&network, "victim", &blocks[0], Config::default()).await;
    let (gossip, membership) = member(&network, &victim, &blocks[..1]).await;
    for block in [&other, &real, &blocks[1]] {
        publish(&*membership.channel, block).await;
    }
    victim.reaches(3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let state = victim.state();
    assert!(state.stats.unlinked + state.stats.rejected + state.stats.ignored > 0);
    assert!(state.evidence.is_empty(), "{:?}", state.evidence);
    gossip.stop().await;
    victim.stop().await;
}
