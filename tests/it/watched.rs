// SPDX-License-Identifier: Apache-2.0
//! The verifier of a node, whose verdicts a test can wait for.

use block_api::{
    Block, BlockVerifier, HeaderHash, HeaderProof, Rejection, Standing, Verdict, VerifiedBlock,
    testing::within,
};
use channel_config::ChannelVerifier;
use orderer_client::{OrdererClient, OrdererEndpoint};
use tokio::sync::watch;

/// Judges as the channel's verifier does, and tells the orderer client of endpoints that come and
/// go, as the node of the product does.
#[derive(Debug)]
pub(crate) struct WatchedVerifier {
    verifier: ChannelVerifier,
    client: OrdererClient,
    verdicts: watch::Sender<Vec<(HeaderHash, Judged)>>,
}

/// What a node thought of whole blocks, in the order in which it judged them.
#[derive(Debug)]
pub(crate) struct Verdicts(watch::Receiver<Vec<(HeaderHash, Judged)>>);

/// What became of a block that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    Accepted,
    /// It breaks this rule.
    Rejected(&'static str),
    Awaits,
}

impl WatchedVerifier {
    pub(crate) fn new(verifier: ChannelVerifier, client: OrdererClient) -> (Self, Verdicts) {
        let (verdicts, watched) = watch::channel(Vec::new());
        let this = Self {
            verifier,
            client,
            verdicts,
        };
        (this, Verdicts(watched))
    }
}

impl BlockVerifier for WatchedVerifier {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        let verdict = self.verifier.verify(block, standing);
        let judged = match &verdict {
            Verdict::Accepted(_) => Judged::Accepted,
            Verdict::Rejected(rejection) => Judged::Rejected(rejection.rule()),
            Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => Judged::Awaits,
        };
        self.verdicts
            .send_modify(|verdicts| verdicts.push((block.header_hash(), judged)));
        verdict
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        self.verifier.apply_config(stored)?;
        if stored.is_config() {
            let endpoints = self.verifier.config().endpoints().into_iter();
            let endpoints: Vec<OrdererEndpoint> = endpoints
                .map(|named| OrdererEndpoint {
                    endpoint: named.endpoint,
                    tls_roots: named.tls_roots,
                })
                .collect();
            assert_eq!(self.client.set_endpoints(&endpoints), []);
        }
        Ok(())
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

impl Verdicts {
    /// Waits until a block was judged like this.
    pub(crate) async fn has(&self, block: &Block, judged: Judged) {
        let (mut verdicts, wanted) = (self.0.clone(), (block.header_hash(), judged));
        let was_judged = verdicts.wait_for(|verdicts| verdicts.contains(&wanted));
        let what = format!("block {} being {judged:?}", block.number());
        within(&what, was_judged).await.unwrap();
    }
}
