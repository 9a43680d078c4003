// SPDX-License-Identifier: Apache-2.0
//! Asks one orderer for the next block, when those who pull bring nothing.

use block_api::{BlockSource, Delivery, Endpoint, StreamRequest, VerifyError};
use futures::StreamExt as _;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::{
    buffer::Giver,
    in_order::InOrder,
    intake::{Intake, JudgeError},
};

/// Asks an orderer for the block that is due, and takes it in. `true` when it came, is good and links,
/// and does not come from those who pull a moment later: nobody but an orderer makes such a block, so
/// there is one that they did not bring. A header alone, or a block of a greater number, would prove
/// nothing of that.
///
/// # Cancel safety
///
/// A dropped future may have taken the block in or not.
pub(super) async fn finds_next(
    intake: &Intake,
    source: &dyn BlockSource,
    endpoint: &Endpoint,
) -> bool {
    let next = intake.buffer.next();
    let request = StreamRequest::range(intake.channel.clone(), next, next);
    let patience = intake.config.provider.probe_timeout;
    let asked = timeout(patience, async {
        let mut stream = source.open(endpoint, &request).await?;
        stream.next().await.transpose()
    });
    let block = match asked.await {
        Ok(Ok(Some(Delivery::Block(block)))) => block,
        // As a rule NOT_FOUND: there is nothing new.
        Ok(Ok(answer)) => {
            debug!(channel = %intake.channel, %endpoint, ?answer, "an orderer has no newer block");
            return false;
        }
        Ok(Err(error)) => {
            debug!(channel = %intake.channel, %endpoint, %error, "an orderer was asked in vain");
            return false;
        }
        Err(_) => {
            debug!(channel = %intake.channel, %endpoint, "an orderer that was asked did not answer");
            return false;
        }
    };
    // On a busy channel there is a block on its way at any moment.
    let came = intake.wait_until_applied(next.height());
    if timeout(intake.config.catch_up_patience, came).await.is_ok() {
        return false;
    }
    let applied = intake.applied();
    if block.number() != next
        || !applied.is_followed_by(&block)
        || intake.buffer.knows(next, &block.header_hash())
    {
        // It came by another way meanwhile and is not stored yet, or the orderer has another chain.
        return false;
    }
    let mut run = InOrder::behind(applied.height);
    match run.take(intake, block, None, &Giver::Orderers).await {
        Ok(()) => {
            warn!(channel = %intake.channel, block.number = %next, %endpoint, "those who pull kept a block back");
            true
        }
        Err(JudgeError::Verify(VerifyError::Rejected(rejection))) => {
            intake.counters.rejected.add(1);
            debug!(channel = %intake.channel, %endpoint, %rejection, "an orderer that was asked gave a bad block");
            false
        }
        Err(JudgeError::Verify(_) | JudgeError::Closed) => false,
    }
}
