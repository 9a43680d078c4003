// SPDX-License-Identifier: Apache-2.0
//! Orderers that withhold, lie, or are only slow.

use super::*;

const NAMES: [&str; 4] = ["a:7050", "b:7050", "c:7050", "d:7050"];
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A pull loop before four orderers of these manners, which have a chain of so many blocks.
fn cluster(proof: HeaderProof, blocks: usize, manners: [Manner; 4]) -> (Rig, TestChain, LiveChain) {
    let (chain, blocks) = TestChain::of_blocks("ch", blocks, 10);
    let live = LiveChain::new(blocks);
    let source = ScriptedSource::new(&NAMES);
    for (name, manner) in NAMES.into_iter().zip(manners) {
        source.serve(name, &live, manner);
    }
    (start_in(source, proof, Config::default()), chain, live)
}

/// Whom the loop asked for this.
fn asked(rig: &Rig, content: Content) -> Vec<Endpoint> {
    let requests = rig.source.requests().into_iter();
    requests
        .filter(|(_, request)| request.content == content)
        .map(|(endpoint, _)| endpoint)
        .collect()
}

fn head(number: u64, evidence: Evidence) -> Head {
    Head {
        number: BlockNumber::new(number),
        hash: blocks(1)[0].header_hash(),
        evidence,
        from: "peer:1".parse().unwrap(),
    }
}

/// Covers: BFT-08, BFT-21, MON-01, MON-05, MON-08
#[tokio::test(start_paused = true)]
async fn the_one_honest_orderer_is_found_among_those_that_withhold() {
    let mut changes = 0;
    for honest in 0..4 {
        let mut manners = [Manner::withholding_blocks(5); 4];
        manners[honest] = Manner::HONEST;
        let (rig, ..) = cluster(HeaderProof::Quorum, 10, manners);
        rig.height_within(10, Duration::from_secs(3 * 31 + 4)).await;
        let stats = rig.stats();
        assert_eq!(stats.suspicions_confirmed, rig.restarts(Reason::Withheld));
        assert_eq!(stats.suspicions_confirmed + 1, stats.attempts);
        assert_eq!(rig.handle.report().mode, Mode::Bft);
        assert_eq!(
            asked(&rig, Content::Blocks).last().unwrap().as_str(),
            NAMES[honest]
        );
        changes += stats.suspicions_confirmed;
        sleep(HOUR).await;
        assert_eq!(rig.stats().attempts, stats.attempts, "it is kept");
        rig.end().await;
    }
    assert!(changes > 4, "{changes} changes of source");
}

/// Covers: BFT-22
#[tokio::test(start_paused = true)]
async fn when_all_withhold_each_has_its_turn_and_none_is_given_up() {
    let (rig, ..) = cluster(HeaderProof::Quorum, 10, [Manner::withholding_blocks(5); 4]);
    rig.height_within(5, MINUTE).await;
    sleep(HOUR).await;
    let tried = asked(&rig, Content::Blocks);
    assert!(
        (80..=122).contains(&tried.len()),
        "{} in an hour",
        tried.len()
    );
    assert!(tried.windows(2).all(|pair| pair[0] != pair[1]));
    for name in NAMES {
        let turns = tried.iter().filter(|tried| tried.as_str() == name).count();
        assert!(turns >= tried.len() / 4 - 2, "{name} had {turns}");
    }
    rig.end().await;
}

/// Covers: BFT-02, BFT-14, MON-10
#[tokio::test(start_paused = true)]
async fn a_slow_source_is_suspected_and_kept() {
    let slow = Manner::slow(Duration::from_secs(20));
    let (rig, mut chain, live) = cluster(HeaderProof::Quorum, 1, [slow; 4]);
    rig.height_within(1, MINUTE).await;
    for height in 2..30 {
        live.grow([chain.data(10)]);
        sleep(Duration::from_secs(10)).await;
        assert!(rig.handle.report().suspicion.is_some(), "height {height}");
        rig.height_within(height, Duration::from_secs(11)).await;
    }
    let stats = rig.stats();
    assert_eq!((stats.attempts, stats.suspicions_confirmed), (1, 0));
    assert!(stats.suspicions_cleared >= 27, "{stats:?}");
    rig.end().await;
}

/// A chain of which each block takes seconds is caught up with from one source.
#[tokio::test(start_paused = true)]
async fn a_long_way_to_the_tip_is_no_reason_to_change() {
    let slow = Manner::slow(Duration::from_secs(5));
    for proof in [HeaderProof::Quorum, HeaderProof::OneSigner] {
        let (rig, ..) = cluster(proof, 200, [slow; 4]);
        rig.height_within(200, Duration::from_secs(1001)).await;
        assert_eq!(rig.stats().attempts, 1, "{proof:?}");
        rig.end().await;
    }
}

/// Covers: MON-11, MON-12, HDR-06
#[tokio::test(start_paused = true)]
async fn headers_with_false_signatures_prove_nothing_and_are_few() {
    let liar = Manner {
        blocks: 6,
        ..Manner::with_headers(HeaderForm::Forged)
    };
    let (rig, ..) = cluster(HeaderProof::Quorum, 10, [liar; 4]);
    rig.height_within(6, MINUTE).await;
    sleep(HOUR).await;
    let stats = rig.stats();
    assert_eq!((stats.attempts, stats.suspicions_raised), (1, 0));
    // Three liars, each of whom is found out after seconds and rests then.
    let headers = asked(&rig, Content::Headers).len();
    assert!((20..4000).contains(&headers), "{headers} in an hour");
    rig.end().await;
}

/// Covers: MON-11
#[tokio::test(start_paused = true)]
async fn one_true_header_among_lies_is_enough() {
    let withholds = Manner::behind(5);
    let forger = Manner {
        blocks: 5,
        ..Manner::with_headers(HeaderForm::Forged)
    };
    let manners = [withholds, forger, Manner::HONEST, withholds];
    let (rig, ..) = cluster(HeaderProof::Quorum, 10, manners);
    rig.height_within(10, Duration::from_secs(3 * 31 + 4)).await;
    rig.end().await;
}

/// Covers: HDR-01, HDR-02, HDR-04, MON-12
#[tokio::test(start_paused = true)]
async fn streams_of_headers_that_fail_are_opened_again_and_count_again() {
    let (mut chain, blocks) = TestChain::of_blocks("ch", 5, 10);
    let live = LiveChain::new(blocks);
    let source = ScriptedSource::new(&[ONE, TWO]);
    for endpoint in [ONE, TWO] {
        source.serve(endpoint, &live, Manner::withholding_blocks(5));
    }
    let rig = start_in(source, HeaderProof::Quorum, Config::default());
    rig.height_within(5, Duration::from_secs(1)).await;
    // Whoever is not the source fails in every way before it answers.
    let first = asked(&rig, Content::Blocks)[0].clone();
    let other = if first.as_str() == ONE { TWO } else { ONE };
    for status in [200, 400, 403, 404, 500, 503].map(DeliverStatus::from_code) {
        let opening = Opening::Stream(vec![Step::Status(status)]);
        rig.source.script(other, opening);
    }
    rig.source.script(other, Opening::Refused);
    rig.source.script(other, Opening::Hangs);
    rig.source.script(other, Opening::Stream(vec![Step::Break]));
    sleep(Duration::from_secs(100)).await;
    live.grow([chain.data(10)]);
    let shown = Instant::now();
    sleep(Duration::from_secs(10)).await;
    let suspicion = rig.handle.report().suspicion.unwrap();
    assert_eq!((suspicion.number.get(), suspicion.since), (5, shown));
    assert_eq!(suspicion.shown_by, Some(other.parse().unwrap()));
    rig.end().await;
}

/// With raft a header that does not link is a hint, whoever made it.
#[tokio::test(start_paused = true)]
async fn hints_change_the_source_once_in_a_timeout_and_ban_nobody() {
    let (rig, ..) = cluster(
        HeaderProof::OneSigner,
        10,
        [Manner::withholding_blocks(6); 4],
    );
    rig.height_within(6, MINUTE).await;
    for _ in 0..7200 {
        rig.handle.head_seen(head(1_000_000, Evidence::Hint));
        sleep(Duration::from_millis(500)).await;
    }
    let (changes, probes) = (rig.restarts(Reason::Doubted), rig.stats().probes);
    assert!(
        (60..=120).contains(&changes),
        "{changes} changes in an hour"
    );
    assert!(probes <= 120, "{probes} probes in an hour");
    assert_eq!(rig.stats().attempts, changes + 1);
    assert_eq!(asked(&rig, Content::Headers).len() as u64, probes);
    rig.end().await;
}

/// A connected orderer that sends nothing (hazard H21).
#[tokio::test(start_paused = true)]
async fn a_silent_raft_source_is_compared_and_left_when_it_is_behind() {
    let behind = Manner::behind(5);
    let mut doubts = 0;
    for honest in 0..4 {
        let mut manners = [behind; 4];
        manners[honest] = Manner::HONEST;
        let (rig, ..) = cluster(HeaderProof::OneSigner, 10, manners);
        // At each: silence, a probe of every other orderer in turn, and the timeout.
        rig.height_within(10, Duration::from_secs(3 * (3 * 38 + 40)))
            .await;
        doubts += rig.restarts(Reason::Doubted);
        rig.end().await;
    }
    assert!(doubts >= 3, "{doubts} changes of source");
}

#[tokio::test(start_paused = true)]
async fn an_idle_channel_costs_a_probe_now_and_then() {
    let (rig, ..) = cluster(HeaderProof::OneSigner, 3, [Manner::HONEST; 4]);
    rig.height_within(3, MINUTE).await;
    sleep(HOUR).await;
    let stats = rig.stats();
    assert_eq!((stats.attempts, stats.suspicions_raised), (1, 0));
    assert!((95..=161).contains(&stats.probes), "{stats:?}");
    for (_, request) in &rig.source.requests()[1..] {
        assert_eq!((request.start, request.stop), (Start::Newest, Stop::Newest));
        assert_eq!(
            (request.content, request.when_missing),
            (Content::Headers, WhenMissing::Fail)
        );
    }
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_bft_channel_keeps_its_streams_of_headers() {
    let (rig, ..) = cluster(HeaderProof::Quorum, 3, [Manner::HONEST; 4]);
    rig.height_within(3, MINUTE).await;
    sleep(HOUR).await;
    let stats = rig.stats();
    assert_eq!((stats.attempts, stats.header_streams), (1, 3));
    assert_eq!(stats.suspicions_raised, 0);
    rig.end().await;
}

/// What the chain got from elsewhere the source should have delivered.
#[tokio::test(start_paused = true)]
async fn a_source_that_lacks_what_the_chain_has_is_left() {
    for proof in [HeaderProof::OneSigner, HeaderProof::Quorum] {
        let (rig, mut chain, _) = cluster(proof, 5, [Manner::HONEST; 4]);
        rig.height_within(5, MINUTE).await;
        let block = TestChain::verified(&chain.data(10));
        rig.keeper.store.append(vec![block]).await.unwrap();
        rig.handle.chain_grew(Height::new(6));
        sleep(Duration::from_secs(29)).await;
        assert_eq!(rig.stats().attempts, 1);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(rig.restarts(Reason::Behind), 1);
        sleep(HOUR).await;
        assert_eq!(
            rig.stats().attempts,
            2,
            "the new stream begins where the chain is"
        );
        rig.end().await;
    }
}

/// Fabric v2.5 knows no streams of headers.
#[tokio::test(start_paused = true)]
async fn orderers_that_answer_with_whole_blocks_are_only_probed() {
    let honest = Manner::with_headers(HeaderForm::Whole);
    let behind = Manner {
        blocks: 5,
        ..honest
    };
    let (rig, ..) = cluster(HeaderProof::Quorum, 10, [behind, behind, honest, behind]);
    rig.height_within(10, Duration::from_secs(3 * 70)).await;
    sleep(HOUR - MINUTE * 10).await;
    let stats = rig.stats();
    assert!(stats.header_streams <= 4, "each once: {stats:?}");
    assert!((50..=160).contains(&stats.probes), "{stats:?}");
    rig.end().await;
}

/// Covers: HDR-08
#[tokio::test(start_paused = true)]
async fn headers_of_delivered_blocks_are_not_judged() {
    let (rig, mut chain, live) = cluster(HeaderProof::Quorum, 1, [Manner::HONEST; 4]);
    for _ in 0..50 {
        live.grow([chain.data(10)]);
        sleep(Duration::from_secs(1)).await;
    }
    rig.height_within(51, MINUTE).await;
    assert_eq!(rig.keeper.verifier.judged(), 51, "the blocks alone");
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_migrates_is_watched_by_the_new_rules() {
    let (rig, mut chain, live) = cluster(HeaderProof::OneSigner, 5, [Manner::HONEST; 4]);
    rig.height_within(5, MINUTE).await;
    sleep(MINUTE).await;
    assert_eq!(rig.handle.report().mode, Mode::Cft);
    assert_eq!(rig.stats().header_streams, 0);
    rig.keeper.verifier.set_header_proof(HeaderProof::Quorum);
    live.grow([chain.config()]);
    sleep(MINUTE).await;
    assert_eq!(rig.handle.report().mode, Mode::Bft);
    assert_eq!(rig.stats().header_streams, 3);
    rig.keeper.verifier.set_header_proof(HeaderProof::OneSigner);
    sleep(MINUTE).await;
    assert_eq!(rig.source.open_streams(), 1, "only that of the blocks");
    assert_eq!(rig.stats().attempts, 1);
    rig.end().await;
}

/// Where others show what there is, no orderer is asked for headers.
#[tokio::test(start_paused = true)]
async fn announcements_make_streams_of_headers_needless() {
    let (rig, mut chain, live) = cluster(HeaderProof::Quorum, 1, [Manner::HONEST; 4]);
    rig.handle.head_seen(head(0, Evidence::Proven));
    for number in 1..60 {
        rig.handle.head_seen(head(number, Evidence::Proven));
        live.grow([chain.data(10)]);
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(rig.stats().header_streams, 0);
    sleep(MINUTE).await;
    assert_eq!(rig.stats().header_streams, 3);
    rig.end().await;
}
