// SPDX-License-Identifier: Apache-2.0
//! Starting and stopping.

use std::time::Duration;

use block_api::{
    Answer, Endpoint, Gossip, GossipError, SourceError, StreamRequest,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip, StartError};
use futures::FutureExt;
use tokio::{runtime::Handle, task::yield_now};

use crate::{
    member::{Member, line, network},
    support::{config, peers},
};

/// Covers: GSV-01, GCH-20
#[tokio::test(flavor = "multi_thread")]
async fn stopping_leaves_no_task_and_closes_every_operation() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let nodes = network(3, &[(0, 1), (1, 2), (0, 2)]).await;
    let (mut members, mut chain) = line(&nodes[..2]).await;
    let block = chain.data(100);
    members[0].publish(&block).await;
    let held = members[1].candidate().await;
    assert!(tasks() > before);
    let here = nodes[0].node_id();
    let source = members[1].membership.channel.source(&here).unwrap();
    within(
        "all of them",
        futures::future::join_all(nodes.iter().map(Gossip::stop)),
    )
    .await;
    // The runtime counts a task for a moment longer than the task lives.
    let ended = async {
        while tasks() > before {
            yield_now().await
        }
    };
    within("the end of all tasks", ended).await;

    for member in &mut members {
        while let Some(event) =
            within("the end of the events", member.membership.events.recv()).await
        {
            drop(event);
        }
        let closed = member
            .membership
            .channel
            .publish(&TestChain::verified(&block))
            .await;
        assert!(matches!(closed, Err(GossipError::Closed)), "{closed:?}");
        assert!(member.membership.channel.source(&here).is_none());
        within("leaving what is closed", member.membership.channel.leave()).await;
    }
    held.answer(Answer::Accept);
    let range = StreamRequest::range(chain.channel(), 0.into(), 1.into());
    let closed = source.open(&Endpoint::of_node(&here), &range).await.err();
    assert!(
        matches!(closed, Some(SourceError::Connect { .. })),
        "{closed:?}"
    );
    let address = nodes[1]
        .peer_addrs()
        .pop()
        .unwrap_or_else(|| format!("/ip4/127.0.0.1/tcp/1/p2p/{here}").parse().unwrap());
    assert!(nodes[0].add_peer(address).await.is_err());
    nodes[0].stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_that_is_dropped_stops_the_node() {
    let nodes = network(2, &[(0, 1)]).await;
    let [dropped, stays] = <[Libp2pGossip; 2]>::try_from(nodes).unwrap();
    let genesis = TestChain::new("ch").config();
    let member = Member::join(&dropped, "ch", &genesis).await;
    drop(dropped);
    // The channel is a handle too.
    assert_eq!(stays.peers().borrow().len(), 1);
    drop(member);
    peers(&stays, |peers| peers.is_empty()).await;
    stays.stop().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let key = Keypair::from_seed([1; 32]);
    let taken = Libp2pGossip::start(config(key.clone(), &[])).await.unwrap();
    let other = Keypair::from_seed([2; 32]);
    let same = Config {
        listen: taken.listen_addrs(),
        ..config(other.clone(), &[])
    };
    let address = taken.listen_addrs().remove(0).to_string();
    let error = Libp2pGossip::start(same).await.unwrap_err();
    assert!(
        matches!(error, StartError::Listen { .. }) && error.to_string().contains(&address),
        "{error}"
    );
    let nowhere = Config {
        listen: vec!["/memory/1".parse().unwrap()],
        ..config(other.clone(), &[])
    };
    let error = Libp2pGossip::start(nowhere).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
    let wrong = Config {
        heartbeat: Duration::ZERO,
        admission: Admission::Anyone,
        ..config(other, &[])
    };
    let error = Libp2pGossip::start(wrong).await.unwrap_err();
    assert!(error.to_string().contains("heartbeat"), "{error}");
    taken.stop().await;
    assert!(
        taken.stop().now_or_never().is_some(),
        "stopping again is no work"
    );
}
