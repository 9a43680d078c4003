// SPDX-License-Identifier: Apache-2.0
//! Who may have the blocks of a channel, and what becomes of those who misbehave.

use std::{sync::Arc, time::SystemTime};

use futures::StreamExt as _;

use super::{
    node::{Network, Node, chain, joined, joined_to, stop},
    topology::NAMES,
};
use crate::{
    Answer, Delivery, Endpoint, Fault, NodeId, Readers, ReadersDenied, StreamRequest,
    testing::{OpenReaders, TestChain, within},
};

/// All but the last node may read.
#[derive(Debug)]
struct AllButTheLast;

impl Readers for AllButTheLast {
    fn may_read(
        &self,
        identity: &[u8],
        _: &[u8],
        _: &[u8],
        _: SystemTime,
    ) -> Result<(), ReadersDenied> {
        let [readers @ .., _] = NAMES;
        match readers.iter().any(|name| name.as_bytes() == identity) {
            true => Ok(()),
            false => Err(ReadersDenied::new("it is the last one")),
        }
    }

    fn generation(&self) -> u64 {
        0
    }
}

pub(super) async fn who_may_not_read_gets_nothing(network: Network) {
    if !network.capabilities().knows_peers {
        return network.stop().await;
    }
    let mut chain = chain();
    let genesis = chain.config();
    let mut nodes = Vec::new();
    // The last one would let everybody read, itself included.
    let readers: [Arc<dyn Readers>; 3] = [
        Arc::new(AllButTheLast),
        Arc::new(AllButTheLast),
        Arc::new(OpenReaders),
    ];
    for (index, readers) in readers.into_iter().enumerate() {
        let joined = network.try_join_with(index, "ch", &genesis, readers).await;
        nodes.push(joined.expect("a channel can be joined"));
    }
    // In another channel all three are readers.
    let mut open = TestChain::new("open");
    let mut others = joined_to(&network, "open", &open.config()).await;
    let ([first, second, last], [first_too, second_too, last_too]) =
        (nodes.as_mut_slice(), others.as_mut_slice())
    else {
        unreachable!("three nodes were started")
    };
    let (first_id, second_id) = (first.id(), second.id());
    first.status(&second_id, "the first status", |_| true).await;
    second.status(&first_id, "the first status", |_| true).await;

    let block = chain.data(100);
    first.publish(&block).await;
    let arrived = second.candidate().await.answer(Answer::Accept);
    assert_eq!(arrived.number(), block.number(), "a reader has the block");
    // What both of the others send behind it shows that it did not come.
    for maker in [first_too, second_too] {
        let marker = open.data(100);
        maker.publish(&marker).await;
        let arrived = last_too.candidate().await.answer(Answer::Ignore);
        assert_eq!(arrived.number(), marker.number());
    }
    let leaked = last.waiting_candidate();
    assert!(leaked.is_none(), "it came to no reader: {leaked:?}");
    assert!(
        !last.has_heard_statuses(),
        "how the chain stands was told to no reader"
    );
    for id in [first_id, second_id] {
        gives_nothing(last, &id).await;
    }
    stop(nodes).await;
}

async fn gives_nothing(asker: &Node, node: &NodeId) {
    let Some(source) = asker.membership.channel.source(node) else {
        return;
    };
    let request = StreamRequest::range(chain().channel(), 0.into(), 1.into());
    let endpoint = Endpoint::of_node(node);
    let opened = source.open(&endpoint, &request);
    if let Ok(mut stream) = within("opening a range", opened).await {
        while let Some(delivery) = within("the end of a range", stream.next()).await {
            assert!(
                !matches!(delivery, Ok(Delivery::Block(_))),
                "a range was given to no reader"
            );
        }
    }
}

pub(super) async fn blame_is_borne(network: Network) {
    let (mut nodes, mut chain) = joined(&network).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    for node in [first.id(), second.id(), NodeId::new("nobody")] {
        for fault in [Fault::Invalid, Fault::Stalled] {
            second.membership.channel.blame(&node, fault);
        }
    }
    let block = chain.data(100);
    first.publish(&block).await;
    let arrived = second.candidate().await.answer(Answer::Accept);
    assert_eq!(arrived.number(), block.number(), "a slip cuts nobody off");
    if network.capabilities().knows_peers {
        let source = second.membership.channel.source(&first.id());
        assert!(source.is_some(), "a slip cuts nobody off");
    }
    within("leaving", second.membership.channel.leave()).await;
    second.membership.channel.blame(&first.id(), Fault::Invalid);
    stop(nodes).await;
}
