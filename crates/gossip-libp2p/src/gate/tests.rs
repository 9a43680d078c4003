// SPDX-License-Identifier: Apache-2.0
//! How the pinned gossipsub prints what the gate must tell apart.

use block_api::wire::{put_bytes, put_uint};
use futures::{StreamExt as _, io::Cursor};
use libp2p::{
    core::upgrade::{InboundUpgrade as _, UpgradeInfo as _},
    swarm::ConnectionHandler as _,
};

use super::*;
use crate::behaviour::OwnNames;

fn field(number: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, &parts.concat());
    out
}

fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    field(number, &[content.to_vec()])
}

/// What gossipsub's own handler makes of an RPC.
async fn read(rpc: &[Vec<u8>]) -> Report {
    let settings = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .build()
        .unwrap();
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: OwnNames,
        max_subscribed_topics: 10,
        max_subscriptions_per_request: 10,
    };
    let author = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossipsub = Gossipsub::new_with_subscription_filter(author, settings, filter).unwrap();
    let (connection, address) = (ConnectionId::new_unchecked(1), Multiaddr::empty());
    let handler = gossipsub
        .handle_established_inbound_connection(connection, PeerId::random(), &address, &address)
        .unwrap();
    let (protocol, ()) = handler.listen_protocol().into_upgrade();
    let protocol = protocol.left().unwrap();
    let name = protocol.protocol_info().pop().unwrap();
    // The length stands before it, as before a field.
    let framed = bytes(1, &rpc.concat()).split_off(1);
    let opened = protocol.upgrade_inbound(Cursor::new(framed), name).await;
    let (mut reports, _) = opened.unwrap();
    reports.next().await.unwrap().unwrap()
}

/// With a version that prints in another way this fails, and nothing of it would pass the gate: see
/// what else it changed, and teach the gate.
#[tokio::test]
async fn every_control_message_of_the_pinned_version_is_understood() {
    let topic = || bytes(1, b"topic");
    let control = [
        field(1, &[topic(), bytes(2, b"had")]),
        field(2, &[bytes(1, b"wanted"), bytes(1, &[0xab; 40])]),
        field(2, &[]),
        field(3, &[topic()]),
        field(4, &[topic()]),
        field(5, &[bytes(1, b"not wanted")]),
    ];
    let Report::Message { rpc, .. } = read(&[field(3, &control)]).await else {
        panic!("it is a message")
    };
    let ids: [&[u8]; 2] = [b"wanted", &[0xab; 40]];
    let asks: Vec<Asked> = rpc.control_msgs.iter().map(asked).collect();
    let wanted = Asked::Messages(ids.map(MessageId::new).into());
    let none = Asked::Messages(Vec::new());
    assert_eq!(asks.len(), 7, "{:?}", rpc.control_msgs);
    assert!(asks.contains(&wanted) && asks.contains(&none), "{asks:?}");
    assert!(!asks.contains(&Asked::Unknown), "{:?}", rpc.control_msgs);
    let kinds: BTreeSet<String> = rpc
        .control_msgs
        .iter()
        .filter_map(|control| Some(format!("{control:?}").split_once('(')?.0.to_owned()))
        .collect();
    assert_eq!(
        kinds,
        ASK_NOTHING
            .into_iter()
            .chain(["IWant"])
            .map(str::to_owned)
            .collect()
    );
}

#[tokio::test]
async fn both_words_of_subscriptions_are_understood() {
    let name = "ab".repeat(32);
    let says = |subscribe| {
        let mut said = Vec::new();
        put_uint(&mut said, 1, subscribe);
        field(1, &[said, bytes(2, name.as_bytes())])
    };
    let Report::Message { rpc, .. } = read(&[says(1), says(0)]).await else {
        panic!("it is a message")
    };
    let words: Vec<_> = rpc
        .subscriptions
        .iter()
        .map(|said| word(&said.action))
        .collect();
    assert_eq!(words, [Some(Word::Subscribe), Some(Word::Unsubscribe)]);
}

#[test]
fn what_prints_in_another_way_is_not_let_through() {
    struct Prints(&'static str);
    impl fmt::Debug for Prints {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    let unknown = [
        "",
        "IWant",
        "IWant(IWant { ids: [MessageId(ab)] })",
        "IWant(IWant { message_ids: [ab] })",
        "IWant(IWant { message_ids: [MessageId(ab..)] })",
        "IWant(IWant { message_ids: [MessageId(ab)], more: [MessageId(cd)] })",
        "IWanted(IWant { message_ids: [MessageId(ab)] })",
        "IRequest(IRequest { message_ids: [MessageId(ab)] })",
        "Control { kind: IHave(1) }",
    ];
    for text in unknown {
        assert_eq!(asked(&Prints(text)), Asked::Unknown, "{text}");
    }
    for text in ["", "Sub", "Subscribed", "Unsubscribe { now: true }"] {
        assert_eq!(word(&Prints(text)), None, "{text}");
    }
}
