// SPDX-License-Identifier: Apache-2.0
//! Hands blocks to the gossip network, beside the writer: stored ones, unless they are published before.

use block_api::{GossipChannel, GossipError, VerifiedBlock};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::intake::Intake;

/// Publishes until the writer has gone and its queue is empty.
pub(crate) async fn run(
    intake: &Intake,
    gossip: &dyn GossipChannel,
    queue: &mut mpsc::Receiver<VerifiedBlock>,
) {
    while let Some(block) = queue.recv().await {
        match gossip.publish(&block).await {
            Ok(()) => {
                debug!(channel = %intake.channel, block.number = %block.number(), "block published")
            }
            Err(GossipError::Closed) => break,
            Err(error) => {
                // The others fetch it when they see the height.
                intake.counters.unpublished.add(1);
                warn!(channel = %intake.channel, block.number = %block.number(), %error, "block not published");
            }
        }
    }
}
