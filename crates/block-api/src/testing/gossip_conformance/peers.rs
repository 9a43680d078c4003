// SPDX-License-Identifier: Apache-2.0
//! What nodes know of each other, where the backend knows its nodes.

use super::{
    bodies::BIG,
    node::{Network, joined, stop},
    topology::NAMES,
};
use crate::{
    BlockNumber, BlockStore, BlockVerifier, GossipEvent, Height, Standing, Verdict,
    testing::{TestChain, TestVerifier, within},
};

pub(super) async fn statuses_follow_the_chain(network: Network) {
    if !network.capabilities().knows_peers {
        return network.stop().await;
    }
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let id = first.id();
    let status = second.status(&id, "the first status", |_| true).await;
    assert_eq!(
        (status.first, status.height, status.pulling),
        (BlockNumber::GENESIS, Height::new(1), false)
    );

    let block = chain.data(BIG);
    first
        .store
        .append(vec![TestChain::verified(&block)])
        .await
        .expect("the block links");
    let status = second
        .status(&id, "a status of the new height", |status| {
            status.height == Height::new(2)
        })
        .await;
    let tip = status.tip.expect("a status with a height has a tip");
    assert!(!tip.has_data(), "the tip comes without data");
    assert!(
        matches!(
            TestVerifier::default().verify_attestation(&tip, Standing::Linked),
            Verdict::Accepted(_)
        ),
        "the tip proves itself"
    );
    assert_eq!(tip.header_hash(), block.header_hash());

    first.membership.channel.set_pulling(true);
    second
        .status(&id, "a status that says pulling", |status| status.pulling)
        .await;
    first.membership.channel.set_pulling(false);
    second
        .status(&id, "a status that says not pulling", |status| {
            !status.pulling
        })
        .await;
    stop(nodes).await;
}

pub(super) async fn nodes_are_known_by_their_identities(network: Network) {
    if !network.capabilities().knows_peers {
        return network.stop().await;
    }
    let (mut nodes, _) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    first.membership.channel.set_pulling(true);
    let what = "a status with an identity";
    let told = async {
        // It may be told before it is proven, and is told again then.
        loop {
            if let GossipEvent::Status {
                identity: Some(identity),
                ..
            } = second.event(what).await
            {
                return identity;
            }
        }
    };
    let [name, ..] = NAMES;
    assert_eq!(
        within(what, told).await,
        name.as_bytes(),
        "it is the one of the signer"
    );
    stop(nodes).await;
}

pub(super) async fn neighbours_are_known_and_missed(network: Network) {
    if !network.capabilities().knows_peers {
        return network.stop().await;
    }
    let (mut nodes, _) = joined(&network).await;
    let [first, middle, last] = nodes.as_mut_slice() else {
        unreachable!("three nodes were started")
    };
    let (first_id, middle_id, last_id) = (first.id(), middle.id(), last.id());
    for id in [&first_id, &last_id] {
        assert!(
            middle.membership.channel.source(id).is_some(),
            "who is linked is a source"
        );
    }
    for (end, other) in [(&*first, &last_id), (&*last, &first_id)] {
        assert!(
            end.membership.channel.source(&middle_id).is_some(),
            "who is linked is a source"
        );
        assert!(
            end.membership.channel.source(other).is_none(),
            "who is not linked is no source"
        );
    }
    within("stopping", middle.gossip.stop()).await;
    for end in [first, last] {
        end.misses(&middle_id).await;
        assert!(
            end.membership.channel.source(&middle_id).is_none(),
            "who left is no source"
        );
    }
    stop(nodes).await;
}
