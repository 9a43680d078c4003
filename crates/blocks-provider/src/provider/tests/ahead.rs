// SPDX-License-Identifier: Apache-2.0
//! Blocks that come while those before them are being taken over.

use std::num::NonZeroUsize;

use super::*;

impl Keeper {
    /// Has blocks wait until the gate that it gives is opened.
    fn shut(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    fn open(&self, gate: &Notify) {
        *self.gate.lock().unwrap() = None;
        gate.notify_one();
    }

    fn seen(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(number, _)| *number).collect()
    }

    fn prepared(&self) -> Vec<u64> {
        self.prepared.lock().unwrap().clone()
    }
}

fn pull_ahead(source: ScriptedSource, blocks: usize, bytes: usize) -> Rig {
    let count = |n| NonZeroUsize::new(n).unwrap();
    let config = Config {
        ahead_blocks: count(blocks),
        ahead_bytes: count(bytes),
        ..Config::default()
    };
    start_in(source, HeaderProof::OneSigner, config)
}

#[tokio::test(start_paused = true)]
async fn blocks_come_up_to_a_bound_while_one_is_taken_over() {
    let blocks = blocks(9);
    let each = blocks[1].raw().len();
    // The block that fills the line may have any size.
    for (most, bytes, expected) in [
        (3, usize::MAX, 3),
        (64, 2 * each, 2),
        (64, 2 * each + 1, 3),
        (64, 1, 1),
    ] {
        let source = ScriptedSource::new(&[ONE]);
        source.script(ONE, stream(&blocks[1..], Step::Hang));
        let rig = pull_ahead(source, most, bytes);
        let genesis = vec![TestChain::verified(&blocks[0])];
        rig.keeper.store.append(genesis).await.unwrap();
        let gate = rig.keeper.shut();
        sleep(Duration::from_secs(1)).await;
        let numbers: Vec<u64> = (1..=expected).collect();
        assert_eq!(
            rig.keeper.prepared(),
            numbers,
            "{most} blocks, {bytes} bytes"
        );
        assert!(rig.keeper.seen().is_empty());
        rig.keeper.open(&gate);
        rig.height(9).await;
        let numbers: Vec<u64> = (1..9).collect();
        assert_eq!(rig.keeper.prepared(), numbers);
        assert_eq!(rig.keeper.seen(), numbers, "in order");
        rig.end().await;
    }
}

/// Covers: NEW-01, CFT-21
#[tokio::test(start_paused = true)]
async fn what_came_before_a_stream_failed_is_taken_over() {
    let blocks = blocks(6);
    for then in [Step::Break, Step::Status(DeliverStatus::Unavailable)] {
        let source = ScriptedSource::new(&[ONE]);
        source.script(ONE, stream(&blocks[..4], then));
        source.script(ONE, stream(&blocks[4..], Step::Hang));
        let rig = pull_ahead(source, 64, usize::MAX);
        let gate = rig.keeper.shut();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.keeper.prepared(), [0, 1, 2, 3]);
        assert_eq!(rig.source.requests().len(), 1, "it is not left before");
        assert_eq!(rig.keeper.forgotten.load(Ordering::SeqCst), 0);
        rig.keeper.open(&gate);
        rig.height(6).await;
        assert_eq!(rig.keeper.seen(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            rig.keeper.forgotten.load(Ordering::SeqCst),
            1,
            "it is told that the first stream ended"
        );
        let start = rig.source.requests()[1].1.start;
        assert_eq!(start, Start::At(BlockNumber::new(4)));
        rig.end().await;
    }
}

/// Covers: VER-19, NEW-01
#[tokio::test(start_paused = true)]
async fn what_came_behind_a_refused_block_is_not_taken_over() {
    let blocks = blocks(6);
    let mut bad = blocks.clone();
    bad[2] = TestChain::forged(&blocks[2]);
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&bad, Step::Hang));
    source.script(ONE, stream(&blocks[2..], Step::Hang));
    let rig = start(source);
    let gate = rig.keeper.shut();
    sleep(Duration::from_secs(1)).await;
    rig.keeper.open(&gate);
    rig.height(6).await;
    assert_eq!(rig.keeper.prepared()[..6], [0, 1, 2, 3, 4, 5]);
    assert_eq!(rig.keeper.seen(), [0, 1, 2, 2, 3, 4, 5]);
    assert_eq!(rig.restarts(Reason::InvalidBlock), 1);
    rig.end().await;
}

/// While blocks wait for the handler their source is not to blame, and what it gave counts once it
/// was taken over.
#[tokio::test(start_paused = true)]
async fn a_line_in_front_of_the_handler_is_no_withholding() {
    let blocks = blocks(6);
    let source = ScriptedSource::new(&[ONE, TWO]);
    for endpoint in [ONE, TWO] {
        source.script(endpoint, stream(&blocks, Step::Hang));
    }
    let rig = start_in(source, HeaderProof::Quorum, Config::default());
    let gate = rig.keeper.shut();
    sleep(Duration::from_secs(1)).await;
    rig.handle.chain_grew(Height::new(6));
    sleep(Config::default().censorship_timeout * 3).await;
    assert_eq!(rig.stats().attempts, 1, "{:?}", rig.handle.report());
    rig.keeper.open(&gate);
    rig.height(6).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((rig.stats().attempts, rig.restarts(Reason::Behind)), (1, 0));
    rig.end().await;
}
