// SPDX-License-Identifier: Apache-2.0
//! A client without a swarm: one connection, gossipsub's messages and requests written by hand.

use std::{collections::BTreeSet, future::poll_fn, io, pin::Pin, task::Poll};

use block_api::{
    Block,
    testing::within,
    wire::{Fields, Value, put_bytes, put_uint},
};
use blockcast_gossip_libp2p::Multiaddr;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
        upgrade::Version,
    },
    identity,
};
use multistream_select::{Negotiated, dialer_select_proto, listener_select_proto};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::raw::{self, Prove};

const GOSSIPSUB: &str = "/meshsub/1.1.0";

/// A connection to one node.
pub(crate) struct Session {
    opening: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    heard: mpsc::Receiver<Heard>,
    speaking: Option<Negotiated<SubstreamBox>>,
    _tasks: JoinSet<()>,
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

/// One message to a node.
#[derive(Debug, Default)]
pub(crate) struct Rpc(Vec<u8>);

impl Rpc {
    pub(crate) fn subscribe(mut self, topic: &str) -> Self {
        let mut subscription = Vec::new();
        put_uint(&mut subscription, 1, 1);
        put_bytes(&mut subscription, 2, topic.as_bytes());
        put_bytes(&mut self.0, 1, &subscription);
        self
    }

    pub(crate) fn publish(mut self, topic: &str, data: &[u8]) -> Self {
        let mut message = Vec::new();
        put_bytes(&mut message, 2, data);
        put_bytes(&mut message, 4, topic.as_bytes());
        put_bytes(&mut self.0, 2, &message);
        self
    }

    pub(crate) fn graft(mut self, topic: &str) -> Self {
        let (mut graft, mut control) = (Vec::new(), Vec::new());
        put_bytes(&mut graft, 1, topic.as_bytes());
        put_bytes(&mut control, 3, &graft);
        put_bytes(&mut self.0, 3, &control);
        self
    }

    pub(crate) fn wants(mut self, id: &[u8]) -> Self {
        let (mut wants, mut control) = (Vec::new(), Vec::new());
        put_bytes(&mut wants, 1, id);
        put_bytes(&mut control, 2, &wants);
        put_bytes(&mut self.0, 3, &control);
        self
    }
}

impl Session {
    /// Connects with the key of this seed, and proves this; `None` when the node hangs up.
    pub(crate) async fn connect(
        seed: [u8; 32],
        address: &Multiaddr,
        prove: Option<Prove>,
    ) -> Option<Self> {
        let keys = identity::Keypair::ed25519_from_bytes(seed).unwrap();
        let mut transport = raw::connections(&keys, "blockcast", prove);
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let dialled = transport.dial(address.clone(), options).unwrap();
        // QUIC is moved by its transport.
        let transport_moves = poll_fn(|cx| {
            while Pin::new(&mut transport).poll(cx).is_ready() {}
            Poll::<()>::Pending
        });
        let connected = async {
            tokio::select! {
                connected = dialled => connected,
                () = transport_moves => unreachable!(),
            }
        };
        let (_, muxer) = within("an answer to the proof", connected).await.ok()?;
        let (opening, wishes) = mpsc::channel(16);
        let (hearing, heard) = mpsc::channel(1 << 16);
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(muxer, wishes, hearing));
        Some(Self {
            opening,
            heard,
            speaking: None,
            _tasks: tasks,
        })
    }

    async fn open(&self, protocol: &'static str) -> io::Result<Negotiated<SubstreamBox>> {
        let (reply, opened) = oneshot::channel();
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
        self.opening
            .send(reply)
            .await
            .map_err(|_| io::ErrorKind::ConnectionReset)?;
        let stream = opened.await.map_err(gone)?;
        let (_, stream) = dialer_select_proto(stream, [protocol], Version::V1)
            .await
            .map_err(io::Error::other)?;
        Ok(stream)
    }

    /// Whether the node speaks a protocol with this client.
    pub(crate) async fn speaks(&self, protocol: &'static str) -> bool {
        within("an answer", self.open(protocol)).await.is_ok()
    }

    /// Says something on gossipsub.
    pub(crate) async fn say(&mut self, rpc: Rpc) {
        if self.speaking.is_none() {
            self.speaking = Some(within("gossipsub", self.open(GOSSIPSUB)).await.unwrap());
        }
        let stream = self.speaking.as_mut().unwrap();
        let mut frame = Vec::new();
        block_api::wire::put_varint(&mut frame, rpc.0.len() as u64);
        frame.extend(rpc.0);
        stream.write_all(&frame).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// The next thing that the node says; `None` when it hung up.
    pub(crate) async fn hear(&mut self) -> Option<Heard> {
        within("a word of the node", self.heard.recv()).await
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Heard::Message { topic, data } = self.hear().await.unwrap() {
                return (topic, data);
            }
        }
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

    /// Asks for the body of a block, and gives the kind and the payload of the first answer.
    pub(crate) async fn body(&self, topic: &str, block: &Block) -> (u8, Vec<u8>) {
        let mut stream = self.open("/blockcast/bodies/1").await.unwrap();
        let mut ask = vec![1];
        put_bytes(&mut ask, 1, &hex::decode(topic).unwrap());
        put_uint(&mut ask, 2, block.number().get());
        put_bytes(&mut ask, 3, block.header_hash().as_ref());
        put_uint(&mut ask, 4, 1 << 20);
        put_uint(&mut ask, 6, 1);
        send(&mut stream, 10, &ask).await;
        let mut head = [0; 5];
        within("an answer", stream.read_exact(&mut head))
            .await
            .unwrap();
        let [kind, length @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        within("its rest", stream.read_exact(&mut payload))
            .await
            .unwrap();
        (kind, payload)
    }

    /// Asks for every block of a channel, and gives the kinds of the frames that come, and the last
    /// byte of the last one, which ends the status.
    pub(crate) async fn range(&self, topic: &str) -> (Vec<u8>, Vec<u8>) {
        let mut stream = self.open("/blockcast/blocks/1").await.unwrap();
        let mut request = vec![1];
        put_bytes(&mut request, 1, &hex::decode(topic).unwrap());
        for (field, value) in [(2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 1 << 20)] {
            put_uint(&mut request, field, value);
        }
        send(&mut stream, 1, &request).await;
        let (mut kinds, mut last) = (Vec::new(), Vec::new());
        let answer = async {
            let mut head = [0; 5];
            while stream.read_exact(&mut head).await.is_ok() {
                let [kind, length @ ..] = head;
                last = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut last).await.unwrap();
                kinds.push(kind);
            }
        };
        within("the answer", answer).await;
        (kinds, last)
    }
}

/// The id of a message.
pub(crate) fn id_of(topic: &str, data: &[u8]) -> Vec<u8> {
    let hash = Sha256::new().chain_update(topic).chain_update(data);
    hash.finalize().to_vec()
}

/// The name of the topic of a channel.
pub(crate) fn topic(channel: &str, genesis: &Block) -> String {
    let hash = Sha256::new()
        .chain_update(b"blockcast/topic/1")
        .chain_update(channel)
        .chain_update(genesis.header_hash());
    hex::encode(hash.finalize())
}

/// What the muxer has for the task that moves it.
enum Event {
    Wish(Option<oneshot::Sender<SubstreamBox>>),
    Incoming(SubstreamBox),
    Opened(SubstreamBox),
    Gone,
}

async fn drive(
    mut muxer: StreamMuxerBox,
    mut wishes: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    hearing: mpsc::Sender<Heard>,
) {
    let mut opening: Option<oneshot::Sender<SubstreamBox>> = None;
    let mut streams = JoinSet::new();
    loop {
        let event = poll_fn(|cx| {
            if opening.is_some() {
                match muxer.poll_outbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Event::Opened(stream)),
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Gone),
                    Poll::Pending => {}
                }
            } else if let Poll::Ready(wish) = wishes.poll_recv(cx) {
                return Poll::Ready(Event::Wish(wish));
            }
            loop {
                match muxer.poll_inbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Event::Incoming(stream)),
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Gone),
                    Poll::Pending => {}
                }
                match muxer.poll_unpin(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Gone),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        match event {
            Event::Wish(Some(wish)) => opening = Some(wish),
            Event::Opened(stream) => drop(opening.take().map(|wish| wish.send(stream))),
            Event::Incoming(stream) => {
                streams.spawn(listen(stream, hearing.clone()));
            }
            Event::Wish(None) | Event::Gone => return,
        }
    }
}

/// Hears what the node says on gossipsub; what it says otherwise is not taken.
async fn listen(stream: SubstreamBox, hearing: mpsc::Sender<Heard>) {
    let Ok((_, mut stream)) = listener_select_proto(stream, [GOSSIPSUB]).await else {
        return;
    };
    while let Some(rpc) = frame(&mut stream).await {
        for said in heard(&rpc) {
            if hearing.send(said).await.is_err() {
                return;
            }
        }
    }
}

async fn send(stream: &mut Negotiated<SubstreamBox>, kind: u8, payload: &[u8]) {
    let head = [&[kind][..], &(payload.len() as u32).to_be_bytes()].concat();
    stream.write_all(&[&head, payload].concat()).await.unwrap();
    stream.flush().await.unwrap();
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
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
