// SPDX-License-Identifier: Apache-2.0
//! Start, stop, and what each says when it does not fit.

use std::sync::Arc;

use block_api::{
    Gossip, GossipError, HeaderProof, Height,
    testing::{MemoryStore, Step, TestChain, TestVerifier, within},
};
use blockcast_deliver_service::{ChannelParts, Config, JoinError, StartError, StopError};
use blocks_provider::PullState;
use gossip_memory::{Link, MemoryNetwork};

use crate::harness::{Node, chain, endpoint, fill, network};

/// Covers: SVC-03, SVC-07
#[tokio::test(start_paused = true)]
async fn start_stop_start_works() {
    let blocks = chain(6, 10);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.orders(&blocks[1..3], Step::Hang);
    node.pull().await;
    node.reaches(3).await;
    assert_eq!(node.state().pull, Some(PullState::Streaming(endpoint())));
    node.service
        .stop_deliver_for_channel(&node.channel)
        .await
        .unwrap();
    assert_eq!(node.state().pull, None);

    node.orders(&blocks[3..], Step::Hang);
    node.pull().await;
    node.reaches(6).await;
    assert_eq!(
        node.orderer.requests()[1].1.start,
        block_api::Start::At(3.into())
    );
    assert_eq!(node.state().stats.from_orderer, 5);
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: SVC-04, SVC-05, SVC-08, SVC-09
#[tokio::test(start_paused = true)]
async fn start_and_stop_say_what_does_not_fit() {
    let blocks = chain(2, 10);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let channel = node.channel.clone();
    let stranger = TestChain::new("stranger").channel();
    let start = |channel| {
        node.service
            .start_deliver_for_channel(channel, node.store.clone())
    };

    assert_eq!(
        start(&stranger).await,
        Err(StartError::NotJoined {
            channel: stranger.clone()
        })
    );
    let stopped = node.service.stop_deliver_for_channel(&channel).await;
    assert_eq!(
        stopped,
        Err(StopError::NotRunning {
            channel: channel.clone()
        })
    );

    start(&channel).await.unwrap();
    let twice = start(&channel).await.unwrap_err();
    assert_eq!(
        twice,
        StartError::AlreadyRunning {
            channel: channel.clone()
        }
    );
    assert!(twice.to_string().contains("already exists"));
    node.service
        .stop_deliver_for_channel(&channel)
        .await
        .unwrap();
    let stopped = node.service.stop_deliver_for_channel(&channel).await;
    assert_eq!(
        stopped,
        Err(StopError::NotRunning {
            channel: channel.clone()
        })
    );

    start(&channel).await.unwrap();
    within("stopping", node.service.stop()).await;
    let late = start(&channel).await.unwrap_err();
    assert_eq!(
        late,
        StartError::Stopping {
            channel: channel.clone()
        }
    );
    assert!(late.to_string().contains("is stopping"));
    let stopped = node
        .service
        .stop_deliver_for_channel(&channel)
        .await
        .unwrap_err();
    assert!(stopped.to_string().contains("already stopped"));
    let joined = node.service.join_channel(node.parts(&blocks[0])).await;
    assert!(matches!(joined, Err(JoinError::Stopping { .. })));
}

/// Covers: SVC-10, SVC-11
#[tokio::test(start_paused = true)]
async fn stopping_ends_every_task_and_is_safe_to_repeat() {
    let blocks = chain(40, 2000);
    let proofs = [HeaderProof::OneSigner, HeaderProof::Quorum];
    for (stop_at, proof) in [1, 2, 7, 20, 39]
        .into_iter()
        .flat_map(|stop_at| proofs.map(|proof| (stop_at, proof)))
    {
        let (_, mut nodes) = network(2, &blocks[0], Link::default()).await;
        let (other, node) = (nodes.pop().unwrap(), nodes.pop().unwrap());
        node.verifier.set_header_proof(proof);
        let joined = TestChain::new("second");
        node.orders(&blocks[1..], Step::Hang);
        node.pull().await;
        node.reaches(stop_at).await;
        within("stopping", node.service.stop()).await;
        within("stopping again", node.service.stop()).await;
        assert!(node.service.state(&joined.channel()).is_none());
        // What was stored is a prefix of the chain, in order.
        let height = block_api::BlockReader::info(&*node.store).height.get() as usize;
        crate::harness::has(&node, &blocks[..height]).await;
        node.gossip.stop().await;
        other.stop().await;
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        assert_eq!(left, 0, "tasks are left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_joined_once_and_can_be_left() {
    let blocks = chain(8, 10);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    let again = node.service.join_channel(node.parts(&blocks[0])).await;
    assert!(matches!(again, Err(JoinError::AlreadyJoined { .. })));
    node.orders(&blocks[1..4], Step::Hang);
    node.pull().await;
    node.reaches(4).await;
    within("leaving", node.service.leave_channel(&node.channel))
        .await
        .unwrap();
    assert!(node.service.state(&node.channel).is_none());
    assert!(node.service.leave_channel(&node.channel).await.is_err());

    // Joined again, it goes on where it was; the config block 5 is judged as before.
    node.service
        .join_channel(node.parts(&blocks[0]))
        .await
        .unwrap();
    node.orders(&blocks[4..], Step::Hang);
    node.pull().await;
    node.reaches(8).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_configuration_is_restored_from_the_store() {
    let blocks = chain(12, 10);
    let network = MemoryNetwork::new(1);
    let store = Arc::new(MemoryStore::default());
    fill(&store, &blocks[..8]).await;
    let node = Node::restart(&network, "node", &blocks[0], Config::default(), store).await;
    // Block 8 names config block 5, which only the store knows of.
    node.orders(&blocks[8..], Step::Hang);
    node.pull().await;
    node.reaches(12).await;
    node.stop().await;
}

/// Covers: STA-10
#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_fit_is_refused() {
    #[derive(Debug)]
    struct Never;
    impl block_api::BlockVerifier for Never {
        fn verify(&self, block: &block_api::Block, _: block_api::Standing) -> block_api::Verdict {
            block_api::Verdict::Rejected(block_api::Rejection::new(
                block,
                "genesis",
                "another genesis block",
            ))
        }
        fn verify_attestation(
            &self,
            block: &block_api::Block,
            standing: block_api::Standing,
        ) -> block_api::Verdict {
            self.verify(block, standing)
        }
        fn apply_config(&self, _: &block_api::VerifiedBlock) -> Result<(), block_api::Rejection> {
            Ok(())
        }
    }
    let blocks = chain(3, 10);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.service.leave_channel(&node.channel).await.unwrap();
    let parts = ChannelParts {
        verifier: Arc::new(Never),
        ..node.parts(&blocks[0])
    };
    let refused = node.service.join_channel(parts).await.unwrap_err();
    assert!(matches!(refused, JoinError::Verify { .. }), "{refused}");
    assert!(
        refused.to_string().contains("another genesis block"),
        "{refused}"
    );

    let parts = ChannelParts {
        verifier: Arc::new(TestVerifier::default()),
        ..node.parts(&blocks[0])
    };
    node.gossip.stop().await;
    let refused = node.service.join_channel(parts).await.unwrap_err();
    assert!(
        matches!(refused, JoinError::Gossip(GossipError::Closed)),
        "{refused}"
    );
    assert_eq!(
        block_api::BlockReader::info(&*node.store).height,
        Height::new(1)
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_at_the_same_time_waits_for_the_same_end() {
    let blocks = chain(30, 200);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    node.store.fail_appends(1);
    node.orders(&blocks[1..], Step::Hang);
    node.pull().await;
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let ends = || async {
        node.service.stop().await;
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let (one, other) = within("stopping twice", async { tokio::join!(ends(), ends()) }).await;
    assert!(one < before);
    assert_eq!(
        one, other,
        "the second call returned while tasks of the channel were alive"
    );
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_not_joined_again_before_it_was_left() {
    let blocks = chain(4, 200);
    let (_, nodes) = network(1, &blocks[0], Link::default()).await;
    let node = &nodes[0];
    {
        let leaving = node.service.leave_channel(&node.channel);
        tokio::pin!(leaving);
        // The first poll takes the channel down; it is there until that is done.
        if futures::poll!(leaving.as_mut()).is_pending() {
            let early = node.service.join_channel(node.parts(&blocks[0])).await;
            assert!(matches!(early, Err(JoinError::AlreadyJoined { .. })));
            within("leaving", leaving).await.unwrap();
        }
    }
    node.service
        .join_channel(node.parts(&blocks[0]))
        .await
        .unwrap();
    for node in nodes {
        node.stop().await;
    }
}
