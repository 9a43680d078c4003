// SPDX-License-Identifier: Apache-2.0
//! What the network is told of candidates, on which the standing of their senders depends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use block_api::{
    Answer, Block, BlockNumber, BlockSource, Candidate, Capabilities, ChannelStatus, Fault,
    FetchError, Gossip, GossipChannel, GossipError, GossipEvent, Height, JoinRequest, Membership,
    NodeId, VerifiedBlock,
    testing::{
        DEADLINE, MemoryStore, OpenReaders, ScriptedSource, TestChain, TestOrganisation,
        TestSigner, TestVerifier, within,
    },
};
use blockcast_deliver_service::{ChannelParts, Config, DeliverService};
use tokio::sync::{Mutex, mpsc, watch};

/// A network in which nothing happens but what the test says.
#[derive(Debug)]
struct Puppet {
    events: Mutex<Option<mpsc::Receiver<GossipEvent>>>,
    body: Option<Block>,
    waiting: watch::Sender<usize>,
}

/// Its one body is that of every announcement; without one, nothing is fetched.
#[derive(Debug)]
struct Still {
    body: Option<Block>,
    /// How many wait for a body.
    waiting: watch::Sender<usize>,
}

/// One who waits for a body, until it is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

#[async_trait]
impl Gossip for Puppet {
    fn node_id(&self) -> NodeId {
        NodeId::new("node")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::peer_to_peer()
    }

    async fn join(&self, _: JoinRequest) -> Result<Membership, GossipError> {
        let events = self.events.lock().await.take().ok_or(GossipError::Closed)?;
        let channel = Arc::new(Still {
            body: self.body.clone(),
            waiting: self.waiting.clone(),
        });
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
        match &self.body {
            Some(body) => Ok(body.clone()),
            None => {
                let _waiting = Waiting::begin(&self.waiting);
                std::future::pending().await
            }
        }
    }

    fn set_pulling(&self, _: bool) {}

    fn source(&self, _: &NodeId) -> Option<Arc<dyn BlockSource>> {
        None
    }

    fn blame(&self, _: &NodeId, _: Fault) {}

    async fn leave(&self) {}
}

struct Watched {
    service: DeliverService,
    network: mpsc::Sender<GossipEvent>,
    store: Arc<MemoryStore>,
    /// How many fetches are under way.
    fetching: watch::Receiver<usize>,
}

impl Watched {
    /// Hands in a block as a candidate, which is accepted.
    async fn hands_in(&self, block: Block) {
        let (candidate, answer) = Candidate::new(block, NodeId::new("peer"));
        let event = GossipEvent::Candidate(candidate);
        self.network.send(event).await.unwrap();
        assert_eq!(within("the answer", answer).await, Ok(Answer::Accept));
    }

    /// Waits until so many fetches are under way.
    async fn fetches(&mut self, count: usize) {
        let fetching = self.fetching.wait_for(|fetching| *fetching == count);
        within("the fetches", fetching).await.unwrap();
    }
}

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// A node that has these blocks, and what tells it what happens.
async fn judge(
    chain: &TestChain,
    known: &[Block],
    body: Option<Block>,
) -> (DeliverService, mpsc::Sender<GossipEvent>) {
    let node = watched(chain, known, body).await;
    (node.service, node.network)
}

/// The same, with what else a test may look at.
async fn watched(chain: &TestChain, known: &[Block], body: Option<Block>) -> Watched {
    let store = MemoryStore::with(known.iter().map(TestChain::verified).collect()).await;
    let store = Arc::new(store);
    let (network, events) = mpsc::channel(16);
    let events = Mutex::new(Some(events));
    let (waiting, fetching) = watch::channel(0);
    let gossip = Arc::new(Puppet {
        events,
        body,
        waiting,
    });
    let config = Config {
        // Longer than a test waits.
        fetch_timeout: 2 * DEADLINE,
        ..Config::default()
    };
    let service = DeliverService::new(config, gossip).unwrap();
    let parts = ChannelParts {
        channel: chain.channel(),
        genesis: known[0].header_hash(),
        store: store.clone(),
        verifier: Arc::new(TestVerifier::strict()),
        readers: Arc::new(OpenReaders),
        signer: Arc::new(TestSigner("node")),
        organisation: Arc::new(TestOrganisation("node")),
        source: Arc::new(ScriptedSource::new(&["orderer:7050"])),
    };
    service.join_channel(parts).await.unwrap();
    Watched {
        service,
        network,
        store,
        fetching,
    }
}

/// A block that names the last config block, signed by those who are in force after another one.
fn naming(block: &Block, last_config: u64, signed_under: u64) -> Block {
    let (last_config, signed_under) = (
        BlockNumber::new(last_config),
        BlockNumber::new(signed_under),
    );
    let mark = TestVerifier::mark(block, last_config, signed_under);
    let header = block.header();
    let entries: Vec<&[u8]> = block.data().collect();
    Block::assemble(header.number, header.previous_hash, &entries, &[mark])
}

/// What a node had to believe that lacks the newest configuration is ignored, so that it costs its
/// sender nothing; what nobody could believe is rejected. Neither goes on.
#[tokio::test(start_paused = true)]
async fn good_faith_is_no_fault() {
    let mut chain = TestChain::new("ch");
    let known = [chain.config(), chain.config()];
    let blocks: Vec<Block> = (0..3).map(|_| chain.data(100)).collect();
    let (service, network) = judge(&chain, &known, None).await;
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

/// Who announced a block is not charged for what was fetched for it and could not be judged, nor who
/// shows a header which he may have believed in. What no one could believe is charged.
#[tokio::test(start_paused = true)]
async fn what_is_not_judged_or_was_believed_costs_nothing() {
    let mut chain = TestChain::new("ch");
    let known = [chain.config(), chain.config()];
    let fork = chain.clone();
    let blocks: Vec<Block> = (0..20).map(|_| chain.data(100)).collect();
    // It names a config block that never comes.
    let unjudged = naming(&blocks[1], 500, 500);
    let believed = |bytes| naming(&fork.clone().data(bytes), 0, 0);
    let forged = |bytes| TestChain::forged(&fork.clone().data(bytes));
    let (service, network) = judge(&chain, &known, Some(unjudged)).await;
    let peer = || NodeId::new("peer");
    let send = async |event| {
        network.send(event).await.unwrap();
        // What is to be examined is, and nothing is forgiven.
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let stats = || service.state(&chain.channel()).unwrap().stats;
    for block in &blocks[1..] {
        let (candidate, answer) = Candidate::new(block.without_data(), peer());
        send(GossipEvent::Candidate(candidate)).await;
        assert_eq!(within("the answer", answer).await, Ok(Answer::Accept));
    }
    assert_eq!(stats().rejected, 0);
    assert!(stats().ignored > 10, "{:?}", stats());

    let (candidate, answer) = Candidate::new(blocks[0].clone(), peer());
    send(GossipEvent::Candidate(candidate)).await;
    assert_eq!(within("the answer", answer).await, Ok(Answer::Accept));
    let channel = chain.channel();
    let height = service.wait_for_height(&channel, Height::new(3));
    assert!(within("the block", height).await);
    let shows = |tip: Block| GossipEvent::Status {
        from: peer(),
        identity: None,
        status: ChannelStatus {
            height: Height::new(3),
            tip: Some(tip.without_data()),
            first: BlockNumber::GENESIS,
            pulling: false,
        },
    };
    for bytes in 200..220 {
        send(shows(believed(bytes))).await;
    }
    assert_eq!(stats().limited, 0);
    for bytes in 200..220 {
        send(shows(forged(bytes))).await;
    }
    assert_eq!(stats().limited, 10);
    within("stopping", service.stop()).await;
}

/// An announced block is not waited for when another one was stored in its place.
#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_another_block_is_stored() {
    let mut chain = TestChain::new("ch");
    let known = [chain.config()];
    let announced = chain.clone().data(20);
    let mut node = watched(&chain, &known, None).await;
    node.hands_in(announced.without_data()).await;
    node.fetches(1).await;
    node.hands_in(chain.data(10)).await;
    node.fetches(0).await;
    within("stopping", node.service.stop()).await;
}

/// Nor when its channel ended, so that no block can come.
#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_its_channel_does() {
    let mut chain = TestChain::new("ch");
    let known = [chain.config()];
    let announced = chain.clone().data(20);
    let mut node = watched(&chain, &known, None).await;
    node.hands_in(announced.without_data()).await;
    node.fetches(1).await;
    node.store.close();
    node.hands_in(chain.data(10)).await;
    let channel = chain.channel();
    let never = node.service.wait_for_height(&channel, Height::new(9));
    assert!(!within("the end of the channel", never).await);
    // A task that goes round without a pause keeps all else from running, this test too.
    node.fetches(0).await;
    within("stopping", node.service.stop()).await;
}
