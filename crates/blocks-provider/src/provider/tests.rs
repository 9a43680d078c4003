// SPDX-License-Identifier: Apache-2.0
//! The loop against scripted sources, in paused time.

mod ahead;
mod attempts;
mod refusals;
mod withholding;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    AppendError, Block, BlockNumber, BlockReader, BlockStore, BlockVerifier, ChainInfo, Content,
    DeliverStatus, Endpoint, HeaderProof, Standing, Start, Stop, Verdict, VerifiedBlock,
    VerifyError, WhenMissing,
    testing::{
        HeaderForm, LiveChain, Manner, MemoryStore, Opening, ScriptedSource, Step, TestChain,
        TestVerifier, within,
    },
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::*;
use crate::{Evidence, HandleError, HeaderVerdict, Mode, PullStats, Reason};

const ONE: &str = "one:7050";
const TWO: &str = "two:7050";

/// Verifies and stores, or fails as told.
#[derive(Debug)]
struct Keeper {
    store: MemoryStore,
    verifier: TestVerifier,
    seen: Mutex<Vec<(u64, Endpoint)>>,
    /// What it was told of before.
    prepared: Mutex<Vec<u64>>,
    /// How often it was told that a stream ended.
    forgotten: AtomicU64,
    /// How often it was asked how far the chain is.
    asked: AtomicU64,
    /// While it is set, blocks wait for it.
    gate: Mutex<Option<Arc<Notify>>>,
}

#[async_trait]
impl BlockHandler for Keeper {
    fn position(&self) -> ChainInfo {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.store.info()
    }

    fn prepare(&self, block: &Block, _from: &Endpoint) {
        self.prepared.lock().unwrap().push(block.number().get());
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    async fn handle(&self, block: Block, from: &Endpoint) -> Result<(), HandleError> {
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        self.seen
            .lock()
            .unwrap()
            .push((block.number().get(), from.clone()));
        let block = match VerifiedBlock::new(block, &self.verifier, Standing::Linked) {
            Ok(block) => block,
            Err(VerifyError::Rejected(rejection)) => return Err(rejection.into()),
            Err(other) => return Err(HandleError::Failed(other.into())),
        };
        match self.store.append(vec![block.clone()]).await {
            Ok(_) => Ok(self.verifier.apply_config(&block)?),
            Err(AppendError::Closed) => Err(HandleError::Closed),
            Err(error) => Err(HandleError::Failed(error.into())),
        }
    }

    fn judge_header(&self, header: &Block) -> HeaderVerdict {
        let tip = self.store.info();
        let links = tip.tip_hash.is_none_or(|tip| header.links_to(&tip));
        let is_next = header.number() == tip.height.next_block() && links;
        match self.verifier.verify_attestation(header, Standing::Ahead) {
            Verdict::Accepted(_) if is_next || self.header_proof() == HeaderProof::Quorum => {
                HeaderVerdict::Proven
            }
            Verdict::Accepted(_) => HeaderVerdict::Hint,
            Verdict::Rejected(rejection) => HeaderVerdict::Rejected(rejection),
            Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => HeaderVerdict::Unknown,
        }
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

struct Rig {
    source: Arc<ScriptedSource>,
    keeper: Arc<Keeper>,
    handle: ProviderHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(source: ScriptedSource) -> Rig {
    start_in(source, HeaderProof::OneSigner, Config::default())
}

#[expect(clippy::disallowed_methods, reason = "the test joins its one task")]
fn start_in(source: ScriptedSource, proof: HeaderProof, config: Config) -> Rig {
    let source = Arc::new(source);
    let keeper = Arc::new(Keeper {
        store: MemoryStore::default(),
        verifier: TestVerifier::strict(),
        seen: Mutex::default(),
        prepared: Mutex::default(),
        forgotten: AtomicU64::new(0),
        asked: AtomicU64::default(),
        gate: Mutex::default(),
    });
    keeper.verifier.set_header_proof(proof);
    let config = Config {
        seed: config.seed.or(Some(1)),
        ..config
    };
    let provider = BlocksProvider::new(
        "ch".parse().unwrap(),
        source.clone(),
        keeper.clone(),
        config,
    );
    let (handle, stop) = (provider.handle(), CancellationToken::new());
    let task = tokio::spawn(provider.run(stop.clone()));
    Rig {
        source,
        keeper,
        handle,
        stop,
        task,
    }
}

impl Rig {
    async fn height(&self, height: u64) {
        within(
            "the height",
            self.keeper.store.wait_for(Height::new(height)),
        )
        .await
        .unwrap();
    }

    /// Waits for a height, for so long at most.
    async fn height_within(&self, height: u64, patience: Duration) {
        let reached = self.keeper.store.wait_for(Height::new(height));
        timeout(patience, reached)
            .await
            .unwrap_or_else(|_| panic!("height {height}: {:?}", self.handle.report()))
            .unwrap();
    }

    fn stats(&self) -> PullStats {
        self.handle.report().stats
    }

    fn restarts(&self, reason: Reason) -> u64 {
        let restarts = self.stats().restarts;
        restarts.get(&reason).copied().unwrap_or_default()
    }

    async fn end(self) {
        self.stop.cancel();
        within("the end of the loop", self.task).await.unwrap();
        assert_eq!(self.handle.state(), PullState::Idle);
        assert_eq!(self.source.open_streams(), 0, "every task has ended");
    }
}

fn blocks(count: usize) -> Vec<Block> {
    TestChain::of_blocks("ch", count, 10).1
}

fn stream(blocks: &[Block], then: Step) -> Opening {
    Opening::Stream(
        blocks
            .iter()
            .cloned()
            .map(Step::Block)
            .chain([then])
            .collect(),
    )
}

/// Covers: CFT-01, CFT-18, CFT-20, CFT-23, CFT-24, CFT-26, REQ-05
#[tokio::test(start_paused = true)]
async fn pulls_from_the_beginning_and_hands_every_block_over() {
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&blocks(5), Step::Hang));
    let rig = start(source);
    rig.height(5).await;
    let requests = rig.source.requests();
    let [(endpoint, request)] = requests.as_slice() else {
        panic!("one stream: {requests:?}")
    };
    assert_eq!(endpoint.as_str(), ONE);
    assert_eq!((request.start, request.stop), (Start::Oldest, Stop::Never));
    assert_eq!(
        (request.content, request.when_missing),
        (Content::Blocks, WhenMissing::Wait)
    );
    assert_eq!(
        rig.handle.state(),
        PullState::Streaming(ONE.parse().unwrap())
    );
    let seen: Vec<u64> = rig
        .keeper
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    rig.end().await;
}

/// Covers: CFT-02, CFT-21, NEW-02, NEW-03
#[tokio::test(start_paused = true)]
async fn reconnects_at_the_height_that_the_chain_has_by_then() {
    let blocks = blocks(8);
    let gate = Arc::new(Notify::new());
    let source = ScriptedSource::new(&[ONE]);
    source.script(
        ONE,
        Opening::Stream(vec![
            Step::Block(blocks[0].clone()),
            Step::Block(blocks[1].clone()),
            Step::Until(gate.clone()),
            Step::Break,
        ]),
    );
    source.script(ONE, stream(&blocks[5..], Step::Hang));
    let rig = start(source);
    rig.height(2).await;
    // The chain grows by another way meanwhile.
    let others = blocks[2..5].iter().map(TestChain::verified).collect();
    rig.keeper.store.append(others).await.unwrap();
    gate.notify_one();
    rig.height(8).await;
    assert_eq!(
        rig.source.requests()[1].1.start,
        Start::At(BlockNumber::new(5))
    );
    rig.end().await;
}

/// What makes a stream be given up: the loop goes to the other endpoint and gets the block there.
async fn given_up(bad: Opening, what: &str) {
    let blocks = blocks(3);
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, bad);
    source.script(ONE, stream(&blocks, Step::Hang));
    let rig = start(source);
    rig.height(3).await;
    assert_eq!(rig.source.requests().len(), 2, "{what}");
    rig.end().await;
}

/// Covers: CFT-10, CFT-12, CFT-19, CFT-21, CFT-25, CFT-27, CFT-30, CFT-31, VER-16, VER-18, BFT-06, BFT-11, BFT-15, NEW-01
#[tokio::test(start_paused = true)]
async fn every_failure_leads_to_another_attempt() {
    let blocks = blocks(3);
    let mut stranger = TestChain::new("other");
    let _ = stranger.data(3);
    let stranger = stranger.data(3);
    given_up(Opening::Refused, "a refused connection").await;
    given_up(Opening::NotSigned, "an unsigned request").await;
    given_up(Opening::Stream(Vec::new()), "a stream that ends").await;
    given_up(Opening::Stream(vec![Step::Break]), "a stream that breaks").await;
    for status in [200, 400, 403, 404, 500, 503, 999].map(DeliverStatus::from_code) {
        given_up(Opening::Stream(vec![Step::Status(status)]), "a status").await;
    }
    given_up(stream(&blocks[1..], Step::Hang), "a block that is not due").await;
    given_up(
        stream(&[TestChain::forged(&blocks[0])], Step::Hang),
        "a forged block",
    )
    .await;

    // Of these the genesis block was good.
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&[blocks[0].clone(), stranger], Step::Hang));
    source.script(ONE, stream(&blocks[1..], Step::Hang));
    let rig = start(source);
    rig.height(3).await;
    let seen: Vec<u64> = rig
        .keeper
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(
        seen,
        [0, 1, 2],
        "a block that does not link is never handed over"
    );
    rig.end().await;

    // A hand-off that fails is made again with the same block.
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&blocks, Step::Hang));
    source.script(ONE, stream(&blocks, Step::Hang));
    let rig = start(source);
    rig.keeper.store.fail_appends(1);
    rig.height(3).await;
    let seen: Vec<u64> = rig
        .keeper
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(seen, [0, 0, 1, 2]);
    rig.end().await;
}

/// Covers: BFT-15
#[tokio::test(start_paused = true)]
async fn a_failing_source_is_changed_for_another_at_once() {
    let blocks = blocks(4);
    let source = ScriptedSource::new(&[ONE, TWO]);
    for endpoint in [ONE, TWO] {
        source.script(
            endpoint,
            stream(&blocks[..2], Step::Status(DeliverStatus::Unavailable)),
        );
        source.script(endpoint, stream(&blocks[2..], Step::Hang));
    }
    // Whoever is first fails after two blocks; the other is asked from there, and has a script
    // that begins too early first, then the right one.
    let began = Instant::now();
    let rig = start(source);
    rig.height(4).await;
    let tried: Vec<Endpoint> = rig
        .source
        .requests()
        .into_iter()
        .map(|(endpoint, _)| endpoint)
        .collect();
    assert_ne!(tried[0], tried[1], "the other endpoint is next");
    assert!(
        began.elapsed() <= 2 * Config::default().first_back_off,
        "{:?}",
        began.elapsed()
    );
    rig.end().await;
}

/// Covers: CFT-07
#[tokio::test(start_paused = true)]
async fn endpoints_that_appear_later_are_found() {
    let source = ScriptedSource::new(&[]);
    source.script(ONE, stream(&blocks(2), Step::Hang));
    let mut rig = start(source);
    while !matches!(
        rig.handle.changed().await,
        Some(PullState::BackingOff {
            last_failure: None,
            ..
        })
    ) {}
    rig.source.set_endpoints(vec![ONE.parse().unwrap()]);
    rig.height(2).await;
    rig.end().await;
}

/// Covers: CFT-16, BFT-09
#[tokio::test(start_paused = true)]
async fn an_outage_of_a_day_is_over_within_the_longest_pause() {
    let source = ScriptedSource::new(&[ONE, TWO]);
    let day = Duration::from_secs(24 * 3600);
    for endpoint in [ONE, TWO] {
        for _ in 0..100_000 {
            source.script(endpoint, Opening::Refused);
        }
    }
    let rig = start(source);
    sleep(day).await;
    let tried = rig.source.requests().len();
    // Two attempts in every round, rounds at most 10 s apart and five on average.
    assert!(
        (2 * 8640..2 * 60_000).contains(&tried),
        "{tried} attempts in a day"
    );
    assert!(
        matches!(rig.handle.state(), PullState::BackingOff { pause, last_failure: Some(_), reason: Some(Reason::Unreachable) }
        if pause <= Config::default().longest_back_off)
    );
    rig.end().await;
}

/// Covers: CFT-05, BFT-04
#[tokio::test(start_paused = true)]
async fn an_unsigned_request_waits_for_the_longest_pause() {
    let source = ScriptedSource::new(&[ONE, TWO]);
    for endpoint in [ONE, TWO] {
        source.script(endpoint, Opening::NotSigned);
    }
    let began = Instant::now();
    let rig = start(source);
    within("the second attempt", rig.source.wait_for_requests(2)).await;
    assert_eq!(began.elapsed(), Config::default().longest_back_off);
    rig.end().await;
}

/// Covers: NEW-09
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_handler_without_room() {
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&blocks(2), Step::Hang));
    let rig = start(source);
    *rig.keeper.gate.lock().unwrap() = Some(Arc::new(Notify::new()));
    within("the stream", rig.source.wait_for_requests(1)).await;
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_handler_ends_the_loop() {
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&blocks(2), Step::Hang));
    let gate = Arc::new(Notify::new());
    let rig = start(source);
    *rig.keeper.gate.lock().unwrap() = Some(gate.clone());
    within("the stream", rig.source.wait_for_requests(1)).await;
    rig.keeper.store.close();
    gate.notify_one();
    within("the end of the loop", rig.task).await.unwrap();
}

/// Covers: BFT-21
#[tokio::test(start_paused = true)]
async fn a_silent_source_can_be_changed() {
    let blocks = blocks(3);
    let source = ScriptedSource::new(&[ONE, TWO]);
    let mut rig = start(source);
    let silent = loop {
        if let Some(PullState::Streaming(endpoint)) = rig.handle.changed().await {
            break endpoint;
        }
    };
    let other = if silent.as_str() == ONE { TWO } else { ONE };
    rig.source.script(other, stream(&blocks, Step::Hang));
    rig.handle.change_source();
    rig.height(3).await;
    assert_eq!(
        rig.handle.state(),
        PullState::Streaming(other.parse().unwrap())
    );
    rig.end().await;
}
