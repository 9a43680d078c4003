// SPDX-License-Identifier: Apache-2.0
//! The order of the nodes of a channel, another one for each channel.

use block_api::{ChannelId, HeaderHash, NodeId};
use sha2::{Digest, Sha256};

/// What is hashed before anything else, so that the hash means nothing elsewhere.
const DOMAIN: &[u8] = b"blockcast who pulls 1\0";

/// The place of a node: the lowest comes first. Two nodes with one identity are told apart by
/// their ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    behind_all: bool,
    hash: [u8; 32],
    node: NodeId,
}

impl Rank {
    /// The place of a node with this identity.
    pub(crate) fn of(
        channel: &ChannelId,
        genesis: &HeaderHash,
        identity: &[u8],
        node: &NodeId,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        // Its length does not vary, and no channel id has a zero byte.
        hash.update(genesis);
        hash.update(channel.as_str());
        hash.update([0]);
        hash.update(identity);
        Self {
            behind_all: false,
            hash: hash.finalize().into(),
            node: node.clone(),
        }
    }

    /// The same node, after all that are not so.
    pub(crate) fn behind_all(self) -> Self {
        Self {
            behind_all: true,
            ..self
        }
    }

    /// A share from nothing to one whole that differs from node to node and from channel to
    /// channel, in 255ths.
    pub(crate) fn share(&self) -> u8 {
        self.hash.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(channel: &str, genesis: u8, identity: &str, node: &str) -> Rank {
        Rank::of(
            &channel.parse().unwrap(),
            &HeaderHash::new([genesis; 32]),
            identity.as_bytes(),
            &NodeId::new(node),
        )
    }

    #[test]
    fn channels_have_orders_of_their_own() {
        let nodes = ["a", "b", "c", "d"];
        let first = |channel: &str| {
            let ranks = nodes.iter().map(|node| rank(channel, 1, node, node));
            ranks.min().unwrap().node
        };
        let mut firsts: Vec<NodeId> = (0..64).map(|n| first(&format!("ch{n}"))).collect();
        assert_eq!(first("ch7"), firsts[7], "every node finds the same order");
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(
            firsts.len(),
            nodes.len(),
            "pulling is spread over the nodes"
        );
        assert_ne!(rank("ch", 1, "a", "a").hash, rank("ch", 2, "a", "a").hash);
    }

    #[test]
    fn one_identity_on_two_nodes_is_two_places() {
        let (one, other) = (rank("ch", 1, "a", "1"), rank("ch", 1, "a", "2"));
        assert!(one < other && one.hash == other.hash);
        assert!(one.clone().behind_all() > other);
        assert!(one.behind_all() < other.behind_all());
    }
}
