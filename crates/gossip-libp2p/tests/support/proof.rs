// SPDX-License-Identifier: Apache-2.0
//! Connections that prove what a test has them prove.

use std::{future::poll_fn, io, pin::pin, sync::Arc, task::Poll};

use block_api::testing::MemberKey;
use blockcast_gossip_libp2p::PeerId;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{
    Transport,
    core::{
        muxing::{StreamMuxerBox, StreamMuxerExt},
        transport::Boxed,
        upgrade::Version,
    },
    identity, noise, tcp, yamux,
};

/// The kinds of the frames of the proof.
const HELLO: u8 = 6;
const PROOF: u8 = 7;

/// What two nodes have told each other before the client proves itself.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    pub(crate) network: &'static str,
    pub(crate) own: PeerId,
    pub(crate) other: PeerId,
    pub(crate) nonces: [[u8; 32]; 2],
}

/// Makes the payload of the client's proof.
pub(crate) type Prove = Arc<dyn Fn(&Talk) -> Vec<u8> + Send + Sync>;

impl Talk {
    /// What a dialer signs.
    pub(crate) fn signed(&self) -> Vec<u8> {
        self.signed_as(1)
    }

    /// The same in another role.
    pub(crate) fn signed_as(&self, role: u8) -> Vec<u8> {
        let (own, other) = (self.own.to_bytes(), self.other.to_bytes());
        let mut signed = b"\0blockcast member 1\0".to_vec();
        signed.push(role);
        for part in [self.network.as_bytes(), &own, &other] {
            signed.push(part.len() as u8);
            signed.extend_from_slice(part);
        }
        signed.extend(self.nonces.concat());
        signed
    }
}

/// The payload of a proof.
pub(crate) fn payload(identity: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for part in [identity, signature] {
        payload.extend((part.len() as u32).to_be_bytes());
        payload.extend_from_slice(part);
    }
    payload
}

/// An honest proof of this member.
pub(crate) fn honest(member: MemberKey) -> Prove {
    Arc::new(move |talk| payload(&member.serialized(), &member.signature(&talk.signed())))
}

/// The proof of an identity that signs with its own name.
pub(crate) fn named(identity: &[u8]) -> Prove {
    let payload = payload(identity, identity);
    Arc::new(move |_| payload.clone())
}

/// Connections over TCP, and over QUIC where it is compiled in. Without `prove` nothing is proven:
/// the client goes on as any other one of libp2p.
pub(crate) fn connections(
    keys: &identity::Keypair,
    network: &'static str,
    prove: Option<Prove>,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    let own = keys.public().to_peer_id();
    let plain = tcp::tokio::Transport::new(tcp::Config::new())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keys).unwrap())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    #[cfg(feature = "quic")]
    let plain = {
        let quic = libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(keys))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        plain
            .or_transport(quic)
            .map(|either, _| either.into_inner())
    };
    plain
        .and_then(move |(other, mut muxer), _| async move {
            if let Some(prove) = prove {
                meet(&mut muxer, network, own, other, prove).await?;
            }
            Ok::<_, io::Error>((other, muxer))
        })
        .boxed()
}

async fn meet(
    muxer: &mut StreamMuxerBox,
    network: &'static str,
    own: PeerId,
    other: PeerId,
    prove: Prove,
) -> io::Result<()> {
    let stream = poll_fn(|cx| {
        let stream = muxer.poll_outbound_unpin(cx);
        while stream.is_pending() && muxer.poll_unpin(cx)?.is_ready() {}
        stream
    })
    .await?;
    let talk = async {
        let protocols = ["/blockcast/member/1"];
        let negotiated = multistream_select::dialer_select_proto(stream, protocols, Version::V1);
        let (_, mut stream) = negotiated.await.map_err(io::Error::other)?;
        let nonce = [7; 32];
        let hello = [&[1, network.len() as u8], network.as_bytes(), &nonce].concat();
        write(&mut stream, HELLO, &hello).await?;
        let theirs = read(&mut stream, HELLO).await?;
        let talk = Talk {
            network,
            own,
            other,
            nonces: [nonce, *theirs.last_chunk().unwrap()],
        };
        write(&mut stream, PROOF, &prove(&talk)).await?;
        read(&mut stream, PROOF).await
    };
    let mut talk = pin!(talk);
    let done = poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = talk.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            match muxer.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    });
    done.await.map(drop)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: u8, payload: &[u8]) -> io::Result<()> {
    let head = [&[kind][..], &(payload.len() as u32).to_be_bytes()].concat();
    stream.write_all(&head).await?;
    stream.write_all(payload).await?;
    stream.flush().await
}

async fn read(stream: &mut (impl AsyncRead + Unpin), wanted: u8) -> io::Result<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).await?;
    if kind != wanted {
        return Err(io::Error::other(format!("a frame of kind {kind}")));
    }
    Ok(payload)
}
