// SPDX-License-Identifier: Apache-2.0
//! Plain streams between connected nodes, as a libp2p behaviour.
//!
//! Incoming streams go to the event loop with the swarm's own back-pressure, so that none is lost
//! and the event loop alone decides how many are served. Outgoing ones are opened on connections
//! that exist: asking for a stream never dials.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint, UpgradeInfo,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::oneshot;

use crate::error::OpenError;

/// Blocks by range: one request, then blocks, then a status.
pub(crate) const BLOCKS: StreamProtocol = StreamProtocol::new("/blockcast/blocks/1");

/// One status after the other, from who opened the stream.
pub(crate) const STATUS: StreamProtocol = StreamProtocol::new("/blockcast/status/1");

/// The body of one block, in chunks, also from those that do not have all of it yet.
pub(crate) const BODIES: StreamProtocol = StreamProtocol::new("/blockcast/bodies/1");
/// Where other nodes are, from who opened the stream.
pub(crate) const PEERS: StreamProtocol = StreamProtocol::new("/blockcast/peers/1");

/// How many streams may be in negotiation on one connection; more are refused with
/// [`OpenError::Busy`].
const OPENING: usize = 64;

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: Stream,
}

/// Where an opened stream is wanted.
pub(crate) type Opened = oneshot::Sender<Result<Stream, OpenError>>;

/// Opens and accepts streams.
#[derive(Debug)]
pub(crate) struct Behaviour {
    patience: Duration,
    /// Emptied by the swarm before the event loop takes its next command.
    queue: VecDeque<ToSwarm<Incoming, Open>>,
}

/// A wish for a stream.
pub(crate) struct Open {
    protocol: StreamProtocol,
    opened: Opened,
}

/// The streams of one connection.
pub(crate) struct Handler {
    patience: Duration,
    opening: usize,
    queue: VecDeque<ConnectionHandlerEvent<Offer, Opened, (StreamProtocol, Stream)>>,
}

/// The protocols that are offered or accepted.
#[derive(Debug, Clone)]
pub(crate) struct Offer(Vec<StreamProtocol>);

impl Behaviour {
    /// `patience` is how long negotiating a stream may take.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            queue: VecDeque::new(),
        }
    }

    /// Opens a stream to a peer that is connected.
    pub(crate) fn open(&mut self, peer: PeerId, protocol: StreamProtocol, opened: Opened) {
        let event = Open { protocol, opened };
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::Any,
            event,
        });
    }

    fn handler(&self) -> Handler {
        Handler {
            patience: self.patience,
            opening: 0,
            queue: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        _: ConnectionId,
        (protocol, stream): THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Incoming {
            peer,
            protocol,
            stream,
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (StreamProtocol, Stream);
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(vec![BLOCKS, BODIES, STATUS, PEERS]), ())
            .with_timeout(self.patience)
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Opened, Self::ToBehaviour>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, Open { protocol, opened }: Open) {
        if self.opening >= OPENING {
            // Whoever asked may have gone meanwhile.
            let _ = opened.send(Err(OpenError::Busy));
            return;
        }
        self.opening += 1;
        let protocol =
            SubstreamProtocol::new(Offer(vec![protocol]), opened).with_timeout(self.patience);
        self.queue
            .push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Opened>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol,
                info: (),
            }) => {
                let (stream, protocol) = protocol;
                self.queue
                    .push_back(ConnectionHandlerEvent::NotifyBehaviour((protocol, stream)));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                self.opening = self.opening.saturating_sub(1);
                let (stream, _) = protocol;
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening = self.opening.saturating_sub(1);
                let _ = info.send(Err(open_error(error)));
            }
            // A stream that a peer failed to open, and addresses and protocols that change, leave
            // nothing to do here.
            ConnectionEvent::ListenUpgradeError(_)
            | ConnectionEvent::AddressChange(_)
            | ConnectionEvent::LocalProtocolsChange(_)
            | ConnectionEvent::RemoteProtocolsChange(_)
            | _ => {}
        }
    }
}

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

fn open_error(error: StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::Timeout => OpenError::TimedOut,
        StreamUpgradeError::Apply(never) => match never {},
        StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
        StreamUpgradeError::Io(error) => OpenError::Io(error),
    }
}
