// SPDX-License-Identifier: Apache-2.0
//! A service with one channel, for tests that look inside.

use std::sync::Arc;

use block_api::{
    Block, ChannelId, Height,
    testing::{
        MemoryStore, OpenReaders, ScriptedSource, TestChain, TestOrganisation, TestSigner,
        TestVerifier, within,
    },
};
use gossip_memory::MemoryNetwork;

use crate::{ChannelParts, Config, DeliverService, intake::Intake};

/// The service, and what its channel stores.
pub(crate) struct Scene {
    pub(crate) service: DeliverService,
    pub(crate) channel: ChannelId,
    pub(crate) store: Arc<MemoryStore>,
}

impl Scene {
    /// Joins the channel of a genesis block, which is stored; it knows no other nodes.
    pub(crate) async fn joined(config: Config, genesis: &Block, source: ScriptedSource) -> Self {
        let gossip = MemoryNetwork::new(3).node("node");
        let service = DeliverService::new(config, Arc::new(gossip)).unwrap();
        let channel = TestChain::new("ch").channel();
        let store = Arc::new(MemoryStore::with(vec![TestChain::verified(genesis)]).await);
        let parts = ChannelParts {
            channel: channel.clone(),
            genesis: genesis.header_hash(),
            store: store.clone(),
            verifier: Arc::new(TestVerifier::strict()),
            readers: Arc::new(OpenReaders),
            signer: Arc::new(TestSigner("node")),
            organisation: Arc::new(TestOrganisation("node")),
            source: Arc::new(source),
        };
        service.join_channel(parts).await.unwrap();
        Self {
            service,
            channel,
            store,
        }
    }

    pub(crate) fn intake(&self) -> Arc<Intake> {
        self.service.joined(&self.channel).unwrap().intake.clone()
    }

    pub(crate) async fn reaches(&self, height: u64) {
        let reached = self
            .service
            .wait_for_height(&self.channel, Height::new(height));
        assert!(within("the height", reached).await);
    }

    pub(crate) async fn stop(self) {
        within("stopping", self.service.stop()).await;
    }
}
