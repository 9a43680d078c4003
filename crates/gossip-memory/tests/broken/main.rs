// SPDX-License-Identifier: Apache-2.0
//! Every promise of the conformance suite can be broken, and the suite says so: backends that are
//! each wrong in one way. And a backend that can do less is asked less.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails here is meant to panic"
)]

mod broken;
mod channel;

use std::{panic::AssertUnwindSafe, sync::Arc};

use block_api::{
    Capabilities, Gossip,
    testing::gossip_conformance::{self, Case, Topology},
};
use blockcast_gossip_memory::{Link, MemoryGossip, MemoryNetwork, NodeConfig};
use futures::FutureExt as _;

use crate::broken::{Broken, Flaw};

/// Each flaw, and the cases that must find it.
const FOUND: &[(Flaw, &[Case])] = &[
    (Flaw::ChangesItsMind, &[Case::Capabilities]),
    (Flaw::KnowsNobody, &[Case::Capabilities, Case::Statuses]),
    (Flaw::LosesEverySecond, &[Case::Delivery]),
    (Flaw::NeverForwards, &[Case::Delivery, Case::Order]),
    (Flaw::SaysItIsTheSender, &[Case::Delivery]),
    (Flaw::OnlyHigherNumbers, &[Case::Order]),
    (Flaw::Repeats, &[Case::Duplicates]),
    (Flaw::HearsItself, &[Case::OwnBlocks, Case::Alone]),
    (Flaw::SignsForNobody, &[Case::Alone]),
    (Flaw::ForwardsFirst, &[Case::Validation]),
    (Flaw::CutsOff, &[Case::Validation, Case::Forgery]),
    (Flaw::FirstOfItsHash, &[Case::Forgery]),
    (
        Flaw::GivesAnotherBlock,
        &[Case::BigBlocks, Case::Fetch, Case::Ranges],
    ),
    (Flaw::AnnouncesConfig, &[Case::ConfigBlocks]),
    (Flaw::LeavesHoles, &[Case::Ranges]),
    (Flaw::AlwaysSucceeds, &[Case::Ranges]),
    (Flaw::KnowsStrangers, &[Case::Ranges, Case::Membership]),
    (Flaw::TellsOnce, &[Case::Statuses]),
    (Flaw::KeepsTheTip, &[Case::Statuses]),
    (Flaw::TakesAnyIdentity, &[Case::Identities]),
    (Flaw::MissesNobody, &[Case::Membership, Case::Stopping]),
    (Flaw::AsksNobody, &[Case::Readers]),
    (Flaw::CutsOffTheBlamed, &[Case::Blame]),
    (Flaw::AsksOnce, &[Case::Fetch]),
    (Flaw::IgnoresGenesis, &[Case::Channels]),
    (Flaw::MixesChannels, &[Case::Channels]),
    (Flaw::QueuesEverything, &[Case::SlowReceiver]),
    (Flaw::PublisherWaits, &[Case::SlowReceiver]),
    (Flaw::OneQueue, &[Case::BackPressure]),
    (Flaw::JoinsTwice, &[Case::Leaving]),
    (Flaw::NeverEnds, &[Case::Leaving, Case::Stopping]),
    (Flaw::NeverCloses, &[Case::Leaving, Case::Stopping]),
];

fn network(topology: &Topology, flaw: Flaw) -> Vec<Arc<dyn Gossip>> {
    let network = MemoryNetwork::new(1);
    let mut nodes: Vec<MemoryGossip> = Vec::new();
    for (index, signer) in topology.signers.iter().enumerate() {
        let config = NodeConfig {
            // Without nodes to ask for it, everything comes whole.
            inline_limit: match flaw.is_broker() {
                true => usize::MAX,
                false => NodeConfig::default().inline_limit,
            },
            identity: Some(signer.identity()),
            asks_readers: flaw != Flaw::AsksNobody,
            ..NodeConfig::default()
        };
        nodes.push(network.node_with(&format!("node-{index}"), config));
    }
    for &(a, b) in &topology.links {
        network.link(&nodes[a].node_id(), &nodes[b].node_id(), Link::default());
    }
    let signers = topology.signers.iter().cloned();
    let broken = |(node, signer)| Arc::new(Broken::new(node, signer, flaw)) as Arc<dyn Gossip>;
    nodes.into_iter().zip(signers).map(broken).collect()
}

/// What the suite says of a flaw; `None` when it does not find it.
async fn verdict(flaw: Flaw, case: Case) -> Option<String> {
    let run = gossip_conformance::run_case(case, async |topology| network(&topology, flaw));
    let panic = AssertUnwindSafe(run).catch_unwind().await.err()?;
    let said = panic.downcast_ref::<String>().cloned();
    Some(said.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned()))
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_every_flaw() {
    let mut missed = Vec::new();
    for (flaw, cases) in FOUND {
        for case in *cases {
            if verdict(*flaw, *case).await.is_none() {
                missed.push((flaw, case));
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_case_can_fail() {
    for case in Case::ALL {
        let finds = FOUND.iter().any(|(_, cases)| cases.contains(case));
        assert!(finds, "nothing makes {case:?} fail");
    }
}

/// What wraps the broken backends breaks nothing by itself.
#[tokio::test(start_paused = true)]
async fn without_a_flaw_the_suite_is_content() {
    for case in Case::ALL {
        assert_eq!(verdict(Flaw::None, *case).await, None, "{case:?}");
    }
}

/// A broker forwards before anybody judged and knows no nodes: where it says so, that is no flaw.
#[tokio::test(start_paused = true)]
async fn what_a_broker_says_it_cannot_do_is_not_asked() {
    for case in Case::ALL {
        assert_eq!(verdict(Flaw::IsABroker, *case).await, None, "{case:?}");
    }
    let nodes = network(&Case::Delivery.topology(), Flaw::IsABroker);
    assert_eq!(nodes[0].capabilities(), Capabilities::broker());
}

/// That false blocks come does not mean that they may hide true ones, nor that blocks may be lost.
#[tokio::test(start_paused = true)]
async fn what_a_broker_promises_is_asked() {
    for (flaw, case) in [
        (Flaw::BrokerOfFirstCopies, Case::Forgery),
        (Flaw::BrokerThatFilters, Case::Validation),
        (Flaw::BrokerThatRepeats, Case::Duplicates),
        (Flaw::BrokerWithSources, Case::Ranges),
        (Flaw::BrokerThatQueuesEverything, Case::SlowReceiver),
    ] {
        assert!(verdict(flaw, case).await.is_some(), "{flaw:?}");
    }
}
