// SPDX-License-Identifier: Apache-2.0
//! A node: the channels of one configuration, delivered, kept and spread.

mod builder;
mod channel;
mod error;
mod gossip_key;
mod metrics;
mod operations;
mod repair;
mod stored;
mod subscription;
mod trust;
mod verifier;
mod view;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use block_api::{BlockNumber, BlockReader, ChannelId, Gossip, Height, NodeId};
use block_store::SegmentStore;
use deliver_service::{ChannelState, DeliverService, Health};
use prometheus_client::registry::Registry;

use self::{operations::Operations, view::View};

pub use self::{
    builder::NodeBuilder,
    error::{GossipKeyError, StartError, SubscribeError},
    repair::{ChannelRepair, RefusedBlock, RepairSource, RepairStoreError, Repaired},
    stored::{StoreCheck, StoredBlockError},
    subscription::Subscription,
};
use crate::config::NodeConfig;

/// A running node. Call [`stop`](Self::stop) before dropping it: the tasks of a node that is only
/// dropped end with the runtime.
#[derive(Debug)]
pub struct Node {
    name: String,
    service: DeliverService,
    gossip: Arc<dyn Gossip>,
    addresses: Vec<String>,
    stores: BTreeMap<ChannelId, SegmentStore>,
    view: Arc<View>,
    registry: Arc<Registry>,
    operations: Option<Operations>,
}

impl Node {
    /// A node to be put together by this configuration.
    pub fn builder(config: NodeConfig) -> NodeBuilder {
        NodeBuilder::new(config)
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the node in the gossip network.
    pub fn id(&self) -> NodeId {
        self.gossip.node_id()
    }

    /// Where other nodes reach this one, as `gossip.peers` wants it. Empty where the node listens
    /// nowhere, or the network was given to the builder.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The channels, in the order of their ids.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.stores.keys()
    }

    /// How a channel stands; `None` when it is not one of this node's, or the node was stopped.
    pub fn channel_state(&self, channel: &ChannelId) -> Option<ChannelState> {
        self.view.state(channel)
    }

    /// How well a channel does; `None` when it is not one of this node's, or the node was stopped.
    pub fn channel_health(&self, channel: &ChannelId) -> Option<Health> {
        Some(self.view.state(channel)?.health)
    }

    /// How well each channel does, in the order of their ids; none after the node was stopped.
    pub fn health(&self) -> BTreeMap<ChannelId, Health> {
        let states = self.view.states().into_iter();
        states
            .map(|(channel, state)| (channel, state.health))
            .collect()
    }

    /// Where the operations service answers; `None` where `operations.listen` is not set.
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(Operations::address)
    }

    /// What is measured, as OpenMetrics text: the same as `/metrics` of the operations service.
    pub fn metrics(&self) -> String {
        metrics::text(&self.registry)
    }

    /// Waits until a channel has this height: its blocks are stored and counted, and their
    /// configuration is in force. `false` when the channel is not one of this node's, or the node was
    /// stopped before.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for_height(&self, channel: &ChannelId, height: Height) -> bool {
        self.service.wait_for_height(channel, height).await
    }

    /// The chain of a channel as it is kept here; `None` when it is not one of this node's.
    pub fn reader(&self, channel: &ChannelId) -> Option<Arc<dyn BlockReader>> {
        let store = self.stores.get(channel)?;
        Some(Arc::new(store.clone()))
    }

    /// The verified blocks of a channel from a number on: those that are kept, and then each as it is
    /// stored. A number above the height is waited for.
    ///
    /// # Errors
    ///
    /// When the channel is not one of this node's. What goes wrong later comes in the stream, and
    /// ends it: the block is older than the oldest one that is kept, or the node was stopped.
    pub fn subscribe(
        &self,
        channel: &ChannelId,
        from: BlockNumber,
    ) -> Result<Subscription, SubscribeError> {
        let reader = self
            .reader(channel)
            .ok_or_else(|| SubscribeError::UnknownChannel {
                channel: channel.clone(),
            })?;
        Ok(Subscription::new(channel.clone(), reader, from))
    }

    /// Stops the node: pulling and intake end, what is due is stored, the gossip network is left, and
    /// the stores are closed. On return no task of the node runs. Safe to repeat.
    ///
    /// # Panics
    ///
    /// When the writer of a store panicked.
    ///
    /// # Cancel safety
    ///
    /// Not safe: let it finish.
    pub async fn stop(&self) {
        if let Some(operations) = &self.operations {
            operations.stop().await;
        }
        self.service.stop().await;
        self.gossip.stop().await;
        for store in self.stores.values() {
            store.clone().close().await;
        }
    }
}
