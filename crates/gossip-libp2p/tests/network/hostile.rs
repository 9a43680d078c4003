// SPDX-License-Identifier: Apache-2.0
//! A libp2p client that is none of ours, and does what ours would not.

use std::{sync::Arc, time::Duration};

use block_api::{
    Answer, Block, Gossip, GossipEvent,
    testing::{TestChain, within},
};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip, Multiaddr, PeerId};
use futures::StreamExt;
use libp2p::{
    Swarm,
    gossipsub::{self, IdentTopic},
    identity,
    swarm::{self, NetworkBehaviour, SwarmEvent},
};

use crate::{
    member::{Member, line},
    raw::proof,
    support::{config, connect, peers},
};

#[derive(NetworkBehaviour)]
struct Bare {
    gossipsub: gossipsub::Behaviour,
}

/// A bare gossipsub node with the key of this seed.
struct Client {
    swarm: Swarm<Bare>,
    topic: gossipsub::TopicHash,
}

impl Client {
    /// Connects to a node, and learns the topic of its channel.
    async fn connect(seed: [u8; 32], address: Multiaddr) -> Self {
        let identity = identity::Keypair::ed25519_from_bytes(seed).unwrap();
        let settings = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Anonymous)
            .max_transmit_size(1 << 20)
            .message_id_fn(|message| message.data.clone().into())
            .build()
            .unwrap();
        let gossipsub =
            gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, settings).unwrap();
        // It has the identity of the other nodes.
        let proves = Arc::new(|talk: &proof::Talk| proof::payload(b"node", &talk.signed()));
        let mut swarm = Swarm::new(
            proof::connections(&identity, "blockcast", Some(proves)),
            Bare { gossipsub },
            identity.public().to_peer_id(),
            swarm::Config::with_tokio_executor(),
        );
        swarm.dial(address).unwrap();
        let subscribed = async {
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(BareEvent::Gossipsub(gossipsub::Event::Subscribed {
                    topic,
                    ..
                })) = event
                {
                    break topic;
                }
            }
        };
        let topic = within("the subscription of the node", subscribed).await;
        Self { swarm, topic }
    }

    fn send(&mut self, data: Vec<u8>) {
        self.swarm
            .behaviour_mut()
            .gossipsub
            .publish(self.topic.clone(), data)
            .unwrap();
    }

    /// Keeps the client going while something else is waited for.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => break done,
                _ = self.swarm.select_next_some() => {}
            }
        }
    }
}

/// The message of this kind for these bytes.
fn message(version: u8, form: u8, block: &[u8]) -> Vec<u8> {
    [&[version, form, 0, 0, 0, 0, 0, 0], block].concat()
}

fn whole(block: &Block) -> Vec<u8> {
    message(1, 1, &block.relay().to_bytes())
}

/// Two linked nodes in one channel, and a client that is admitted by the first.
async fn attacked() -> (Vec<Libp2pGossip>, Vec<Member>, TestChain, Client) {
    let seed = [66; 32];
    let keys = [
        Keypair::generate(),
        Keypair::generate(),
        Keypair::from_seed(seed),
    ];
    let admitted: Vec<&Keypair> = keys.iter().collect();
    let mut nodes = Vec::new();
    for key in &keys[..2] {
        nodes.push(
            Libp2pGossip::start(config(key.clone(), &admitted))
                .await
                .unwrap(),
        );
    }
    connect(&nodes[0], &nodes[1]).await;
    let (members, chain) = line(&nodes).await;
    let client = Client::connect(seed, nodes[0].peer_addrs().remove(0)).await;
    (nodes, members, chain, client)
}

/// Covers: NEW-11, GCH-01
#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_are_counted_and_good_ones_still_come() {
    let (nodes, mut members, mut chain, mut client) = attacked().await;
    let [first, second] = members.as_mut_slice() else {
        unreachable!()
    };
    let block = chain.data(100);
    let attestation = block.without_data();
    let bad = [
        vec![],
        vec![1, 1, 0],
        message(1, 1, &[]),
        message(1, 1, b"no block at all"),
        message(1, 1, attestation.raw()),
        message(1, 2, block.raw()),
    ];
    let ignored = [message(2, 1, block.raw()), message(1, 9, block.raw())];
    for data in bad.iter().chain(&ignored) {
        client.send(data.clone());
    }
    // A true header with false signatures, then the true block.
    let forged = TestChain::forged(&block);
    client.send(whole(&forged));
    client.send(whole(&block));
    for good in [false, true] {
        let candidate = client.during(first.candidate()).await;
        assert_eq!(candidate.block().header_hash(), block.header_hash());
        let marked = candidate.block().signatures_slot() == block.signatures_slot();
        assert_eq!(
            marked, good,
            "the forged copy comes first and hides nothing"
        );
        candidate.answer(if good { Answer::Accept } else { Answer::Reject });
    }
    let arrived = client
        .during(second.candidate())
        .await
        .answer(Answer::Accept);
    assert_eq!(
        arrived.signatures_slot(),
        block.signatures_slot(),
        "only the true block travels on"
    );
    let stats = nodes[0].stats();
    assert_eq!(
        (stats.malformed, stats.rejected, stats.accepted),
        (bad.len() as u64, 1, 1)
    );
    for node in nodes {
        client.during(node.stop()).await;
    }
}

/// A flood of candidates that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn candidates_beyond_the_queue_are_dropped_and_counted() {
    const MANY: u64 = 500;
    let (nodes, mut members, mut chain, mut client) = attacked().await;
    let [first, _] = members.as_mut_slice() else {
        unreachable!()
    };
    for _ in 0..MANY {
        let block = chain.data(100);
        client.send(whole(&block));
    }
    // What comes behind the flood shows that all of it came: statuses do not wait for candidates.
    let counters = || nodes[0].stats();
    let came = async {
        while counters().candidates + counters().candidates_dropped < MANY {
            tokio::task::yield_now().await;
        }
    };
    client.during(within("the whole flood", came)).await;
    let stats = counters();
    assert_eq!(
        (stats.candidates, stats.candidates_dropped),
        (64, MANY - 64)
    );
    for _ in 0..64 {
        drop(client.during(first.candidate()).await);
    }
    // Until then who sent the flood has its share of the queue alone.
    let answered = async {
        while counters().ignored < 64 {
            tokio::task::yield_now().await;
        }
    };
    client.during(within("the answers", answered)).await;
    let after = chain.data(100);
    client.send(whole(&after));
    let candidate = client.during(first.candidate()).await;
    assert_eq!(candidate.block().header_hash(), after.header_hash());
    let sender = blockcast_gossip_libp2p::peer_id(candidate.from());
    assert_eq!(sender, Some(*client.swarm.local_peer_id() as PeerId));
    for node in nodes {
        client.during(node.stop()).await;
    }
}

/// It takes part in gossip and answers no ping, as a peer does whose machine is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_no_ping_is_hung_up_on() {
    let seed = [67; 32];
    let quick = Config {
        ping_interval: Duration::from_millis(50),
        ping_timeout: Duration::from_millis(100),
        ..config(Keypair::generate(), &[&Keypair::from_seed(seed)])
    };
    let node = Libp2pGossip::start(quick).await.unwrap();
    let genesis = TestChain::new("ch").config();
    let mut member = Member::join(&node, "ch", &genesis).await;
    let mut client = Client::connect(seed, node.peer_addrs().remove(0)).await;
    client
        .swarm
        .behaviour_mut()
        .gossipsub
        .subscribe(&IdentTopic::new(client.topic.as_str()))
        .unwrap();
    let left = client.during(member.event("hanging up")).await;
    let id = Keypair::from_seed(seed).node_id();
    assert!(
        matches!(&left, GossipEvent::Left(node) if *node == id),
        "{left:?}"
    );
    peers(&node, |peers| peers.is_empty()).await;
    node.stop().await;
}
