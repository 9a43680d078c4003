// SPDX-License-Identifier: Apache-2.0
//! Ordering services that misbehave: a node takes nothing false, and gets everything in the end.

use std::{sync::Arc, time::Duration};

use block_api::SystemClock;
use blocks_provider::PullState;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{Config, Consensus, DevOrderer, Fault, Mutation, Pace, Script, When};

use crate::harness::{Common, nodes};

/// A node pulls ten blocks from an orderer whose first streams or connections have this fault.
async fn overcome(fault: Fault, delivery: impl Fn(&mut Common)) -> deliver_service::ChannelStats {
    let what = format!("{fault:?}");
    let mut config = Config::new("ch".parse().unwrap(), Arc::new(SystemClock));
    config.nodes.faults = vec![Script::new().with(When::First(2), fault)];
    let orderer = DevOrderer::start(config).await.unwrap();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let signer = orderer.client().unwrap().signer();
    let mut common = Common::of(
        &orderer,
        Arc::new(ChannelAccess::readers(&verifier)),
        signer,
    );
    delivery(&mut common);
    let (_dirs, mut nodes) = nodes(&common, 1).await;
    let node = nodes.pop().unwrap();
    orderer.generate(10, 5_000, Pace::AllAtOnce).await.unwrap();
    node.pull().await;
    let tip = node.reaches(11).await;
    let ordered = orderer.nodes()[0].reader().info();
    assert_eq!(Some(tip), ordered.tip_hash, "{what}");
    let stats = node.state().stats;
    assert_eq!(stats.from_orderer, 10, "{what}");
    node.stop().await;
    orderer.stop().await;
    stats
}

/// Covers: CFT-10, CFT-21, CFT-30, CFT-31, HDR-03, NEW-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_streams_that_fail() {
    for fault in [
        Fault::RefuseConnection,
        Fault::RefuseTls,
        Fault::Refuse { status: 503 },
        Fault::Refuse { status: 403 },
        Fault::Cut { after: 3 },
        Fault::Status {
            after: 4,
            status: 200,
        },
        Fault::Status {
            after: 4,
            status: 503,
        },
        Fault::Unset { after: 2 },
    ] {
        let stats = overcome(fault, |_| {}).await;
        assert_eq!(stats.rejected, 0);
    }
}

/// Covers: NEW-10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_hangs_is_left_by_the_idle_limit() {
    overcome(Fault::Hang, |common| {
        common.client.idle_timeout = Some(Duration::from_millis(300))
    })
    .await;
}

/// Covers: VER-16, VER-17, VER-18, VER-19, CFT-25, NEW-01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_are_corrupted_are_never_stored() {
    let block = 5.into();
    for (mutation, judged) in [
        (Mutation::FlipData, true),
        (Mutation::FlipDataHash, true),
        (Mutation::FlipSignature, true),
        (Mutation::NoSignatures, true),
        (Mutation::HighS, true),
        (Mutation::JoinedEnvelopes, true),
        // These the pull loop or the scanner refuses before anybody judges them.
        (Mutation::FlipPreviousHash, false),
        (Mutation::Number(6.into()), false),
        (Mutation::NoData, false),
        (Mutation::Truncated, false),
    ] {
        let what = format!("{mutation:?}");
        let stats = overcome(Fault::Corrupt { block, mutation }, |_| {}).await;
        assert_eq!(stats.rejected > 0, judged, "{what}: {stats:?}");
    }
}

/// Orderers of a BFT channel that withhold what they have ordered, over TLS.
///
/// Covers: INT-02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_withholds_blocks_is_left_for_one_that_does_not() {
    let mut config = Config::new("ch".parse().unwrap(), Arc::new(SystemClock));
    config.network.consensus = Consensus::Bft;
    config.nodes.count = 4.try_into().unwrap();
    let withhold = Fault::Withhold { after: 3.into() };
    let scripts: Vec<Script> = (0..4)
        .map(|_| Script::new().with(When::Always, withhold.clone()))
        .collect();
    config.nodes.faults = scripts.clone();
    let orderer = DevOrderer::start(config).await.unwrap();
    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let signer = orderer.client().unwrap().signer();
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let mut common = Common::of(&orderer, readers, signer);
    common.delivery.provider.censorship_timeout = Duration::from_millis(500);
    let (_dirs, mut nodes) = nodes(&common, 1).await;
    let node = nodes.pop().unwrap();
    orderer.generate(10, 500, Pace::AllAtOnce).await.unwrap();
    node.pull().await;
    node.reaches(4).await;
    // All but the source give everything from now on; a new source may be chosen before that.
    let source = match node.state().pull {
        Some(PullState::Streaming(source)) => source,
        other => panic!("{other:?}"),
    };
    for (orderer, script) in orderer.nodes().iter().zip(&scripts) {
        if *orderer.endpoint() != source {
            script.clear();
        }
    }
    let tip = node.reaches(11).await;
    assert_eq!(Some(tip), orderer.nodes()[0].reader().info().tip_hash);
    let report = node.state().pull_report.unwrap();
    assert!(report.stats.suspicions_confirmed >= 1, "{report:?}");
    node.stop().await;
    orderer.stop().await;
}
