// SPDX-License-Identifier: Apache-2.0
//! The verifier of a channel, which tells the orderer client of endpoints that come and go.

use block_api::{
    Block, BlockSource as _, BlockVerifier, ChannelId, HeaderProof, Rejection, Standing, Verdict,
    VerifiedBlock,
};
use channel_config::{ChannelConfig, ChannelVerifier};
use orderer_client::{OrdererClient, OrdererEndpoint};
use tracing::{info, warn};

/// Judges as the channel's verifier does; when a configuration takes force, its endpoints do too.
#[derive(Debug)]
pub(super) struct EndpointFollower {
    verifier: ChannelVerifier,
    client: OrdererClient,
    extra: Vec<OrdererEndpoint>,
}

impl EndpointFollower {
    /// A follower that gives the client the endpoints of each configuration, and these.
    pub(super) fn new(
        verifier: ChannelVerifier,
        client: OrdererClient,
        extra: Vec<OrdererEndpoint>,
    ) -> Self {
        Self {
            verifier,
            client,
            extra,
        }
    }
}

impl BlockVerifier for EndpointFollower {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify(block, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        self.verifier.apply_config(stored)?;
        if !stored.is_config() {
            return Ok(());
        }
        let endpoints = endpoints(&self.verifier.config(), &self.extra);
        follow(&self.client, self.verifier.channel(), &endpoints);
        Ok(())
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

/// Gives a client these endpoints of a channel.
///
/// The chain goes on whatever its endpoints are, and whoever cannot be reached now may be reached
/// after the next configuration, so that what cannot be used is no more than said.
pub(super) fn follow(client: &OrdererClient, channel: &ChannelId, endpoints: &[OrdererEndpoint]) {
    for not_taken in client.set_endpoints(endpoints) {
        warn!(
            %channel,
            %not_taken,
            "orderer endpoint of the channel's configuration cannot be used as it stands: have the channel's \
             configuration corrected, or name the endpoint with its TLS CA in [[channel.orderers]] meanwhile"
        );
    }
    let endpoints = client.endpoints().len();
    info!(%channel, endpoints, "orderer endpoints in force");
}

/// The endpoints of a configuration, then further ones. One that both name keeps the TLS roots of
/// both, which the client joins: an operator adds a CA where the channel's own does not do.
pub(super) fn endpoints(config: &ChannelConfig, extra: &[OrdererEndpoint]) -> Vec<OrdererEndpoint> {
    let named = config.endpoints().into_iter().map(|named| OrdererEndpoint {
        endpoint: named.endpoint,
        tls_roots: named.tls_roots,
    });
    named.chain(extra.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
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
    /// Covers: CFT-29
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
        let client =
            OrdererClient::new(config, Arc::new(TestSigner("node")), Arc::new(clock)).unwrap();
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
}
