// SPDX-License-Identifier: Apache-2.0
//! The endpoints that follow a channel's configuration.

#[cfg(feature = "cli")]
mod sources;

use std::sync::Arc;

use block_api::{FixedClock, testing::TestSigner};
use orderer_client::Config;

use super::*;

fn fixture(number: u64) -> Block {
    let path = format!(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/raft/block_{}.pb"
        ),
        number
    );
    Block::parse(std::fs::read(path).unwrap().into()).unwrap()
}

fn client() -> OrdererClient {
    let clock = FixedClock(std::time::SystemTime::UNIX_EPOCH);
    OrdererClient::new(
        Config::default(),
        Arc::new(TestSigner("node")),
        Arc::new(clock),
    )
    .unwrap()
}

/// Config block 21 of the recorded chain adds an endpoint.
///
/// Covers: CFT-29, BFT-19
#[test]
fn endpoints_follow_the_configuration_in_force() {
    let client = client();
    let extra = OrdererEndpoint {
        endpoint: "extra:7050".parse().unwrap(),
        tls_roots: Vec::new(),
    };
    let verifier = ChannelVerifier::from_genesis(&fixture(0)).unwrap();
    let follower = EndpointFollower::new(verifier, client.clone(), vec![extra]);
    let apply = |number| {
        let block = VerifiedBlock::new(fixture(number), &follower, Standing::Linked).unwrap();
        follower.apply_config(&block).unwrap();
        client
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        apply(0),
        ["127.0.0.1:17050", "127.0.0.1:17060", "extra:7050"]
    );
    assert_eq!(apply(7), apply(0));
    let all = [
        "127.0.0.1:17050",
        "127.0.0.1:17060",
        "127.0.0.1:17070",
        "extra:7050",
    ];
    assert_eq!(apply(21), all);
    assert_eq!(apply(20), all, "no configuration, no change");
}

/// Endpoints that the channel no longer names go, whatever is wrong with another.
#[test]
fn endpoints_that_cannot_be_used_do_not_keep_those_before() {
    let roots = ChannelConfig::from_block(&fixture(0)).unwrap().endpoints();
    let named = |endpoint: &str, tls_roots| OrdererEndpoint {
        endpoint: endpoint.parse().unwrap(),
        tls_roots,
    };
    let config = Config {
        tls: orderer_client::Tls::Server,
        endpoints: vec![named("before:7050", roots[0].tls_roots.clone())],
        ..Config::default()
    };
    let clock = FixedClock(std::time::SystemTime::UNIX_EPOCH);
    let client = OrdererClient::new(config, Arc::new(TestSigner("node")), Arc::new(clock)).unwrap();
    // With TLS, an endpoint without roots cannot be used.
    let extra = named("extra:7050", Vec::new());
    let verifier = ChannelVerifier::from_genesis(&fixture(0)).unwrap();
    let follower = EndpointFollower::new(verifier, client.clone(), vec![extra]);
    let block = VerifiedBlock::new(fixture(0), &follower, Standing::Linked).unwrap();
    follower.apply_config(&block).unwrap();
    let in_force: Vec<_> = roots.into_iter().map(|named| named.endpoint).collect();
    assert_eq!(client.endpoints(), in_force);
}

#[test]
fn an_operators_ca_counts_for_an_endpoint_that_the_channel_names() {
    let config = ChannelConfig::from_block(&fixture(0)).unwrap();
    let channels = &config.endpoints()[0];
    let operators = OrdererEndpoint {
        endpoint: channels.endpoint.clone(),
        tls_roots: vec![b"the operator's".to_vec().into()],
    };
    let given = endpoints(&config, std::slice::from_ref(&operators));
    let roots: Vec<_> = given
        .iter()
        .filter(|given| given.endpoint == channels.endpoint)
        .flat_map(|given| &given.tls_roots)
        .collect();
    for root in channels.tls_roots.iter().chain(&operators.tls_roots) {
        assert!(roots.contains(&root));
    }
}
