// SPDX-License-Identifier: Apache-2.0
//! The nodes of the configuration, as far as a repair needs them: who of them says that it has a block.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    BlockNumber, BlockReader, BlockSource, ChainInfo, Gossip as _, GossipChannel, GossipEvent,
    Height, JoinRequest, NodeId, ReadError, ReadLimits,
};
use bytes::Bytes;
use deliver_service::JoinError;
use gossip_libp2p::Libp2pGossip;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::node::StartError;

/// A node that has not told for so long how it stands is not waited for.
const MEETING: Duration = Duration::from_secs(10);

/// A channel in the network of the nodes, joined to ask and not to give.
pub(super) struct Peers {
    gossip: Libp2pGossip,
    channel: Arc<dyn GossipChannel>,
    events: mpsc::Receiver<GossipEvent>,
    /// Until when nodes are waited for.
    meet_by: Instant,
    /// The nodes that are dialled.
    dialled: BTreeSet<NodeId>,
    /// The first block and the height that each node has told.
    told: BTreeMap<NodeId, (BlockNumber, Height)>,
}

/// The chain as others see it here: a damaged store is not served from.
#[derive(Debug)]
pub(super) struct NothingToGive;

impl Peers {
    /// Starts a network and joins the channel. Nobody is met yet.
    pub(super) async fn join(
        config: gossip_libp2p::Config,
        request: JoinRequest,
    ) -> Result<Self, StartError> {
        // The backend has checked that each address ends with the id of the node.
        let addresses = config.peers.iter().map(ToString::to_string);
        let mut dialled: BTreeSet<NodeId> = addresses
            .filter_map(|address| Some(NodeId::new(address.rsplit_once("/p2p/")?.1)))
            .collect();
        let gossip = Libp2pGossip::start(config).await?;
        dialled.remove(&gossip.node_id());
        let membership = match gossip.join(request).await {
            Ok(membership) => membership,
            Err(error) => {
                gossip.stop().await;
                return Err(JoinError::from(error).into());
            }
        };
        Ok(Self {
            gossip,
            channel: membership.channel,
            events: membership.events,
            meet_by: Instant::now() + MEETING,
            dialled,
            told: BTreeMap::new(),
        })
    }

    /// A node that is none of those that were asked: rather one that says it has the block. Waits for
    /// such a one while some have not told how they stand and there is time; then any other is worth
    /// asking, as what it told may be older than its newest blocks.
    pub(super) async fn giver(
        &mut self,
        number: BlockNumber,
        asked: &BTreeSet<NodeId>,
    ) -> Option<(NodeId, Arc<dyn BlockSource>)> {
        while let Ok(event) = self.events.try_recv() {
            self.hear(event);
        }
        loop {
            let giver = self.connected(|node| self.has(node, number) && !asked.contains(node));
            if giver.is_some() {
                return giver;
            }
            let is_settled = |node| self.told.contains_key(node) || asked.contains(node);
            if self.dialled.iter().all(is_settled) {
                break;
            }
            match timeout_at(self.meet_by, self.events.recv()).await {
                Ok(Some(event)) => self.hear(event),
                Ok(None) | Err(_) => break,
            }
        }
        self.connected(|node| !asked.contains(node))
    }

    /// Why the nodes that were not asked were not.
    pub(super) fn not_asked(&self, asked: &BTreeSet<NodeId>) -> Vec<String> {
        let others = self.dialled.iter().filter(|node| !asked.contains(*node));
        let seconds = MEETING.as_secs();
        others
            .map(|node| format!("{node} was not met in the channel within {seconds} s"))
            .collect()
    }

    /// Leaves the channel and the network.
    pub(super) async fn leave(self) {
        self.channel.leave().await;
        self.gossip.stop().await;
    }

    /// The first such node that is connected.
    fn connected(
        &self,
        is_such: impl Fn(&NodeId) -> bool,
    ) -> Option<(NodeId, Arc<dyn BlockSource>)> {
        let mut such = self.told.keys().filter(|node| is_such(node));
        such.find_map(|node| Some((node.clone(), self.channel.source(node)?)))
    }

    fn has(&self, node: &NodeId, number: BlockNumber) -> bool {
        let told = self.told.get(node);
        told.is_some_and(|(first, height)| *first <= number && number < height.next_block())
    }

    /// Takes in how a node stands. The candidates of a repair are of no use to it.
    fn hear(&mut self, event: GossipEvent) {
        match event {
            GossipEvent::Status { from, status, .. } => {
                self.told.insert(from, (status.first, status.height));
            }
            GossipEvent::Left(node) => drop(self.told.remove(&node)),
            GossipEvent::Candidate(_) => {}
        }
    }
}

#[async_trait]
impl BlockReader for NothingToGive {
    fn info(&self) -> ChainInfo {
        ChainInfo::EMPTY
    }

    async fn read(&self, _: BlockNumber, _: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        Ok(Vec::new())
    }

    async fn wait_for(&self, _: Height) -> Result<ChainInfo, ReadError> {
        Err(ReadError::Closed)
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}
