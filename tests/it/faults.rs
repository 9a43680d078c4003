// SPDX-License-Identifier: Apache-2.0
//! Ordering services that misbehave: a node takes nothing false, and gets everything in the end.

use std::{sync::Arc, time::Duration};

use block_api::SystemClock;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{Config, DevOrderer, Fault, Mutation, Pace, Script, When};

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
    let stats = node.state().await.stats;
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
