// SPDX-License-Identifier: Apache-2.0
//! One attempt from its beginning to its end, with either deliverer.

use std::collections::BTreeSet;

use super::*;

const NAMES: [&str; 4] = ["a:7050", "b:7050", "c:7050", "d:7050"];
const BOTH: [HeaderProof; 2] = [HeaderProof::OneSigner, HeaderProof::Quorum];

/// Whom the loop asked for blocks, and from where on.
fn asked_for_blocks(rig: &Rig) -> Vec<(Endpoint, Start)> {
    let requests = rig.source.requests().into_iter();
    requests
        .filter(|(_, request)| request.content == Content::Blocks)
        .map(|(endpoint, request)| (endpoint, request.start))
        .collect()
}

/// A loop in front of this source, on a chain that has these blocks by now.
async fn start_behind(
    blocks: &[Block],
    source: ScriptedSource,
    proof: HeaderProof,
    config: Config,
) -> Rig {
    let rig = start_in(source, proof, config);
    let stored = blocks.iter().map(TestChain::verified).collect();
    rig.keeper.store.append(stored).await.unwrap();
    rig
}

/// Covers: BFT-01, CFT-02, SRC-05
#[tokio::test(start_paused = true)]
async fn an_idle_start_reads_the_height_once_and_asks_one_orderer_for_what_follows() {
    let blocks = blocks(7);
    for proof in BOTH {
        let mut first = BTreeSet::new();
        for seed in 0..32 {
            let source = ScriptedSource::new(&NAMES);
            let chain = LiveChain::new(blocks.clone());
            for name in NAMES {
                source.serve(name, &chain, Manner::HONEST);
            }
            let config = Config {
                seed: Some(seed),
                ..Config::default()
            };
            let rig = start_behind(&blocks, source, proof, config).await;
            sleep(Duration::from_secs(20)).await;
            let start = Start::At(BlockNumber::new(7));
            let asked = asked_for_blocks(&rig);
            assert_eq!(asked.len(), 1, "{asked:?}");
            assert_eq!(asked[0].1, start);
            assert_eq!(rig.handle.state(), PullState::Streaming(asked[0].0.clone()));
            assert_eq!(rig.keeper.asked.load(Ordering::SeqCst), 1);
            let mut streams = rig.source.requests();
            streams.retain(|(_, request)| request.content == Content::Headers);
            let headers = match proof {
                HeaderProof::OneSigner => 0,
                HeaderProof::Quorum => 3,
            };
            assert_eq!(streams.len(), headers, "{streams:?}");
            assert!(streams.iter().all(|(other, _)| *other != asked[0].0));
            first.insert(asked[0].0.clone());
            rig.end().await;
        }
        assert_eq!(first.len(), 4, "whoever is first is drawn by lot");
    }
}

/// Covers: CFT-02
#[tokio::test(start_paused = true)]
async fn the_height_is_read_once_for_each_attempt() {
    let source = ScriptedSource::new(&[ONE, TWO]);
    for endpoint in [ONE, TWO] {
        source.script(endpoint, Opening::Refused);
        source.script(endpoint, Opening::Stream(vec![Step::Break]));
    }
    let chain = LiveChain::new(blocks(5));
    for endpoint in [ONE, TWO] {
        source.serve(endpoint, &chain, Manner::HONEST);
    }
    let rig = start(source);
    rig.height(5).await;
    assert!(rig.stats().attempts >= 3, "{:?}", rig.stats());
    let read = rig.keeper.asked.load(Ordering::SeqCst);
    assert_eq!(read, rig.stats().attempts);
    rig.end().await;
}

/// Covers: BFT-16, CFT-27
#[tokio::test(start_paused = true)]
async fn a_hand_off_that_fails_is_made_again_with_the_same_block_of_another() {
    let blocks = blocks(9);
    for proof in BOTH {
        let source = ScriptedSource::new(&NAMES);
        let chain = LiveChain::new(blocks.clone());
        for name in NAMES {
            source.serve(name, &chain, Manner::HONEST);
        }
        let rig = start_behind(&blocks[..7], source, proof, Config::default()).await;
        rig.keeper.store.fail_appends(1);
        let began = Instant::now();
        rig.height_within(9, Duration::from_secs(1)).await;
        assert!(began.elapsed() <= Config::default().first_back_off);
        let asked = asked_for_blocks(&rig);
        let start = Start::At(BlockNumber::new(7));
        assert_eq!(asked.len(), 2);
        assert_ne!(asked[0].0, asked[1].0, "the next source");
        assert_eq!((asked[0].1, asked[1].1), (start, start));
        assert_eq!(rig.restarts(Reason::NotTaken), 1);
        rig.end().await;
    }
}

/// Covers: BFT-19, CFT-28
#[tokio::test(start_paused = true)]
async fn a_config_block_takes_force_and_the_stream_goes_on() {
    for proof in BOTH {
        let (mut chain, mut blocks) = TestChain::of_blocks("ch", 4, 10);
        blocks.push(chain.config());
        // The strict verifier takes these only once the configuration is in force.
        blocks.extend((0..3).map(|_| chain.data(10)));
        let source = ScriptedSource::new(&[ONE]);
        source.script(ONE, stream(&blocks, Step::Hang));
        let began = Instant::now();
        let rig = start_in(source, proof, Config::default());
        // An orderer that the configuration brings in.
        rig.height(5).await;
        let both = [ONE, TWO].map(|endpoint| endpoint.parse().unwrap());
        rig.source.set_endpoints(both.to_vec());
        rig.height(8).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "no pause");
        assert_eq!(asked_for_blocks(&rig).len(), 1, "on the same stream");
        assert_eq!(rig.stats().attempts, 1);
        rig.end().await;
    }
}

/// Covers: SLP-01
#[tokio::test(start_paused = true)]
async fn a_pause_lasts_as_long_as_was_said() {
    let source = ScriptedSource::new(&[ONE]);
    for _ in 0..8 {
        source.script(ONE, Opening::Refused);
    }
    let mut rig = start(source);
    for attempt in 1..=6 {
        let pause = loop {
            if let Some(PullState::BackingOff { pause, .. }) = rig.handle.changed().await {
                break pause;
            }
        };
        let began = Instant::now();
        rig.source.wait_for_requests(attempt + 1).await;
        // The timer of the runtime counts milliseconds, and rounds up.
        let lasted = began.elapsed();
        let late = lasted.checked_sub(pause);
        assert!(
            late.is_some_and(|late| late <= Duration::from_millis(1)),
            "{pause:?} took {lasted:?}"
        );
    }
    rig.end().await;
}

/// Covers: HDR-06
#[tokio::test(start_paused = true)]
async fn the_last_good_header_counts_when_a_false_one_follows() {
    let blocks = blocks(9);
    let source = ScriptedSource::new(&[ONE, TWO]);
    let chain = LiveChain::new(blocks.clone());
    for endpoint in [ONE, TWO] {
        source.serve(endpoint, &chain, Manner::behind(7));
    }
    let rig = start_behind(&blocks[..7], source, HeaderProof::Quorum, Config::default()).await;
    sleep(Duration::from_millis(1)).await;
    let first = asked_for_blocks(&rig)[0].0.clone();
    let other = if first.as_str() == ONE { TWO } else { ONE };
    let liar = Opening::Stream(vec![
        Step::Block(blocks[7].without_data()),
        Step::Block(TestChain::forged(&blocks[8]).without_data()),
        Step::Hang,
    ]);
    rig.source.script(other, liar);
    sleep(Duration::from_secs(25)).await;
    let suspicion = rig.handle.report().suspicion.unwrap();
    assert_eq!(suspicion.number, BlockNumber::new(7));
    assert_eq!(suspicion.evidence, Evidence::Proven);
    sleep(Duration::from_secs(30)).await;
    assert!(rig.restarts(Reason::Withheld) >= 1, "{:?}", rig.stats());
    rig.end().await;
}
