// SPDX-License-Identifier: Apache-2.0
//! Bare libp2p: TCP, noise and yamux as the libraries set them up, one stream per connection, without
//! a swarm or a protocol.

use std::{fmt, future::poll_fn, io, task::Poll};

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, Transport as _,
    core::{
        Endpoint,
        muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox},
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
        upgrade::Version,
    },
    identity::{Keypair, PeerId},
    noise, tcp, yamux,
};
use tokio::task::JoinSet;

/// Makes bare connections.
pub struct BareTransport(Boxed<(PeerId, StreamMuxerBox)>);

/// The one stream of a connection, which ends with it.
#[derive(Debug)]
pub struct BareStream {
    /// Its bytes.
    pub stream: SubstreamBox,
    driving: JoinSet<io::Result<()>>,
}

impl BareTransport {
    /// Its key comes from this number.
    ///
    /// # Errors
    ///
    /// When noise cannot be set up.
    pub fn new(seed: u8) -> Result<Self> {
        let key = Keypair::ed25519_from_bytes([seed; 32])?;
        let noise = noise::Config::new(&key)?;
        let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
        let transport = tcp
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default());
        Ok(Self(transport.boxed()))
    }

    /// Listens on loopback, and gives the address.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub async fn listen(&mut self) -> Result<Multiaddr> {
        let anywhere = "/ip4/127.0.0.1/tcp/0".parse()?;
        self.0.listen_on(ListenerId::next(), anywhere)?;
        loop {
            let event = self.0.next().await.context("a transport does not end")?;
            if let TransportEvent::NewAddress { listen_addr, .. } = event {
                return Ok(listen_addr);
            }
        }
    }

    /// The stream that the next one opens who dials.
    ///
    /// # Errors
    ///
    /// When the connection is not made.
    pub async fn accept(&mut self) -> Result<BareStream> {
        loop {
            let event = self.0.next().await.context("a transport does not end")?;
            let TransportEvent::Incoming { upgrade, .. } = event else {
                continue;
            };
            let (_, mut muxer) = upgrade.await?;
            let stream = poll_fn(|cx| {
                if let Poll::Ready(stream) = muxer.poll_inbound_unpin(cx) {
                    return Poll::Ready(stream);
                }
                muxer.poll_unpin(cx).map(|event| {
                    let other = |event| io::Error::other(format!("{event:?} before a stream"));
                    Err(event.map_or_else(|error| error, other))
                })
            });
            let stream = stream.await?;
            return Ok(BareStream::new(stream, muxer));
        }
    }

    /// A stream to who listens there. It is opened when something is written to it.
    ///
    /// # Errors
    ///
    /// When the connection is not made.
    pub async fn dial(&mut self, address: Multiaddr) -> Result<BareStream> {
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let (_, mut muxer) = self.0.dial(address, options)?.await?;
        let stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await?;
        Ok(BareStream::new(stream, muxer))
    }
}

impl BareStream {
    fn new(stream: SubstreamBox, muxer: StreamMuxerBox) -> Self {
        let mut driving = JoinSet::new();
        driving.spawn(drive(muxer));
        Self { stream, driving }
    }

    /// Waits until the other side has hung up.
    pub async fn hung_up(mut self) {
        drop(self.stream);
        // How the connection ended makes no difference.
        let _ = self.driving.join_next().await;
    }
}

impl fmt::Debug for BareTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BareTransport").finish_non_exhaustive()
    }
}

/// Moves the bytes of a connection, as the task of a connection of a swarm does.
async fn drive(mut muxer: StreamMuxerBox) -> io::Result<()> {
    loop {
        poll_fn(|cx| muxer.poll_unpin(cx)).await?;
    }
}
