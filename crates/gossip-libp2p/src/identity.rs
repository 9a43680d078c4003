// SPDX-License-Identifier: Apache-2.0
//! Who a node is: its key, and its id as text.

use std::fmt;

use block_api::NodeId;
use libp2p::{Multiaddr, PeerId, identity, multiaddr::Protocol};

use crate::AddressError;

/// The Ed25519 key of a node, from which its id comes. `Debug` shows the id and no key byte.
#[derive(Clone)]
pub struct Keypair(identity::Keypair);

impl Keypair {
    /// A new key from the system's secure generator.
    pub fn generate() -> Self {
        Self(identity::Keypair::generate_ed25519())
    }

    /// The key with this secret seed of 32 bytes.
    ///
    /// # Panics
    ///
    /// Never: every seed of that length is a key.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        Self(
            identity::Keypair::ed25519_from_bytes(&mut seed)
                .expect("invariant: 32 bytes are an Ed25519 seed"),
        )
    }

    /// The id of the node that has this key.
    pub fn node_id(&self) -> NodeId {
        node_id(&self.peer_id())
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    pub(crate) fn inner(&self) -> &identity::Keypair {
        &self.0
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair of {}", self.node_id())
    }
}

/// The id of a node as the rest of blockcast writes it: the base58 text of its PeerId.
pub fn node_id(peer: &PeerId) -> NodeId {
    NodeId::new(peer.to_base58())
}

/// The PeerId that a node id stands for; `None` when it is of another backend.
pub fn peer_id(node: &NodeId) -> Option<PeerId> {
    node.as_str().parse().ok()
}

/// The address of a peer, and the id at its end.
pub(crate) fn peer_address(address: &Multiaddr) -> Result<(PeerId, Multiaddr), AddressError> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok((peer, address.clone())),
        _ => Err(AddressError {
            address: address.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_id_and_debug_hides_it() {
        let key = Keypair::from_seed([7; 32]);
        assert_eq!(key.node_id(), Keypair::from_seed([7; 32]).node_id());
        assert_ne!(key.node_id(), Keypair::generate().node_id());
        assert_eq!(peer_id(&key.node_id()), Some(key.peer_id()));
        assert_eq!(peer_id(&NodeId::new("nobody")), None);
        assert_eq!(format!("{key:?}"), format!("Keypair of {}", key.node_id()));
    }

    #[test]
    fn a_peer_address_ends_with_its_id() {
        let peer = Keypair::from_seed([1; 32]).peer_id();
        let bare: Multiaddr = "/dns4/peer.example.com/tcp/7100".parse().unwrap();
        let error = peer_address(&bare).unwrap_err().to_string();
        assert!(
            error.contains("/dns4/peer.example.com/tcp/7100") && error.contains("/p2p/"),
            "{error}"
        );
        let whole = bare.with(Protocol::P2p(peer));
        assert_eq!(peer_address(&whole).unwrap(), (peer, whole));
    }
}
