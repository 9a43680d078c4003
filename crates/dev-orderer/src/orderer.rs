// SPDX-License-Identifier: Apache-2.0
//! The dev orderer itself: starting it, feeding it, and stopping it.

mod change;
mod start;

use std::{panic, sync::Arc};

use block_api::{Block, BlockNumber, ChannelId, Endpoint, SignError};
use channel_config::ChannelVerifier;
use orderer_server::DeliverCounts;
use protos::common::Envelope;
use rustls_pki_types::CertificateDer;
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broadcast::{Admission, SubmitError},
    config::NodesConfig,
    maker::TransactionMaker,
    network::Network,
    nodes::{Node, total},
    ordering::{OrderingHandle, Stopped},
    pace::Pace,
    pki::{Member, Organization},
    reconfigure::Configuration,
};

/// An ordering service in this process, with one channel.
///
/// Its chain is in memory, once for each node, and as long as what was ordered: it is made for
/// development and tests. Dropping it stops it without awaiting that.
#[derive(Debug)]
pub struct DevOrderer {
    channel: ChannelId,
    genesis: Block,
    nodes: Vec<Node>,
    mode: Mode,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Transactions could not be made or ordered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The client's signer did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The orderer does not take transactions.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

#[derive(Debug)]
enum Mode {
    Ordering(Box<OrderingMode>),
    /// A recorded chain, and the organisation whose TLS certificates the nodes have.
    Replay(Box<Organization>),
}

#[derive(Debug)]
struct OrderingMode {
    /// As it is under the newest configuration.
    network: Network,
    nodes: NodesConfig,
    admission: Arc<Admission>,
    ordering: OrderingHandle,
    verifier: Arc<ChannelVerifier>,
    /// The newest configuration that was ordered.
    configuration: Mutex<Configuration>,
    /// So many listeners there have been.
    listeners: usize,
}

impl DevOrderer {
    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The genesis block.
    pub fn genesis(&self) -> &Block {
        &self.genesis
    }

    /// The nodes, one at least, in the order in which they came; among them those that left the
    /// channel meanwhile ([`Node::has_left`]).
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this id, whether or not it has left.
    pub fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id() == id)
    }

    /// Where the first node is reached.
    pub fn endpoint(&self) -> &Endpoint {
        self.first().endpoint()
    }

    /// Where the nodes of the channel are reached.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.nodes
            .iter()
            .filter(|node| !node.has_left())
            .map(Node::endpoint)
    }

    /// The certificates of the authorities that issue the nodes' TLS certificates.
    pub fn tls_roots(&self) -> Vec<CertificateDer<'static>> {
        match &self.mode {
            Mode::Ordering(ordering) => tls_roots(ordering.network.orderers()),
            Mode::Replay(organization) => tls_roots([&**organization]),
        }
    }

    /// The network as it is under the newest configuration; `None` in a replay.
    pub fn network(&self) -> Option<&Network> {
        match &self.mode {
            Mode::Ordering(ordering) => Some(&ordering.network),
            Mode::Replay(_) => None,
        }
    }

    /// The organisation of the nodes, the first one where there are several. In a replay it is none of the channel's, and only its TLS
    /// certificates are used; under mutual TLS a client needs one of them.
    pub fn ordering_organization(&self) -> &Organization {
        match &self.mode {
            Mode::Ordering(ordering) => ordering
                .network
                .orderers()
                .first()
                .expect("invariant: an organisation orders"),
            Mode::Replay(organization) => organization,
        }
    }

    /// A member that may read and write; `None` in a replay, whose identities are not ours.
    pub fn client(&self) -> Option<&Member> {
        self.network().map(Network::client)
    }

    /// What all nodes count together.
    pub fn stats(&self) -> DeliverCounts {
        total(&self.nodes)
    }

    /// When a block became available on the first node; `None` when it did not yet, or when so many
    /// came after it that the moment is forgotten (the newest 100,000 are remembered).
    pub fn ordered_at(&self, number: BlockNumber) -> Option<Instant> {
        self.first().chain().ordered_at(number)
    }

    /// Submits an envelope as Broadcast does, without a connection. It is not ordered yet when this
    /// returns.
    ///
    /// # Errors
    ///
    /// When the envelope is refused (ORD-10, ORD-11), or nothing is ordered here.
    ///
    /// # Cancel safety
    ///
    /// Safe: an envelope whose future is dropped is not ordered.
    pub async fn submit(&self, envelope: &Envelope) -> Result<(), SubmitError> {
        self.ordering()?.admission.admit(envelope).await
    }

    /// Has blocks made at a pace, each of one transaction with so many bytes of data by the
    /// network's client, whatever the batch size. Gives the number of the last one when it is there.
    ///
    /// # Errors
    ///
    /// When the signer does not sign, the orderer stops meanwhile, or nothing is ordered here.
    ///
    /// # Cancel safety
    ///
    /// Blocks that are in the queue are made.
    pub async fn generate(
        &self,
        blocks: usize,
        bytes_per_block: usize,
        pace: Pace,
    ) -> Result<Option<BlockNumber>, GenerateError> {
        let OrderingMode {
            network,
            nodes,
            ordering,
            ..
        } = self.ordering()?;
        let mut transactions = TransactionMaker::new(network, nodes.clock.now());
        let start = Instant::now();
        let mut last = None;
        for index in 0..blocks {
            let transaction = transactions.make(bytes_per_block).await?;
            sleep_until(start + pace.offset(index)).await;
            let ordered = ordering
                .enqueue_block(vec![transaction.envelope])
                .await
                .map_err(SubmitError::from)?;
            last = Some(ordered);
        }
        match last {
            None => Ok(None),
            Some(number) => Ok(Some(
                number.await.map_err(|_| SubmitError::Stopped(Stopped))?,
            )),
        }
    }

    /// Stops: streams end with UNAVAILABLE, what was not cut into a block is lost, and on return
    /// every task is gone.
    ///
    /// # Panics
    ///
    /// When a task of it panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops at once, without awaiting it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(err) = ended
                && err.is_panic()
            {
                panic::resume_unwind(err.into_panic());
            }
        }
    }

    /// The first node that has not left.
    fn first(&self) -> &Node {
        self.nodes
            .iter()
            .find(|node| !node.has_left())
            .expect("invariant: an ordering service has a node")
    }

    fn ordering(&self) -> Result<&OrderingMode, SubmitError> {
        match &self.mode {
            Mode::Ordering(ordering) => Ok(ordering),
            Mode::Replay(_) => Err(SubmitError::Replaying),
        }
    }
}

/// The certificates of the TLS authorities of organisations.
fn tls_roots<'a>(
    organizations: impl IntoIterator<Item = &'a Organization>,
) -> Vec<CertificateDer<'static>> {
    organizations
        .into_iter()
        .flat_map(Organization::tls_roots_der)
        .map(|root| CertificateDer::from(root.to_vec()))
        .collect()
}
