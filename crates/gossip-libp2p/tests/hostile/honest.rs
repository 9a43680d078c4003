// SPDX-License-Identifier: Apache-2.0
//! Two honest nodes in one channel, each of which judges, stores and fetches.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use block_api::{
    Answer, Block, BlockNumber, BlockReader, BlockStore, BlockVerifier, Delivery, Endpoint, Fault,
    Gossip, GossipChannel, GossipEvent, Height, JoinRequest, NodeId, ReadLimits, SourceError,
    Standing, StreamRequest, Verdict, VerifiedBlock,
    testing::{MemoryStore, OpenReaders, TestChain, TestSigner, TestVerifier, within},
};
use blockcast_gossip_libp2p::{Config, Keypair, Libp2pGossip, Multiaddr, Stats};
use futures::StreamExt;
use tokio::{sync::mpsc, task::JoinSet};

use crate::rpc;

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "another test binary needs the rest of it")]
pub(crate) mod support;

/// How far above its height a node looks at blocks.
const WINDOW: u64 = 1024;

/// The seed of the key that the enemy has.
pub(crate) const ENEMY: [u8; 32] = [66; 32];

/// An honest node.
pub(crate) struct Honest {
    pub(crate) gossip: Libp2pGossip,
    pub(crate) store: Arc<MemoryStore>,
    channel: Arc<dyn GossipChannel>,
    /// How many times something was verified, which costs cryptography.
    judged: Arc<AtomicU64>,
}

/// Two of them, linked, in one channel, and the chain that they have.
pub(crate) struct Field {
    pub(crate) nodes: [Honest; 2],
    pub(crate) chain: TestChain,
    pub(crate) topic: String,
    _tasks: JoinSet<()>,
}

/// What a node works with.
struct Judge {
    store: Arc<MemoryStore>,
    channel: Arc<dyn GossipChannel>,
    judged: Arc<AtomicU64>,
    others: Vec<NodeId>,
}

impl Field {
    /// Two honest nodes that admit the enemy, as an allowed node that was taken over.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// The same, with other settings.
    pub(crate) async fn start_with(settings: impl Fn(Config) -> Config) -> Self {
        let keys = [
            Keypair::generate(),
            Keypair::generate(),
            Keypair::from_seed(ENEMY),
        ];
        let admitted: Vec<&Keypair> = keys.iter().collect();
        let mut gossips = Vec::new();
        for key in &keys[..2] {
            let config = Config {
                signer: Arc::new(TestSigner("\n\u{7}insider")),
                ..support::config(key.clone(), &admitted)
            };
            let config = settings(config);
            gossips.push(Libp2pGossip::start(config).await.unwrap());
        }
        support::connect(&gossips[0], &gossips[1]).await;
        let mut chain = TestChain::new("ch");
        let genesis = chain.config();
        let mut tasks = JoinSet::new();
        let mut nodes = Vec::new();
        let ids: Vec<NodeId> = gossips.iter().map(|gossip| gossip.node_id()).collect();
        let (meeting, mut met) = mpsc::channel(16);
        for gossip in gossips {
            let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
            let request = JoinRequest {
                channel: chain.channel(),
                genesis: genesis.header_hash(),
                reader: store.clone(),
                readers: Arc::new(OpenReaders),
            };
            let membership = within("joining", gossip.join(request)).await.unwrap();
            let judged = Arc::new(AtomicU64::new(0));
            let judge = Judge {
                store: store.clone(),
                channel: membership.channel.clone(),
                judged: judged.clone(),
                others: ids
                    .iter()
                    .filter(|id| **id != gossip.node_id())
                    .cloned()
                    .collect(),
            };
            tasks.spawn(run(judge, membership.events, meeting.clone()));
            nodes.push(Honest {
                gossip,
                store,
                channel: membership.channel,
                judged,
            });
        }
        for _ in 0..2 {
            within("the honest nodes hear of each other", met.recv()).await;
        }
        let topic = rpc::topic(&chain.channel(), &genesis.header_hash());
        Self {
            nodes: nodes.try_into().ok().unwrap(),
            chain,
            topic,
            _tasks: tasks,
        }
    }

    /// Where the enemy connects to.
    pub(crate) fn address(&self) -> Multiaddr {
        self.nodes[0].gossip.peer_addrs().remove(0)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.nodes[0].gossip.stats()
    }

    /// How many verifications the attacked node made.
    pub(crate) fn judged(&self) -> u64 {
        self.nodes[0].judged.load(Ordering::SeqCst)
    }

    /// Waits until the counts of the attacked node are as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(Stats) -> bool) {
        let reached = async {
            while !wanted(self.stats()) {
                tokio::task::yield_now().await;
            }
        };
        within(what, reached).await;
    }

    /// The honest nodes go on: blocks, small and big ones, come from one to the other in turn.
    pub(crate) async fn keeps_pace(&mut self, blocks: usize) {
        for index in 0..blocks {
            let bytes = if index % 4 == 3 { 100_000 } else { 500 };
            let block = self.chain.data(bytes);
            self.passes_on(&block, index % 2).await;
        }
    }

    /// One honest node has a block, and the other one gets it.
    pub(crate) async fn passes_on(&self, block: &Block, from: usize) {
        let (publisher, receiver) = (&self.nodes[from], &self.nodes[1 - from]);
        let verified = TestChain::verified(block);
        publisher
            .store
            .append(vec![verified.clone()])
            .await
            .unwrap();
        within("publishing", publisher.channel.publish(&verified))
            .await
            .unwrap();
        let height = block.number().height();
        within(
            "the block at the other node",
            receiver.store.wait_for(height),
        )
        .await
        .unwrap();
    }

    /// Both have the chain up to here, and nothing else; and stop.
    pub(crate) async fn ends(self, height: Height) {
        for node in &self.nodes {
            assert_eq!(node.store.info().height, height);
            let limits = ReadLimits::new(usize::MAX, usize::MAX);
            let blocks = node.store.read(0.into(), limits).await.unwrap();
            for block in blocks {
                let block = Block::parse(block).unwrap();
                let verdict = TestVerifier::default().verify(&block, Standing::Linked);
                assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
            }
        }
        for node in &self.nodes {
            within("stopping", node.gossip.stop()).await;
        }
    }
}

/// Answers what comes: as the service does it, in few words.
async fn run(judge: Judge, mut events: mpsc::Receiver<GossipEvent>, meeting: mpsc::Sender<()>) {
    let judge = Arc::new(judge);
    let mut fetching = JoinSet::new();
    let mut met = false;
    while let Some(event) = events.recv().await {
        while fetching.try_join_next().is_some() {}
        let candidate = match event {
            GossipEvent::Candidate(candidate) => candidate,
            GossipEvent::Status { from, status, .. } => {
                if judge.others.contains(&from) && !std::mem::replace(&mut met, true) {
                    let _ = meeting.send(()).await;
                }
                let height = judge.store.info().height;
                if status.height > height {
                    let judge = judge.clone();
                    fetching
                        .spawn(async move { judge.fetch_from(&from, height.next_block()).await });
                }
                continue;
            }
            GossipEvent::Left(_) => continue,
        };
        let number = candidate.block().number().get();
        let next = judge.store.info().height.get();
        // Before anything is verified.
        if number < next || number > next + WINDOW {
            candidate.answer(Answer::Ignore);
            continue;
        }
        judge.judged.fetch_add(1, Ordering::SeqCst);
        let verifier = TestVerifier::default();
        if candidate.block().has_data() {
            let block = candidate.block().clone();
            match VerifiedBlock::new(block, &verifier, Standing::Linked) {
                Ok(verified) => {
                    candidate.answer(Answer::Accept);
                    let _ = judge.store.append(vec![verified]).await;
                }
                Err(_) => drop(candidate.answer(Answer::Reject)),
            }
            continue;
        }
        match verifier.verify_attestation(candidate.block(), Standing::Linked) {
            Verdict::Accepted(_) => {
                let announcement = candidate.answer(Answer::Accept);
                let judge = judge.clone();
                fetching.spawn(async move { judge.fetch(&announcement).await });
            }
            Verdict::Rejected(_) | Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => {
                candidate.answer(Answer::Reject);
            }
        }
    }
}

impl Judge {
    /// Fetches the body of an announced block.
    async fn fetch(&self, announcement: &Block) {
        let Ok(block) = self.channel.fetch(announcement).await else {
            return;
        };
        if let Ok(verified) = VerifiedBlock::new(block, &TestVerifier::default(), Standing::Linked)
        {
            // It may have come by another way.
            let _ = self.store.append(vec![verified]).await;
        }
    }

    /// Asks a node for a block, and stores it if it is good.
    async fn fetch_from(&self, node: &NodeId, number: BlockNumber) {
        let Some(source) = self.channel.source(node) else {
            return;
        };
        let request = StreamRequest::range(TestChain::new("ch").channel(), number, number);
        let fetched = async {
            let mut stream = source.open(&Endpoint::of_node(node), &request).await?;
            stream.next().await.transpose()
        };
        let fault = match within("an answer or a time-out", fetched).await {
            Ok(Some(Delivery::Block(block))) => {
                let verifier = TestVerifier::default();
                match VerifiedBlock::new(block, &verifier, Standing::Linked) {
                    Ok(verified) => {
                        // It may have come by another way.
                        let _ = self.store.append(vec![verified]).await;
                        None
                    }
                    Err(_) => Some(Fault::Invalid),
                }
            }
            Ok(_) => None,
            Err(SourceError::TimedOut { .. }) => Some(Fault::Stalled),
            Err(SourceError::Malformed { .. } | SourceError::MalformedBlock { .. }) => {
                Some(Fault::Invalid)
            }
            Err(_) => None,
        };
        if let Some(fault) = fault {
            self.channel.blame(node, fault);
        }
    }
}
