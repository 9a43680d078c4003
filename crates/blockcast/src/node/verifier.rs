// SPDX-License-Identifier: Apache-2.0
//! The verifier of a channel, which tells the orderer client of endpoints that come and go.

use block_api::{
    Block, BlockSource as _, BlockVerifier, ChannelId, HeaderProof, Rejection, Standing, Verdict,
    VerifiedBlock,
};
use channel_config::{ChannelConfig, ChannelVerifier};
use orderer_client::{OrdererClient, OrdererEndpoint};
use tracing::{debug, info, warn};

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
    for endpoint in endpoints {
        debug!(%channel, %endpoint, "orderer endpoint");
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
mod tests;
