// SPDX-License-Identifier: Apache-2.0
//! The first protocol of a connection: it exists when its node has proven who it is.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
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

use crate::{
    access::{Access, Known},
    score::block_of,
};

/// How many connections may be in the making that others began, for each node that may be connected.
/// It is more than one, so that those who say nothing do not take every place.
const PENDING: usize = 2;

/// The part of them that may come from one address.
const PER_ADDRESS: usize = 8;

/// So many may always, however few nodes may be connected.
const LEAST_PER_ADDRESS: usize = 8;

/// Hands what a node proved from the transport to the table of rights, and bounds how many nodes
/// of one organisation there are, and how many connections from one address are in the making.
#[derive(Debug)]
pub(crate) struct Behaviour {
    access: Access,
    max_per_organisation: NonZeroUsize,
    max_per_address: usize,
    /// Connections that others began and that are not made yet.
    pending: BTreeMap<ConnectionId, IpAddr>,
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
    #[error("{limit} connections from {address} are in the making already")]
    Throng { address: IpAddr, limit: usize },
}

impl Behaviour {
    pub(crate) fn new(
        access: Access,
        max_per_organisation: NonZeroUsize,
        max_peers: NonZeroUsize,
    ) -> Self {
        Self {
            access,
            max_per_organisation,
            max_per_address: max_pending(max_peers) / PER_ADDRESS,
            pending: BTreeMap::new(),
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
        self.claimed.insert(connection, (peer, known));
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(address) = block_of(remote) else {
            return Ok(());
        };
        let there = self.pending.values().filter(|other| **other == address);
        let limit = self.max_per_address;
        if there.count() >= limit {
            return Err(ConnectionDenied::new(Turned::Throng { address, limit }));
        }
        self.pending.insert(connection, address);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
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
            self.pending.remove(&connection_id);
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

/// How many connections that others began may be in the making.
pub(crate) fn max_pending(max_peers: NonZeroUsize) -> usize {
    let pending = max_peers.get().saturating_mul(PENDING);
    pending.max(PER_ADDRESS * LEAST_PER_ADDRESS)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use block_api::SystemClock;
    use libp2p::swarm::ListenError;

    use super::*;
    use crate::access::Others;

    #[test]
    fn one_address_takes_a_part_of_the_places_of_connections_in_the_making() {
        let access = Access::new(BTreeSet::new(), Others::All, Arc::new(SystemClock));
        let size = |n| NonZeroUsize::new(n).unwrap();
        let mut door = Behaviour::new(access, size(128), size(256));
        let here: Multiaddr = "/ip4/192.0.2.9/tcp/1".parse().unwrap();
        let there =
            |n: usize| -> Multiaddr { format!("/ip6/2001:db8::{n}/tcp/{n}").parse().unwrap() };
        let limit = max_pending(size(256)) / PER_ADDRESS;
        assert_eq!(limit, 64);
        let calls = |door: &mut Behaviour, n: usize, from: &Multiaddr| {
            let call = ConnectionId::new_unchecked(n);
            door.handle_pending_inbound_connection(call, &here, from)
        };
        for n in 0..limit {
            calls(&mut door, n, &there(n)).unwrap();
        }
        assert!(calls(&mut door, limit, &there(limit)).is_err());
        calls(&mut door, limit, &here).unwrap();
        // One is given up, and one is made.
        let failed = FromSwarm::ListenFailure(ListenFailure {
            local_addr: &here,
            send_back_addr: &there(0),
            error: &ListenError::Aborted,
            connection_id: ConnectionId::new_unchecked(0),
            peer_id: None,
        });
        door.on_swarm_event(failed);
        let made = ConnectionId::new_unchecked(1);
        let unproven =
            door.handle_established_inbound_connection(made, PeerId::random(), &here, &there(1));
        assert!(unproven.is_err());
        for n in [limit + 1, limit + 2] {
            calls(&mut door, n, &there(n)).unwrap();
        }
        assert!(calls(&mut door, limit + 3, &there(1)).is_err());
        assert_eq!(max_pending(size(1)), 64, "however few may be connected");
    }
}
