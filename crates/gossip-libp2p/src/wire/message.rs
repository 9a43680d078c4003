// SPDX-License-Identifier: Apache-2.0
//! A message on a topic: a head of eight bytes, then a block in its relay form.
//!
//! ```text
//! version 1 | form 1 | copy 1 | zero 1 | size of the whole block 4, big-endian | common.Block …
//! ```

use block_api::{Block, ParseBlockError, RelayBytes};
use bytes::Bytes;

use crate::wire::VERSION;

/// Where the byte stands that tells copies of one message apart.
pub(crate) const COPY_AT: usize = 2;

/// The longest announcement. A signature with its signer's certificate takes about 1 KiB, so that tens
/// of orderers have room; of a block with more, the others learn by status.
pub(crate) const MAX_ANNOUNCEMENT: usize = 64 * 1024;

const HEAD: usize = 8;

/// How a block stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// All of it.
    Whole = 1,
    /// Header and signatures; the data is to be had from who announced it.
    Announcement = 2,
}

/// Why a message is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the message has version {0}, and this node understands {VERSION}")]
    Version(u8),
    #[error("the message has the form {0}, which this node does not know")]
    Form(u8),
    #[error("the message has {0} bytes, less than its head")]
    Short(usize),
    #[error("the announcement has {0} bytes, the limit is {MAX_ANNOUNCEMENT}")]
    Long(usize),
    #[error("the message says that it is {0}, and it is not")]
    Contradiction(&'static str),
    #[error(transparent)]
    Block(#[from] ParseBlockError),
}

impl MessageError {
    /// Whether the sender is to blame: a newer release is not.
    pub(crate) fn is_fault(&self) -> bool {
        match self {
            Self::Version(_) | Self::Form(_) => false,
            Self::Short(_) | Self::Long(_) | Self::Contradiction(_) | Self::Block(_) => true,
        }
    }
}

/// The message for a block whose relay form has `size` bytes in whole.
pub(crate) fn encode(form: Form, size: usize, block: &RelayBytes) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEAD + block.len());
    message.extend([VERSION, form as u8, 0, 0]);
    message.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(&block.body);
    message.extend_from_slice(&block.metadata);
    message
}

/// The block of a message, without any metadata that no signature covers. The size in the head is
/// a hint from its maker and used by nobody who did not ask for the block, so it is not read here.
pub(crate) fn parse(message: Bytes) -> Result<(Form, Block), MessageError> {
    let Some([version, form, ..]) = message.first_chunk::<HEAD>() else {
        return Err(MessageError::Short(message.len()));
    };
    if *version != VERSION {
        return Err(MessageError::Version(*version));
    }
    let form = match form {
        1 => Form::Whole,
        2 => Form::Announcement,
        unknown => return Err(MessageError::Form(*unknown)),
    };
    if form == Form::Announcement && message.len() > MAX_ANNOUNCEMENT {
        return Err(MessageError::Long(message.len()));
    }
    let block = Block::parse(message.slice(HEAD..))?;
    match (form, block.has_data()) {
        (Form::Whole, false) => Err(MessageError::Contradiction("a whole block")),
        (Form::Announcement, true) => Err(MessageError::Contradiction("an announcement")),
        _ => Ok((form, block.with_signatures_slot_only())),
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestChain;
    use proptest::prelude::*;

    use super::*;

    fn block() -> Block {
        let mut chain = TestChain::new("ch");
        chain.config();
        chain.data(100)
    }

    #[test]
    fn a_block_comes_back_in_both_forms() {
        let block = block();
        let whole = encode(Form::Whole, 5, &block.relay());
        let (form, parsed) = parse(whole.into()).unwrap();
        assert_eq!(
            (form, parsed.raw()),
            (Form::Whole, &block.relay().to_bytes())
        );
        assert_eq!(parsed.header_hash(), block.header_hash());

        let announcement = encode(Form::Announcement, 1 << 40, &block.without_data().relay());
        assert_eq!(
            announcement[4..8],
            [255; 4],
            "a hint that does not fit is as large as can be"
        );
        let (form, parsed) = parse(announcement.into()).unwrap();
        assert_eq!(form, Form::Announcement);
        assert!(!parsed.has_data());
        assert_eq!(parsed.header_hash(), block.header_hash());
        assert_eq!(parsed.signatures_slot(), block.signatures_slot());
    }

    #[test]
    fn metadata_that_nobody_signed_is_dropped() {
        let block = block();
        let raw = RelayBytes {
            body: block.raw().clone(),
            metadata: Bytes::new(),
        };
        let (_, parsed) = parse(encode(Form::Whole, 1, &raw).into()).unwrap();
        assert_eq!((block.slot_count(), parsed.slot_count()), (5, 1));
    }

    #[test]
    fn what_is_wrong_is_named_and_only_faults_are_blamed() {
        let block = block();
        let head = |bytes: [u8; 2]| [&bytes, [0; 6].as_slice(), block.raw()].concat();
        let attestation = block.without_data();
        let rows = [
            (vec![], MessageError::Short(0), true),
            (vec![1; 7], MessageError::Short(7), true),
            (head([2, 1]), MessageError::Version(2), false),
            (head([1, 9]), MessageError::Form(9), false),
            (
                head([1, 2]),
                MessageError::Contradiction("an announcement"),
                true,
            ),
            (
                [[1, 2].as_slice(), &[0; MAX_ANNOUNCEMENT]].concat(),
                MessageError::Long(MAX_ANNOUNCEMENT + 2),
                true,
            ),
            (
                encode(Form::Whole, 1, &attestation.relay()),
                MessageError::Contradiction("a whole block"),
                true,
            ),
            (
                [[1, 1].as_slice(), &[0; 6]].concat(),
                MessageError::Block(ParseBlockError::NoHeader),
                true,
            ),
        ];
        for (message, error, fault) in rows {
            assert_eq!(parse(message.into()).unwrap_err(), error);
            assert_eq!(error.is_fault(), fault, "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_gives_another_block_or_an_error(at in 8usize..200, flip in 1u8..) {
            let block = block();
            let mut message = encode(Form::Whole, 1, &block.relay());
            let at = at % message.len();
            message[at] ^= flip;
            if let Ok((_, parsed)) = parse(message.into()) {
                prop_assert!(at < HEAD || parsed.raw() != &block.relay().to_bytes());
            }
        }
    }
}
