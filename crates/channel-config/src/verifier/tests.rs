// SPDX-License-Identifier: Apache-2.0
//! The rules for blocks, one by one, and over the recorded chains.

mod changes;
mod hostile;
mod oracle;
mod position;
mod rules;
mod start;

use block_api::{Block, BlockVerifier, ChainInfo, Standing, Verdict, VerifiedBlock};

use crate::{ChainWalk, ChannelVerifier, verify_chain_step};

/// Verifies a chain in order and applies its config blocks.
fn verified(blocks: &[Block]) -> ChannelVerifier {
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let mut walk = ChainWalk::new(verifier, ChainInfo::EMPTY);
    for block in blocks {
        walk.take(block.clone())
            .unwrap_or_else(|error| panic!("{error}"));
    }
    walk.verifier().clone()
}

/// The rule that a block breaks, or what else became of it.
fn outcome(verdict: Verdict) -> String {
    match verdict {
        Verdict::Accepted(_) => "accepted".to_owned(),
        Verdict::Rejected(rejection) => rejection.rule().to_owned(),
        Verdict::AwaitsConfig(number) => format!("awaits {number}"),
        Verdict::AwaitsLink => "awaits its link".to_owned(),
    }
}
