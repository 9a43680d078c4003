// SPDX-License-Identifier: Apache-2.0
//! What carries the connections: none reaches the swarm before both nodes have proven who they are.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use block_api::BoxError;
use libp2p::{
    PeerId, Transport as _,
    core::{
        ConnectedPoint,
        muxing::{StreamMuxerBox, StreamMuxerExt as _, SubstreamBox},
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::{NegotiationError, Version},
    },
    dns, noise, tcp, yamux,
};
use multistream_select::{dialer_select_proto, listener_select_proto};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::{
    config::Config,
    error::StartError,
    membership::{GREETING, HandshakeError, MEMBER, Member},
    muxer::Bounded,
    score::{Callers, TurnedAway},
    stats::Counters,
};

/// A connection on which nobody proved anything.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the other side does not speak the proof of membership: {0}")]
    Protocol(#[from] NegotiationError),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
}

/// TCP, and QUIC where it is compiled in, with names resolved and all handshakes done.
pub(crate) fn transport(
    config: &Config,
    member: Member,
    callers: Callers,
    counters: Arc<Counters>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let setup = |part| move |source: BoxError| StartError::Setup { part, source };
    let keys = config.identity.inner();
    let noise = noise::Config::new(keys).map_err(|error| setup("noise")(error.into()))?;
    let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    #[cfg(feature = "quic")]
    let transport = {
        use libp2p::quic;
        let quic = quic::tokio::Transport::new(quic::Config::new(keys))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        transport
            .or_transport(quic)
            .map(|either, _| either.into_inner())
    };
    // Who calls and says nothing keeps its place for a short time only.
    let transport = TransportTimeout::with_ingoing_timeout(transport, GREETING);
    let transport = dns::tokio::Transport::system(transport)
        .map_err(|error| setup("DNS")(error.into()))?
        .and_then(move |(peer, muxer), point| async move {
            let mut muxer = Bounded::new(muxer);
            match hear(&member, &callers, peer, &mut muxer, &point).await {
                Ok(()) => Ok((peer, muxer.opened())),
                Err(error) => {
                    counters.proofs_refused.increment();
                    let lasting = matches!(&error, Unproven::Handshake(error) if error.is_lasting());
                    let address = point.get_remote_address();
                    if lasting && (point.is_dialer() || callers.may_warn(Instant::now())) {
                        warn!(%peer, %address, %error, "no connection without proof of membership");
                    } else {
                        debug!(%peer, %address, %error, "no connection without proof of membership");
                    }
                    // What was told last is on its way.
                    drop(muxer.close().await);
                    Err(error)
                }
            }
        });
    Ok(TransportTimeout::new(transport, config.connect_timeout).boxed())
}

/// Has both sides prove who they are, unless who called is turned away before.
async fn hear(
    member: &Member,
    callers: &Callers,
    peer: PeerId,
    muxer: &mut Bounded,
    point: &ConnectedPoint,
) -> Result<(), Unproven> {
    if point.is_dialer() {
        return meet(member, peer, muxer, point).await;
    }
    let address = point.get_remote_address();
    let hearing = callers.hear(peer, address, Instant::now())?;
    let hearing = if member.access.can_admit() {
        hearing
    } else {
        hearing.forgiven()
    };
    meet(member, peer, muxer, point).await?;
    hearing.admitted();
    Ok(())
}

/// Has both sides of a fresh connection prove who they are.
async fn meet(
    member: &Member,
    peer: PeerId,
    muxer: &mut Bounded,
    point: &ConnectedPoint,
) -> Result<(), Unproven> {
    if point.is_dialer() {
        let stream = poll_fn(|cx| poll_stream(muxer, cx, Bounded::poll_outbound_unpin)).await?;
        let work = async {
            let (_, mut stream) = dialer_select_proto(stream, [MEMBER], Version::V1).await?;
            Ok(member.dial(&mut stream, peer).await?)
        };
        driving(muxer, work).await
    } else {
        let until = Instant::now() + GREETING;
        let silent = |_| HandshakeError::Silent { after: GREETING };
        let stream = poll_fn(|cx| poll_stream(muxer, cx, Bounded::poll_inbound_unpin));
        let stream = timeout_at(until, stream).await.map_err(silent)??;
        let work = async {
            let named = timeout_at(until, listener_select_proto(stream, [MEMBER])).await;
            let (_, mut stream) = named.map_err(silent)??;
            Ok(member.listen(&mut stream, peer).await?)
        };
        driving(muxer, work).await
    }
}

/// One stream of the muxer, which moves on meanwhile.
fn poll_stream(
    muxer: &mut Bounded,
    cx: &mut std::task::Context<'_>,
    stream: impl Fn(&mut Bounded, &mut std::task::Context<'_>) -> Poll<io::Result<SubstreamBox>>,
) -> Poll<io::Result<SubstreamBox>> {
    if let Poll::Ready(stream) = stream(muxer, cx) {
        return Poll::Ready(stream);
    }
    while let Poll::Ready(event) = muxer.poll_unpin(cx) {
        event?;
    }
    stream(muxer, cx)
}

/// Does some work on a stream while the muxer moves its bytes.
async fn driving(
    muxer: &mut Bounded,
    work: impl Future<Output = Result<(), Unproven>>,
) -> Result<(), Unproven> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            match muxer.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                // What came before the end may be all that is needed.
                Poll::Ready(Err(error)) => {
                    return match work.as_mut().poll(cx) {
                        Poll::Ready(done) => Poll::Ready(done),
                        Poll::Pending => Poll::Ready(Err(error.into())),
                    };
                }
            }
        }
    })
    .await
}
