// SPDX-License-Identifier: Apache-2.0
//! The nodes of the demo: whole nodes over libp2p on the loopback, in temporary folders.

use std::{fs, path::Path, sync::Arc, time::Duration};

use block_api::{BlockReader, ChannelId, Height};
use blockcast::{
    ChannelState, Node, NodeConfig,
    config::{ChannelSection, HumanDuration, OrdererTls, OverrideSection, Pull},
};
use blocks_provider::PullState;
use futures::future::try_join_all;
use tokio::time::{Instant, interval};

use super::{latency::watch, progress::Heights, service::Service};
use crate::error::CommandError;

/// How often it is looked whether the nodes know each other.
const LOOK: Duration = Duration::from_millis(20);

/// How long blocks may be withheld: longer than a demo lasts, as is the eighth of it after which other
/// orderers of a BFT channel are asked for headers.
const UNWATCHED: HumanDuration = HumanDuration::from_secs(24 * 3600);

/// The nodes; the first one pulls.
pub(super) struct Cluster {
    channel: ChannelId,
    nodes: Vec<DemoNode>,
}

struct DemoNode {
    node: Node,
    reader: Arc<dyn BlockReader>,
}

impl Cluster {
    /// Starts a node for each of the service's signers, each with a connection to every other.
    pub(super) async fn start(service: &Service, folder: &Path) -> Result<Self, CommandError> {
        fs::write(folder.join("genesis.block"), service.genesis().raw())?;
        fs::write(folder.join("tls-ca.pem"), service.tls_ca_pem())?;
        let mut this = Self {
            channel: service.channel().clone(),
            nodes: Vec::new(),
        };
        let mut addresses = Vec::new();
        for (index, signer) in service.signers().iter().enumerate() {
            let mut config = this.config(service, folder, index);
            config.gossip.peers.clone_from(&addresses);
            let mut builder = Node::builder(config).signer(signer.clone());
            if let Some(readers) = service.readers() {
                builder = builder.readers(readers);
            }
            let started = builder.start().await;
            let node = match started {
                Ok(node) => node,
                Err(error) => {
                    this.stop().await;
                    let error = CommandError::from(error);
                    return Err(error.during(format_args!("node-{}", index + 1)));
                }
            };
            addresses.extend(node.addresses().iter().cloned());
            let reader = node
                .reader(&this.channel)
                .expect("invariant: a node has the channel that it was given");
            this.nodes.push(DemoNode { node, reader });
        }
        Ok(this)
    }

    fn config(&self, service: &Service, folder: &Path, index: usize) -> NodeConfig {
        let name = format!("node-{}", index + 1);
        let mut config = NodeConfig::new(folder.join(&name));
        config.node.name = name;
        config.gossip.listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
        config.orderer.tls = OrdererTls::Server;
        // One server stands for all orderers: nobody is there to compare it with, and on a machine of
        // any speed the same is shown.
        config.orderer.censorship_timeout = UNWATCHED;
        let overrides = service
            .overrides()
            .into_iter()
            .map(|(from, to)| OverrideSection {
                from,
                to,
                ca: Some(folder.join("tls-ca.pem")),
            });
        config.orderer.overrides.extend(overrides);
        config.channels.push(ChannelSection {
            // Each run is to show the same, and begin at once.
            pull: if index == 0 {
                Pull::Always
            } else {
                Pull::Never
            },
            ..ChannelSection::new(self.channel.clone(), folder.join("genesis.block"))
        });
        config
    }

    /// Waits until every node knows how every other stands, and the first one has its stream.
    pub(super) async fn connected(&self, patience: Duration) -> Result<(), CommandError> {
        let others = self.nodes.len().saturating_sub(1);
        let deadline = Instant::now() + patience;
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let mut missing = Vec::new();
            for (index, node) in self.nodes.iter().enumerate() {
                let state = self.state(node)?;
                if state.peers.len() < others {
                    missing.push(format!(
                        "{} knows {} of {others} nodes",
                        node.node.name(),
                        state.peers.len()
                    ));
                }
                if index == 0 && !matches!(state.pull, Some(PullState::Streaming(_))) {
                    missing.push(format!(
                        "{} has no stream: {:?}",
                        node.node.name(),
                        state.pull
                    ));
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CommandError::new(format!(
                    "the nodes did not find together within {} s: {}",
                    patience.as_secs(),
                    missing.join("; ")
                ))
                .hint(
                    "a firewall between programs on 127.0.0.1 would do that; --log debug says more",
                ));
            }
        }
    }

    /// Waits until every node has the height; gives for each when it stored which block.
    pub(super) async fn watch(&self, target: Height) -> Result<Vec<Vec<Instant>>, CommandError> {
        let watching = self
            .nodes
            .iter()
            .map(|node| watch(node.reader.as_ref(), target));
        Ok(try_join_all(watching).await?)
    }

    /// Who has not what the orderer has, and what each says of it.
    pub(super) fn behind(&self, heights: &Heights, patience: Duration) -> CommandError {
        let mut behind = Vec::new();
        for (node, height) in self.nodes.iter().zip(&heights.nodes) {
            if *height < heights.orderer {
                let state = self.state(node).ok();
                let reason = state.and_then(|state| match (state.storage_failure, state.pull) {
                    (Some(failure), _) => Some(failure.message),
                    (None, Some(PullState::BackingOff { last_failure, .. })) => last_failure,
                    (None, _) => None,
                });
                let reason = reason
                    .map(|reason| format!(" ({reason})"))
                    .unwrap_or_default();
                behind.push(format!("{} at height {height}{reason}", node.node.name()));
            }
        }
        CommandError::new(format!(
            "nothing moved for {} s while nodes are behind the orderer at height {}: {}",
            patience.as_secs(),
            heights.orderer,
            behind.join("; ")
        ))
        .hint("--log info says what each node does")
    }

    pub(super) fn heights(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .map(|node| node.reader.info().height.get())
            .collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.node.name())
    }

    /// How each node stands, when it has counted what it stored: a block is counted a moment after it
    /// can be read.
    pub(super) async fn states(&self) -> Result<Vec<ChannelState>, CommandError> {
        let mut states = Vec::new();
        for node in &self.nodes {
            let height = node.reader.info().height;
            // Where the wait fails, the state says why.
            node.node.wait_for_height(&self.channel, height).await;
            states.push(self.state(node)?);
        }
        Ok(states)
    }

    pub(super) async fn stop(&self) {
        for node in &self.nodes {
            node.node.stop().await;
        }
    }

    fn state(&self, node: &DemoNode) -> Result<ChannelState, CommandError> {
        let state = node.node.channel_state(&self.channel);
        state.ok_or_else(|| {
            CommandError::new(format!(
                "{} has left channel {}",
                node.node.name(),
                self.channel
            ))
        })
    }
}
