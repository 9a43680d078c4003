// SPDX-License-Identifier: Apache-2.0
//! What others withhold, and what they claim.

use super::*;
use crate::members::member;

/// The orderer of the puller keeps blocks back, and no header of them is seen anywhere.
#[tokio::test(start_paused = true)]
async fn a_standby_finds_what_the_puller_does_not_bring() {
    let group = Group::start(3).await;
    group.first_orderer_withholds(5);
    group.settles(&[0]).await;
    group.order_up_to(5);
    group.all_reach(5).await;
    group.order_up_to(20);
    let patience = Config::default().provider.censorship_timeout;
    let kept_back = Instant::now();
    sleep(patience - SECOND).await;
    assert_eq!(group.nodes[1].state().chain.height, Height::new(5));
    group.all_reach(20).await;
    let took = kept_back.elapsed();
    assert!(
        took >= patience && took <= patience * 5 / 4 + SECOND * 2,
        "{took:?}"
    );
    assert_eq!(leadership(&group.nodes[1]).role, Role::Beside);
    assert_eq!(group.streaming(), [0, 1]);
    assert_eq!(
        requests(&group.nodes[2]),
        0,
        "the first standby comes before it"
    );
    // While it pulls beside, blocks come at once.
    group.order_up_to(30);
    let began = Instant::now();
    group.all_reach(30).await;
    assert!(began.elapsed() < SECOND);
    // The puller follows, and is trusted again after a while.
    group.nodes[0]
        .orderer
        .serve(ORDERER, &group.chain, Manner::HONEST);
    group.nodes[0].orderer.set_endpoints(vec![]);
    group.nodes[0].orderer.set_endpoints(vec![endpoint()]);
    let settled = async {
        while leadership(&group.nodes[1]).role != Role::Standby {
            sleep(SECOND).await;
        }
    };
    tokio::time::timeout(patience * 3, settled).await.unwrap();
    group.settles(&[0]).await;
    group.stop().await;
}

/// The puller passes on a block in less than the censorship timeout, and keeps back the others.
#[tokio::test(start_paused = true)]
async fn a_puller_that_passes_blocks_on_one_by_one_is_found_too() {
    let group = Group::start(2).await;
    let shown = LiveChain::new(group.blocks[..1].to_vec());
    group.nodes[0]
        .orderer
        .serve(ORDERER, &shown, Manner::HONEST);
    group.settles(&[0]).await;
    group.order_up_to(60);
    let patience = Config::default().provider.censorship_timeout;
    let began = Instant::now();
    while leadership(&group.nodes[1]).role == Role::Standby {
        shown.grow(group.blocks[shown.height()..][..1].iter().cloned());
        sleep(patience - SECOND).await;
    }
    let took = began.elapsed();
    assert!(took <= patience * 6 + SECOND * 2, "{took:?}");
    group.all_reach(60).await;
    group.stop().await;
}

/// A block that is on its way is not one that is kept back.
#[tokio::test(start_paused = true)]
async fn standbys_of_a_busy_channel_find_nothing() {
    let mut group = Group::start(3).await;
    group.network.link_all(Link {
        latency: Duration::from_millis(200),
        ..Link::default()
    });
    group.blocks = chain(1500, 100);
    group.settles(&[0]).await;
    for height in 2..=1500 {
        group.order_up_to(height);
        sleep(SECOND / 4).await;
        assert_eq!(group.streaming(), [0], "at height {height}");
    }
    group.all_reach(1500).await;
    for node in &group.nodes[1..] {
        assert_eq!((pulls(node), node.state().stats.from_orderer), (0, 0));
        assert!((2..=4).contains(&requests(node)), "{}", requests(node));
    }
    group.stop().await;
}

/// While the standby pulls, the puller gets from it what it says to have brought.
#[tokio::test(start_paused = true)]
async fn who_keeps_blocks_back_again_and_again_does_so_ever_more_seldom() {
    let mut group = Group::start(2).await;
    group.blocks = chain(2400, 10);
    group.first_orderer_withholds(5);
    group.settles(&[0]).await;
    let (mut stood, mut changes, mut role) = (0, Vec::new(), Role::Standby);
    for second in 1..=1200 {
        group.order_up_to(second + 1);
        sleep(SECOND).await;
        let state = group.nodes[1].state();
        stood += u32::from(state.chain.height.get() < second as u64);
        let now = state.leadership.unwrap().role;
        if now != role {
            role = now;
            changes.push(second);
        }
    }
    assert!(stood <= 240, "{stood} s, changes at {changes:?}");
    group.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_of_an_idle_channel_asks_seldom_and_pulls_nothing() {
    let group = Group::start(3).await;
    group.settles(&[0]).await;
    group.order_up_to(5);
    group.all_reach(5).await;
    let patience = Config::default().provider.censorship_timeout;
    group.stays(&[0], patience * 20).await;
    let asked = group.nodes[1].orderer.requests();
    assert!((15..=20).contains(&asked.len()), "{} times", asked.len());
    assert!(
        asked
            .iter()
            .all(|(_, request)| request.start == Start::At(5.into()))
    );
    let second = requests(&group.nodes[2]);
    assert!((7..=10).contains(&second), "{second} times");
    group.stop().await;
}

/// The first standby is there and looks after nobody, as one that is told never to pull.
#[tokio::test(start_paused = true)]
async fn a_standby_that_does_not_look_costs_time_and_not_the_channel() {
    let group = Group::prepare(3).await;
    group.first_orderer_withholds(5);
    group.nodes[0].elect().await;
    group.nodes[2].elect().await;
    group.settles(&[0]).await;
    group.order_up_to(20);
    group.all_reach(5).await;
    let kept_back = Instant::now();
    let patience = Config::default().provider.censorship_timeout * 2;
    sleep(patience - SECOND).await;
    assert_eq!(group.nodes[2].state().chain.height, Height::new(5));
    group.all_reach(20).await;
    let took = kept_back.elapsed();
    assert!(took <= patience * 5 / 4 + SECOND * 2, "{took:?}");
    assert_eq!(leadership(&group.nodes[2]).role, Role::Beside);
    assert_eq!(requests(&group.nodes[1]), 0);
    group.stop().await;
}

/// Each probe goes to the next endpoint, and what is no next block proves nothing.
#[tokio::test(start_paused = true)]
async fn a_probe_that_brings_a_bad_block_changes_nothing() {
    let group = Group::prepare(2).await;
    let [first, second] = group.nodes.as_slice() else {
        unreachable!("two nodes were started")
    };
    let names = ["bad:1", "far:2", "silent:3", "good:4"];
    let endpoints: Vec<Endpoint> = names.iter().map(|name| name.parse().unwrap()).collect();
    second.orderer.set_endpoints(endpoints.clone());
    let forged = TestChain::forged(&group.blocks[1]);
    let script = |name, block: &Block| {
        let steps = vec![Step::Block(block.clone())];
        second.orderer.script(name, Opening::Stream(steps));
    };
    script("bad:1", &forged);
    script("far:2", &group.blocks[40]);
    first.elect().await;
    sleep(SECOND * 5).await;
    second.elect().await;
    let patience = Config::default().provider.censorship_timeout;
    sleep(patience * 5).await;
    let asked = second.orderer.requests();
    let asked: Vec<&Endpoint> = asked.iter().map(|(endpoint, _)| endpoint).collect();
    assert_eq!(asked[..3], [&endpoints[0], &endpoints[1], &endpoints[2]]);
    assert_eq!(leadership(second).role, Role::Standby);
    assert_eq!(second.state().stats.rejected, 1);
    group.stop().await;
}

/// What strangers say, and what nobody proved, keeps no one from pulling, whatever their place.
///
/// Covers: ELA-02
#[tokio::test(start_paused = true)]
async fn claims_of_strangers_and_without_proof_count_for_nothing() {
    let blocks = chain(6, 100);
    let (network, orders) = (MemoryNetwork::new(3), LiveChain::new(blocks.clone()));
    let unproven = NodeConfig {
        identity: None,
        ..NodeConfig::default()
    };
    let stranger = "another organisation";
    let mut claimants = Vec::new();
    let gossips = [
        (network.node_with("0-unproven", unproven), "node"),
        (network.node_of("0-stranger", stranger.into()), stranger),
    ];
    for (gossip, identity) in gossips {
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
        let node = Node::with(gossip, identity, &blocks[0], Config::default(), store).await;
        // It has a stream, and nothing comes on it.
        node.pull().await;
        claimants.push(node);
    }
    let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&blocks[0])]).await);
    let gossip = network.node("node-9");
    let node = Node::with(gossip, "node", &blocks[0], Config::default(), store).await;
    node.orderer.serve(ORDERER, &orders, Manner::HONEST);
    network.link_all(Link::default());
    let told = async {
        while node
            .state()
            .peers
            .values()
            .filter(|peer| peer.pulling)
            .count()
            < 2
        {
            sleep(STEP).await;
        }
    };
    within("the claims", told).await;
    node.elect().await;
    node.reaches(6).await;
    let alone = Leadership {
        role: Role::Puller,
        rank: 0,
        candidates: 1,
    };
    assert_eq!(leadership(&node), alone);
    node.stop().await;
    for node in claimants {
        node.stop().await;
    }
}

/// A node that shows a signed header far above the chain.
async fn claim_out_of_nowhere(group: &Group) -> (MemoryGossip, Membership) {
    let ahead = chain(60, 5);
    let liar = MemoryStore::after(49.into(), ahead[49].header_hash());
    let store = Arc::new(liar);
    block_api::BlockStore::append(&*store, vec![TestChain::verified(&ahead[50])])
        .await
        .unwrap();
    let (victim, genesis) = (&group.nodes[0], &group.blocks[0]);
    let (gossip, membership) = member(&group.network, "node-liar", victim, genesis, store).await;
    group.network.link_all(Link::default());
    let claim = TestChain::verified(&ahead[50]);
    membership.channel.publish(&claim).await.unwrap();
    (gossip, membership)
}

/// Where one identity satisfies BlockValidation, anybody of the orderers' organisation may sign a
/// header of any number: it is a hint, and takes nobody's channel over.
#[tokio::test(start_paused = true)]
async fn a_header_out_of_nowhere_makes_nobody_pull() {
    let group = Group::start(2).await;
    group.settles(&[0]).await;
    let (gossip, _membership) = claim_out_of_nowhere(&group).await;
    // The header is a hint, which is good for one question in a censorship timeout.
    let (patience, rounds) = (Config::default().provider.censorship_timeout, 10);
    for round in 1..=rounds {
        group.stays(&[0], patience).await;
        for node in &group.nodes {
            assert!(requests(node) <= 1 + round, "{:?}", node.orderer.requests());
        }
    }
    assert_eq!((pulls(&group.nodes[0]), pulls(&group.nodes[1])), (1, 0));
    let state = group.nodes[1].state();
    assert_eq!(
        state.peers[&NodeId::new("node-liar")].height,
        Height::new(51)
    );
    assert_eq!(state.leadership.unwrap().role, Role::Standby);
    gossip.stop().await;
    group.stop().await;
}

/// A hint has the orderers asked for ranges. What they bring was kept back by the puller all the same.
#[tokio::test(start_paused = true)]
async fn a_header_out_of_nowhere_does_not_cover_for_a_puller_that_withholds() {
    let group = Group::start(2).await;
    group.first_orderer_withholds(5);
    group.settles(&[0]).await;
    group.order_up_to(5);
    group.all_reach(5).await;
    let (gossip, _membership) = claim_out_of_nowhere(&group).await;
    let mut height = 5;
    let found = async {
        while leadership(&group.nodes[1]).role != Role::Beside {
            height += 1;
            group.order_up_to(height);
            sleep(SECOND * 6).await;
        }
    };
    // What the ranges bring puts the standby's look off, but for so long only.
    let patience = Config::default().provider.censorship_timeout;
    tokio::time::timeout(patience * 6, found).await.unwrap();
    gossip.stop().await;
    group.stop().await;
}
