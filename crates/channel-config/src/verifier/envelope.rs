// SPDX-License-Identifier: Apache-2.0
//! Whether the bytes of a transaction are the ones that Go would write for it.

use block_api::{
    Block,
    wire::{Fields, Value, WireError},
};

use crate::verifier::rule::BlockError;

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

/// Checks that every transaction of a block is in the form that Go gives it, so that the data hash,
/// which has no framing, stands for one block alone (semantics §2.3).
///
/// Go's form is payload, signature, and then whatever fields it does not know, as they came
/// (NEW-06). The one transaction of a config block may have any form.
pub(super) fn check_well_formed(block: &Block) -> Result<(), BlockError> {
    if block.entry_count() == 0 {
        return Err(BlockError::Empty);
    }
    if block.is_config() {
        return Ok(());
    }
    for (index, entry) in block.data().enumerate() {
        check_envelope(entry).map_err(|source| BlockError::NotWellFormed { index, source })?;
    }
    Ok(())
}

fn check_envelope(envelope: &[u8]) -> Result<(), EnvelopeError> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use protos::common::Envelope;

    use super::*;

    fn check(text: &str) -> Result<(), EnvelopeError> {
        check_envelope(&hex::decode(text.replace(' ', "")).unwrap())
    }

    /// The table of semantics, Appendix A.
    ///
    /// Covers: PRB-16, PRB-17, PRB-18, VER-20, NEW-06
    #[test]
    fn envelopes_are_judged_byte_by_byte_as_go_judges_them() {
        use EnvelopeError as E;
        let good = "0a0101 120102";
        assert_eq!(check(good), Ok(()));
        assert_eq!(
            check(&format!("{good} 1a0175")),
            Ok(()),
            "an unknown field at the end stays"
        );
        assert_eq!(
            check(&format!("{good} 0805")),
            Ok(()),
            "field 1 of another wire type is unknown"
        );
        assert_eq!(
            check(&format!("{good} 1b1c")),
            Ok(()),
            "a group at the end stays"
        );
        let rows = [
            ("", E::NoPayload),
            ("120102", E::NoPayload),
            ("0a00 120102", E::NoPayload),
            ("0a0101", E::NoSignature),
            ("0a0101 1200", E::NoSignature),
            ("120102 0a0101", E::NotCanonical),
            ("1a0175 0a0101 120102", E::NotCanonical),
            ("0a0101 1a0175 120102", E::NotCanonical),
            ("0a0101 0a0101 120102", E::TrailingBytes { count: 3 }),
            ("0a0101 120102 0a0101", E::TrailingBytes { count: 3 }),
            ("0a8100 01 120102", E::TrailingBytes { count: 1 }),
            ("8a00 0101 120102", E::TrailingBytes { count: 1 }),
        ];
        for (text, error) in rows {
            assert_eq!(check(text), Err(error), "{text}");
        }
        assert!(matches!(check("0a05"), Err(E::Malformed(_))));
        // The two entries of the data hash vector, joined.
        let joined = "0a030102031203040506 0a0307080912030a0b0c";
        assert_eq!(check(joined), Err(E::TrailingBytes { count: 10 }));
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_canonical(
            payload in proptest::collection::vec(any::<u8>(), 1..400),
            signature in proptest::collection::vec(any::<u8>(), 1..200),
        ) {
            let envelope = Envelope { payload: payload.into(), signature: signature.into() };
            prop_assert_eq!(check_envelope(&envelope.encode_to_vec()), Ok(()));
        }

        #[test]
        fn what_is_canonical_is_what_prost_writes_and_unknown_fields(bytes in proptest::collection::vec(0u8..0x20, 0..40)) {
            if check_envelope(&bytes).is_ok() {
                let written = Envelope::decode(bytes.as_slice()).unwrap_or_default().encode_to_vec();
                prop_assert!(bytes.starts_with(&written));
            }
        }
    }
}
