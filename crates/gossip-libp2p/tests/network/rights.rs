// SPDX-License-Identifier: Apache-2.0
//! Nodes whose rights change, or that have some here and none there.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use block_api::{
    Answer, Block, Clock, DeliverStatus, Delivery, Endpoint, Gossip, GossipEvent, StreamRequest,
    testing::{MemberKey, MemberReaders, TestChain, within},
};
use blockcast_gossip_libp2p::{Config, Libp2pGossip};
use futures::StreamExt;

use crate::{
    member::Member,
    strangers::{ORG1, ORG2, of_member},
    support::{connect, linked, peers},
};

/// A clock that a test moves.
#[derive(Debug)]
struct Hand(Mutex<SystemTime>);

impl Clock for Hand {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// A node of each organisation, and the readers of the first one, who lets its own in alone.
struct Pair {
    nodes: [Libp2pGossip; 2],
    members: [Member; 2],
    chain: TestChain,
    readers: Arc<MemberReaders>,
}

impl Pair {
    /// The second node lets everyone of both organisations read, and dials for ever.
    async fn start(here: Config) -> Self {
        let here = Libp2pGossip::start(here).await.unwrap();
        let there = of_member(ORG2);
        let there = Libp2pGossip::start(Config {
            redial_cap: Duration::from_millis(300),
            peers: here.peer_addrs(),
            ..there
        })
        .await
        .unwrap();
        let mut chain = TestChain::new("ch");
        let genesis = chain.config();
        let readers = Arc::new(MemberReaders::of(&["Org1MSP"]));
        let both = Arc::new(MemberReaders::of(&["Org1MSP", "Org2MSP"]));
        let members = [
            Member::join_with(&here, "ch", &genesis, readers.clone()).await,
            Member::join_with(&there, "ch", &genesis, both).await,
        ];
        Self {
            nodes: [here, there],
            members,
            chain,
            readers,
        }
    }

    /// The second one is in the channel, and known as who it is.
    async fn meet(&mut self) {
        let [here, there] = &mut self.members;
        loop {
            if let GossipEvent::Status { identity, .. } =
                here.event("the status of the other").await
            {
                assert_eq!(identity.unwrap(), ORG2.serialized());
                break;
            }
        }
        there.hears(&[&self.nodes[0]]).await;
        let block = self.chain.data(100);
        here.publish(&block).await;
        let candidate = there.candidate().await;
        assert_eq!(candidate.answer(Answer::Accept).number(), block.number());
    }

    /// The first one hangs up, and what it publishes then goes nowhere.
    async fn is_cut_off(&mut self) -> Block {
        let [here, there] = &mut self.members;
        // Nothing goes to it from the change on, however long the connection takes to close.
        let block = self.chain.data(100);
        here.publish(&block).await;
        loop {
            match here.event("its leaving").await {
                GossipEvent::Left(node) => break assert_eq!(node, self.nodes[1].node_id()),
                GossipEvent::Status { .. } | GossipEvent::Candidate(_) => {}
            }
        }
        loop {
            match there.event("being left").await {
                GossipEvent::Left(node) => break assert_eq!(node, self.nodes[0].node_id()),
                GossipEvent::Status { .. } => {}
                GossipEvent::Candidate(candidate) => panic!("{:?}", candidate.block()),
            }
        }
        peers(&self.nodes[0], |peers| peers.is_empty()).await;
        block
    }

    async fn is_refused(&self) {
        let before = self.nodes[0].stats().proofs_refused;
        let refused = async {
            while self.nodes[0].stats().proofs_refused < before + 2 {
                tokio::task::yield_now().await;
            }
        };
        within("being refused, and dialling again", refused).await;
        assert!(self.nodes[0].peers().borrow().is_empty());
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// Covers: GOS-12, GCH-21, GCH-22
#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_comes_and_goes_with_the_configuration() {
    let mut pair = Pair::start(of_member(ORG1)).await;
    pair.is_refused().await;
    pair.readers.add("Org2MSP");
    pair.meet().await;
    pair.readers.remove("Org2MSP");
    pair.is_cut_off().await;
    pair.is_refused().await;
    pair.readers.add("Org2MSP");
    pair.meet().await;
    pair.stop().await;
}

/// Covers: GCH-23, STA-13
#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_or_expires_is_cut_off() {
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let clock = Arc::new(Hand(Mutex::new(begin)));
    let config = Config {
        clock: clock.clone(),
        ..of_member(ORG1)
    };
    let mut pair = Pair::start(config).await;
    pair.readers.set_expiry(&ORG2, begin);
    pair.readers.add("Org2MSP");
    pair.meet().await;
    *clock.0.lock().unwrap() = begin + Duration::from_secs(1);
    peers(&pair.nodes[0], |peers| peers.is_empty()).await;
    pair.is_refused().await;
    // It has a newer one.
    pair.readers
        .set_expiry(&ORG2, begin + Duration::from_secs(2));
    pair.meet().await;
    pair.readers.revoke(&ORG2);
    pair.is_cut_off().await;
    pair.is_refused().await;
    pair.stop().await;
}

/// A node of both channels has other members in each.
///
/// Covers: GOS-09, GCH-09, GCH-10
#[tokio::test(flavor = "multi_thread")]
async fn channels_of_other_organisations_stay_apart_on_one_network() {
    let here = Libp2pGossip::start(of_member(ORG1)).await.unwrap();
    let there = Libp2pGossip::start(of_member(ORG2)).await.unwrap();
    let (mut private, mut common) = (TestChain::new("private"), TestChain::new("common"));
    let genesis = [private.config(), common.config()];
    let readers = |names: &[&str]| Arc::new(MemberReaders::of(names));
    let both = ["Org1MSP", "Org2MSP"];
    let private_here =
        Member::join_with(&here, "private", &genesis[0], readers(&["Org1MSP"])).await;
    let mut common_here = Member::join_with(&here, "common", &genesis[1], readers(&both)).await;
    // It knows the private channel by name and hash, and has joined it by itself.
    let mut private_there = Member::join_with(&there, "private", &genesis[0], readers(&both)).await;
    let mut common_there = Member::join_with(&there, "common", &genesis[1], readers(&both)).await;
    connect(&there, &here).await;
    common_there.hears(&[&here]).await;
    common_here.hears(&[&there]).await;

    private_here.publish(&private.data(100)).await;
    common_here.publish(&common.data(100)).await;
    drop(common_there.candidate().await);
    assert!(private_there.membership.events.try_recv().is_err());
    // What it claims of the private channel is heard by nobody.
    private_there.publish(&private.data(100)).await;
    common_there.publish(&common.data(100)).await;
    drop(common_here.candidate().await);
    let Member { mut membership, .. } = private_here;
    assert!(membership.events.try_recv().is_err());
    assert!(membership.channel.source(&there.node_id()).is_none());

    // It finds the node in its channel and asks it.
    let source = private_there.membership.channel.source(&here.node_id());
    if let Some(source) = source {
        let endpoint = Endpoint::of_node(&here.node_id());
        let range = StreamRequest::range(private.channel(), 0.into(), 1.into());
        let mut stream = within("opening", source.open(&endpoint, &range))
            .await
            .unwrap();
        let first = within("an answer", stream.next()).await;
        assert!(
            matches!(first, Some(Ok(Delivery::Status(DeliverStatus::Forbidden)))),
            "{first:?}"
        );
    }
    for node in [here, there] {
        node.stop().await;
    }
}

/// A subscription that came too early is heard when it is due: a node says it once.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_before_it_may_is_heard_once_it_may() {
    let here = Libp2pGossip::start(of_member(ORG1)).await.unwrap();
    let there = Libp2pGossip::start(of_member(ORG2)).await.unwrap();
    let (mut first, mut second) = (TestChain::new("first"), TestChain::new("second"));
    let genesis = [first.config(), second.config()];
    let both = || Arc::new(MemberReaders::of(&["Org1MSP", "Org2MSP"]));
    let strict = Arc::new(MemberReaders::of(&["Org1MSP"]));
    let _first = [
        Member::join_with(&here, "first", &genesis[0], both()).await,
        Member::join_with(&there, "first", &genesis[0], both()).await,
    ];
    let mut late = Member::join_with(&there, "second", &genesis[1], both()).await;
    connect(&there, &here).await;
    // This node joins what the other one is in already, and lets it read only then.
    let mut member = Member::join_with(&here, "second", &genesis[1], strict.clone()).await;
    let mut connections = here.peers();
    connections.mark_unchanged();
    strict.add("Org2MSP");
    member.hears(&[&there]).await;
    late.hears(&[&here]).await;
    member.publish(&second.data(100)).await;
    drop(late.candidate().await);
    assert!(
        !connections.has_changed().unwrap(),
        "on the same connection"
    );
    for node in [here, there] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_organisation_does_not_take_all_places() {
    let here = Config {
        max_peers_per_org: NonZeroUsize::new(1),
        ..of_member(ORG1)
    };
    let here = Libp2pGossip::start(here).await.unwrap();
    let genesis = TestChain::new("ch").config();
    let both = || Arc::new(MemberReaders::of(&["Org1MSP", "Org2MSP"]));
    let mut members = vec![Member::join_with(&here, "ch", &genesis, both()).await];
    let mut nodes = Vec::new();
    let keys = ["first", "second", "third"].map(|name| MemberKey {
        organisation: "Org2MSP",
        name,
    });
    for key in [keys[0], keys[1], ORG1, keys[2]] {
        let node = Libp2pGossip::start(of_member(key)).await.unwrap();
        members.push(Member::join_with(&node, "ch", &genesis, both()).await);
        nodes.push(node);
    }
    connect(&nodes[0], &here).await;
    nodes[1]
        .add_peer(here.peer_addrs().remove(0))
        .await
        .unwrap();
    let refused = async {
        while here.stats().connections_refused < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("being refused, and once more", refused).await;
    assert!(!here.peers().borrow().contains(&nodes[1].node_id()));
    connect(&nodes[2], &here).await;
    // Whom this node wants to be connected to is not refused.
    here.add_peer(nodes[3].peer_addrs().remove(0))
        .await
        .unwrap();
    linked(&here, &nodes[3].node_id()).await;
    assert!(here.peers().borrow().contains(&nodes[0].node_id()));
    drop(members);
    here.stop().await;
    for node in nodes {
        node.stop().await;
    }
}
