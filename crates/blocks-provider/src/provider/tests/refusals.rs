// SPDX-License-Identifier: Apache-2.0
//! What orderers refuse, endpoints that change, and stopping in the midst of it.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn status(code: i32) -> Opening {
    Opening::Stream(vec![Step::Status(DeliverStatus::from_code(code))])
}

/// Covers: CFT-31
#[tokio::test(start_paused = true)]
async fn every_refusal_shows_with_its_reason() {
    for (code, reason) in [
        (400, Reason::RequestRefused),
        (403, Reason::IdentityRefused),
        (404, Reason::UnknownChannel),
        (503, Reason::NoLeader),
        (500, Reason::OtherStatus),
    ] {
        let source = ScriptedSource::new(&[ONE, TWO]);
        source.script(ONE, status(code));
        source.script(TWO, status(code));
        let mut rig = start(source);
        let told = loop {
            if let Some(PullState::BackingOff { reason, .. }) = rig.handle.changed().await {
                break reason;
            }
        };
        assert_eq!(told, Some(reason));
        let report = rig.handle.report();
        let all = [ONE, TWO].map(|endpoint| (endpoint.parse().unwrap(), reason));
        assert_eq!(report.failing, all.into());
        assert_eq!(rig.restarts(reason), 2);
        // Who gives a block is no longer among them.
        rig.source.script(ONE, stream(&blocks(2), Step::Hang));
        rig.source.script(TWO, stream(&blocks(2), Step::Hang));
        rig.height(2).await;
        assert_eq!(rig.handle.report().failing.len(), 1);
        rig.end().await;
    }
}

/// Orderers without a leader (hazard H27).
#[tokio::test(start_paused = true)]
async fn who_cannot_serve_at_the_moment_is_asked_again_soon_and_never_in_a_storm() {
    let source = ScriptedSource::new(&[ONE, TWO]);
    for _ in 0..100_000 {
        source.script(ONE, status(503));
        source.script(TWO, status(503));
    }
    let began = Instant::now();
    let rig = start(source);
    within("a round", rig.source.wait_for_requests(2)).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "the next endpoint at once");
    sleep(Duration::from_secs(5)).await;
    let tried = rig.source.requests().len();
    assert!((8..100).contains(&tried), "{tried} attempts in 5 s");
    sleep(HOUR).await;
    let tried = rig.source.requests().len();
    assert!(tried < 2 * 1500, "{tried} attempts in an hour");
    rig.end().await;
}

/// Covers: CFT-08, BFT-23
#[tokio::test(start_paused = true)]
async fn a_change_of_endpoints_takes_effect_at_once() {
    let blocks = blocks(4);
    let source = ScriptedSource::new(&[ONE]);
    source.script(ONE, stream(&blocks[..2], Step::Hang));
    source.script(TWO, stream(&blocks[2..], Step::Hang));
    let began = Instant::now();
    let rig = start(source);
    rig.height(2).await;
    rig.source.set_endpoints(vec![TWO.parse().unwrap()]);
    rig.height(4).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(rig.restarts(Reason::EndpointsChanged), 1);
    assert!(rig.handle.report().failing.is_empty(), "it is no failure");
    rig.end().await;
}

/// That others come and go is no reason to ask an orderer for a second stream.
#[tokio::test(start_paused = true)]
async fn a_stream_stays_open_while_its_own_endpoint_stays() {
    let blocks = blocks(4);
    let source = ScriptedSource::new(&[ONE]);
    let mut steps: Vec<Step> = blocks.iter().cloned().map(Step::Block).collect();
    steps.insert(2, Step::Wait(Duration::from_secs(1)));
    steps.push(Step::Hang);
    source.script(ONE, Opening::Stream(steps));
    let rig = start(source);
    rig.height(2).await;
    let both = [ONE, TWO].map(|endpoint| endpoint.parse().unwrap());
    rig.source.set_endpoints(both.to_vec());
    rig.height(4).await;
    assert_eq!(rig.source.requests().len(), 1);
    assert_eq!(rig.restarts(Reason::EndpointsChanged), 0);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_endpoints_ends_a_pause_a_dial_and_a_hand_off() {
    let blocks = blocks(2);
    let pausing = ScriptedSource::new(&[ONE]);
    pausing.script(ONE, Opening::NotSigned);
    let dialling = ScriptedSource::new(&[ONE]);
    dialling.script(ONE, Opening::Hangs);
    let handing = ScriptedSource::new(&[ONE]);
    handing.script(ONE, stream(&blocks, Step::Hang));
    for (source, gated) in [(pausing, false), (dialling, false), (handing, true)] {
        source.script(TWO, stream(&blocks, Step::Hang));
        let began = Instant::now();
        let rig = start(source);
        if gated {
            *rig.keeper.gate.lock().unwrap() = Some(Arc::new(Notify::new()));
        }
        within("an attempt", rig.source.wait_for_requests(1)).await;
        tokio::task::yield_now().await;
        *rig.keeper.gate.lock().unwrap() = None;
        rig.source.set_endpoints(vec![TWO.parse().unwrap()]);
        rig.height(2).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        rig.end().await;
    }
}

/// Covers: BFT-24, MON-02, MON-03, HDR-09, SLP-02
#[tokio::test(start_paused = true)]
async fn stopping_ends_every_task_wherever_it_is() {
    for proof in [HeaderProof::OneSigner, HeaderProof::Quorum] {
        for pause in [0, 1, 40, 41, 100, 1000] {
            for opening in [0, 1, 2, 3, 4] {
                let source = ScriptedSource::new(&[ONE, TWO, "three:7050"]);
                let chain = LiveChain::new(blocks(3));
                source.serve(TWO, &chain, Manner::HONEST);
                for endpoint in [ONE, TWO, "three:7050"] {
                    let first = match opening {
                        0 => Opening::Refused,
                        1 => Opening::Hangs,
                        2 => Opening::NotSigned,
                        3 => status(503),
                        _ => Opening::Stream(vec![Step::Hang]),
                    };
                    source.script(endpoint, first);
                }
                let rig = start_in(source, proof, Config::default());
                sleep(Duration::from_millis(pause * 1000 + 1)).await;
                rig.end().await;
            }
        }
    }
}

/// What goes wrong for ever costs a bounded number of attempts.
#[tokio::test(start_paused = true)]
async fn nothing_makes_a_busy_loop() {
    let ended = || Opening::Stream(Vec::new());
    let broken = || Opening::Stream(vec![Step::Break]);
    let stranger = || stream(&blocks(3)[2..], Step::Hang);
    let unknown = || status(404);
    let openings: [&dyn Fn() -> Opening; 4] = [&ended, &broken, &stranger, &unknown];
    for proof in [HeaderProof::OneSigner, HeaderProof::Quorum] {
        for (case, opening) in openings.iter().enumerate() {
            let source = ScriptedSource::new(&[ONE, TWO]);
            for _ in 0..20_000 {
                source.script(ONE, opening());
                source.script(TWO, opening());
            }
            let rig = start_in(source, proof, Config::default());
            sleep(HOUR).await;
            let opened = rig.source.requests().len();
            assert!(
                opened < 4 * 1500,
                "case {case}, {proof:?}: {opened} in an hour"
            );
            rig.end().await;
        }
    }
}
