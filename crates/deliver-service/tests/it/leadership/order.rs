// SPDX-License-Identifier: Apache-2.0
//! Who comes first, and how the channel passes from one to another.

use super::*;

/// Covers: ELE-02, GSV-02
#[tokio::test(start_paused = true)]
async fn of_ten_nodes_one_pulls_and_never_another_one() {
    let blocks = chain(30, 100);
    let (network, orders) = (MemoryNetwork::new(3), LiveChain::new(blocks[..1].to_vec()));
    let mut nodes = Vec::new();
    for identity in [
        "node a", "node b", "node c", "node d", "node e", "node f", "node g", "node h", "node i",
        "node j",
    ] {
        let store = MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await;
        let gossip = network.node_of(identity, identity.into());
        let config = Config::default();
        let node = Node::with(gossip, identity, &blocks[0], config, Arc::new(store)).await;
        node.orderer.serve(ORDERER, &orders, Manner::HONEST);
        nodes.push(node);
    }
    network.link_all(Link::default());
    for node in &nodes {
        node.elect().await;
    }
    orders.grow(blocks[1..].iter().cloned());
    for node in &nodes {
        node.reaches(30).await;
    }
    sleep(SECOND * 60).await;
    let mut pulled = Vec::new();
    let mut ranks = Vec::new();
    for node in &nodes {
        let Leadership {
            role,
            rank,
            candidates,
        } = leadership(node);
        assert_eq!((role == Role::Puller, candidates), (rank == 0, 10));
        ranks.push(rank);
        if requests(node) > 0 && role != Role::Standby {
            pulled.push(node.state().stats.from_orderer);
        }
    }
    ranks.sort_unstable();
    assert_eq!(ranks, (0..10).collect::<Vec<_>>(), "all find one order");
    assert_eq!(pulled, [29], "each block left the orderers once");
    for node in nodes {
        node.stop().await;
    }
}

/// Covers: ELE-01, ELE-08
#[tokio::test(start_paused = true)]
async fn a_node_alone_pulls_and_stops_and_pulls_again() {
    let group = Group::start(1).await;
    let node = &group.nodes[0];
    let began = Instant::now();
    group.settles(&[0]).await;
    assert_eq!(
        began.elapsed().as_secs(),
        Config::default().takeover.as_secs()
    );
    assert_eq!(leadership(node).role, Role::Puller);
    group.order_up_to(5);
    node.reaches(5).await;
    node.service
        .stop_deliver_for_channel(&node.channel)
        .await
        .unwrap();
    assert_eq!(node.orderer.open_streams(), 0);
    assert_eq!(node.state().leadership, None);
    group.order_up_to(9);
    group.stays(&[], SECOND * 20).await;
    node.elect().await;
    node.reaches(9).await;
    group.stop().await;
}

/// Covers: ELE-03
#[tokio::test(start_paused = true)]
async fn a_better_node_takes_the_channel_over_without_a_gap() {
    let mut group = Group::prepare(1).await;
    group.nodes.clear();
    group.add("node-7", Config::default()).await;
    group.elect().await;
    group.settles(&[0]).await;
    group.order_up_to(10);
    group.all_reach(10).await;
    group.add("node-3", Config::default()).await;
    group.nodes[1].elect().await;
    let settled = async {
        while group.streaming() != [1] {
            assert_ne!(group.streaming(), [] as [usize; 0], "nobody pulls");
            let made = group.made();
            if made < 55 {
                group.order_up_to(made + 1);
            }
            sleep(STEP).await;
        }
    };
    within("the handover", settled).await;
    let made = group.made();
    group.all_reach(made).await;
    // A worse one that comes changes nothing.
    group.add("node-5", Config::default()).await;
    group.nodes[2].elect().await;
    group.stays(&[1], SECOND * 20).await;
    group.stop().await;
}

/// Covers: ELE-05, ELE-10
#[tokio::test(start_paused = true)]
async fn each_side_of_a_partition_has_a_puller_and_the_whole_has_one() {
    let group = Group::start(4).await;
    group.settles(&[0]).await;
    let id = |node: usize| group.nodes[node].id();
    let across = [(0, 2), (0, 3), (1, 2), (1, 3)];
    for (a, b) in across {
        group.network.cut(&id(a), &id(b));
    }
    group.settles(&[0, 2]).await;
    group.order_up_to(20);
    group.all_reach(20).await;
    for (a, b) in across {
        group.network.heal(&id(a), &id(b));
    }
    group.settles(&[0]).await;
    group.stays(&[0], SECOND * 20).await;
    assert_eq!(leadership(&group.nodes[2]).role, Role::Standby);
    group.stop().await;
}

/// Covers: ELE-07, ELE-09
#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_makes_room_and_may_come_back() {
    let group = Group::start(2).await;
    group.settles(&[0]).await;
    let [first, second] = group.nodes.as_slice() else {
        unreachable!("two nodes were started")
    };
    let stop = async |node: &Node| node.service.stop_deliver_for_channel(&node.channel).await;
    stop(first).await.unwrap();
    let again = stop(first).await;
    assert!(matches!(again, Err(StopError::NotRunning { .. })));
    group.settles(&[1]).await;
    group.stays(&[1], SECOND * 60).await;
    first.elect().await;
    group.settles(&[0]).await;
    stop(second).await.unwrap();
    group.stays(&[0], SECOND * 20).await;
    group.stop().await;
}

/// Covers: GSV-06
#[tokio::test(start_paused = true)]
async fn channels_have_pullers_of_their_own() {
    let mut other = TestChain::new("other");
    let genesis = other.config();
    let mut group = Group::empty();
    for (name, identity) in [("node-0", "node z"), ("node-1", "node y")] {
        let config = NodeConfig {
            identities: [(other.channel(), identity.into())].into(),
            ..NodeConfig::default()
        };
        let gossip = group.network.node_with(name, config);
        group.add_on(gossip, Config::default()).await;
    }
    group.elect().await;
    group.settles(&[0]).await;
    for (node, name) in group.nodes.iter().zip(["node z", "node y"]) {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
        let orders = Arc::new(ScriptedSource::new(&[ORDERER]));
        orders.serve(
            ORDERER,
            &LiveChain::new(vec![genesis.clone()]),
            Manner::HONEST,
        );
        let parts = ChannelParts {
            channel: other.channel(),
            genesis: genesis.header_hash(),
            store: store.clone(),
            signer: Arc::new(block_api::testing::TestSigner(name)),
            source: orders,
            ..node.parts(&genesis)
        };
        node.service.join_channel(parts).await.unwrap();
        node.service
            .elect_for_channel(&other.channel(), store)
            .await
            .unwrap();
    }
    sleep(SECOND * 20).await;
    let pulls = async |node: &Node| {
        let state = node.service.state(&other.channel()).unwrap();
        state.leadership.unwrap().role == Role::Puller
    };
    let before = [pulls(&group.nodes[0]).await, pulls(&group.nodes[1]).await];
    assert_ne!(before[0], before[1], "one of the two");
    let leader = usize::from(before[1]);
    group.nodes[leader]
        .service
        .stop_deliver_for_channel(&other.channel())
        .await
        .unwrap();
    sleep(SECOND * 10).await;
    assert!(pulls(&group.nodes[1 - leader]).await, "it moved");
    assert_eq!(group.streaming(), [0], "that of the other channel stays");
    group.stop().await;
}

/// Covers: GSV-03, GSV-04, GSV-05
#[tokio::test(start_paused = true)]
async fn who_pulls_can_be_said_instead() {
    let group = Group::prepare(3).await;
    group.stays(&[], SECOND * 30).await;
    for node in &group.nodes {
        assert_eq!((requests(node), node.state().leadership), (0, None));
        node.pull().await;
    }
    group.settles(&[0, 1, 2]).await;
    let node = &group.nodes[0];
    let start = || {
        node.service
            .start_deliver_for_channel(&node.channel, node.store.clone())
    };
    let elect = || {
        node.service
            .elect_for_channel(&node.channel, node.store.clone())
    };
    let running = StartError::AlreadyRunning {
        channel: node.channel.clone(),
    };
    assert_eq!(elect().await, Err(running.clone()), "one or the other");
    node.service
        .stop_deliver_for_channel(&node.channel)
        .await
        .unwrap();
    node.elect().await;
    assert_eq!(start().await, Err(running.clone()));
    assert_eq!(elect().await, Err(running));
    let unknown = TestChain::new("stranger").channel();
    let elected = node.service.elect_for_channel(&unknown, node.store.clone());
    assert_eq!(
        elected.await,
        Err(StartError::NotJoined { channel: unknown })
    );
    within("stopping", node.service.stop()).await;
    assert!(matches!(elect().await, Err(StartError::Stopping { .. })));
    group.stop().await;
}

/// Hazard H26: what a former puller was handed is in its store or its buffer when the others hear
/// that it stopped, and nothing comes after that.
#[tokio::test(start_paused = true)]
async fn a_former_puller_has_ended_its_hand_off_before_it_says_so() {
    let group = Group::start(2).await;
    group.settles(&[0]).await;
    sleep(SECOND * 5).await;
    group.order_up_to(60);
    let node = &group.nodes[0];
    node.reaches(2).await;
    node.service
        .stop_deliver_for_channel(&node.channel)
        .await
        .unwrap();
    assert_eq!(node.orderer.open_streams(), 0, "the stream is closed");
    let state = node.state();
    assert_eq!(state.pull, None);
    let heard = async {
        while group.nodes[1].state().peers[&node.id()].pulling {
            assert_eq!(node.orderer.open_streams(), 0);
            sleep(Duration::from_millis(1)).await;
        }
    };
    within("the word that it stopped", heard).await;
    let from_orderer = node.state().stats.from_orderer;
    group.all_reach(60).await;
    let after = node.state().stats.from_orderer;
    assert_eq!(after, from_orderer, "{:?} came late", Origin::Orderer);
    group.stop().await;
}

/// Two of three pull where that is the setting.
#[tokio::test(start_paused = true)]
async fn the_number_of_pullers_is_a_setting() {
    let mut group = Group::prepare(0).await;
    let config = Config {
        pullers: count(2),
        ..Config::default()
    };
    for name in ["node-0", "node-1", "node-2"] {
        group.add(name, config.clone()).await;
    }
    group.elect().await;
    group.settles(&[0, 1]).await;
    group.stays(&[0, 1], SECOND * 20).await;
    group.silence(0);
    group.settles(&[0, 1, 2]).await;
    group.stop().await;
}

/// Stopping while elections are under way leaves no task.
#[tokio::test(start_paused = true)]
async fn stopping_ends_elections_too() {
    for time in [0, 1, 3, 4, 40] {
        let group = Group::start(2).await;
        sleep(SECOND * time).await;
        group.stop().await;
        let left = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        assert_eq!(left, 0, "tasks are left after {time} s");
    }
}
