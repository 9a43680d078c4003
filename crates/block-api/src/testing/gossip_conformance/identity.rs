// SPDX-License-Identifier: Apache-2.0
//! Who a node is in a channel.

use std::sync::Arc;

use super::node::{joined, stop};
use crate::{Gossip, GossipEvent};

pub(super) async fn nodes_are_known_by_their_identities(network: Vec<Arc<dyn Gossip>>) {
    let (mut nodes, _) = joined(&network, &[(0, 1)]).await;
    let [first, second] = nodes.as_mut_slice() else {
        unreachable!("two nodes were started")
    };
    first.membership.channel.set_pulling(true);
    // It may be told before it is proven, and is told again then.
    loop {
        if let GossipEvent::Status {
            identity: Some(identity),
            ..
        } = second.event("a status with an identity").await
        {
            assert_eq!(identity.as_ref(), b"node", "it is the one of the signer");
            break;
        }
    }
    stop(nodes).await;
}
