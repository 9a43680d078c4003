// SPDX-License-Identifier: Apache-2.0
//! Config blocks after the genesis block.

use std::{num::NonZeroU32, time::SystemTime};

use block_api::{ChannelId, SignError, Signer};
use bytes::Bytes;
use channel_config::ChannelConfig;
use prost::Message as _;
use protos::common::{Config, ConfigEnvelope, ConfigGroup, HeaderType};
use signer::envelope::{EnvelopeHeader, Nonce, signed_envelope};

use crate::{
    broadcast::SubmitError,
    change::ChangeError,
    config::BatchConfig,
    nodes::StartError,
    terms::Terms,
    tree::{carry_over, grow_versions},
};

/// A configuration was not ordered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// It is none that a channel can have.
    #[error("the configuration is refused: {0}")]
    Refused(#[from] Box<channel_config::ConfigError>),
    /// A change cannot be made to the channel as it is.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A node that comes, moves or gets other certificates cannot be served.
    #[error(transparent)]
    Node(#[from] Box<StartError>),
    /// The orderer's signer did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The orderer orders nothing.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// The newest configuration.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    channel: ChannelId,
    config: Config,
}

impl Configuration {
    pub(crate) fn new(channel: ChannelId, config: Config) -> Self {
        Self { channel, config }
    }

    /// The configuration after a change of its tree. Versions are those that the change leaves.
    pub(crate) fn edited(&self, edit: impl FnOnce(&mut ConfigGroup)) -> Self {
        let mut next = self.clone();
        next.config.sequence = next.config.sequence.saturating_add(1);
        edit(next.config.channel_group.get_or_insert_default());
        next
    }

    /// The configuration after a change of what is in force. What else was edited in the tree stays
    /// as it is, and versions grow as Fabric has them grow.
    pub(crate) fn changed(&self, before: &Terms, after: &Terms) -> Self {
        self.edited(|tree| {
            let current = tree.clone();
            carry_over(&before.tree(), &after.tree(), tree);
            grow_versions(&current, tree);
        })
    }

    /// How blocks are cut under it.
    pub(crate) fn batch(&self) -> Result<BatchConfig, Box<channel_config::ConfigError>> {
        let config = ChannelConfig::from_config(self.config.clone(), self.channel.as_str())?;
        let size = config.orderer().batch_size();
        // What is checked there is not zero.
        let nonzero = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Ok(BatchConfig {
            max_message_count: nonzero(size.max_messages),
            absolute_max_bytes: nonzero(size.absolute_max_bytes),
            preferred_max_bytes: nonzero(size.preferred_max_bytes),
            timeout: config.orderer().batch_timeout(),
        })
    }

    /// The marshalled envelope of its config block, which an orderer signs.
    pub(crate) async fn envelope(
        &self,
        orderer: &dyn Signer,
        now: SystemTime,
    ) -> Result<Bytes, SignError> {
        let data = ConfigEnvelope {
            config: Some(self.config.clone()),
            last_update: None,
        }
        .encode_to_vec();
        let header = EnvelopeHeader::new(HeaderType::Config, self.channel.clone(), now);
        let envelope = signed_envelope(orderer, &header, data.into(), Nonce::random()).await?;
        Ok(envelope.encode_to_vec().into())
    }
}
