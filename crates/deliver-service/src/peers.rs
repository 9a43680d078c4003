// SPDX-License-Identifier: Apache-2.0
//! What the nodes of a channel say of themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use block_api::{BlockNumber, ChannelStatus, Height, NodeId};
use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::health::Neighbours;

/// The nodes of a channel, by what they said last.
#[derive(Debug)]
pub(crate) struct Peers {
    known: Mutex<Known>,
    changed: Notify,
    changes: watch::Sender<()>,
}

/// What is known of a node that may pull.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    /// Its identity, where it is proven.
    pub(crate) identity: Option<Bytes>,
    pub(crate) pulling: bool,
    pub(crate) height: Height,
}

/// What a node says to have.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) first: BlockNumber,
    pub(crate) height: Height,
    /// Its identity, where it is proven.
    pub(crate) identity: Option<Bytes>,
    /// Whether its tip cannot be judged yet, for want of a configuration.
    pub(crate) unjudged: bool,
}

#[derive(Debug)]
struct Known {
    peers: BTreeMap<NodeId, Peer>,
    neighbours: Neighbours,
}

#[derive(Debug)]
struct Peer {
    identity: Option<Bytes>,
    status: ChannelStatus,
    unjudged: bool,
}

impl Peers {
    pub(crate) fn new() -> Self {
        Self {
            known: Mutex::new(Known {
                peers: BTreeMap::new(),
                neighbours: Neighbours::None(Instant::now()),
            }),
            changed: Notify::new(),
            changes: watch::Sender::default(),
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<NodeId, ChannelStatus> {
        let known = self.known();
        let entries = known.peers.iter();
        entries
            .map(|(node, peer)| (node.clone(), peer.status.clone()))
            .collect()
    }

    /// The same, without the tips and with what is proven of each.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let known = self.known();
        let candidates = known.peers.iter().map(|(node, peer)| Candidate {
            node: node.clone(),
            identity: peer.identity.clone(),
            pulling: peer.status.pulling,
            height: peer.status.height,
        });
        candidates.collect()
    }

    /// What each of them says to have.
    pub(crate) fn claims(&self) -> BTreeMap<NodeId, Claim> {
        let known = self.known();
        let claims = known.peers.iter().map(|(node, peer)| {
            let claim = Claim {
                first: peer.status.first,
                height: peer.status.height,
                identity: peer.identity.clone(),
                unjudged: peer.unjudged,
            };
            (node.clone(), claim)
        });
        claims.collect()
    }

    pub(crate) fn neighbours(&self) -> Neighbours {
        self.known().neighbours
    }

    /// Tells of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Waits until there are so many.
    pub(crate) async fn reach(&self, count: usize) {
        let mut changes = self.subscribe();
        // Its sender lives as long as this.
        let is_there = |(): &()| self.known().peers.len() >= count;
        drop(changes.wait_for(is_there).await);
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn heard(&self, from: NodeId, identity: Option<Bytes>, status: ChannelStatus) {
        self.change(|peers| {
            // Until its tip is judged, the one before says whether that can be done.
            let before = peers.get(&from).is_some_and(|peer| peer.unjudged);
            let unjudged = before && status.tip.is_some();
            let peer = Peer {
                identity,
                status,
                unjudged,
            };
            peers.insert(from, peer);
        });
    }

    /// Notes whether the tip of a node cannot be judged yet.
    pub(crate) fn judged(&self, node: &NodeId, unjudged: bool) {
        let mut known = self.known();
        let peer = known.peers.get_mut(node);
        if let Some(peer) = peer.filter(|peer| peer.unjudged != unjudged) {
            peer.unjudged = unjudged;
            drop(known);
            self.changed.notify_one();
        }
    }

    pub(crate) fn left(&self, node: &NodeId) {
        self.change(|peers| drop(peers.remove(node)));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<NodeId, Peer>)) {
        let mut known = self.known();
        change(&mut known.peers);
        // Anybody may say that; who proved an identity is at least a reader of the channel.
        let mut proven = known.peers.values().filter(|peer| peer.identity.is_some());
        let pulls = proven.any(|peer| peer.status.pulling);
        known.neighbours = match (pulls, known.peers.is_empty(), known.neighbours) {
            (true, ..) => Neighbours::Pulling,
            (false, true, same @ Neighbours::None(_))
            | (false, false, same @ Neighbours::Idle(_)) => same,
            (false, true, _) => Neighbours::None(Instant::now()),
            (false, false, _) => Neighbours::Idle(Instant::now()),
        };
        drop(known);
        self.changed.notify_one();
        self.changes.send_replace(());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Whatever a panic left behind is what nodes said.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_pulls_counts_once_its_identity_is_proven() {
        let peers = Peers::new();
        let node = |name: &str| NodeId::new(name);
        let status = |pulling| ChannelStatus {
            first: BlockNumber::GENESIS,
            height: Height::new(1),
            tip: None,
            pulling,
        };
        let identity = || Some(Bytes::from_static(b"an identity"));
        let idle = Neighbours::Idle(Instant::now());
        peers.heard(node("stranger"), None, status(true));
        assert_eq!(peers.neighbours(), idle);
        peers.heard(node("member"), identity(), status(false));
        assert_eq!(peers.neighbours(), idle);
        peers.heard(node("member"), identity(), status(true));
        assert_eq!(peers.neighbours(), Neighbours::Pulling);
        peers.heard(node("member"), None, status(true));
        assert_eq!(peers.neighbours(), idle);
        peers.heard(node("member"), identity(), status(true));
        peers.left(&node("member"));
        assert_eq!(peers.neighbours(), idle);
        peers.left(&node("stranger"));
        assert_eq!(peers.neighbours(), Neighbours::None(Instant::now()));
    }
}
