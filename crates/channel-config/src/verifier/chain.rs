// SPDX-License-Identifier: Apache-2.0
//! Whether a block links to the chain before it.

use block_api::{Block, ChainInfo, Rejection};

use crate::verifier::rule::{BlockError, claimed_hash};

/// Checks that a block is the next one of a chain and names the header hash of its tip, under the
/// rules `number` and `previous-hash` (VER-16, VER-18). It comes before the verifier wherever
/// nothing else knows the chain: a store checks the same.
///
/// # Errors
///
/// When the block does not link.
pub fn verify_chain_step(chain: &ChainInfo, block: &Block) -> Result<(), Rejection> {
    let broken = |error: BlockError| Err(Rejection::new(block, error.rule(), error));
    let expected = chain.height.next_block();
    let actual = block.number();
    if expected != actual {
        return broken(BlockError::Number { expected, actual });
    }
    match chain.tip_hash {
        Some(tip) if !block.links_to(&tip) => broken(BlockError::PreviousHash {
            expected: tip,
            claimed: claimed_hash(block.header().previous_hash),
        }),
        _ => Ok(()),
    }
}
