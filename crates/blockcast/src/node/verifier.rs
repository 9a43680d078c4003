// SPDX-License-Identifier: Apache-2.0
//! The verifier of a channel, which tells the orderer client of endpoints that come and go.

use block_api::{
    Block, BlockVerifier, HeaderProof, Rejection, Standing, Verdict, VerifiedBlock,
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
        let channel = self.verifier.channel();
        match self.client.set_endpoints(&endpoints) {
            Ok(()) => info!(%channel, endpoints = endpoints.len(), "orderer endpoints in force"),
            // The chain goes on whatever its endpoints are; those before serve as long as they do.
            Err(error) => warn!(%channel, %error, "orderer endpoints of a configuration not taken"),
        }
        Ok(())
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

/// The endpoints of a configuration, then further ones that it does not name.
pub(super) fn endpoints(config: &ChannelConfig, extra: &[OrdererEndpoint]) -> Vec<OrdererEndpoint> {
    let mut endpoints: Vec<OrdererEndpoint> = config
        .endpoints()
        .into_iter()
        .map(|named| OrdererEndpoint {
            endpoint: named.endpoint,
            tls_roots: named.tls_roots,
        })
        .collect();
    for orderer in extra {
        if !endpoints
            .iter()
            .any(|named| named.endpoint == orderer.endpoint)
        {
            endpoints.push(orderer.clone());
        }
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use block_api::{BlockSource as _, FixedClock, testing::TestSigner};
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

    #[test]
    fn endpoints_that_cannot_be_used_leave_those_before() {
        let clock = FixedClock(std::time::SystemTime::UNIX_EPOCH);
        let config = Config {
            tls: orderer_client::Tls::Server,
            ..Config::default()
        };
        let client =
            OrdererClient::new(config, Arc::new(TestSigner("node")), Arc::new(clock)).unwrap();
        // With TLS, an endpoint without roots is refused.
        let extra = OrdererEndpoint {
            endpoint: "extra:7050".parse().unwrap(),
            tls_roots: Vec::new(),
        };
        let verifier = ChannelVerifier::from_genesis(&fixture(0)).unwrap();
        let follower = EndpointFollower::new(verifier, client.clone(), vec![extra]);
        let block = VerifiedBlock::new(fixture(0), &follower, Standing::Linked).unwrap();
        follower.apply_config(&block).unwrap();
        assert_eq!(client.endpoints(), []);
    }
}
