// SPDX-License-Identifier: Apache-2.0
//! A chain that was recorded or made before, and is to be served as it is.

use block_api::{Block, BlockNumber, ChannelId, InvalidChannelId, ParseBlockError};
use bytes::Bytes;

/// The blocks of a chain from the genesis block on, byte for byte as they were recorded.
///
/// Nothing but their numbers is checked: a chain that breaks the channel's rules is served too.
#[derive(Debug, Clone)]
pub struct RecordedChain {
    channel: ChannelId,
    blocks: Vec<Block>,
}

/// The bytes are no chain that could be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedChainError {
    /// There is no block.
    #[error("a recorded chain begins with its genesis block, and this one has no block at all")]
    Empty,
    /// A block does not parse.
    #[error("block {index} of the recorded chain is none: {source}")]
    Malformed {
        /// Its place in the chain.
        index: usize,
        /// What is wrong.
        source: ParseBlockError,
    },
    /// A block is not the one that belongs in its place.
    #[error(
        "block {index} of the recorded chain has the number {number}: the blocks go from 0 up, without a hole"
    )]
    Number {
        /// Its place in the chain.
        index: usize,
        /// The number that it has.
        number: BlockNumber,
    },
    /// The genesis block does not say which channel it is of.
    #[error("the genesis block of the recorded chain names no channel")]
    NoChannel,
    /// The genesis block names a channel that cannot be.
    #[error("the genesis block of the recorded chain names its channel wrongly: {0}")]
    Channel(#[from] InvalidChannelId),
}

impl RecordedChain {
    /// A chain of these marshalled blocks, the genesis block first.
    ///
    /// # Errors
    ///
    /// When there is no block, one does not parse or has another number than its place, or the
    /// genesis block names no channel.
    pub fn new(blocks: Vec<Bytes>) -> Result<Self, RecordedChainError> {
        let parsed = blocks
            .into_iter()
            .enumerate()
            .map(|(index, raw)| {
                Block::parse(raw).map_err(|source| RecordedChainError::Malformed { index, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let wrong = (0_u64..)
            .zip(&parsed)
            .enumerate()
            .find(|(_, (place, block))| block.number().get() != *place);
        if let Some((index, (_, block))) = wrong {
            return Err(RecordedChainError::Number {
                index,
                number: block.number(),
            });
        }
        let genesis = parsed.first().ok_or(RecordedChainError::Empty)?;
        let channel = genesis
            .channel_of_first_entry()
            .ok_or(RecordedChainError::NoChannel)?
            .parse()?;
        Ok(Self {
            channel,
            blocks: parsed,
        })
    }

    /// A chain that this crate made.
    pub(crate) fn made(channel: ChannelId, blocks: Vec<Block>) -> Self {
        Self { channel, blocks }
    }

    /// The channel that the genesis block names.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    fn fixture(number: u64) -> Bytes {
        let path = format!(
            concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../tests/fixtures/raft/block_{}.pb"
            ),
            number
        );
        std::fs::read(path).unwrap().into()
    }

    #[test]
    fn a_recorded_chain_is_kept_as_it_is() {
        let chain = RecordedChain::new(vec![fixture(0), fixture(1)]).unwrap();
        assert_eq!(chain.channel().as_str(), "ch-raft");
        assert_eq!(chain.blocks()[1].raw(), &fixture(1));
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        type E = RecordedChainError;
        let refused = |blocks| RecordedChain::new(blocks).unwrap_err();
        assert_eq!(refused(Vec::new()), E::Empty);
        assert_eq!(
            refused(vec![fixture(0), fixture(2)]),
            E::Number {
                index: 1,
                number: BlockNumber::new(2)
            }
        );
        assert_eq!(
            refused(vec![fixture(1)]),
            E::Number {
                index: 0,
                number: BlockNumber::new(1)
            }
        );
        assert!(matches!(
            refused(vec![Bytes::from_static(b"\x0a")]),
            E::Malformed { index: 0, .. }
        ));
        let nameless = Block::assemble::<&[u8], &[u8]>(BlockNumber::GENESIS, &[], &[b"\xff"], &[]);
        assert_eq!(refused(vec![nameless.raw().clone()]), E::NoChannel);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(blocks in vec(vec(any::<u8>(), 0..200), 0..4)) {
            let _ = RecordedChain::new(blocks.into_iter().map(Bytes::from).collect());
        }

        /// A block whose bytes were changed is kept as it is, or is no block.
        #[test]
        fn a_changed_block_is_kept_or_refused(index in any::<Index>(), byte in any::<u8>()) {
            let mut changed = fixture(1).to_vec();
            *index.get_mut(&mut changed) = byte;
            let changed = Bytes::from(changed);
            if let Ok(chain) = RecordedChain::new(vec![fixture(0), changed.clone()]) {
                prop_assert_eq!(chain.blocks()[1].raw(), &changed);
            }
        }
    }
}
