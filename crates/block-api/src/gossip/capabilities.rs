// SPDX-License-Identifier: Apache-2.0
//! What callers may rely on with a backend.

/// What callers may rely on with a backend. They need no other way with one that lacks something:
/// every candidate is judged by whoever receives it, and what does not come is pulled.
///
/// ```
/// use blockcast_block_api::Capabilities;
///
/// let mut capabilities = Capabilities::broker();
/// // A broker that tells who is subscribed and brings requests to them.
/// capabilities.knows_peers = true;
/// assert_ne!(capabilities, Capabilities::peer_to_peer());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Nothing travels on before [`Answer::Accept`](crate::Answer::Accept), so that a node hears of
    /// a false block from its maker alone. Without it everybody may be sent everything: false
    /// blocks come as candidates as well, and hide no true one.
    pub validates_before_forward: bool,
    /// The nodes next to this one are known: their statuses are told, and their leaving, they are
    /// the senders of candidates, they are sources, and who may not read the channel gets nothing.
    /// Without it none of these events comes, [`source`](crate::GossipChannel::source) is `None`,
    /// the sender of a candidate names the way that it came, and access is the business of whoever
    /// stands between the nodes. What is published once
    /// [`join`](crate::Gossip::join) has returned comes then. Nodes know of nobody who pulls for
    /// them, so that each pulls for itself.
    pub knows_peers: bool,
}

impl Capabilities {
    /// What a network of nodes that are connected to each other can do: everything.
    pub const fn peer_to_peer() -> Self {
        Self {
            validates_before_forward: true,
            knows_peers: true,
        }
    }

    /// What a broker can do, that hands everything to everyone: nothing of all this.
    pub const fn broker() -> Self {
        Self {
            validates_before_forward: false,
            knows_peers: false,
        }
    }
}
