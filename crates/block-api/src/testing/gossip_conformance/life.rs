// SPDX-License-Identifier: Apache-2.0
//! How a node takes part in channels, and how that ends.

use super::node::{Network, Node, chain, joined, joined_to, stop};
use crate::{
    Answer, GossipError, NodeId, VerifiedBlock,
    testing::{TestChain, within},
};

pub(super) async fn capabilities_stay(network: Network) {
    let said = network.capabilities();
    for gossip in network.iter() {
        assert_eq!(gossip.capabilities(), said, "nodes of one kind differ");
    }
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    first.membership.channel.set_pulling(true);
    first.publish(&chain.data(100)).await;
    let candidate = second.candidate().await;
    let source = second.membership.channel.source(candidate.from());
    assert_eq!(
        (source.is_some(), second.has_heard_statuses()),
        (said.knows_peers, said.knows_peers),
        "sources and statuses are had of nodes that are known"
    );
    drop(candidate);
    for gossip in network.iter() {
        assert_eq!(gossip.capabilities(), said, "they changed");
    }
    stop(nodes).await;
}

pub(super) async fn who_is_alone_signs_nothing(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [alone] = nodes.as_mut_slice() else {
        unreachable!("one node was started")
    };
    for _ in 0..3 {
        alone.publish(&chain.data(100)).await;
    }
    alone.membership.channel.set_pulling(true);
    let candidate = alone.waiting_candidate();
    assert!(candidate.is_none(), "from whom? {candidate:?}");
    within("leaving", alone.membership.channel.leave()).await;
    stop(nodes).await;
    assert_eq!(network.topology.signed(), 0, "nobody asked for a proof");
}

pub(super) async fn channels_stay_apart(network: Network) {
    // One name, two genesis blocks.
    let (mut here, mut there) = (chain(), chain());
    let (here_genesis, there_genesis) =
        (here.config(), there.entries(&[b"another genesis".to_vec()]));
    let here_node = network.join(0, "ch", &here_genesis).await;
    let mut there_node = network.join(1, "ch", &there_genesis).await;
    // Another channel, whose block comes when the first would have come.
    let mut other = TestChain::new("other");
    let mut others = joined_to(&network, "other", &other.config()).await;
    let [other_here, other_there] = others.as_mut_slice() else {
        unreachable!("two nodes were joined")
    };

    here_node.publish(&here.data(100)).await;
    let published = other.data(100);
    other_here.publish(&published).await;
    let arrived = other_there.candidate().await.answer(Answer::Accept);
    assert_eq!(
        arrived.header_hash(),
        published.header_hash(),
        "a block of another channel came"
    );
    let event = there_node.membership.events.try_recv();
    assert!(event.is_err(), "a block of another genesis came: {event:?}");
    stop(vec![here_node, there_node]).await;
}

pub(super) async fn leaving_ends_everything_in_a_channel(network: Network) {
    let knows_peers = network.capabilities().knows_peers;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let genesis = TestChain::new("ch").config();
    let again = network.try_join(0, "ch", &genesis).await;
    assert!(
        matches!(again, Err(GossipError::AlreadyJoined { .. })),
        "a channel is joined once"
    );

    let block = TestChain::verified(&chain.data(100));
    within("leaving", first.membership.channel.leave()).await;
    within("leaving again", first.membership.channel.leave()).await;
    let ended = async { while first.membership.events.recv().await.is_some() {} };
    within("the end of the events", ended).await;
    is_closed(first, "leaving", &block).await;

    let mut back = network.join(0, "ch", &genesis).await;
    if knows_peers {
        back.status(&second.id(), "a status after joining again", |_| true)
            .await;
        second
            .status(&back.id(), "a status of who joined again", |_| true)
            .await;
    }
    // The old handle is not that of the channel that was joined again.
    within("leaving once more", first.membership.channel.leave()).await;
    let block = chain.data(100);
    second.publish(&block).await;
    let arrived = back.candidate().await.answer(Answer::Ignore);
    assert_eq!(arrived.number(), block.number());
    stop(nodes).await;
}

pub(super) async fn stopping_ends_everything(network: Network) {
    let knows_peers = network.capabilities().knows_peers;
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    let leaver: NodeId = second.id();
    within("stopping", second.gossip.stop()).await;
    within("stopping again", second.gossip.stop()).await;
    if knows_peers {
        first.misses(&leaver).await;
        assert!(
            first.membership.channel.source(&leaver).is_none(),
            "who left is no source"
        );
    }
    let ended = async { while second.membership.events.recv().await.is_some() {} };
    within("the end of the events after stop", ended).await;
    let genesis = TestChain::new("ch").config();
    let closed = network.try_join(1, "ch", &genesis).await;
    assert!(
        matches!(closed, Err(GossipError::Closed)),
        "nothing is joined after stop"
    );
    let block = TestChain::verified(&chain.data(100));
    is_closed(second, "stop", &block).await;
    // Publishing to nobody is a success.
    first.publish_verified(&block).await;
    stop(nodes).await;
}

async fn is_closed(node: &Node, after: &str, block: &VerifiedBlock) {
    let closed = node.membership.channel.publish(block).await;
    assert!(
        matches!(closed, Err(GossipError::Closed)),
        "something was published after {after}: {closed:?}"
    );
}
