// SPDX-License-Identifier: Apache-2.0
//! A segment that is made anew: every block is judged, wherever it comes from.

use std::time::Duration;

use block_api::{
    Block, BlockNumber, BlockSource, BlockVerifier as _, ChannelId, DeliverStatus, Delivery,
    Endpoint, Standing, StreamRequest, VerifiedBlock, VerifyError,
};
use block_store::repair::{RepairError, Replacement};
use channel_config::ChannelVerifier;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{RefusedBlock, blocking};

/// A source that sends nothing for so long is left for the next one.
const PATIENCE: Duration = Duration::from_secs(30);

/// A segment that is being made, with who judges its blocks.
pub(super) struct Rebuild {
    verifier: ChannelVerifier,
    /// `None` only while blocking work has it.
    replacement: Option<Replacement>,
}

impl Rebuild {
    pub(super) fn new(verifier: ChannelVerifier, replacement: Replacement) -> Self {
        Self {
            verifier,
            replacement: Some(replacement),
        }
    }

    /// The segment as it is.
    pub(super) fn into_replacement(self) -> Replacement {
        self.replacement
            .expect("invariant: it is given back after each block")
    }

    /// The number of the block that comes next; `None` when all have come.
    pub(super) fn next(&self) -> Option<BlockNumber> {
        self.replacement().next()
    }

    pub(super) fn last(&self) -> BlockNumber {
        self.replacement().last()
    }

    /// Judges a block and takes it. A block that is refused does no harm.
    pub(super) async fn take(&mut self, block: Block) -> Result<(), RefusedBlock> {
        let taken = self.replacement.take();
        let mut replacement = taken.expect("invariant: it is given back after each block");
        let verifier = self.verifier.clone();
        let (replacement, taken) = blocking(move || {
            let taken = push(&mut replacement, &verifier, block);
            (replacement, taken)
        })
        .await;
        self.replacement = Some(replacement);
        taken
    }

    /// Takes what is missing from one endpoint, a node or an orderer, as far as it gives it, and says
    /// what went wrong. Only what goes wrong here, and not there, is an error.
    pub(super) async fn take_from(
        &mut self,
        source: &dyn BlockSource,
        endpoint: &Endpoint,
        channel: &ChannelId,
    ) -> Result<Option<String>, RepairError> {
        let Some(next) = self.next() else {
            return Ok(None);
        };
        let request = StreamRequest::range(channel.clone(), next, self.last());
        let mut stream = match source.open(endpoint, &request).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Some(error.to_string())),
        };
        while self.next().is_some() {
            let block = match timeout(PATIENCE, stream.next()).await {
                Ok(Some(Ok(Delivery::Block(block)))) => block,
                Ok(Some(Ok(Delivery::Status(DeliverStatus::Success)))) | Ok(None) => {
                    return Ok(Some(format!("{endpoint} ended before the last block")));
                }
                Ok(Some(Ok(Delivery::Status(status)))) => {
                    return Ok(Some(format!("{endpoint} ended the request: {status}")));
                }
                Ok(Some(Err(error))) => return Ok(Some(error.to_string())),
                Err(_) => {
                    let seconds = PATIENCE.as_secs();
                    return Ok(Some(format!("{endpoint} sent nothing for {seconds} s")));
                }
            };
            match self.take(block).await {
                Ok(()) => {}
                Err(RefusedBlock::Place(error @ RepairError::Storage(_))) => return Err(error),
                Err(refused) => return Ok(Some(format!("{endpoint}: {refused}"))),
            }
        }
        Ok(None)
    }

    fn replacement(&self) -> &Replacement {
        let replacement = self.replacement.as_ref();
        replacement.expect("invariant: it is given back after each block")
    }
}

fn push(
    replacement: &mut Replacement,
    verifier: &ChannelVerifier,
    block: Block,
) -> Result<(), RefusedBlock> {
    let verified = VerifiedBlock::new(block, verifier, Standing::Linked)?;
    replacement.push(&verified)?;
    // A config block whose configuration cannot be taken into force judges nothing behind it.
    let applied = verifier.apply_config(&verified);
    Ok(applied.map_err(VerifyError::from)?)
}
