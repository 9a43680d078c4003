// SPDX-License-Identifier: Apache-2.0
//! Changing the configuration of a dev orderer that runs, and its nodes with it.

use std::sync::Arc;

use block_api::{
    Block, BlockNumber, BlockReader as _, BlockVerifier as _, Endpoint, ReadLimits, Standing,
    VerifiedBlock,
};
use channel_config::ChannelAccess;
use protos::common::ConfigGroup;
use tokio_util::sync::CancellationToken;

use super::{DevOrderer, Mode, OrderingMode, tls_roots};
use crate::{
    broadcast::SubmitError,
    chain::MemoryChain,
    change::Change,
    config::TlsMode,
    network::Network,
    nodes::{Bound, Common, Node, Ready, StartError},
    ordering::{ConfigCommand, Stopped},
    reconfigure::{Configuration, ReconfigureError},
    terms::OrdererNode,
};

/// What is to be done to the nodes once a config block is there.
#[derive(Default)]
struct Plan {
    /// Those that come, by id, with the chains that they will have.
    opened: Vec<(u32, Ready, Arc<MemoryChain>)>,
    /// Those that get another listener or other certificates, by their place.
    again: Vec<(usize, Ready)>,
}

impl DevOrderer {
    /// Orders a config block: `change` edits the tree of groups of the newest configuration. Gives
    /// its number when it is there.
    ///
    /// The tree must be one that a channel can have; who wants the change, and whether versions
    /// grew, is not asked, and the block names no update. The next blocks are cut as it says. Who
    /// may read and write is judged by it. The nodes and their keys stay as they are;
    /// [`change`](Self::change) is for those.
    ///
    /// # Errors
    ///
    /// When no channel can have that configuration, the signer does not sign, or nothing is ordered
    /// here. The configuration is as before.
    ///
    /// # Cancel safety
    ///
    /// Not safe: the block may be ordered without being respected here.
    pub async fn reconfigure(
        &self,
        change: impl FnOnce(&mut ConfigGroup),
    ) -> Result<BlockNumber, ReconfigureError> {
        let mode = self.ordering()?;
        let mut newest = mode.configuration.lock().await;
        let edited = newest.edited(change);
        let chains = self.chains_of(&mode.network, &Plan::default());
        let number = self
            .order_config(mode, &edited, &mode.network, chains)
            .await?;
        *newest = edited;
        Ok(number)
    }

    /// Orders a config block that makes changes, and follows them. When this returns the block is
    /// there, and the nodes are as it says:
    ///
    /// - a node that came listens, and has the whole chain;
    /// - a node that left goes on listening, without the channel (see [`Node`]);
    /// - a node that moved listens at its new endpoint alone, and one with other TLS certificates
    ///   shows those. Their connections were closed, as by an orderer that is started anew. Under
    ///   mutual TLS that goes for all nodes when the authorities of the clients change.
    ///
    /// The block is signed by the nodes that there were, names no update, and who wants the change
    /// is not asked. What [`reconfigure`](Self::reconfigure) edited stays, unless the changes concern
    /// it.
    ///
    /// # Errors
    ///
    /// When a change cannot be made to the channel as it is, no channel can have the configuration,
    /// a node cannot listen, a signer does not sign, or nothing is ordered here. All is as before.
    ///
    /// # Cancel safety
    ///
    /// Not safe: the block may be ordered without being respected here.
    pub async fn change(&mut self, changes: &[Change]) -> Result<BlockNumber, ReconfigureError> {
        let mode = self.ordering()?;
        let wanted = changes.iter().map(Change::endpoints).sum();
        let bound = Bound::all(&mode.nodes, mode.listeners, wanted)
            .await
            .map_err(Box::new)?;
        let endpoints: Vec<Endpoint> = bound.iter().map(|bound| bound.endpoint.clone()).collect();
        let network = mode
            .network
            .changed(changes, endpoints, mode.nodes.clock.now())?;
        let configuration = mode
            .configuration
            .lock()
            .await
            .changed(mode.network.terms(), network.terms());
        let plan = self.plan(mode, &network, bound).await.map_err(Box::new)?;
        let chains = self.chains_of(&network, &plan);
        let number = self
            .order_config(mode, &configuration, &network, chains)
            .await?;
        self.carry_out(plan, network, configuration, wanted).await;
        Ok(number)
    }

    /// What has to be done for the nodes of a network that follows the one there is.
    async fn plan(
        &self,
        mode: &OrderingMode,
        network: &Network,
        mut bound: Vec<Bound>,
    ) -> Result<Plan, StartError> {
        let common = mode.common(network, &self.stop);
        let before = mode.common(&mode.network, &self.stop);
        let other_clients =
            mode.nodes.tls == TlsMode::Mutual && common.client_roots != before.client_roots;
        let mut plan = Plan::default();
        for node in network.nodes() {
            let place = self.nodes.iter().position(|open| open.id() == node.id());
            let listener = bound
                .iter()
                .position(|bound| bound.endpoint == *node.endpoint())
                .map(|index| bound.swap_remove(index));
            let before = mode.network.node(node.id());
            let listener = match listener {
                None if other_clients || before.is_none_or(|before| other_tls(before, node)) => {
                    place
                        .and_then(|place| self.nodes.get(place))
                        .map(Node::same_listener)
                        .transpose()?
                }
                listener => listener,
            };
            let Some(listener) = listener else {
                continue;
            };
            match place {
                None => {
                    let index = self.nodes.len() + plan.opened.len();
                    let ready = common.ready(index, listener, node.member()).await?;
                    plan.opened
                        .push((node.id(), ready, Arc::new(MemoryChain::new())));
                }
                Some(place) => {
                    let ready = common.ready(place, listener, node.member()).await?;
                    plan.again.push((place, ready));
                }
            }
        }
        Ok(plan)
    }

    /// The chain of each node of a network, in their order.
    fn chains_of(&self, network: &Network, plan: &Plan) -> Vec<Arc<MemoryChain>> {
        let chain_of = |node: &OrdererNode| {
            let open = self.node(node.id()).map(|open| open.chain());
            let opened = plan.opened.iter().find(|(id, _, _)| *id == node.id());
            open.or(opened.map(|(_, _, chain)| chain))
                .expect("invariant: a node is open, or will be")
                .clone()
        };
        network.nodes().iter().map(chain_of).collect()
    }

    /// Has a config block ordered, and takes it into force for who reads and writes.
    async fn order_config(
        &self,
        mode: &OrderingMode,
        configuration: &Configuration,
        network: &Network,
        chains: Vec<Arc<MemoryChain>>,
    ) -> Result<BlockNumber, ReconfigureError> {
        let batch = configuration.batch()?;
        let envelope = configuration
            .envelope(&*mode.network.config_signer(), mode.nodes.clock.now())
            .await?;
        let number = mode
            .ordering
            .enqueue_config(ConfigCommand {
                envelope,
                batch,
                membership: network.terms().membership(),
                chains,
            })
            .await
            .map_err(SubmitError::from)?;
        let number = number.await.map_err(|_| SubmitError::Stopped(Stopped))?;
        let raw = self
            .first()
            .chain()
            .read(number, ReadLimits::one())
            .await
            .unwrap_or_default();
        let block = raw
            .into_iter()
            .next()
            .and_then(|raw| Block::parse(raw).ok());
        let block = block.expect("invariant: a block that was told of is there");
        let verified = VerifiedBlock::new(block, &*mode.verifier, Standing::Linked)
            .expect("invariant: what is ordered here is signed as the channel demands");
        mode.verifier
            .apply_config(&verified)
            .expect("invariant: a configuration that was checked can be taken into force");
        Ok(number)
    }

    /// Lets the nodes be as a config block says that has been ordered.
    async fn carry_out(
        &mut self,
        plan: Plan,
        network: Network,
        configuration: Configuration,
        listeners: usize,
    ) {
        let Self {
            channel,
            nodes,
            mode: Mode::Ordering(mode),
            stop,
            tasks,
            ..
        } = self
        else {
            return;
        };
        for node in nodes.iter() {
            if network.node(node.id()).is_none() {
                node.leave(channel);
            }
        }
        mode.network = network;
        mode.listeners += listeners;
        *mode.configuration.get_mut() = configuration;
        let common = mode.common(&mode.network, stop);
        for (id, ready, chain) in plan.opened {
            nodes.push(Node::open(ready, id, &common, chain, tasks));
        }
        for (place, ready) in plan.again {
            if let Some(node) = nodes.get_mut(place) {
                node.open_again(ready, &common, tasks).await;
            }
        }
    }
}

impl OrderingMode {
    /// What the nodes of a network share.
    pub(super) fn common<'a>(
        &'a self,
        network: &'a Network,
        stop: &'a CancellationToken,
    ) -> Common<'a> {
        Common {
            config: &self.nodes,
            channel: network.channel(),
            readers: Arc::new(ChannelAccess::readers(&self.verifier).respecting_maintenance()),
            broadcast: Some(self.admission.clone()),
            client_roots: tls_roots(network.orderers().iter().chain(network.applications())),
            stop,
        }
    }
}

fn other_tls(before: &OrdererNode, after: &OrdererNode) -> bool {
    before.member().tls_certificate_der() != after.member().tls_certificate_der()
}
