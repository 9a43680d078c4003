// SPDX-License-Identifier: Apache-2.0
//! The bytes of the proof of membership, and those that are signed.

use bytes::Bytes;
use libp2p::PeerId;

/// The version that this release writes, and the only one it reads.
pub(super) const VERSION: u8 = 1;

/// How many bytes the random part of a greeting has.
pub(super) const NONCE: usize = 32;

/// The longest payload of a frame.
pub(super) const MAX_FRAME: usize = 32 * 1024;

/// What is signed begins with it.
const DOMAIN: &[u8] = b"\0blockcast member 1\0";

/// What keeps the signatures of two connections apart.
pub(super) type Nonce = [u8; NONCE];

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Dialer = 1,
    Listener = 2,
}

/// The first word of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) network: String,
    pub(super) nonce: Nonce,
}

/// An identity, and what its holder signed for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The bytes of a `msp.SerializedIdentity`.
    pub(crate) identity: Bytes,
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Bytes,
}

/// A frame of the proof that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it speaks version {0} of the proof of membership, and this node {VERSION}")]
    Version(u8),
    #[error("its greeting is malformed")]
    Hello,
    #[error("its proof is malformed")]
    Proof,
}

impl Hello {
    /// The name of a network has at most 255 bytes: the configuration is checked for that.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_short(&mut out, self.network.as_bytes());
        out.extend_from_slice(&self.nonce);
        out
    }

    pub(super) fn parse(payload: &[u8]) -> Result<Self, Unreadable> {
        let (version, rest) = payload.split_first().ok_or(Unreadable::Hello)?;
        if *version != VERSION {
            return Err(Unreadable::Version(*version));
        }
        let hello = || {
            let (length, rest) = rest.split_first()?;
            let (network, nonce) = rest.split_at_checked(usize::from(*length))?;
            Some(Self {
                network: str::from_utf8(network).ok()?.to_owned(),
                nonce: nonce.try_into().ok()?,
            })
        };
        hello().ok_or(Unreadable::Hello)
    }
}

/// The payload of a proof.
pub(super) fn encode_proof(identity: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for part in [identity, signature] {
        out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        out.extend_from_slice(part);
    }
    (out.len() <= MAX_FRAME).then_some(out)
}

/// The identity and the signature of a proof.
pub(super) fn parse_proof(payload: Vec<u8>) -> Result<(Bytes, Bytes), Unreadable> {
    let mut rest = Bytes::from(payload);
    let mut part = || {
        let length = u32::from_be_bytes(*rest.first_chunk()?);
        let end = usize::try_from(length).ok()?.checked_add(4)?;
        if end > rest.len() {
            return None;
        }
        let part = rest.split_to(end).split_off(4);
        (!part.is_empty()).then_some(part)
    };
    let (identity, signature) = (part(), part());
    match (identity, signature) {
        (Some(identity), Some(signature)) if rest.is_empty() => Ok((identity, signature)),
        _ => Err(Unreadable::Proof),
    }
}

/// What the node in this role signs for the other one.
pub(super) fn signed(
    role: Role,
    network: &str,
    (signer, nonce): (&PeerId, &Nonce),
    (other, other_nonce): (&PeerId, &Nonce),
) -> Vec<u8> {
    let mut out = [DOMAIN, &[role as u8]].concat();
    put_short(&mut out, network.as_bytes());
    put_short(&mut out, &signer.to_bytes());
    put_short(&mut out, &other.to_bytes());
    out.extend_from_slice(nonce);
    out.extend_from_slice(other_nonce);
    out
}

/// What a fuzzer calls.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fuzz(data: &[u8]) {
    drop(Hello::parse(data));
    drop(parse_proof(data.to_vec()));
}

/// Ids of nodes and names of networks have fewer than 256 bytes.
fn put_short(out: &mut Vec<u8>, part: &[u8]) {
    let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(part.iter().take(usize::from(length)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Keypair;

    #[test]
    fn what_is_signed_binds_everything_and_looks_like_nothing_of_fabric() {
        let [a, b] = [1, 2].map(|seed| Keypair::from_seed([seed; 32]).peer_id());
        let (x, y) = ([1; NONCE], [2; NONCE]);
        let good = signed(Role::Dialer, "net", (&a, &x), (&b, &y));
        // The tag of the first field of a protobuf message is never zero.
        assert!(good.starts_with(b"\0blockcast member 1\0\x01\x03net"));
        assert_eq!(good.len(), 20 + 1 + 4 + 2 * (1 + a.to_bytes().len()) + 64);
        let others = [
            signed(Role::Listener, "net", (&a, &x), (&b, &y)),
            signed(Role::Dialer, "net2", (&a, &x), (&b, &y)),
            signed(Role::Dialer, "net", (&b, &x), (&a, &y)),
            signed(Role::Dialer, "net", (&a, &y), (&b, &x)),
            signed(Role::Dialer, "net", (&a, &x), (&b, &x)),
            signed(Role::Dialer, "net", (&a, &y), (&b, &y)),
        ];
        assert!(others.iter().all(|other| *other != good));
    }

    #[test]
    fn what_is_no_frame_of_the_proof_is_refused() {
        let hello = Hello {
            network: "net".to_owned(),
            nonce: [7; NONCE],
        };
        let bytes = hello.encode();
        assert_eq!(Hello::parse(&bytes), Ok(hello));
        for end in 0..bytes.len() {
            assert_eq!(Hello::parse(&bytes[..end]), Err(Unreadable::Hello), "{end}");
        }
        let mut newer = bytes.clone();
        newer[0] = 2;
        assert_eq!(Hello::parse(&newer), Err(Unreadable::Version(2)));
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Hello::parse(&longer), Err(Unreadable::Hello));

        let proof = encode_proof(b"who", b"so signed").unwrap();
        let parts = (Bytes::from_static(b"who"), Bytes::from_static(b"so signed"));
        assert_eq!(parse_proof(proof.clone()), Ok(parts));
        for end in 0..proof.len() {
            assert_eq!(parse_proof(proof[..end].to_vec()), Err(Unreadable::Proof));
        }
        let empty = encode_proof(b"", b"so signed").unwrap();
        assert_eq!(parse_proof(empty), Err(Unreadable::Proof));
        let claims = [&[0xff; 4][..], b"who"].concat();
        assert_eq!(parse_proof(claims), Err(Unreadable::Proof));
        assert_eq!(encode_proof(&[0; MAX_FRAME], b"x"), None, "too long");
    }

    proptest! {
        #[test]
        fn frames_come_back(
            network in "[a-zé]{0,40}", nonce: [u8; NONCE],
            identity in proptest::collection::vec(any::<u8>(), 1..300),
            signature in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let hello = Hello { network, nonce };
            prop_assert_eq!(Hello::parse(&hello.encode()), Ok(hello));
            let proof = encode_proof(&identity, &signature).unwrap();
            prop_assert_eq!(parse_proof(proof), Ok((identity.into(), signature.into())));
        }

        #[test]
        fn no_bytes_make_a_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&data);
        }
    }
}
