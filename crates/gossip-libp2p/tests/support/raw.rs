// SPDX-License-Identifier: Apache-2.0
//! A client that is none of ours, without a swarm: one connection, and streams negotiated by hand.

pub(crate) mod proof;
pub(crate) mod rpc;

use std::{
    collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration,
};

use block_api::testing::within;
use blockcast_gossip_libp2p::Multiaddr;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::{
    Transport,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
        transport::{DialOpts, PortUse},
    },
    identity,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use self::proof::Prove;

/// Who the enemy is, as far as identities go.
pub(crate) const OUTSIDER: &[u8] = b"\x0a\x08outsider";

/// A connection to one node.
pub(crate) struct Raw {
    opening: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    heard: Heard,
    /// Whether the connection is gone.
    gone: watch::Receiver<bool>,
    _tasks: JoinSet<()>,
}

/// What a node sent on streams that it opened: the protocol, and the bytes until now.
type Heard = watch::Sender<Vec<(String, Vec<u8>)>>;

/// What the client answers on streams of one protocol that the node opens, once something came.
pub(crate) type Script = Arc<dyn Fn(usize) -> Vec<(Duration, Vec<u8>)> + Send + Sync>;

impl Raw {
    /// Connects with the key of this seed, and proves this identity. Streams of the protocol that the
    /// node opens are answered by the script, whose argument counts them; others are heard.
    pub(crate) async fn connect(
        seed: [u8; 32],
        address: &Multiaddr,
        script: Option<(&'static str, Script)>,
    ) -> Self {
        Self::proving(seed, address, script, OUTSIDER).await
    }

    /// The same with this identity.
    pub(crate) async fn proving(
        seed: [u8; 32],
        address: &Multiaddr,
        script: Option<(&'static str, Script)>,
        identity: &[u8],
    ) -> Self {
        let raw = Self::dial(seed, address, script, Some(proof::named(identity))).await;
        raw.expect("the node takes the proof")
    }

    /// Connects, and proves this or nothing; `None` when the node hangs up.
    pub(crate) async fn dial(
        seed: [u8; 32],
        address: &Multiaddr,
        script: Option<(&'static str, Script)>,
        prove: Option<Prove>,
    ) -> Option<Self> {
        let muxer = within("the connection", dial(seed, address, prove)).await?;
        let (opening, wanted) = mpsc::channel(1024);
        let (is_gone, gone) = watch::channel(false);
        let heard = Heard::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(muxer, wanted, heard.clone(), script, is_gone));
        Some(Self {
            opening,
            heard,
            gone,
            _tasks: tasks,
        })
    }

    /// A stream on which nothing was said yet; `None` when the node takes no more of them.
    pub(crate) async fn open(&self) -> Option<SubstreamBox> {
        let (reply, opened) = oneshot::channel();
        self.opening.send(reply).await.ok()?;
        opened.await.ok()
    }

    /// A stream of a protocol.
    pub(crate) async fn stream(&self, protocol: &str) -> Option<SubstreamBox> {
        let mut stream = self.open().await?;
        let offer = [line("/multistream/1.0.0"), line(protocol)].concat();
        stream.write_all(&offer).await.ok()?;
        stream.flush().await.ok()?;
        for expected in ["/multistream/1.0.0", protocol] {
            if read_line(&mut stream).await? != expected {
                return None;
            }
        }
        Some(stream)
    }

    /// What came on streams of protocols that begin so.
    pub(crate) fn heard(&self, protocol: &str) -> Vec<u8> {
        let heard = self.heard.borrow();
        let of_protocol = heard.iter().filter(|(name, _)| name.starts_with(protocol));
        of_protocol.flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Waits until something is in what came on streams of protocols that begin so; `None` when the
    /// node hung up before.
    pub(crate) async fn hears<T>(
        &self,
        protocol: &str,
        find: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let (mut heard, mut gone) = (self.heard.subscribe(), self.gone.clone());
        loop {
            heard.mark_unchanged();
            if let Some(found) = find(&self.heard(protocol)) {
                return Some(found);
            }
            tokio::select! {
                changed = heard.changed() => changed.ok()?,
                _ = gone.wait_for(|gone| *gone) => return find(&self.heard(protocol)),
            }
        }
    }

    pub(crate) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Waits until the node hung up.
    pub(crate) async fn hung_up_on(&self) {
        let mut gone = self.gone.clone();
        let hung_up = async { gone.wait_for(|gone| *gone).await.is_ok() };
        assert!(within("hanging up", hung_up).await);
    }
}

/// Whether this is anywhere in what was heard.
pub(crate) fn contains(heard: &[u8], part: &[u8]) -> bool {
    heard.windows(part.len()).any(|window| window == part)
}

/// Whether a node takes a connection of this key, which proves itself, and keeps it for long enough to
/// say anything.
pub(crate) async fn is_taken(seed: [u8; 32], address: &Multiaddr) -> bool {
    is_taken_as(seed, address, OUTSIDER).await
}

/// The same with this identity.
pub(crate) async fn is_taken_as(seed: [u8; 32], address: &Multiaddr, identity: &[u8]) -> bool {
    let Some(raw) = Raw::dial(seed, address, None, Some(proof::named(identity))).await else {
        return false;
    };
    let mut gone = raw.gone.clone();
    tokio::select! {
        answer = within("a word or a hang-up", raw.stream("/ipfs/ping/1.0.0")) => answer.is_some(),
        _ = gone.wait_for(|gone| *gone) => false,
    }
}

/// A frame of our streams.
pub(crate) async fn read_frame(stream: &mut SubstreamBox) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.ok()?;
    let [kind, length @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, payload))
}

async fn dial(seed: [u8; 32], address: &Multiaddr, prove: Option<Prove>) -> Option<StreamMuxerBox> {
    let key = identity::Keypair::ed25519_from_bytes(seed).unwrap();
    let mut transport = proof::connections(&key, "blockcast", prove);
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
    let (_, muxer) = tokio::select! {
        connected = dialled => connected.ok()?,
        () = transport_moves => unreachable!(),
    };
    Some(muxer)
}

/// Moves the connection forward: opens what is wanted, and takes what the node opens.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut wanted: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    heard: Heard,
    script: Option<(&'static str, Script)>,
    gone: watch::Sender<bool>,
) {
    let mut waiting = VecDeque::new();
    let mut incoming = JoinSet::new();
    let mut count = 0;
    loop {
        enum Step {
            Took(SubstreamBox),
            Opened(SubstreamBox),
            Wanted(oneshot::Sender<SubstreamBox>),
            Over,
        }
        let step = poll_fn(|cx| {
            if let Poll::Ready(wish) = wanted.poll_recv(cx) {
                return Poll::Ready(wish.map_or(Step::Over, Step::Wanted));
            }
            if !waiting.is_empty()
                && let Poll::Ready(opened) = muxer.poll_outbound_unpin(cx)
            {
                return Poll::Ready(opened.map_or(Step::Over, Step::Opened));
            }
            if let Poll::Ready(took) = muxer.poll_inbound_unpin(cx) {
                return Poll::Ready(took.map_or(Step::Over, Step::Took));
            }
            match muxer.poll_unpin(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Step::Over),
                Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
            }
        });
        match step.await {
            Step::Took(stream) => {
                count += 1;
                incoming.spawn(answer(stream, heard.clone(), script.clone(), count).map(drop));
            }
            Step::Opened(stream) => {
                let reply: Option<oneshot::Sender<_>> = waiting.pop_front();
                drop(reply.map(|reply| reply.send(stream)));
            }
            Step::Wanted(reply) => waiting.push_back(reply),
            Step::Over => break,
        }
    }
    gone.send_replace(true);
}

/// Hears what the node says on a stream that it opened; a ping is answered, as it keeps the connection.
async fn answer(
    mut stream: SubstreamBox,
    heard: Heard,
    script: Option<(&'static str, Script)>,
    count: usize,
) -> Option<()> {
    stream.write_all(&line("/multistream/1.0.0")).await.ok()?;
    let mut protocol = read_line(&mut stream).await?;
    if protocol == "/multistream/1.0.0" {
        protocol = read_line(&mut stream).await?;
    }
    stream.write_all(&line(&protocol)).await.ok()?;
    stream.flush().await.ok()?;
    let mut buffer = vec![0; 1 << 16];
    let mut place = 0;
    heard.send_modify(|heard| {
        place = heard.len();
        heard.push((protocol.clone(), Vec::new()));
    });
    let mut script = script.filter(|(of, _)| *of == protocol);
    loop {
        let read = stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        if protocol.starts_with("/ipfs/ping/") {
            stream.write_all(&buffer[..read]).await.ok()?;
            stream.flush().await.ok()?;
            continue;
        }
        heard.send_modify(|heard| heard[place].1.extend(&buffer[..read]));
        let Some((_, script)) = script.take() else {
            continue;
        };
        for (pause, bytes) in script(count) {
            tokio::time::sleep(pause).await;
            stream.write_all(&bytes).await.ok()?;
            stream.flush().await.ok()?;
        }
        stream.close().await.ok()?;
    }
}

/// A line of the negotiation: its length, itself, and a line feed.
fn line(text: &str) -> Vec<u8> {
    let mut line = rpc::varint(text.len() as u64 + 1);
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    line
}

async fn read_line(stream: &mut SubstreamBox) -> Option<String> {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.ok()?;
    text.pop();
    String::from_utf8(text).ok()
}
