// SPDX-License-Identifier: Apache-2.0
//! Orderers and stores that fail.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{
    AppendError, BlockStore, ChainInfo, DeliverStatus, HeaderProof, Height, VerifiedBlock,
    testing::{AlteredStore, MemoryStore, Opening, Step, TestChain, within},
};
use blockcast_deliver_service::{ChannelParts, Config, DeliverService};
use blocks_provider::{Mode, PullState, Reason};
use gossip_memory::{Link, MemoryNetwork};
use tokio::sync::Notify;

use crate::harness::{ORDERER, chain, has, network};

/// A store that keeps the first block of every batch and then fails, as a store may.
#[derive(Debug)]
struct OneByOne(Arc<MemoryStore>);

#[async_trait]
impl AlteredStore for OneByOne {
    fn inner(&self) -> &dyn BlockStore {
        &*self.0
    }

    async fn instead_of_append(
        &self,
        mut blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        let rest = blocks.split_off(blocks.len().min(1));
        let number = rest.first().map(VerifiedBlock::number);
        let info = self.inner().append(blocks).await?;
        number.map_or(Ok(info), |number| {
            Err(AppendError::Storage {
                number,
                source: "the test said so".into(),
            })
        })
    }
}

/// What a failed append left in the store is not appended again.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_stored_in_part_is_finished() {
    let blocks = chain(10, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.orders(&blocks[1..], Step::Hang);
    let gossip = MemoryNetwork::new(1).node("other");
    let service = DeliverService::new(Config::default(), Arc::new(gossip)).unwrap();
    let parts = ChannelParts {
        store: Arc::new(OneByOne(node.store.clone())),
        ..node.parts(&blocks[0])
    };
    service.join_channel(parts).await.unwrap();
    service
        .start_deliver_for_channel(&node.channel, node.store.clone())
        .await
        .unwrap();
    let reached = service.wait_for_height(&node.channel, Height::new(10));
    assert!(within("height 10", reached).await);
    has(node, &blocks).await;
    let state = service.state(&node.channel).unwrap();
    assert_eq!((state.stats.from_orderer, state.storage_failure), (9, None));
    within("stopping", service.stop()).await;
}

/// Nobody waits for a height that will not come, and the state says why.
///
/// Covers: STA-09
#[tokio::test(start_paused = true)]
async fn a_channel_whose_store_is_lost_says_so() {
    let blocks = chain(10, 100);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.store.close();
    node.orders(&blocks[1..], Step::Hang);
    node.pull().await;
    let ended = node.service.wait_for_height(&node.channel, Height::new(10));
    assert!(!within("the end of the wait", ended).await);
    let state = node.state();
    assert!(state.storage_failure.is_some(), "{state:?}");
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: HND-02, NEW-01
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_and_nothing_is_published_before() {
    let blocks = chain(10, 100);
    let (_, nodes) = network(2, &blocks[0], Link::default()).await;
    nodes[0].store.fail_appends(3);
    nodes[0].orders(&blocks[1..], Step::Hang);
    nodes[0].pull().await;
    let failing = async {
        while nodes[0].state().storage_failure.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("the failure", failing).await;
    assert_eq!(
        nodes[1].state().chain.height.get(),
        1,
        "what is not stored is not published"
    );
    for node in &nodes {
        node.reaches(10).await;
        has(node, &blocks).await;
    }
    let state = nodes[0].state();
    assert_eq!(
        (state.stats.failed_appends, state.storage_failure),
        (3, None)
    );
    assert_eq!(
        nodes[0].orderer.requests().len(),
        1,
        "the stream goes on meanwhile"
    );
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: HND-01, HND-02, VER-17, VER-19, CFT-25
#[tokio::test(start_paused = true)]
async fn what_the_verifier_rejects_is_neither_stored_nor_published() {
    let blocks = chain(6, 100);
    let (_, nodes) = network(2, &blocks[0], Link::default()).await;
    nodes[0].orders(
        &[blocks[1].clone(), TestChain::forged(&blocks[2])],
        Step::Hang,
    );
    nodes[0].orders(&[blocks[2].without_data()], Step::Hang);
    nodes[0].orders(&blocks[2..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(6).await;
        has(node, &blocks).await;
    }
    assert_eq!(nodes[0].state().stats.rejected, 1);
    assert_eq!(nodes[1].state().stats.rejected, 0);
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: INT-01, CFT-21
#[tokio::test(start_paused = true)]
async fn streams_that_break_anywhere_lose_and_repeat_nothing() {
    let blocks = chain(25, 100);
    let (_, nodes) = network(2, &blocks[0], Link::default()).await;
    for end in 2..25 {
        let then = match end % 3 {
            0 => Step::Break,
            1 => Step::Status(DeliverStatus::Unavailable),
            _ => Step::Status(DeliverStatus::Success),
        };
        nodes[0].orders(&blocks[end - 1..end], then);
        nodes[0].orderer.script(ORDERER, Opening::Refused);
    }
    nodes[0].orders(&blocks[24..], Step::Hang);
    nodes[0].pull().await;
    for node in &nodes {
        node.reaches(25).await;
        has(node, &blocks).await;
    }
    assert_eq!(nodes[0].state().stats.from_orderer, 24);
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: NEW-03
#[tokio::test(start_paused = true)]
async fn a_puller_whose_orderer_is_gone_is_fed_by_its_peers() {
    let blocks = chain(20, 100);
    let (_, nodes) = network(2, &blocks[0], Link::default()).await;
    let gone = Arc::new(Notify::new());
    nodes[0].orders(&blocks[1..5], Step::Until(gone.clone()));
    nodes[0].orders(&blocks[20..], Step::Hang);
    nodes[0].pull().await;
    nodes[0].reaches(5).await;
    // Another node pulls the rest; the first one gets it from there, then finds its orderer again.
    nodes[1].reaches(5).await;
    nodes[1].orders(&blocks[5..], Step::Hang);
    nodes[1].pull().await;
    nodes[0].reaches(20).await;
    gone.notify_one();
    within("the next stream", nodes[0].orderer.wait_for_requests(2)).await;
    assert_eq!(
        nodes[0].orderer.requests()[1].1.start,
        block_api::Start::At(20.into())
    );
    has(&nodes[0], &blocks).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_puller_whose_store_has_another_block_says_so() {
    let mut chain = TestChain::new("ch");
    let genesis = chain.config();
    let mut fork = chain.clone();
    let (stored, offered) = (chain.data(10), [fork.data(20), fork.data(20)]);
    let (_, nodes) = network(2, &genesis, Link::default()).await;
    let gate = Arc::new(Notify::new());
    // The orderer's stream is open when another node brings a block of the same number first.
    let steps = [Step::Until(gate.clone())]
        .into_iter()
        .chain(offered.map(Step::Block));
    nodes[0].orderer.script(
        ORDERER,
        Opening::Stream(steps.chain([Step::Hang]).collect()),
    );
    nodes[0].pull().await;
    within("the stream", nodes[0].orderer.wait_for_requests(1)).await;
    nodes[1].orders(std::slice::from_ref(&stored), Step::Hang);
    nodes[1].pull().await;
    nodes[0].reaches(2).await;
    gate.notify_one();
    let told = async {
        loop {
            if let Some(PullState::BackingOff {
                last_failure: Some(failure),
                ..
            }) = nodes[0].state().pull
            {
                return failure;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let told = within("the failure", told).await;
    assert!(told.contains("is not the one that is stored"), "{told}");
    assert!(told.contains(&stored.header_hash().to_string()), "{told}");
    assert_eq!(nodes[0].finds(1).await[0].number, stored.number());
    has(&nodes[0], &[genesis, stored]).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_forks_from_what_is_stored_is_left() {
    let mut chain = TestChain::new("ch");
    let (genesis, first) = (chain.config(), chain.data(10));
    let mut fork = chain.clone();
    let rival = chain.data(10);
    let (_, nodes) = network(2, &genesis, Link::default()).await;
    // The first append fails, so that the first block is being stored while the others come: the
    // rival from a peer, then the orderer's own second block and what follows it.
    nodes[0].store.fail_appends(1);
    let gate = Arc::new(Notify::new());
    let steps = [Step::Block(first.clone()), Step::Until(gate.clone())];
    let forked = (0..4).map(|_| Step::Block(fork.data(20)));
    let steps = steps
        .into_iter()
        .chain(forked)
        .chain([Step::Hang])
        .collect();
    nodes[0].orderer.script(ORDERER, Opening::Stream(steps));
    nodes[0].pull().await;
    nodes[1].orders(&[first.clone(), rival.clone()], Step::Hang);
    nodes[1].pull().await;
    nodes[1].reaches(3).await;
    let both = first.raw().len() + rival.raw().len();
    let waits = async {
        while nodes[0].state().buffered_bytes < both {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    within("the rival", waits).await;
    gate.notify_one();
    within("another attempt", nodes[0].orderer.wait_for_requests(2)).await;
    has(&nodes[0], &[genesis, first, rival]).await;
    for node in nodes {
        node.stop().await;
    }
}

/// An orderer that gives nothing while the other nodes have blocks is left for another one.
#[tokio::test(start_paused = true)]
async fn a_source_that_lacks_what_the_nodes_have_is_left() {
    let blocks = chain(8, 10);
    let (_, nodes) = network(2, &blocks[0], Link::default()).await;
    let silent = ["one:7050", "two:7050"].map(|endpoint| endpoint.parse().unwrap());
    nodes[0].orderer.set_endpoints(silent.into());
    nodes[0].pull().await;
    nodes[1].orders(&blocks[1..], Step::Hang);
    nodes[1].pull().await;
    nodes[0].reaches(8).await;
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    let report = nodes[0].state().pull_report.unwrap();
    let restarts = &report.stats.restarts;
    assert_eq!(restarts.get(&Reason::Behind), Some(&1), "{report:?}");
    assert_eq!(report.mode, Mode::Cft);
    let requests = nodes[0].orderer.requests();
    let streams: Vec<_> = requests
        .iter()
        .filter(|(_, request)| request.content == block_api::Content::Blocks)
        .collect();
    assert_ne!(streams[0].0, streams[1].0);
    assert_eq!(streams[1].1.start, block_api::Start::At(8.into()));
    // The one that gives blocks is not suspected of anything.
    let kept = nodes[1].state().pull_report.unwrap();
    assert_eq!((kept.stats.attempts, kept.stats.suspicions_raised), (1, 0));
    // Once the channel has migrated, headers of the other orderer are watched.
    nodes[0].verifier.set_header_proof(HeaderProof::Quorum);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let report = nodes[0].state().pull_report.unwrap();
    assert_eq!((report.mode, report.stats.header_streams), (Mode::Bft, 1));
    for node in nodes {
        node.stop().await;
    }
}
