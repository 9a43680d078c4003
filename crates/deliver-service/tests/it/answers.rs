// SPDX-License-Identifier: Apache-2.0
//! What the network is told of candidates, on which the standing of their senders depends.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{
    Answer, Block, BlockNumber, BlockSource, Candidate, Capabilities, Fault, FetchError, Gossip,
    GossipChannel, GossipError, GossipEvent, JoinRequest, Membership, NodeId, VerifiedBlock,
    testing::{
        MemoryStore, OpenReaders, ScriptedSource, TestChain, TestOrganisation, TestSigner,
        TestVerifier, within,
    },
};
use blockcast_deliver_service::{ChannelParts, Config, DeliverService};
use tokio::sync::{Mutex, mpsc};

/// A network in which nothing happens but what the test says.
#[derive(Debug)]
struct Puppet(Mutex<Option<mpsc::Receiver<GossipEvent>>>);

#[derive(Debug)]
struct Still;

#[async_trait]
impl Gossip for Puppet {
    fn node_id(&self) -> NodeId {
        NodeId::new("node")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, _: JoinRequest) -> Result<Membership, GossipError> {
        let events = self.0.lock().await.take().ok_or(GossipError::Closed)?;
        let channel = Arc::new(Still);
        Ok(Membership { channel, events })
    }

    async fn stop(&self) {}
}

#[async_trait]
impl GossipChannel for Still {
    async fn publish(&self, _: &VerifiedBlock) -> Result<(), GossipError> {
        Ok(())
    }

    async fn fetch(&self, _: &Block) -> Result<Block, FetchError> {
        std::future::pending().await
    }

    fn set_pulling(&self, _: bool) {}

    fn source(&self, _: &NodeId) -> Option<Arc<dyn BlockSource>> {
        None
    }

    fn blame(&self, _: &NodeId, _: Fault) {}

    async fn leave(&self) {}
}

/// What a node had to believe that lacks the newest configuration is ignored, so that it costs its
/// sender nothing; what nobody could believe is rejected. Neither goes on.
#[tokio::test(start_paused = true)]
async fn good_faith_is_no_fault() {
    let mut chain = TestChain::new("ch");
    let known = [chain.config(), chain.config()];
    let blocks: Vec<Block> = (0..3).map(|_| chain.data(100)).collect();
    let store = MemoryStore::with(known.iter().map(TestChain::verified).collect()).await;
    let (network, events) = mpsc::channel(16);
    let gossip = Arc::new(Puppet(Mutex::new(Some(events))));
    let service = DeliverService::new(Config::default(), gossip).unwrap();
    let parts = ChannelParts {
        channel: chain.channel(),
        genesis: known[0].header_hash(),
        store: Arc::new(store),
        verifier: Arc::new(TestVerifier::strict()),
        readers: Arc::new(OpenReaders),
        signer: Arc::new(TestSigner("node")),
        organisation: Arc::new(TestOrganisation("node")),
        source: Arc::new(ScriptedSource::new(&["orderer:7050"])),
    };
    service.join_channel(parts).await.unwrap();
    let naming = |block: &Block, last_config: u64, signed_under: u64| {
        let (last_config, signed_under) = (
            BlockNumber::new(last_config),
            BlockNumber::new(signed_under),
        );
        let mark = TestVerifier::mark(block, last_config, signed_under);
        let header = block.header();
        let entries: Vec<&[u8]> = block.data().collect();
        Block::assemble(header.number, header.previous_hash, &entries, &[mark])
    };
    let rows = [
        (naming(&blocks[2], 0, 0), Answer::Ignore),
        (naming(&blocks[2], 0, 0).without_data(), Answer::Ignore),
        (naming(&blocks[0], 0, 0), Answer::Ignore),
        (naming(&blocks[2], 1, 0), Answer::Reject),
        (TestChain::forged(&blocks[0]), Answer::Reject),
        (blocks[0].clone(), Answer::Accept),
    ];
    for (block, expected) in rows {
        let (candidate, answer) = Candidate::new(block, NodeId::new("peer"));
        let event = GossipEvent::Candidate(candidate);
        network.send(event).await.unwrap();
        let answer = within("the answer", answer).await;
        assert_eq!(answer, Ok(expected));
    }
    let stats = service.state(&chain.channel()).unwrap().stats;
    assert_eq!((stats.rejected, stats.limited), (5, 0));
    within("stopping", service.stop()).await;
}
