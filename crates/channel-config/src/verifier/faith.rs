// SPDX-License-Identifier: Apache-2.0
//! Whether a block that is refused here may have been good where a configuration is missing.

use block_api::{Block, Rejection};

use super::{BlockError, ChannelVerifier, SignedMetadata, check_signatures};

impl ChannelVerifier {
    /// The rejection for a rule that a block breaks.
    pub(super) fn rejection(&self, block: &Block, error: BlockError) -> Rejection {
        let of_older_config = self.is_of_older_config(block, &error);
        let rejection = Rejection::new(block, error.rule(), error);
        match of_older_config {
            true => rejection.in_good_faith(),
            false => rejection,
        }
    }

    /// Whether a node to which the newest configuration below the block has not come yet may have
    /// accepted it, by the one that its signatures name. What depends on no configuration is refused
    /// everywhere.
    fn is_of_older_config(&self, block: &Block, error: &BlockError) -> bool {
        // Its signatures were not looked at here, and were there.
        matches!(error, BlockError::LastConfigBehind { .. })
            || matches!(error, BlockError::PolicyNotSatisfied { .. })
                && self.is_signed_as_it_names(block)
    }

    /// Whether a block names an older config block than the newest one below it, and those signed it
    /// who might then.
    fn is_signed_as_it_names(&self, block: &Block) -> bool {
        let Ok(metadata) = SignedMetadata::parse(block) else {
            return false;
        };
        let history = self.history.snapshot();
        let newest = history.before(block.number()).map(|newest| newest.number);
        let named = metadata.last_config().filter(|named| Some(*named) < newest);
        let named = named.and_then(|named| history.at(named));
        named.is_some_and(|named| check_signatures(&metadata, named).is_ok())
    }
}
