// SPDX-License-Identifier: Apache-2.0
//! What a client gets that has proven nothing, or something else.

use std::sync::Arc;

use block_api::{
    Answer, Block, Gossip,
    testing::{MemberKey, MemberReaders, TestChain, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};

use crate::{
    member::Member,
    raw::{
        contains,
        proof::{self, Prove, Talk},
        rpc::{self, id_of},
    },
    session::{Heard, Session},
    support::config,
};

pub(crate) const ORG1: MemberKey = MemberKey {
    organisation: "Org1MSP",
    name: "node",
};
pub(crate) const ORG2: MemberKey = MemberKey {
    organisation: "Org2MSP",
    name: "node",
};

/// A node of this member, which lets in whoever may read a channel of it.
pub(crate) fn of_member(member: MemberKey) -> Config {
    Config {
        signer: Arc::new(member),
        admission: Admission::Members,
        ..config(Keypair::generate(), &[])
    }
}

/// A node of the first organisation that listens in every way it can.
async fn open_to_all() -> Libp2pGossip {
    let mut config = of_member(ORG1);
    if cfg!(feature = "quic") {
        config
            .listen
            .push("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
    }
    Libp2pGossip::start(config).await.unwrap()
}

/// The name of the topic of a channel.
fn topic_of(channel: &str, genesis: &Block) -> String {
    rpc::topic(&channel.parse().unwrap(), &genesis.header_hash())
}

async fn refusals(node: &Libp2pGossip, count: u64) {
    let refused = async {
        while node.stats().proofs_refused < count {
            tokio::task::yield_now().await;
        }
    };
    within("the refusal", refused).await;
}

/// Covers: GCH-12, GOS-08, GOS-09
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_proves_nothing_is_told_nothing() {
    let node = open_to_all().await;
    let genesis = TestChain::new("ch").config();
    let readers = Arc::new(MemberReaders::of(&["Org1MSP"]));
    let member = Member::join_with(&node, "ch", &genesis, readers).await;
    for (count, address) in (1..).zip(node.peer_addrs()) {
        let mut client = Session::connect([66; 32], &address, None).await.unwrap();
        let ours = [rpc::MESH, rpc::STATUS, rpc::BLOCKS, rpc::BODIES, rpc::PEERS];
        for protocol in ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"]
            .into_iter()
            .chain(ours)
        {
            assert!(!client.speaks(protocol).await, "{protocol}");
        }
        assert_eq!(client.hear().await, None, "it is hung up on");
        assert!(client.everything().is_empty(), "on a stream of the node");
        refusals(&node, count).await;
        assert!(node.peers().borrow().is_empty(), "no behaviour heard of it");
    }
    drop(member);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_true_proof_for_this_connection_opens_the_door() {
    let genesis = TestChain::new("ch").config();
    let readers = Arc::new(MemberReaders::of(&["Org1MSP"]));
    let identity = ORG1.serialized();
    let made = |make: fn(&Talk) -> Vec<u8>| {
        let identity = identity.clone();
        Arc::new(move |talk: &Talk| proof::payload(&identity, &make(talk))) as Prove
    };
    // What another client has proven once.
    let replayed = ORG1.signature(b"\0blockcast member 1\0 and some other nonces");
    let stolen = identity.clone();
    let wrong: Vec<(&str, Prove)> = vec![
        (
            "bent",
            made(|talk| {
                let mut signature = ORG1.signature(&talk.signed());
                *signature.last_mut().unwrap() ^= 1;
                signature
            }),
        ),
        (
            "by the other role",
            made(|talk| ORG1.signature(&talk.signed_as(2))),
        ),
        (
            "for another node",
            made(|talk| {
                let other = talk.own;
                ORG1.signature(
                    &Talk {
                        other,
                        ..talk.clone()
                    }
                    .signed(),
                )
            }),
        ),
        (
            "for another network",
            made(|talk| {
                ORG1.signature(
                    &Talk {
                        network: "other",
                        ..talk.clone()
                    }
                    .signed(),
                )
            }),
        ),
        (
            "by another key",
            made(|talk| ORG2.signature(&talk.signed())),
        ),
        ("of no reader", proof::honest(ORG2)),
        (
            "replayed",
            Arc::new(move |_| proof::payload(&stolen, &replayed)),
        ),
        ("no proof at all", Arc::new(|_| vec![0xff; 100])),
        ("too long", Arc::new(|_| vec![0; 40_000])),
    ];
    // Each way in has a node of its own: from one address so many calls in vain are too many.
    for way in 0..1 + usize::from(cfg!(feature = "quic")) {
        let node = open_to_all().await;
        let member = Member::join_with(&node, "ch", &genesis, readers.clone()).await;
        let mut addresses = node.peer_addrs();
        addresses.sort_by_key(ToString::to_string);
        let address = &addresses[way];
        for (count, (what, prove)) in (1..).zip(&wrong) {
            let client = Session::connect([66; 32], address, Some(prove.clone())).await;
            assert!(client.is_none(), "{what}");
            refusals(&node, count).await;
        }
        assert!(node.peers().borrow().is_empty());
        let mut client = Session::connect([66; 32], address, Some(proof::honest(ORG1)))
            .await
            .unwrap();
        client.hears_of(&[&topic_of("ch", &genesis)]).await;
        drop(client);
        let mut peers = node.peers();
        within("its leaving", peers.wait_for(|peers| peers.is_empty()))
            .await
            .unwrap();
        drop(member);
        node.stop().await;
    }
}

/// A member of one channel knows topic and messages of another one, and asks in every way there is.
///
/// Covers: GCH-09, GCH-10, GCH-12, GOS-09
#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_channel_gets_nothing_of_this_one() {
    let node = open_to_all().await;
    let (mut private, mut common) = (TestChain::new("private"), TestChain::new("common"));
    let genesis = [private.config(), common.config()];
    let readers = [&["Org1MSP"][..], &["Org1MSP", "Org2MSP"]];
    let [first, second] = readers.map(|readers| Arc::new(MemberReaders::of(readers)));
    let mut here = Member::join_with(&node, "private", &genesis[0], first).await;
    let there = Member::join_with(&node, "common", &genesis[1], second).await;
    let topics = [
        topic_of("private", &genesis[0]),
        topic_of("common", &genesis[1]),
    ];
    let [private_topic, common_topic] = &topics;

    for address in node.peer_addrs() {
        // One that may have both, and shows what there is to be had.
        let insider = Session::connect([65; 32], &address, Some(proof::honest(ORG1))).await;
        let outsider = Session::connect([66; 32], &address, Some(proof::honest(ORG2))).await;
        let (mut insider, mut outsider) = (insider.unwrap(), outsider.unwrap());
        for client in [&mut insider, &mut outsider] {
            client.hears_of(&[private_topic, common_topic]).await;
            // GRAFT for what it did not subscribe to, and again for what it did.
            client.say(&[rpc::graft(private_topic)]).await;
            let wishes = [rpc::subscribe, rpc::graft].map(|wish| {
                [private_topic, common_topic]
                    .map(|topic| wish(topic))
                    .concat()
            });
            client.say(&wishes).await;
        }
        // The node has heard who it links with.
        insider.is_linked(&[private_topic, common_topic]).await;
        outsider.is_linked(&[common_topic]).await;
        let blocks = [private.data(100), common.data(100)];
        here.publish(&blocks[0]).await;
        there.publish(&blocks[1]).await;
        let told = [insider.message().await, insider.message().await];
        let ids: Vec<Vec<u8>> = told
            .iter()
            .map(|(topic, data)| id_of(topic, data))
            .collect();
        let (topic, data) = outsider.message().await;
        assert_eq!(
            (&topic, &data),
            (common_topic, &told[1].1),
            "the common one alone"
        );

        // By its id, it gets what it may have.
        for client in [&mut insider, &mut outsider] {
            client.say(&[rpc::iwant(&ids[0])]).await;
            client.say(&[rpc::iwant(&ids[1])]).await;
        }
        assert_eq!(insider.message().await.0, *private_topic);
        assert_eq!(insider.message().await.0, *common_topic);
        assert_eq!(outsider.message().await.0, *common_topic);

        // By range, 403, as the last field says.
        let (kinds, status) = insider.range(private_topic).await;
        assert_eq!(
            (kinds.last(), kinds.len() > 1),
            (Some(&3), true),
            "{status:?}"
        );
        let forbidden = [1, 8, 0x93, 3];
        assert_eq!(
            outsider.range(private_topic).await,
            (vec![3], forbidden.to_vec())
        );
        assert!(outsider.range(common_topic).await.0.len() > 1);

        // And so by body.
        let forbidden = (3, forbidden.to_vec());
        assert_eq!(outsider.body(private_topic, &blocks[0]).await, forbidden);
        for (client, topic, block) in [
            (&insider, private_topic, &blocks[0]),
            (&outsider, common_topic, &blocks[1]),
        ] {
            assert_ne!(client.body(topic, block).await.0, 3);
        }

        // What it says about it is heard by nobody.
        let before = node.stats().not_entitled;
        let next = private.data(10);
        let message = rpc::whole(&next);
        outsider.say(&[rpc::publish(private_topic, &message)]).await;
        let ignored = async {
            while node.stats().not_entitled == before {
                tokio::task::yield_now().await;
            }
        };
        within("its message", ignored).await;
        insider.say(&[rpc::publish(private_topic, &message)]).await;
        let candidate = here.candidate().await;
        assert_eq!(
            candidate.from().as_str(),
            Keypair::from_seed([65; 32]).node_id().as_str()
        );
        candidate.answer(Answer::Ignore);
        let of_outsider = |heard: &Heard| match heard {
            Heard::Message { topic, .. } => topic == private_topic,
            Heard::Subscribes(_) | Heard::Links(_) => false,
        };
        here.publish(&next).await;
        insider.say(&[rpc::iwant(&ids[0])]).await;
        assert_eq!(insider.message().await.0, *private_topic);
        drop(insider);
        // Nothing of it came behind, either.
        there.publish(&common.data(10)).await;
        loop {
            let heard = outsider.hear().await.unwrap();
            assert!(!of_outsider(&heard), "{heard:?}");
            if matches!(heard, Heard::Message { .. }) {
                break;
            }
        }
        let everything = outsider.everything();
        for block in [&blocks[0], &next] {
            assert!(!contains(&everything, block.header_hash().as_ref()));
        }
        assert!(contains(&everything, blocks[1].header_hash().as_ref()));
        drop(outsider);
        let mut peers = node.peers();
        within("their leaving", peers.wait_for(|peers| peers.is_empty()))
            .await
            .unwrap();
    }
    drop((here, there));
    node.stop().await;
}
