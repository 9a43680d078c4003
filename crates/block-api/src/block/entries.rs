// SPDX-License-Identifier: Apache-2.0
//! Whether the bytes of a transaction are the ones that Go would write for it, so that the data hash
//! stands for one list of transactions.

use super::Block;
use crate::wire::{Fields, Value, WireError};

const PAYLOAD: u32 = 1;
const SIGNATURE: u32 = 2;

/// What is wrong with the form of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// It is no envelope.
    #[error("it does not parse: {0}")]
    Malformed(#[from] WireError),
    /// It has no payload.
    #[error("it has no payload")]
    NoPayload,
    /// It has no signature.
    #[error("it has no signature")]
    NoSignature,
    /// It is longer than the message that it stands for.
    #[error("it has {count} trailing bytes")]
    TrailingBytes {
        /// How many bytes too many.
        count: usize,
    },
    /// It is not in the order in which Go writes it.
    #[error("its fields are not in their canonical order")]
    NotCanonical,
}

/// The data of a block could be cut into entries in another way, without another hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("transaction {index} is not well formed: {source}")]
pub struct NotWellFormed {
    /// Which entry is not in its form.
    pub index: usize,
    /// What is wrong with it.
    pub source: EnvelopeError,
}

impl Block {
    /// Checks that every transaction of a block is in the form that Go gives it, so that the data
    /// hash, which has no framing, stands for one block alone (semantics §2.3).
    ///
    /// Go's form is payload, signature, and then whatever fields it does not know, as they came
    /// (NEW-06). The one transaction of a config block may have any form. On channels whose hash has
    /// the lengths in it ([`DataHashing::LengthPrefixed`](crate::DataHashing)) no form is needed.
    ///
    /// # Errors
    ///
    /// When a transaction has another form, the first one.
    pub fn check_well_formed(&self) -> Result<(), NotWellFormed> {
        if self.is_config() {
            return Ok(());
        }
        for (index, entry) in self.data().enumerate() {
            check_envelope(entry).map_err(|source| NotWellFormed { index, source })?;
        }
        Ok(())
    }
}

/// Checks that an entry is in the form that Go gives an envelope.
///
/// # Errors
///
/// When it has another form.
pub fn check_envelope(envelope: &[u8]) -> Result<(), EnvelopeError> {
    let (mut payload, mut signature) = (0, 0);
    let mut unknown = 0;
    // The known fields that were seen, and whether they came as Go writes them.
    let mut known = 0;
    let mut is_ordered = true;
    for field in Fields::new(envelope) {
        let field = field?;
        match (field.number, &field.value) {
            (PAYLOAD, Value::Bytes(bytes, _)) => {
                payload = bytes.len();
                is_ordered &= known == 0 && unknown == 0;
                known += 1;
            }
            (SIGNATURE, Value::Bytes(bytes, _)) => {
                signature = bytes.len();
                is_ordered &= known == 1 && unknown == 0;
                known += 1;
            }
            _ => unknown += field.span.len(),
        }
    }
    if payload == 0 {
        return Err(EnvelopeError::NoPayload);
    }
    if signature == 0 {
        return Err(EnvelopeError::NoSignature);
    }
    // What Go would write: repeated fields once, lengths and tags in their shortest form.
    let canonical = field_length(payload) + field_length(signature) + unknown;
    match envelope.len().checked_sub(canonical) {
        Some(0) if is_ordered => Ok(()),
        Some(0) | None => Err(EnvelopeError::NotCanonical),
        Some(count) => Err(EnvelopeError::TrailingBytes { count }),
    }
}

/// How many bytes a field of so many bytes takes: the tag, the length, and the bytes.
fn field_length(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    1 + bits.div_ceil(7).max(1) as usize + length
}
