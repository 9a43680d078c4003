// SPDX-License-Identifier: Apache-2.0
//! Public keys, and what Fabric accepts as their signatures.

use std::fmt;

use aws_lc_rs::{
    digest::{Context, Digest, SHA3_256, SHA256},
    signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm},
};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::{der::EcdsaSignature, recent::recently};

/// The object identifier of P-224, the one curve of Go's that is not supported here.
pub(crate) const OID_P224: &str = "1.3.132.0.33";

const OID_EC_KEY: &str = "1.2.840.10045.2.1";
const OID_RSA_KEY: &str = "1.2.840.113549.1.1.1";
const OID_ED25519: &str = "1.3.101.112";

const P256_ORDER: [u8; 32] =
    from_hex(b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
const P384_ORDER: [u8; 48] = from_hex(
    b"ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
);
const P521_ORDER: [u8; 66] = from_hex(
    b"01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
);
const P256_HALF: [u8; 32] = half(P256_ORDER);
const P384_HALF: [u8; 48] = half(P384_ORDER);
/// The half of an order that begins with a one begins with a zero, which is not kept.
const P521_HALF: [u8; 65] = without_first(half(P521_ORDER));

/// Why a signature is not that of a key over a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The bytes are no signature.
    #[error("the signature is no DER sequence of two integers above zero")]
    Malformed,
    /// The signature is valid in mathematics, but Fabric takes only the one with the lower S.
    #[error("the signature has a high S")]
    HighS,
    /// The key did not make it over this message.
    #[error("the signature is not one of this key over this message")]
    Wrong,
    /// The MSP says that signatures are over a hash that nobody knows, so none is genuine.
    #[error("the hash that the MSP names for signatures is unknown")]
    UnknownHash,
}

/// A key that this crate has no use for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An algorithm other than ECDSA, Ed25519 and RSA.
    #[error("public keys of the algorithm {oid} are not supported")]
    Algorithm {
        /// Its object identifier.
        oid: String,
    },
    /// A curve other than P-256, P-384 and P-521.
    #[error("the curve {oid} is not supported: use P-256, P-384 or P-521")]
    Curve {
        /// Its object identifier; empty when there is none.
        oid: String,
    },
    /// The bytes are no key of that algorithm.
    #[error("the public key does not parse")]
    Malformed,
}

/// The curves on which signatures are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

/// The hash that identities sign, whatever the curve (semantics §2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureHash {
    Sha256,
    Sha3,
    /// Fabric takes an MSP that names another one, and then no signature of its identities.
    Unknown,
}

/// The algorithms that certificate authorities sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    RsaSha256,
    RsaSha384,
    RsaSha512,
    Ed25519,
    /// One that Fabric does not accept, or that is not supported here.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ecdsa(Curve),
    Ed25519,
    Rsa,
}

/// A public key as certificates carry it.
#[derive(Clone)]
pub(crate) struct PublicKey {
    kind: Kind,
    bytes: Box<[u8]>,
    /// The key made ready for the signatures of identities; an RSA key makes none.
    identity: Option<ParsedPublicKey>,
}

impl Curve {
    /// The order of the curve, big-endian.
    pub(crate) fn order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_ORDER,
            Self::P384 => &P384_ORDER,
            Self::P521 => &P521_ORDER,
        }
    }

    /// Half the order, rounded down, without leading zeros.
    pub(crate) fn half_order(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_HALF,
            Self::P384 => &P384_HALF,
            Self::P521 => &P521_HALF,
        }
    }

    /// The algorithm for digests of 32 bytes, which those of SHA3-256 are, too.
    fn with_sha256(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            Self::P521 => &signature::ECDSA_P521_SHA256_ASN1,
        }
    }
}

impl SignatureHash {
    /// The digest over the parts of a message, one after the other.
    fn digest(self, message: &[&[u8]]) -> Result<Digest, SignatureError> {
        let mut hash = Context::new(match self {
            Self::Sha256 => &SHA256,
            Self::Sha3 => &SHA3_256,
            Self::Unknown => return Err(SignatureError::UnknownHash),
        });
        for part in message {
            hash.update(part);
        }
        let digest = hash.finish();
        match self {
            // The library ties each curve to hashes of its choice. Only the length matters.
            Self::Sha3 => Digest::import_less_safe(digest.as_ref(), &SHA256)
                .map_err(|_| SignatureError::UnknownHash),
            Self::Sha256 | Self::Unknown => Ok(digest),
        }
    }
}

impl SignatureAlgorithm {
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Self {
        match identifier.algorithm.to_id_string().as_str() {
            "1.2.840.10045.4.3.2" => Self::EcdsaSha256,
            "1.2.840.10045.4.3.3" => Self::EcdsaSha384,
            "1.2.840.10045.4.3.4" => Self::EcdsaSha512,
            "1.2.840.113549.1.1.11" => Self::RsaSha256,
            "1.2.840.113549.1.1.12" => Self::RsaSha384,
            "1.2.840.113549.1.1.13" => Self::RsaSha512,
            OID_ED25519 => Self::Ed25519,
            _ => Self::Other,
        }
    }

    pub(crate) fn is_ecdsa(self) -> bool {
        matches!(
            self,
            Self::EcdsaSha256 | Self::EcdsaSha384 | Self::EcdsaSha512
        )
    }
}

impl PublicKey {
    pub(crate) fn parse(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let bytes = &*info.subject_public_key.data;
        let kind = match info.algorithm.algorithm.to_id_string().as_str() {
            OID_EC_KEY => {
                let curve = info
                    .algorithm
                    .parameters
                    .as_ref()
                    .and_then(|parameters| parameters.as_oid().ok());
                Kind::Ecdsa(
                    match curve
                        .map(|oid| oid.to_id_string())
                        .unwrap_or_default()
                        .as_str()
                    {
                        "1.2.840.10045.3.1.7" => Curve::P256,
                        "1.3.132.0.34" => Curve::P384,
                        "1.3.132.0.35" => Curve::P521,
                        oid => {
                            return Err(KeyError::Curve {
                                oid: oid.to_owned(),
                            });
                        }
                    },
                )
            }
            OID_ED25519 => Kind::Ed25519,
            OID_RSA_KEY => Kind::Rsa,
            oid => {
                return Err(KeyError::Algorithm {
                    oid: oid.to_owned(),
                });
            }
        };
        let algorithm: &'static dyn VerificationAlgorithm = match kind {
            Kind::Ecdsa(_) if bytes.first() != Some(&4) => return Err(KeyError::Malformed),
            Kind::Ecdsa(curve) => curve.with_sha256(),
            Kind::Ed25519 => &signature::ED25519,
            Kind::Rsa => {
                return Ok(Self {
                    kind,
                    bytes: bytes.into(),
                    identity: None,
                });
            }
        };
        let parsed = ParsedPublicKey::new(algorithm, bytes).map_err(|_| KeyError::Malformed)?;
        Ok(Self {
            kind,
            bytes: bytes.into(),
            identity: Some(parsed),
        })
    }

    /// The curve, for an ECDSA key.
    pub(crate) fn curve(&self) -> Option<Curve> {
        match self.kind {
            Kind::Ecdsa(curve) => Some(curve),
            Kind::Ed25519 | Kind::Rsa => None,
        }
    }

    pub(crate) fn is_ed25519(&self) -> bool {
        self.kind == Kind::Ed25519
    }

    /// Checks an identity's signature over the parts of a message, one after the other: ECDSA with
    /// low S over their hash, or Ed25519 over the parts themselves (semantics §2.6).
    pub(crate) fn verify(
        &self,
        hash: SignatureHash,
        message: &[&[u8]],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let key = self.identity.as_ref().ok_or(SignatureError::Wrong)?;
        let Kind::Ecdsa(curve) = self.kind else {
            if hash == SignatureHash::Unknown {
                return Err(SignatureError::UnknownHash);
            }
            return key
                .verify_sig(&message.concat(), signature)
                .map_err(|_| SignatureError::Wrong);
        };
        let parsed = EcdsaSignature::parse(signature).ok_or(SignatureError::Malformed)?;
        if !parsed.is_low_s(curve) {
            return Err(SignatureError::HighS);
        }
        let digest = hash.digest(message)?;
        let parts = [curve.order(), &self.bytes, digest.as_ref(), signature];
        let genuine = recently(&parts, || {
            let checked = parsed.with_der(|der| key.verify_digest_sig(&digest, der));
            checked.is_ok()
        });
        match genuine {
            true => Ok(()),
            false => Err(SignatureError::Wrong),
        }
    }

    /// Checks the signature of a certificate or a revocation list, where S may be high.
    pub(crate) fn signed(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        use aws_lc_rs::signature as s;
        let tag = [self.kind.tag(), algorithm as u8];
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, algorithm) {
            (Kind::Ecdsa(Curve::P256), SignatureAlgorithm::EcdsaSha256) => {
                &s::ECDSA_P256_SHA256_ASN1
            }
            (Kind::Ecdsa(Curve::P256), SignatureAlgorithm::EcdsaSha384) => {
                &s::ECDSA_P256_SHA384_ASN1
            }
            (Kind::Ecdsa(Curve::P256), SignatureAlgorithm::EcdsaSha512) => {
                &s::ECDSA_P256_SHA512_ASN1
            }
            (Kind::Ecdsa(Curve::P384), SignatureAlgorithm::EcdsaSha256) => {
                &s::ECDSA_P384_SHA256_ASN1
            }
            (Kind::Ecdsa(Curve::P384), SignatureAlgorithm::EcdsaSha384) => {
                &s::ECDSA_P384_SHA384_ASN1
            }
            (Kind::Ecdsa(Curve::P384), SignatureAlgorithm::EcdsaSha512) => {
                &s::ECDSA_P384_SHA512_ASN1
            }
            (Kind::Ecdsa(Curve::P521), SignatureAlgorithm::EcdsaSha256) => {
                &s::ECDSA_P521_SHA256_ASN1
            }
            (Kind::Ecdsa(Curve::P521), SignatureAlgorithm::EcdsaSha384) => {
                &s::ECDSA_P521_SHA384_ASN1
            }
            (Kind::Ecdsa(Curve::P521), SignatureAlgorithm::EcdsaSha512) => {
                &s::ECDSA_P521_SHA512_ASN1
            }
            (Kind::Rsa, SignatureAlgorithm::RsaSha256) => &s::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, SignatureAlgorithm::RsaSha384) => &s::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, SignatureAlgorithm::RsaSha512) => &s::RSA_PKCS1_2048_8192_SHA512,
            (Kind::Ed25519, SignatureAlgorithm::Ed25519) => &s::ED25519,
            _ => return false,
        };
        recently(&[&tag, &[], &self.bytes, message, signature], || {
            UnparsedPublicKey::new(algorithm, &*self.bytes)
                .verify(message, signature)
                .is_ok()
        })
    }
}

impl Kind {
    /// Tells the kinds of keys apart.
    fn tag(self) -> u8 {
        match self {
            Self::Ecdsa(curve) => curve as u8,
            Self::Ed25519 => 3,
            Self::Rsa => 4,
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.bytes) == (other.kind, &other.bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey")
            .field(&self.kind)
            .field(&hex::encode(&self.bytes))
            .finish()
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn from_hex<const N: usize>(text: &[u8]) -> [u8; N] {
    const fn digit(character: u8) -> u8 {
        match character {
            b'0'..=b'9' => character - b'0',
            _ => character - b'a' + 10,
        }
    }
    let mut bytes = [0; N];
    let mut index = 0;
    while index < N {
        bytes[index] = digit(text[2 * index]) << 4 | digit(text[2 * index + 1]);
        index += 1;
    }
    assert!(text.len() == 2 * N);
    bytes
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn half<const N: usize>(order: [u8; N]) -> [u8; N] {
    let mut out = [0; N];
    let mut index = 0;
    let mut carry = 0;
    while index < N {
        out[index] = carry << 7 | order[index] >> 1;
        carry = order[index] & 1;
        index += 1;
    }
    out
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn without_first<const N: usize, const M: usize>(bytes: [u8; N]) -> [u8; M] {
    assert!(N == M + 1 && bytes[0] == 0);
    let mut out = [0; M];
    let mut index = 0;
    while index < M {
        out[index] = bytes[index + 1];
        index += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    fn key(spki: &str) -> PublicKey {
        let spki = hex::decode(spki).unwrap();
        let (_, info) = SubjectPublicKeyInfo::from_der(&spki).unwrap();
        PublicKey::parse(&info).unwrap()
    }

    /// Signatures over SHA-256 by keys on the longer curves, made with OpenSSL.
    #[test]
    fn longer_curves_sign_sha256_too() {
        let p384 = key(
            "3076301006072a8648ce3d020106052b8104002203620004bef4a65287b487642837ca649ca610e9c5ec543800616b5e7e63baedfb\
             a68b8a1d92aad7643ef74a9569c318a01989995fc9b6e6d53519f374dcc0bab8af9ff6ee94af050d45f1ebada2239bec9b89bbbebf7\
             97785ebb0f70a153f5b37177a64",
        );
        let low = hex::decode(
            "3064023001153fe44e38a301291a6d57a8fba203370e77587a1af1003f0aedaaed192f4b0683af9fcccb627508ab45e672dd075b023\
             0577078eb8238af9eaed1c236b96b5a44ddb835ae0ffed4d53a9ac1e220cf8a1ed769097df604bcacfc7cbbe47c551933",
        )
        .unwrap();
        assert_eq!(
            p384.verify(SignatureHash::Sha256, &[b"a message"], &low),
            Ok(())
        );
        assert_eq!(
            p384.verify(SignatureHash::Sha256, &[b"a messagE"], &low),
            Err(SignatureError::Wrong)
        );
        let with_tail = [low.as_slice(), b"tail"].concat();
        assert_eq!(
            p384.verify(SignatureHash::Sha256, &[b"a message"], &with_tail),
            Ok(()),
            "Go ignores what comes after"
        );

        let p521 = key(
            "30819b301006072a8648ce3d020106052b810400230381860004009c10e00ca13a8e1a2fbc9019c6cfe29e444358a3e33acd56a5261\
             6330876be63bb99ad54c2ba9f0e3b23969cc0f0073263dd772faede0ed7e9e8f5239a4cc9113801b394ad9bfddfd81840cc675895e6\
             7a6b69f58acc3c9aff55bbc7d516a046113e314caa6a451cb6431ac575c75ed1e9905c3d68594de79124dab353d0f3904bacdf",
        );
        let high = hex::decode(
            "30818702412a21077c9aa3231eae26adeca94b9f608b343fad76c65cad94ea7bf20cf407a971d394f41040633ef49abb37b339ee90e\
             79517557a5f98f9a1bf67e393d53d25ed0242019037bddabdd6f9ef728de2521e3a40595fb57521ca52558d6d1006e07ccdf89c0195\
             3bfd2a3d122037b74e7e8e439b83c56dab8b5e99a80809c87f047aff31407d",
        )
        .unwrap();
        assert_eq!(
            p521.verify(SignatureHash::Sha256, &[b"a message"], &high),
            Err(SignatureError::HighS)
        );
        let low = EcdsaSignature::parse(&high)
            .unwrap()
            .to_low_s(Curve::P521)
            .unwrap();
        assert_eq!(
            p521.verify(SignatureHash::Sha256, &[b"a message"], &low),
            Ok(())
        );
    }

    /// A signature over SHA3-256, made with OpenSSL.
    #[test]
    fn signatures_may_be_over_sha3() {
        let key = key(
            "3059301306072a8648ce3d020106082a8648ce3d030107034200042a581fb031805f70739fa666e8aab1559b8c6935c9a3a1746e41\
             17dbb57cfa608ce33ce83035bba560c8431385976544c6541a904599e85c6ee00b51db51e8e8",
        );
        let signature = hex::decode(
            "304402205b71aa27035d560bd816125fb570505681cb4feaa97777acb1a2f02da9eb75cb0220474c25d92aeaabed1617c27c7b34cb\
             d614af12cf3ad1b5cb5b7b30985d161aca",
        )
        .unwrap();
        let verify = |hash, message: &[&[u8]]| key.verify(hash, message, &signature);
        assert_eq!(verify(SignatureHash::Sha3, &[b"a ", b"message"]), Ok(()));
        assert_eq!(
            verify(SignatureHash::Sha3, &[b"a messagE"]),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            verify(SignatureHash::Sha256, &[b"a message"]),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            verify(SignatureHash::Unknown, &[b"a message"]),
            Err(SignatureError::UnknownHash)
        );
    }

    #[test]
    fn half_orders_are_half_the_orders() {
        assert_eq!(
            hex::encode(P256_HALF),
            "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8"
        );
        assert_eq!(Curve::P521.half_order().first(), Some(&0xff));
        assert_eq!(Curve::P521.half_order().len(), 65);
    }
}
