// SPDX-License-Identifier: Apache-2.0
//! Fetches what is missing: from the nodes of the configuration first, then from the orderers.

use std::{collections::BTreeSet, sync::Arc};

use block_api::{Block, BlockSource as _, Endpoint, JoinRequest, SystemClock};
use channel_config::{ChannelAccess, ChannelConfig};
use orderer_client::OrdererClient;
use tracing::info;

use super::{
    ChannelRepair, RepairStoreError,
    peers::{NothingToGive, Peers},
    rebuild::Rebuild,
};
use crate::{
    config::GossipBackend,
    node::{
        StartError,
        channel::{Identity, orderer_client},
        gossip_key,
    },
};

/// What came of asking for blocks.
#[derive(Default)]
struct Asked {
    /// Who gave some, in the order of asking.
    sources: Vec<Endpoint>,
    /// What went wrong with each.
    failures: Vec<String>,
}

impl ChannelRepair {
    /// Fetches what is missing, from one source after the other.
    pub(super) async fn fetch(
        &mut self,
        rebuild: &mut Rebuild,
    ) -> Result<Vec<Endpoint>, RepairStoreError> {
        let identity = self.identity()?;
        let mut asked = Asked::default();
        self.fetch_from_peers(rebuild, &identity, &mut asked)
            .await?;
        if rebuild.next().is_some() {
            self.fetch_from_orderers(rebuild, &identity, &mut asked)
                .await?;
        }
        match rebuild.next() {
            None => Ok(asked.sources),
            Some(next) => Err(RepairStoreError::NotFetched {
                next,
                last: rebuild.last(),
                failures: asked.failures,
            }),
        }
    }

    async fn fetch_from_peers(
        &mut self,
        rebuild: &mut Rebuild,
        identity: &Identity,
        asked: &mut Asked,
    ) -> Result<(), RepairStoreError> {
        let gossip = &self.config.gossip;
        if gossip.peers.is_empty() || gossip.backend != GossipBackend::Libp2p {
            return Ok(());
        }
        if self.peers.is_none() {
            let peers = Box::pin(self.meet(identity)).await;
            self.peers = Some(peers.map_err(Box::new)?);
        }
        let Some(peers) = &mut self.peers else {
            return Ok(());
        };
        let mut done = BTreeSet::new();
        while let Some(next) = rebuild.next() {
            let Some((node, source)) = peers.giver(next, &done).await else {
                asked.failures.extend(peers.not_asked(&done));
                return Ok(());
            };
            let endpoint = Endpoint::of_node(&node);
            done.insert(node);
            let failure = rebuild
                .take_from(&*source, &endpoint, &self.section.id)
                .await?;
            asked.note(endpoint, rebuild.next() != Some(next), failure);
        }
        Ok(())
    }

    async fn fetch_from_orderers(
        &self,
        rebuild: &mut Rebuild,
        identity: &Identity,
        asked: &mut Asked,
    ) -> Result<(), RepairStoreError> {
        let client = match self.client(identity) {
            Ok(client) => client,
            // Why the nodes did not give the blocks is told too.
            Err(error) if !asked.failures.is_empty() => {
                asked.failures.push(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(Box::new(error).into()),
        };
        for endpoint in client.endpoints() {
            let Some(next) = rebuild.next() else { break };
            let failure = rebuild
                .take_from(&client, &endpoint, &self.section.id)
                .await?;
            asked.note(endpoint, rebuild.next() != Some(next), failure);
        }
        Ok(())
    }

    /// Joins the network of the configuration as the node itself would.
    async fn meet(&self, identity: &Identity) -> Result<Peers, StartError> {
        let key = gossip_key::load_or_make(&self.config.gossip_key_file())?;
        let config = gossip_libp2p::Config {
            // It asks those that it dials, and nobody needs to find it.
            listen: Vec::new(),
            external_addrs: Vec::new(),
            internal_addrs: Vec::new(),
            target_peers: 0,
            mdns: false,
            ..self.config.libp2p(key, identity.signer.clone())?
        };
        let request = JoinRequest {
            channel: self.section.id.clone(),
            genesis: self.genesis,
            reader: Arc::new(NothingToGive),
            readers: Arc::new(ChannelAccess::readers(&self.verifier)),
        };
        Peers::join(config, request).await
    }

    fn identity(&self) -> Result<Identity, RepairStoreError> {
        let signer = match &self.config.identity {
            Some(identity) => signer::load_msp_folder(&identity.msp_dir, &identity.msp_id)
                .map_err(|error| Box::new(StartError::from(error)))?,
            None => return Err(Box::new(StartError::NoIdentity).into()),
        };
        Ok(Identity {
            signer,
            clock: Arc::new(SystemClock),
        })
    }

    /// A client of the orderers that the newest configuration in the store names, and of those of the
    /// one that is in force at the damage.
    fn client(&self, identity: &Identity) -> Result<OrdererClient, StartError> {
        let in_force = self.verifier.config();
        let newest = self.newest_config();
        let named_by: Vec<&ChannelConfig> = newest.iter().chain([&*in_force]).collect();
        orderer_client(&self.config, &self.section, &named_by, identity)
    }

    /// The newest configuration in the store, which tells where orderers are, and judges nothing here.
    fn newest_config(&self) -> Option<ChannelConfig> {
        let above = self.report().height.next_block();
        let configs = self.store().configs_below(above).ok()?;
        let block = Block::parse(configs.into_iter().next_back()?).ok()?;
        ChannelConfig::from_block(&block).ok()
    }
}

impl Asked {
    fn note(&mut self, endpoint: Endpoint, gave: bool, failure: Option<String>) {
        if let Some(failure) = &failure {
            info!(%endpoint, %failure, "asking the next one");
        }
        self.failures.extend(failure);
        if gave {
            self.sources.push(endpoint);
        }
    }
}
