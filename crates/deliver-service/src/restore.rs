// SPDX-License-Identifier: Apache-2.0
//! Takes the configuration that is in a store into force.

use block_api::{
    Block, BlockNumber, BlockStore, BlockVerifier, ChannelId, Height, ReadLimits, Standing,
    VerifiedBlock,
};

use crate::JoinError;

/// Takes the configurations of the stored config blocks into force, oldest first, from those on that
/// are above what is in force already, and says as it goes what is.
pub(crate) async fn restore_config(
    channel: &ChannelId,
    store: &dyn BlockStore,
    verifier: &dyn BlockVerifier,
    in_force: &mut Height,
) -> Result<(), JoinError> {
    let mut numbers = Vec::new();
    let mut from = store.info().height.tip();
    while let Some(number) = from.and_then(|from| store.config_at(from)) {
        if number < in_force.next_block() {
            break;
        }
        numbers.push(number);
        from = number.previous();
    }
    for number in numbers.into_iter().rev() {
        let block = stored_block(channel, store, number).await?;
        let channel = || channel.clone();
        let verified = VerifiedBlock::new(block, verifier, Standing::Linked).map_err(|source| {
            JoinError::Verify {
                channel: channel(),
                source,
            }
        })?;
        verifier
            .apply_config(&verified)
            .map_err(|source| JoinError::Config {
                channel: channel(),
                source,
            })?;
        *in_force = number.height();
    }
    Ok(())
}

async fn stored_block(
    channel: &ChannelId,
    store: &dyn BlockStore,
    number: BlockNumber,
) -> Result<Block, JoinError> {
    let channel = || channel.clone();
    let read = store.read(number, ReadLimits::one()).await;
    let blocks = read.map_err(|source| JoinError::Read {
        channel: channel(),
        source,
    })?;
    let bytes = blocks.into_iter().next().unwrap_or_default();
    Block::parse(bytes).map_err(|source| JoinError::Parse {
        channel: channel(),
        source,
    })
}
