// SPDX-License-Identifier: Apache-2.0
//! Whether the bytes of a transaction are the ones that Go would write for it.

use block_api::Block;

use crate::verifier::rule::BlockError;

/// Checks that there are transactions, and each in the form that makes the data hash unambiguous
/// (semantics §2.3).
pub(super) fn check_well_formed(block: &Block) -> Result<(), BlockError> {
    if block.entry_count() == 0 {
        return Err(BlockError::Empty);
    }
    let checked = block.check_well_formed();
    checked.map_err(|error| BlockError::NotWellFormed {
        index: error.index,
        source: error.source,
    })
}

#[cfg(test)]
mod tests {
    use block_api::{EnvelopeError, check_envelope};
    use proptest::prelude::*;
    use prost::Message;
    use protos::common::Envelope;

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
