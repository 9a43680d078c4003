// SPDX-License-Identifier: Apache-2.0
//! Whole nodes on channels whose organisations, consenters, endpoints and TLS authorities change.

use std::{num::NonZeroUsize, sync::Arc};

use block_api::{Height, SystemClock, testing::within};
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{CapabilityGroup, Change, Config, Consensus, DevOrderer, OrganizationSpec, Pace};
use gossip_libp2p::{Keypair, Libp2pGossip};

use crate::{
    harness::{self, Common},
    live::Live,
};

fn add(name: &str, nodes: usize) -> Change {
    Change::AddOrderers {
        organization: OrganizationSpec::orderer(name),
        nodes,
    }
}

fn remove(name: &str) -> Change {
    Change::RemoveOrderers {
        organization: name.to_owned(),
    }
}

fn tls_authority(name: &str) -> Change {
    Change::AddTlsAuthority {
        organization: name.to_owned(),
    }
}

fn newest_tls_authority_alone(name: &str) -> Change {
    Change::RemoveOldTlsAuthorities {
        organization: name.to_owned(),
    }
}

/// The nodes of an organisation.
fn ids(live: &Live, organization: &str) -> Vec<u32> {
    let nodes = live.orderer.network().unwrap().nodes().iter();
    nodes
        .filter(|node| node.organization() == organization)
        .map(|node| node.id())
        .collect()
}

/// Has an organisation come that orders, and all that ordered before leave: what the genesis block
/// says of orderers is of no use any more. Who pulls must have heard of the new one before.
async fn all_new(live: &mut Live, name: &str, nodes: usize) {
    let network = live.orderer.network().unwrap();
    let before = network.orderers().iter();
    let leave: Vec<Change> = before.map(|orderer| remove(orderer.name())).collect();
    live.change(&[add(name, nodes)]).await;
    live.spread().await;
    live.change(&leave).await;
    live.spread().await;
    assert_eq!(live.source().1, name);
}

/// Gives an organisation another authority for TLS and its nodes certificates of it, and moves them.
async fn renewed(live: &mut Live, name: &str) {
    live.change(&[tls_authority(name)]).await;
    live.spread().await;
    let nodes = ids(live, name);
    let mut changes = vec![newest_tls_authority_alone(name)];
    changes.extend(
        nodes
            .iter()
            .map(|node| Change::ReplaceCertificates { node: *node }),
    );
    live.change(&changes).await;
    live.spread().await;
    // One after the other, so that who is asked where the others are is still there.
    for node in nodes {
        let (before, _) = live.source();
        let moves = live.orderer.node(node).unwrap().endpoint() == &before;
        live.change(&[Change::MoveNode { node }]).await;
        live.spread().await;
        if moves {
            assert_ne!(live.source().0, before);
        }
    }
}

/// Covers: CFT-29, INT-07, VER-21
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bft_channel_whose_orderers_come_and_go() {
    let mut live = Live::start(Consensus::Bft).await;
    live.change(&[add("Third", 3)]).await;
    live.change(&[Change::ReplaceCertificates { node: 1 }])
        .await;
    live.change(&[Change::MoveNode { node: 3 }]).await;
    live.spread().await;
    // Its nodes answer NOT_FOUND from here on.
    let (endpoint, source) = live.source();
    live.change(&[remove(&source)]).await;
    live.spread().await;
    let (other, organization) = live.source();
    assert!(endpoint != other && source != organization);
    all_new(&mut live, "Last", 4).await;
    renewed(&mut live, "Last").await;
    live.end().await;
}

/// Covers: CFT-29, INT-07, VER-21
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_channel_whose_orderers_come_and_go() {
    let mut live = Live::start(Consensus::Raft).await;
    live.change(&[Change::ReplaceCertificates { node: 2 }])
        .await;
    live.spread().await;
    let (_, source) = live.source();
    live.change(&[add("Third", 1), remove(&source)]).await;
    all_new(&mut live, "Last", 2).await;
    renewed(&mut live, "Last").await;
    live.end().await;
}

/// In maintenance nobody but orderers is given blocks: a node asks until it is over.
///
/// Covers: INT-08
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_moves_from_raft_to_bft() {
    let mut live = Live::start(Consensus::Raft).await;
    live.blocks(5).await;
    live.spread().await;
    let v3 = Change::SetCapability {
        group: CapabilityGroup::Channel,
        name: "V3_0".to_owned(),
    };
    for change in [Change::EnterMaintenance, v3, Change::MigrateToBft] {
        live.orderer.change(&[change]).await.unwrap();
    }
    live.nodes.signer.signs(3).await;
    assert!(live.orderer.stats().requests_failed > 0);
    let ordered = live.ordered().info().height;
    let stored = live.nodes.all[0].state().chain.height;
    assert!(stored < ordered, "{stored} of {ordered}");
    live.orderer
        .change(&[Change::LeaveMaintenance])
        .await
        .unwrap();
    live.blocks(5).await;
    live.spread().await;
    // And on as any BFT channel does.
    let (_, source) = live.source();
    live.change(&[add("Third", 3), remove(&source)]).await;
    live.end().await;
}

/// The one that pulls is stopped and started again, on a chain whose genesis block names nobody who
/// is still there; then one comes that has nothing but the genesis block, when no orderer is there
/// at all.
///
/// Covers: INT-05, VER-21
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_return_or_come_late_follow_every_configuration() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let mut live = Live::start(consensus).await;
        live.change(&[add("Third", 3)]).await;
        live.change(&[Change::ReplaceCertificates { node: 6 }])
            .await;
        all_new(&mut live, "Last", 2).await;

        live.nodes.all.remove(0).stop().await;
        live.change(&[add("Newest", 1)]).await;
        let gossip = first_again(&live).await;
        let puller = live.nodes.start(0, true, gossip).await;
        live.nodes.all.insert(0, puller);
        live.spread().await;
        let stats = live.nodes.all[0].stats();
        assert_eq!(
            stats.from_orderer, 7,
            "what was ordered while it was away, from orderers that its store names"
        );
        live.change(&[Change::ReplaceCertificates { node: 8 }])
            .await;

        let (mut nodes, spare, ordered) = live.stop_orderers().await;
        let late = nodes.start(3, true, spare).await;
        nodes.all.push(late);
        nodes.reach(Height::new(ordered.len() as u64)).await;
        nodes.end(&ordered).await;
    }
}

/// The member of the network that was the first one, at another port.
async fn first_again(live: &Live) -> Libp2pGossip {
    let signer = live.orderer.client().unwrap().signer();
    let mut config = gossip_libp2p::Config::new(Keypair::from_seed([1; 32]), signer);
    let others = live.nodes.all.iter().map(|node| &node.gossip);
    for other in others.chain([&live.spare]) {
        config.peers.extend(other.peer_addrs());
    }
    Libp2pGossip::start(config).await.unwrap()
}

/// A node that stopped pulling goes on with the endpoints and TLS roots of the configuration in
/// force, which others brought.
///
/// Covers: NEW-05
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulling_goes_on_by_the_configuration_that_came_meanwhile() {
    let mut config = Config::new("ch".parse().unwrap(), Arc::new(SystemClock));
    config.network.consensus = Consensus::Bft;
    config.nodes.count = NonZeroUsize::new(4).unwrap();
    let mut orderer = DevOrderer::start(config).await.unwrap();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let signer = orderer.client().unwrap().signer();
    let common = Common::of(&orderer, readers, signer);
    let (_dirs, nodes) = harness::nodes(&common, 2).await;
    let [first, second] = &nodes[..] else {
        panic!("there are two nodes")
    };
    first.pull().await;
    orderer.generate(3, 100, Pace::AllAtOnce).await.unwrap();
    first.reaches(4).await;
    second.reaches(4).await;
    let stop = first.service.stop_deliver_for_channel(&first.channel);
    within("the end of pulling", stop).await.unwrap();

    second.pull().await;
    orderer.change(&[add("Other", 4)]).await.unwrap();
    second.reaches(5).await;
    orderer.change(&[remove("Orderer")]).await.unwrap();
    first.reaches(6).await;
    second.reaches(6).await;
    let stop = second.service.stop_deliver_for_channel(&second.channel);
    within("the end of pulling", stop).await.unwrap();

    first.pull().await;
    orderer.generate(3, 100, Pace::AllAtOnce).await.unwrap();
    let tip = first.reaches(9).await;
    assert_eq!(second.reaches(9).await, tip);
    let stats = [first.state().stats, second.state().stats];
    assert_eq!(stats.map(|stats| stats.from_orderer), [6, 2]);
    assert_eq!(stats.map(|stats| stats.rejected), [0, 0]);
    for node in nodes {
        node.stop().await;
    }
    orderer.stop().await;
}
