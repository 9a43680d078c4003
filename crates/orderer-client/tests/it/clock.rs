// SPDX-License-Identifier: Apache-2.0
//! A wall clock that jumps: it is asked for what certificates and requests say, and measures nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use block_api::{BlockSource as _, Clock, SourceError};
use orderer_client::{Config, OrdererClient, OrdererEndpoint, Tls};
use prost::Message as _;
use protos::common::{ChannelHeader, Payload};

use crate::support::{
    block, blocks_from, endpoint,
    net::{MemoryNet, Served},
    now,
    pki::{orderer_roots, server_tls},
    plain, recorded, refusal,
    script::{Script, Step},
    test_signer, within,
};

const HOUR: Duration = Duration::from_secs(3600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Shows what it was set to.
#[derive(Debug)]
struct SetClock(Mutex<SystemTime>);

impl SetClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(now())))
    }

    fn set(&self, time: SystemTime) {
        *self.0.lock().unwrap() = time;
    }
}

impl Clock for SetClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// A stream that is open goes on, a new one needs a certificate that is valid by the clock, and all
/// is well again once the clock is.
#[tokio::test]
async fn streams_outlive_a_clock_that_jumps_and_connections_wait_for_it() {
    let steps = [
        Step::Block(recorded(1)),
        Step::Block(recorded(2)),
        Step::Hang,
    ];
    let served = Served::start("localhost", Script::new(steps), server_tls()).await;
    let clock = SetClock::new();
    let config = Config {
        endpoints: vec![OrdererEndpoint {
            endpoint: served.endpoint.clone(),
            tls_roots: orderer_roots(),
        }],
        tls: Tls::Server,
        idle_timeout: Some(HOUR),
        ..Config::default()
    };
    let client = OrdererClient::new(config, test_signer(), clock.clone()).unwrap();
    let open = async || {
        let request = blocks_from(1);
        within("an attempt", client.open(&served.endpoint, &request)).await
    };
    for jumped in [now() + CENTURY, SystemTime::UNIX_EPOCH] {
        clock.set(now());
        let mut stream = open().await.unwrap();
        assert_eq!(block(&mut stream).await, recorded(1));
        clock.set(jumped);
        assert_eq!(block(&mut stream).await, recorded(2));
        let error = refusal(open().await);
        assert!(
            matches!(error, SourceError::Connect { .. }) && error.is_retryable(),
            "{error:?}"
        );
        clock.set(now());
        let mut again = open().await.unwrap();
        assert_eq!(block(&mut again).await, recorded(1));
    }
}

/// Orderers refuse requests whose time is off by more than they allow, so each has that of its own
/// moment.
#[tokio::test]
async fn each_request_has_the_time_of_its_moment() {
    let orderer = endpoint("orderer:7050");
    let net = MemoryNet::new();
    let config = Config {
        endpoints: vec![plain(&orderer)],
        ..Config::default()
    };
    let clock = SetClock::new();
    let client = OrdererClient::new(config, test_signer(), clock.clone()).unwrap();
    let client = client.with_connector(net.clone());
    for time in [now(), now() + HOUR, now() - HOUR, now()] {
        clock.set(time);
        let script = Script::new([Step::Block(recorded(1)), Step::Hang]);
        net.serve(&orderer, script.clone());
        let mut stream = client.open(&orderer, &blocks_from(1)).await.unwrap();
        assert_eq!(block(&mut stream).await, recorded(1));
        let envelope = within("the request", script.first_request()).await;
        let header = Payload::decode(envelope.payload).unwrap().header.unwrap();
        let header = ChannelHeader::decode(header.channel_header).unwrap();
        assert_eq!(header.timestamp, Some(time.into()));
    }
}
