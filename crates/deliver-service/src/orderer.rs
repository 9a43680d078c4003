// SPDX-License-Identifier: Apache-2.0
//! The orderer's stream as a producer: what the pull loop hands its blocks to.

use std::sync::Arc;

use async_trait::async_trait;
use block_api::{Block, BlockReader, ChainInfo, Endpoint, VerifyError};
use blocks_provider::{BlockHandler, HandleError};

use crate::{
    Origin,
    intake::{Intake, JudgeError},
};

/// Takes blocks from the ordering service into the buffer; while that is full, the stream waits.
#[derive(Debug)]
pub(crate) struct OrdererIntake {
    pub(crate) intake: Arc<Intake>,
    pub(crate) ledger: Arc<dyn BlockReader>,
}

#[async_trait]
impl BlockHandler for OrdererIntake {
    fn position(&self) -> ChainInfo {
        self.ledger.info()
    }

    async fn handle(&self, block: Block, _from: &Endpoint) -> Result<(), HandleError> {
        let intake = &self.intake;
        if intake.buffer.knows(block.number(), &block.header_hash()) {
            // Another way was quicker; nothing is lost by taking its copy.
            return Ok(());
        }
        let verified = match intake.verify_in_order(block).await {
            Ok(verified) => verified,
            Err(JudgeError::Closed) => return Err(HandleError::Closed),
            Err(JudgeError::Verify(VerifyError::Rejected(rejection))) => {
                intake.counters.rejected.add(1);
                return Err(rejection.into());
            }
            Err(JudgeError::Verify(other)) => return Err(HandleError::Failed(other.into())),
        };
        match intake.buffer.push(verified, Origin::Orderer).await {
            true => Ok(()),
            false => Err(HandleError::Closed),
        }
    }
}
