// SPDX-License-Identifier: Apache-2.0
//! The first protocol of a connection: it exists when its node has proven who it is.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    num::NonZeroUsize,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::{DialFailure, ListenFailure},
        dummy,
    },
};

use crate::access::{Access, Known};

/// Hands what a node proved from the transport to the table of rights, and bounds how many nodes
/// of one organisation, and with one certificate, there are.
#[derive(Debug)]
pub(crate) struct Behaviour {
    access: Access,
    max_per_organisation: NonZeroUsize,
    max_per_identity: NonZeroUsize,
    /// Connections that the other behaviours may still refuse.
    claimed: BTreeMap<ConnectionId, (PeerId, Known)>,
}

/// A connection is refused, though its handshakes went well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Turned {
    #[error("node {0} did not prove who it is")]
    Unproven(PeerId),
    #[error("{limit} nodes of organisation {organisation:?} are connected already")]
    Crowd {
        organisation: String,
        limit: NonZeroUsize,
    },
    #[error("{limit} nodes with the certificate of node {peer} are connected already")]
    Copies { peer: PeerId, limit: NonZeroUsize },
}

impl Behaviour {
    pub(crate) fn new(
        access: Access,
        max_per_organisation: NonZeroUsize,
        max_per_identity: NonZeroUsize,
    ) -> Self {
        Self {
            access,
            max_per_organisation,
            max_per_identity,
            claimed: BTreeMap::new(),
        }
    }

    fn claim(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let known = self.access.claim(&peer);
        let known = known.ok_or_else(|| ConnectionDenied::new(Turned::Unproven(peer)))?;
        let organisation = known.organisation();
        let claimed = self.claimed.values();
        let claimed = claimed.filter(|(_, known)| known.organisation() == organisation);
        let there = self.access.count_of(organisation) + claimed.count();
        if there >= self.max_per_organisation.get() && !self.access.is_listed(&peer) {
            return Err(ConnectionDenied::new(Turned::Crowd {
                organisation: organisation.unwrap_or_default().to_owned(),
                limit: self.max_per_organisation,
            }));
        }
        if let Some(credential) = known.credential() {
            let claimed = self.claimed.values();
            let claimed = claimed.filter(|(_, known)| known.credential() == Some(credential));
            let there = self.access.count_with(credential) + claimed.count();
            if there >= self.max_per_identity.get() && !self.access.is_listed(&peer) {
                return Err(ConnectionDenied::new(Turned::Copies {
                    peer,
                    limit: self.max_per_identity,
                }));
            }
        }
        self.claimed.insert(connection, (peer, known));
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.claim(connection, peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.claim(connection, peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(there) = event {
            if let Some((peer, known)) = self.claimed.remove(&there.connection_id) {
                self.access.connected(peer, known);
            }
        } else if let FromSwarm::ConnectionClosed(gone) = event {
            if gone.remaining_established == 0 {
                self.access.disconnected(&gone.peer_id);
            }
        } else if let FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
        | FromSwarm::DialFailure(DialFailure { connection_id, .. }) = event
        {
            self.claimed.remove(&connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
