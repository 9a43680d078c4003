// SPDX-License-Identifier: Apache-2.0
//! Who may read the recorded channel.

use std::sync::Arc;

use block_api::{Block, Readers};
use channel_config::{ChannelAccess, ChannelVerifier};

use super::recorded;

/// The readers of the recorded channel, by its genesis block.
pub(crate) fn channel_readers() -> Arc<dyn Readers> {
    let genesis = Block::parse(recorded(0)).unwrap();
    let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
    Arc::new(ChannelAccess::readers(&verifier))
}
