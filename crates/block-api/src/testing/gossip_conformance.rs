// SPDX-License-Identifier: Apache-2.0
//! What every [`Gossip`] backend promises.
//!
//! A backend gives a function that starts so many nodes and connects them as a [`Topology`] says;
//! [`run`] puts every [`Case`] to it, each on nodes of its own. What a backend says by its
//! [`Capabilities`](crate::Capabilities) that it cannot do is not asked of it.

mod access;
mod bodies;
mod life;
mod load;
mod node;
mod peers;
mod spreading;
mod topology;

use std::{future::Future, sync::Arc};

pub use self::topology::Topology;
use crate::Gossip;

/// A promise, with the networks on which it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Case {
    /// What a node says of its abilities is the same at all times, and what it lacks is missing.
    Capabilities,
    /// A block that is accepted on its way reaches those to whom its maker has no link. It is the
    /// block that was published, with no metadata but the signatures.
    Delivery,
    /// Blocks come in whatever order they were published: a backend does not care for numbers.
    Order,
    /// The same bytes come once, by however many ways and however often they are published.
    Duplicates,
    /// What a node published to somebody is not handed to it when it comes from another one.
    OwnBlocks,
    /// A node that is alone publishes to nobody, which is a success, and signs nothing for nobody.
    Alone,
    /// What is rejected, ignored or dropped does not travel on, and cuts nobody off. Where the
    /// backend does not validate before it forwards, the others have it as a candidate and what
    /// one of them rejects is not kept from the rest.
    Validation,
    /// A false copy that comes first, with the header of the true block, does not hide the true one.
    Forgery,
    /// A block of 2 MiB can be had by everyone who is told of it.
    BigBlocks,
    /// The body of an announced block is fetched from whoever has it first, again and again until one
    /// does.
    Fetch,
    /// A config block comes whole whatever its size: without it, nothing behind it can be judged.
    ConfigBlocks,
    /// A node gives the ranges that it has, in order and without a hole, and tells how they end.
    Ranges,
    /// A node tells how it stands, and again after every change, with a tip that proves itself.
    Statuses,
    /// A status brings the identity that the node proved, which is that of its signer.
    Identities,
    /// A node knows those whom it is linked to and no others, and hears it when they go.
    Membership,
    /// Who may not read a channel hears nothing of it and is given nothing, whatever it says itself.
    Readers,
    /// A slip that is held against a node does not cut it off, and blaming strangers breaks nothing.
    Blame,
    /// Two channels are apart: of different names, and of one name with different genesis blocks.
    Channels,
    /// A receiver that does not read costs a bounded queue; the newest status stays in it.
    SlowReceiver,
    /// A channel that is not read holds up neither another channel nor another node.
    BackPressure,
    /// A channel is joined once. Who left it hears nothing more, publishes nothing more, and may
    /// join again.
    Leaving,
    /// A node that stopped ends its events, closes its operations and is missed by the others.
    Stopping,
}

impl Case {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Capabilities,
        Self::Delivery,
        Self::Order,
        Self::Duplicates,
        Self::OwnBlocks,
        Self::Alone,
        Self::Validation,
        Self::Forgery,
        Self::BigBlocks,
        Self::Fetch,
        Self::ConfigBlocks,
        Self::Ranges,
        Self::Statuses,
        Self::Identities,
        Self::Membership,
        Self::Readers,
        Self::Blame,
        Self::Channels,
        Self::SlowReceiver,
        Self::BackPressure,
        Self::Leaving,
        Self::Stopping,
    ];

    /// The nodes and links that it needs.
    pub fn topology(self) -> Topology {
        match self {
            Self::Delivery
            | Self::Order
            | Self::Validation
            | Self::Forgery
            | Self::Fetch
            | Self::Membership => Topology::line(),
            Self::Duplicates | Self::OwnBlocks | Self::Readers | Self::BackPressure => {
                Topology::triangle()
            }
            Self::Alone => Topology::alone(),
            Self::Capabilities
            | Self::BigBlocks
            | Self::ConfigBlocks
            | Self::Ranges
            | Self::Statuses
            | Self::Identities
            | Self::Blame
            | Self::Channels
            | Self::SlowReceiver
            | Self::Leaving
            | Self::Stopping => Topology::pair(),
        }
    }
}

/// Tries every case, each on a network that `start` makes anew.
///
/// # Panics
///
/// When the backend breaks a promise.
pub async fn run<F, N>(start: F)
where
    F: Fn(Topology) -> N,
    N: Future<Output = Vec<Arc<dyn Gossip>>>,
{
    for case in Case::ALL {
        run_case(*case, &start).await;
    }
}

/// Tries one case on a network that `start` makes.
///
/// # Panics
///
/// When the backend breaks the promise.
pub async fn run_case<F, N>(case: Case, start: F)
where
    F: Fn(Topology) -> N,
    N: Future<Output = Vec<Arc<dyn Gossip>>>,
{
    let topology = case.topology();
    let network = start(topology.clone()).await;
    assert_eq!(
        network.len(),
        topology.signers.len(),
        "so many nodes were to be started"
    );
    let network = node::Network { topology, network };
    match case {
        Case::Capabilities => life::capabilities_stay(network).await,
        Case::Delivery => spreading::accepted_blocks_travel_on(network, [0, 1, 2, 3]).await,
        Case::Order => spreading::accepted_blocks_travel_on(network, [2, 0, 3, 1]).await,
        Case::Duplicates => spreading::one_message_comes_once(network).await,
        Case::OwnBlocks => spreading::own_blocks_do_not_come_back(network).await,
        Case::Alone => life::who_is_alone_signs_nothing(network).await,
        Case::Validation => spreading::only_accepted_blocks_travel_on(network).await,
        Case::Forgery => spreading::a_forged_copy_hides_nothing(network).await,
        Case::BigBlocks => bodies::big_blocks_can_be_had(network).await,
        Case::Fetch => bodies::announced_bodies_can_be_fetched(network).await,
        Case::ConfigBlocks => bodies::config_blocks_travel_whole(network).await,
        Case::Ranges => bodies::ranges_are_served(network).await,
        Case::Statuses => peers::statuses_follow_the_chain(network).await,
        Case::Identities => peers::nodes_are_known_by_their_identities(network).await,
        Case::Membership => peers::neighbours_are_known_and_missed(network).await,
        Case::Readers => access::who_may_not_read_gets_nothing(network).await,
        Case::Blame => access::blame_is_borne(network).await,
        Case::Channels => life::channels_stay_apart(network).await,
        Case::SlowReceiver => load::a_receiver_that_does_not_read_costs_nothing(network).await,
        Case::BackPressure => load::who_does_not_read_holds_up_nobody(network).await,
        Case::Leaving => life::leaving_ends_everything_in_a_channel(network).await,
        Case::Stopping => life::stopping_ends_everything(network).await,
    }
}
