// SPDX-License-Identifier: Apache-2.0
//! What a client hears of a node on gossipsub, and the answers to its requests.

use std::collections::{BTreeSet, VecDeque};

use block_api::{
    Block,
    testing::within,
    wire::{Fields, Value},
};
use blockcast_gossip_libp2p::Multiaddr;
use futures::AsyncWriteExt;
use libp2p::core::muxing::SubstreamBox;

use crate::raw::{
    Raw,
    proof::Prove,
    read_frame,
    rpc::{self, BLOCKS, BODIES, MESH},
};

/// A connection to one node.
pub(crate) struct Session {
    raw: Raw,
    speaking: Option<SubstreamBox>,
    /// How much of what came on gossipsub was read, and what of that nobody asked for yet.
    read: usize,
    heard: VecDeque<Heard>,
}

/// What a node said on gossipsub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Subscribes(String),
    Message {
        topic: String,
        data: Vec<u8>,
    },
    /// The node sends what comes on a topic from here on.
    Links(String),
}

impl Session {
    /// Connects with the key of this seed, and proves this; `None` when the node hangs up.
    pub(crate) async fn connect(
        seed: [u8; 32],
        address: &Multiaddr,
        prove: Option<Prove>,
    ) -> Option<Self> {
        Some(Self {
            raw: Raw::dial(seed, address, None, prove).await?,
            speaking: None,
            read: 0,
            heard: VecDeque::new(),
        })
    }

    /// Whether the node speaks a protocol with this client.
    pub(crate) async fn speaks(&self, protocol: &str) -> bool {
        within("an answer", self.raw.stream(protocol))
            .await
            .is_some()
    }

    /// Says something on gossipsub.
    pub(crate) async fn say(&mut self, parts: &[Vec<u8>]) {
        if self.speaking.is_none() {
            self.speaking = within("gossipsub", self.raw.stream(MESH)).await;
        }
        let stream = self.speaking.as_mut().unwrap();
        stream.write_all(&rpc::rpc(parts)).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// The next thing that the node says; `None` when it hung up.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        while self.heard.is_empty() {
            let next = self
                .raw
                .hears("/meshsub/", |bytes| first(&bytes[self.read..]));
            let (length, rpc) = within("a word of the node", next).await?;
            self.read += length;
            self.heard.extend(heard(&rpc));
        }
        self.heard.pop_front()
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Heard::Message { topic, data } = self.hear().await.unwrap() {
                return (topic, data);
            }
        }
    }

    /// All that the node sent until now, on any protocol.
    pub(crate) fn everything(&self) -> Vec<u8> {
        self.raw.heard("")
    }

    /// Waits until the node has subscribed to these topics.
    pub(crate) async fn hears_of(&mut self, topics: &[&str]) {
        let mut missing: BTreeSet<&str> = topics.iter().copied().collect();
        while !missing.is_empty() {
            if let Heard::Subscribes(topic) = self.hear().await.unwrap() {
                missing.remove(topic.as_str());
            }
        }
    }

    /// Waits until the node links with this client on these topics.
    pub(crate) async fn is_linked(&mut self, topics: &[&str]) {
        let mut missing: BTreeSet<&str> = topics.iter().copied().collect();
        while !missing.is_empty() {
            if let Heard::Links(topic) = self.hear().await.unwrap() {
                missing.remove(topic.as_str());
            }
        }
    }

    async fn ask(&self, protocol: &str, request: &[u8]) -> SubstreamBox {
        let mut stream = self.raw.stream(protocol).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// Asks for the body of a block, and gives the kind and the payload of the first answer.
    pub(crate) async fn body(&self, topic: &str, block: &Block) -> (u8, Vec<u8>) {
        let request = rpc::request_for_body(topic, block);
        let mut stream = self.ask(BODIES, &request).await;
        within("an answer", read_frame(&mut stream)).await.unwrap()
    }

    /// Asks for every block of a channel, and gives the kinds of the frames that come, and the
    /// payload of the last one, which is the status.
    pub(crate) async fn range(&self, topic: &str) -> (Vec<u8>, Vec<u8>) {
        let mut stream = self.ask(BLOCKS, &rpc::request_for_all(topic)).await;
        let (mut kinds, mut last) = (Vec::new(), Vec::new());
        let answer = async {
            while let Some((kind, payload)) = read_frame(&mut stream).await {
                kinds.push(kind);
                last = payload;
            }
        };
        within("the answer", answer).await;
        (kinds, last)
    }
}

/// The first RPC in these bytes, and how long it is with its length; `None` while it is not all there.
fn first(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut length, mut shift, mut at) = (0, 0, 0);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << shift;
        (shift, at) = (shift + 7, at + 1);
        if byte < 0x80 {
            break;
        }
    }
    let rpc = bytes.get(at..at + length)?;
    Some((at + length, rpc.to_vec()))
}

fn heard(rpc: &[u8]) -> Vec<Heard> {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
    let fields = Fields::new(rpc).map(|field| field.unwrap());
    let said = fields.filter_map(|field| match (field.number, field.value) {
        (1, Value::Bytes(subscription, _)) => {
            Some(Heard::Subscribes(text(bytes_of(subscription, 2))))
        }
        (2, Value::Bytes(message, _)) => Some(Heard::Message {
            topic: text(bytes_of(message, 4)),
            data: bytes_of(message, 2).unwrap(),
        }),
        (3, Value::Bytes(control, _)) => {
            let graft = bytes_of(control, 3)?;
            Some(Heard::Links(text(bytes_of(&graft, 1))))
        }
        _ => None,
    });
    said.collect()
}

fn bytes_of(message: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut fields = Fields::new(message).map(|field| field.unwrap());
    let field = fields.find(|field| field.number == number)?;
    let Value::Bytes(bytes, _) = field.value else {
        return None;
    };
    Some(bytes.to_vec())
}
