// SPDX-License-Identifier: Apache-2.0
//! The rules for blocks, one by one, and over the recorded chains.

mod changes;
mod hostile;
mod oracle;
mod position;
mod rules;

use block_api::{Block, BlockVerifier, ChainInfo, Standing, Verdict, VerifiedBlock};

use crate::{ChannelVerifier, verify_chain_step};

/// Verifies a chain in order and applies its config blocks.
fn verified(blocks: &[Block]) -> ChannelVerifier {
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let mut info = ChainInfo::EMPTY;
    for block in blocks {
        verify_chain_step(&info, block).unwrap();
        let verified = VerifiedBlock::new(block.clone(), &verifier, Standing::Linked)
            .unwrap_or_else(|error| panic!("{error}"));
        verifier.apply_config(&verified).unwrap();
        info = info.grown_by(&verified);
    }
    verifier
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
