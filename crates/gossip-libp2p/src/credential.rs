// SPDX-License-Identifier: Apache-2.0
//! The certificate of a node, by which it is known again under another node id: a key of libp2p costs
//! nothing, an enrolment does.

use block_api::wire::{Fields, Value};
use sha2::{Digest, Sha256};

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// A hash of a certificate. How it is wrapped makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Credential([u8; 32]);

impl Credential {
    /// The credential of a `msp.SerializedIdentity` that was proven; of other bytes, these themselves.
    pub(crate) fn of(identity: &[u8]) -> Self {
        let certificate = last_bytes(identity, 2).unwrap_or(identity);
        // The base64 of a PEM block without its lines, so that neither they nor what stands around
        // them make another one of it.
        let body = find(certificate, BEGIN).and_then(|(_, rest)| find(rest, END));
        let body = body.map_or(certificate, |(body, _)| body);
        let letters = body
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace());
        Self(Sha256::digest(letters.collect::<Vec<u8>>()).into())
    }
}

/// The field of this number; of several the last one, which is what a parser of protobuf takes.
fn last_bytes(message: &[u8], number: u32) -> Option<&[u8]> {
    let fields = Fields::new(message).map_while(Result::ok);
    let bytes = fields.filter_map(|field| {
        if let Value::Bytes(bytes, _) = field.value
            && field.number == number
        {
            Some(bytes)
        } else {
            None
        }
    });
    bytes.last()
}

/// What is before and after the first place of a mark.
fn find<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))
}

#[cfg(test)]
mod tests {
    use block_api::wire::put_bytes;
    use proptest::prelude::*;

    use super::*;

    fn identity(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut identity = Vec::new();
        for (number, bytes) in fields {
            put_bytes(&mut identity, *number, bytes);
        }
        identity
    }

    #[test]
    fn a_certificate_is_known_however_it_is_wrapped() {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";
        let other = b"words\n-----BEGIN CERTIFICATE-----\r\nAA AABB\nBB-----END CERTIFICATE-----";
        let known = Credential::of(&identity(&[(1, b"Org1MSP"), (2, pem)]));
        for same in [
            identity(&[(2, pem), (1, b"Org1MSP")]),
            identity(&[(2, b"another one"), (1, b"Org1MSP"), (2, pem), (9, b"more")]),
            identity(&[(1, b"Org1MSP"), (2, other)]),
        ] {
            assert_eq!(Credential::of(&same), known);
        }
        let last = identity(&[(1, b"Org1MSP"), (2, pem), (2, b"another one")]);
        assert_ne!(Credential::of(&last), known);
        assert_ne!(Credential::of(b"no message"), Credential::of(b"none"));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_credential(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Credential::of(&bytes), Credential::of(&bytes));
        }
    }
}
