// SPDX-License-Identifier: Apache-2.0
//! Pullers that are gone, or have no stream.

use super::*;

/// Covers: ELE-06
#[tokio::test(start_paused = true)]
async fn when_the_puller_is_gone_the_next_block_comes_within_the_takeover_time_and_a_second() {
    let group = Group::start(5).await;
    group.settles(&[0]).await;
    group.order_up_to(10);
    group.all_reach(10).await;
    group.silence(0);
    let gone = Instant::now();
    group.order_up_to(11);
    for node in &group.nodes[1..] {
        node.reaches(11).await;
    }
    let took = gone.elapsed();
    assert!(took <= Config::default().takeover + SECOND, "{took:?}");
    assert_eq!(leadership(&group.nodes[1]).role, Role::Puller);
    for node in &group.nodes[2..] {
        assert_eq!(requests(node), 0, "one node takes over, not all");
    }
    group.stop().await;
}

/// Covers: GSV-07, CFT-14, ELE-07
#[tokio::test(start_paused = true)]
async fn a_puller_whose_stream_is_down_is_replaced_and_has_the_channel_back() {
    let group = Group::start(3).await;
    group.settles(&[0]).await;
    group.order_up_to(10);
    group.all_reach(10).await;
    let orderer = &group.nodes[0].orderer;
    orderer.set_endpoints(vec![]);
    let down = Instant::now();
    group.order_up_to(20);
    group.all_reach(20).await;
    assert!(down.elapsed() <= Config::default().takeover + SECOND);
    group.stays(&[1], SECOND * 100).await;
    assert_eq!(
        leadership(&group.nodes[0]).role,
        Role::Puller,
        "it tries on"
    );
    assert_eq!(pulls(&group.nodes[2]), 0);
    orderer.set_endpoints(vec![endpoint()]);
    group.settles(&[0]).await;
    group.order_up_to(30);
    group.all_reach(30).await;
    group.stays(&[0], SECOND * 20).await;
    group.stop().await;
}

/// Covers: CFT-15
#[tokio::test(start_paused = true)]
async fn short_interruptions_replace_nobody() {
    let group = Group::start(2).await;
    group.settles(&[0]).await;
    for round in 0..20 {
        // Every second the stream breaks after a block, and soon another one is open.
        group.order_up_to(round + 2);
        group.all_reach(round + 2).await;
        group.nodes[0].orderer.set_endpoints(vec![]);
        sleep(SECOND).await;
        group.nodes[0].orderer.set_endpoints(vec![endpoint()]);
        sleep(SECOND).await;
    }
    assert_eq!(requests(&group.nodes[1]), 0);
    group.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_reach_no_orderer_all_try_until_one_does() {
    let group = Group::prepare(3).await;
    for node in &group.nodes {
        node.orderer.set_endpoints(vec![]);
        node.elect().await;
    }
    sleep(SECOND * 60).await;
    for node in &group.nodes {
        assert_eq!(leadership(node).role, Role::Puller);
        let pull = node.state().pull.unwrap();
        assert!(matches!(pull, PullState::BackingOff { .. }), "{pull:?}");
    }
    group.nodes[2].orderer.set_endpoints(vec![endpoint()]);
    group.order_up_to(5);
    group.all_reach(5).await;
    group.stays(&[2], SECOND * 60).await;
    group.nodes[0].orderer.set_endpoints(vec![endpoint()]);
    group.settles(&[0]).await;
    group.stays(&[0], SECOND * 60).await;
    assert_eq!(leadership(&group.nodes[2]).role, Role::Standby);
    group.stop().await;
}

/// Covers: GSV-08
#[tokio::test(start_paused = true)]
async fn a_channel_without_endpoints_can_be_elected_for() {
    let group = Group::prepare(1).await;
    let node = &group.nodes[0];
    node.orderer.set_endpoints(vec![]);
    node.elect().await;
    sleep(SECOND * 10).await;
    assert_eq!(leadership(node).role, Role::Puller);
    node.orderer.set_endpoints(vec![endpoint()]);
    group.order_up_to(3);
    node.reaches(3).await;
    group.stop().await;
}

/// An orderer that refuses the puller does so after the stream was opened: nobody gives up a stream
/// for one that lasts a moment.
#[tokio::test(start_paused = true)]
async fn streams_that_are_refused_at_once_take_the_channel_from_nobody() {
    let group = Group::prepare(2).await;
    let first = &group.nodes[0];
    for _ in 0..1000 {
        let refused = vec![Step::Wait(STEP), Step::Status(DeliverStatus::Forbidden)];
        first.orderer.script(ORDERER, Opening::Stream(refused));
    }
    for node in &group.nodes {
        node.elect().await;
    }
    group.order_up_to(5);
    group.all_reach(5).await;
    let asked = pulls(first);
    assert!(asked > 0, "it tried");
    sleep(SECOND * 120).await;
    assert!(pulls(first) > asked, "it tries on");
    assert_eq!(pulls(&group.nodes[1]), 1, "one stream all the time");
    assert_eq!(leadership(&group.nodes[1]).role, Role::Puller);
    group.stop().await;
}
