// SPDX-License-Identifier: Apache-2.0
//! A way through a chain, block by block.

use block_api::{Block, BlockVerifier as _, ChainInfo, Standing, VerifiedBlock, VerifyError};

use crate::verifier::{ChannelVerifier, verify_chain_step};

/// Goes through the blocks of a chain in order: each must be the next one and link, is judged in its
/// place, and takes force if it is a config block. For chains in files, and for streams that no
/// store stands behind.
#[derive(Debug)]
pub struct ChainWalk {
    verifier: ChannelVerifier,
    chain: ChainInfo,
}

impl ChainWalk {
    /// A way that goes on where `chain` ends, by a verifier to which all config blocks of it were
    /// applied; [`ChainInfo::EMPTY`] begins with the genesis block.
    pub fn new(verifier: ChannelVerifier, chain: ChainInfo) -> Self {
        Self { verifier, chain }
    }

    /// Takes the next block.
    ///
    /// # Errors
    ///
    /// When it does not link or is not accepted; another block may come in its place then.
    pub fn take(&mut self, block: Block) -> Result<VerifiedBlock, VerifyError> {
        verify_chain_step(&self.chain, &block)?;
        let verified = VerifiedBlock::new(block, &self.verifier, Standing::Linked)?;
        self.verifier.apply_config(&verified)?;
        self.chain = self.chain.grown_by(&verified);
        Ok(verified)
    }

    /// The chain so far.
    pub fn chain(&self) -> &ChainInfo {
        &self.chain
    }

    /// The verifier, with the newest configuration in force.
    pub fn verifier(&self) -> &ChannelVerifier {
        &self.verifier
    }
}
