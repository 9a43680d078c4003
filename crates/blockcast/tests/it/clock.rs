// SPDX-License-Identifier: Apache-2.0
//! A node whose wall clock jumps.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use block_api::{BlockNumber, Clock, Height, SystemClock};
use blockcast::{
    Node, NodeConfig,
    config::{ChannelSection, GossipBackend},
};
use blocks_provider::Reason;
use dev_orderer::{Config, DevOrderer, Pace};
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

use crate::process::DEADLINE;

const HOUR: Duration = Duration::from_secs(3600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The clock of the machine, put forward or back, and how often it was read since.
#[derive(Debug)]
struct JumpingClock {
    ahead: Mutex<(Duration, Duration)>,
    reads: watch::Sender<u64>,
}

impl JumpingClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            ahead: Mutex::default(),
            reads: watch::Sender::new(0),
        })
    }

    fn jump(&self, forward: Duration, back: Duration) {
        *self.ahead.lock().unwrap() = (forward, back);
        self.reads.send_replace(0);
    }

    /// Waits until it was read so often since it jumped.
    async fn read(&self, times: u64) {
        let mut reads = self.reads.subscribe();
        let read = reads.wait_for(|reads| *reads >= times);
        timeout(DEADLINE, read).await.unwrap().unwrap();
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> SystemTime {
        self.reads.send_modify(|reads| *reads += 1);
        let (forward, back) = *self.ahead.lock().unwrap();
        SystemClock.now() + forward - back
    }
}

/// By an hour the orderer refuses its requests, by a century its own certificates have expired for
/// it. It tries on, at the same pace as ever, and goes on by itself when the clock is right.
#[tokio::test]
async fn a_clock_that_jumps_stops_a_node_for_no_longer_than_it_is_wrong() {
    let channel: block_api::ChannelId = "clock".parse().unwrap();
    let config = Config::new(channel.clone(), Arc::new(SystemClock));
    let orderer = DevOrderer::start(config).await.unwrap();
    let dir = TempDir::new().unwrap();
    let genesis = dir.path().join("genesis.block");
    std::fs::write(&genesis, orderer.genesis().raw()).unwrap();
    let mut config = NodeConfig::new(dir.path().join("node"));
    config.gossip.backend = GossipBackend::Memory;
    config.orderer.longest_back_off = "200ms".parse().unwrap();
    config
        .channels
        .push(ChannelSection::new(channel.clone(), genesis));
    let mut height = 1;
    for (forward, back, expected) in [
        (HOUR, Duration::ZERO, Reason::RequestRefused),
        (Duration::ZERO, HOUR, Reason::RequestRefused),
        (CENTURY, Duration::ZERO, Reason::Unreachable),
    ] {
        let clock = JumpingClock::new();
        let builder = Node::builder(config.clone()).clock(clock.clone());
        let node = builder
            .signer(orderer.client().unwrap().signer())
            .start()
            .await
            .unwrap();
        let reader = node.reader(&channel).unwrap();
        let grow = async |height: &mut u64| {
            let last = orderer.generate(3, 100, Pace::AllAtOnce).await;
            *height = last
                .unwrap()
                .map_or(*height, |last: BlockNumber| last.get() + 1);
        };
        let reached = async |height: u64| {
            let reached = reader.wait_for(Height::new(height));
            timeout(DEADLINE, reached).await.unwrap().unwrap();
        };
        grow(&mut height).await;
        reached(height).await;
        // The stream that is open stays so.
        clock.jump(forward, back);
        grow(&mut height).await;
        reached(height).await;
        node.stop().await;

        // A new one is not given until the clock is right.
        grow(&mut height).await;
        let builder = Node::builder(config.clone()).clock(clock.clone());
        let node = builder
            .signer(orderer.client().unwrap().signer())
            .start()
            .await
            .unwrap();
        let reader = node.reader(&channel).unwrap();
        clock.jump(forward, back);
        clock.read(20).await;
        assert_eq!(reader.info().height.get(), height - 3);
        let state = node.channel_state(&channel).unwrap();
        let restarts = state.pull_report.unwrap().stats.restarts;
        assert!(restarts.contains_key(&expected), "{restarts:?}");
        clock.jump(Duration::ZERO, Duration::ZERO);
        let reached = reader.wait_for(Height::new(height));
        timeout(DEADLINE, reached).await.unwrap().unwrap();
        node.stop().await;
    }
    orderer.stop().await;
}
