// SPDX-License-Identifier: Apache-2.0
//! Who pulls, among nodes with identities of two organisations.

use std::{sync::Arc, time::Duration};

use block_api::{SystemClock, testing::within};
use channel_config::{ChannelAccess, ChannelVerifier};
use deliver_service::{Leadership, Role};
use dev_orderer::{Config, DevOrderer, OrganizationSpec, Pace, Role as Member};
use tokio::time::{MissedTickBehavior, interval};

use crate::harness::{Common, Node, all_met, gossip_of};

/// How often it is looked whether the nodes are as wanted.
const LOOK: Duration = Duration::from_millis(20);

fn leadership(node: &Node) -> Leadership {
    node.state().leadership.unwrap()
}

/// Waits until of these nodes one pulls and all others would take over, and says which.
async fn one_pulls(nodes: &[Node]) -> usize {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let settled = async {
        loop {
            looks.tick().await;
            let (mut pullers, mut standbys) = (Vec::new(), 0);
            for (index, node) in nodes.iter().enumerate() {
                match leadership(node) {
                    Leadership {
                        role: Role::Puller, ..
                    } => pullers.push(index),
                    Leadership {
                        role: Role::Standby,
                        candidates,
                        ..
                    } if candidates == nodes.len() => standbys += 1,
                    _ => {}
                }
            }
            if let ([puller], true) = (pullers.as_slice(), standbys + 1 == nodes.len()) {
                return *puller;
            }
        }
    };
    within("one puller among its standbys", settled).await
}

/// Covers: GSV-02, GSV-06, ELE-06, ELA-02
#[tokio::test(flavor = "multi_thread")]
async fn each_organisation_has_one_puller_and_another_one_when_it_is_gone() {
    let mut config = Config::new("elect".parse().unwrap(), Arc::new(SystemClock));
    config.network.applications = ["Org1", "Org2"].map(OrganizationSpec::application).to_vec();
    let orderer = DevOrderer::start(config).await.unwrap();
    let organisations = orderer.network().unwrap().applications();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let mut common = Common::of(
        &orderer,
        Arc::new(ChannelAccess::readers(&verifier)),
        orderer.client().unwrap().signer(),
    );
    common.delivery.takeover = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    let signers = (0..4).map(|index| {
        // The last one is of another organisation.
        let organisation = &organisations[index / 3];
        let member = organisation.issue(&format!("node{index}"), Member::Peer);
        member.unwrap().signer()
    });
    let signers: Vec<_> = signers.collect();
    let gossips = gossip_of(signers.clone()).await;
    for (index, (gossip, signer)) in gossips.into_iter().zip(signers).enumerate() {
        common.signer = signer;
        let chain = dir.path().join(index.to_string());
        nodes.push(Node::start(&common, &chain, gossip).await);
    }
    all_met(nodes.iter().map(|node| &node.gossip)).await;
    for node in &nodes {
        node.elect().await;
    }
    orderer.generate(20, 1000, Pace::AllAtOnce).await.unwrap();
    for node in &nodes {
        node.reaches(21).await;
    }
    let alone = nodes.split_off(3);
    let first = one_pulls(&nodes).await;
    assert_eq!(one_pulls(&alone).await, 0);
    assert_eq!(leadership(&alone[0]).candidates, 1);

    nodes.remove(first).stop().await;
    orderer.generate(20, 1000, Pace::AllAtOnce).await.unwrap();
    one_pulls(&nodes).await;
    let tip = alone[0].reaches(41).await;
    for node in &nodes {
        assert_eq!(node.reaches(41).await, tip);
    }
    for node in nodes.into_iter().chain(alone) {
        node.stop().await;
    }
    orderer.stop().await;
}
