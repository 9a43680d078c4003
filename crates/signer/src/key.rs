// SPDX-License-Identifier: Apache-2.0
//! Private keys in the forms that Fabric's tools and OpenSSL write them.

use std::fmt;

use aws_lc_rs::{
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    },
};
use block_api::BoxError;
use ed25519_dalek::{SigningKey, pkcs8::PrivateKeyInfoRef};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

const OID_RSA: &str = "1.2.840.113549.1.1.1";
const OID_EC: &str = "1.2.840.10045.2.1";
const OID_ED25519: &str = "1.3.101.112";
const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_P521: &str = "1.3.132.0.35";

/// What begins a section of a PEM file.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// The marks of an encrypted key: the label of PKCS#8, and the header of the older form.
const PEM_ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY",
    b"Proc-Type: 4,ENCRYPTED",
];

/// What kind of key signs, or is certified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyType {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve P-256.
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// ECDSA on the curve P-521.
    EcdsaP521,
    /// ECDSA on another curve, or on one that is not named.
    EcdsaOther,
    /// RSA.
    Rsa,
    /// An algorithm that is known by its object identifier only.
    Other {
        /// The identifier, with dots.
        oid: String,
    },
}

/// Why a private key cannot sign for an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no private key in what was given.
    #[error(
        "there is no private key in it: give a PEM section PRIVATE KEY (PKCS#8) or EC PRIVATE KEY (SEC1), or DER"
    )]
    NoKey,
    /// There are several.
    #[error("there are {count} private keys in it: give one")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// The key needs a passphrase.
    #[error(
        "the private key is encrypted: decrypt it first, as with `openssl pkey -in FILE -out PLAIN_FILE`"
    )]
    Encrypted,
    /// The bytes are no key.
    #[error("the private key does not parse: {source}")]
    Malformed {
        /// What is wrong with them.
        source: BoxError,
    },
    /// The private key is of a kind that no signer here has.
    #[error(
        "{found} private keys are not supported: use ECDSA on P-256 or Ed25519, or bring a signer of your own"
    )]
    UnsupportedKey {
        /// Its kind.
        found: KeyType,
    },
    /// The certificate is of a kind that no signer here has.
    #[error(
        "{found} certificates are not supported: use ECDSA on P-256 or Ed25519, or bring a signer of your own"
    )]
    UnsupportedCertificate {
        /// Its kind.
        found: KeyType,
    },
    /// The private key is not of the kind that this signer signs with.
    #[error("the private key is {found}, but the signer is for {expected}")]
    WrongKeyType {
        /// What the signer signs with.
        expected: KeyType,
        /// What the key is.
        found: KeyType,
    },
    /// Private key and certificate are not of one pair.
    #[error("the private key does not belong to the certificate: their public keys differ")]
    Mismatch,
}

/// A private key that one of the signers here can sign with.
pub(crate) enum PrivateKey {
    Ed25519(SigningKey),
    EcdsaP256(EcdsaKeyPair),
}

impl KeyType {
    /// The kind that an algorithm, and for ECDSA its curve, stand for.
    pub(crate) fn of(algorithm: &str, curve: Option<&str>) -> Self {
        match (algorithm, curve) {
            (OID_ED25519, _) => Self::Ed25519,
            (OID_EC, Some(OID_P256)) => Self::EcdsaP256,
            (OID_EC, Some(OID_P384)) => Self::EcdsaP384,
            (OID_EC, Some(OID_P521)) => Self::EcdsaP521,
            (OID_EC, _) => Self::EcdsaOther,
            (OID_RSA, _) => Self::Rsa,
            (oid, _) => Self::Other {
                oid: oid.to_owned(),
            },
        }
    }

    /// Whether a signer here signs with keys of this kind.
    pub(crate) fn is_supported(&self) -> bool {
        matches!(self, Self::Ed25519 | Self::EcdsaP256)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::EcdsaP384 => f.write_str("ECDSA P-384"),
            Self::EcdsaP521 => f.write_str("ECDSA P-521"),
            Self::EcdsaOther => f.write_str("ECDSA (other curve)"),
            Self::Rsa => f.write_str("RSA"),
            Self::Other { oid } => write!(f, "algorithm {oid}"),
        }
    }
}

impl PrivateKey {
    /// Reads one key, PEM or DER, PKCS#8 or SEC1. What a PEM label says does not count: as in
    /// Fabric, the bytes decide.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        if !contains(bytes, PEM_BEGIN) {
            return if bytes.is_empty() {
                Err(KeyError::NoKey)
            } else {
                Self::from_der(bytes)
            };
        }
        if PEM_ENCRYPTED.iter().any(|mark| contains(bytes, mark)) {
            return Err(KeyError::Encrypted);
        }
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
            let (kind, der) = section.map_err(|source| KeyError::Malformed {
                source: source.into(),
            })?;
            let der = Zeroizing::new(der);
            // Anything else is company: `openssl ecparam -genkey` puts the curve in front of the key.
            if matches!(
                kind,
                SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey
            ) {
                keys.push(der);
            }
        }
        match keys.as_slice() {
            [] => Err(KeyError::NoKey),
            [key] => Self::from_der(key),
            several => Err(KeyError::SeveralKeys {
                count: several.len(),
            }),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |source: BoxError| KeyError::Malformed { source };
        let Ok(info) = PrivateKeyInfoRef::try_from(der) else {
            return Self::from_older_der(der);
        };
        let curve = info
            .algorithm
            .parameters_oid()
            .ok()
            .map(|oid| oid.to_string());
        match KeyType::of(&info.algorithm.oid.to_string(), curve.as_deref()) {
            KeyType::Ed25519 => SigningKey::try_from(info)
                .map(Self::Ed25519)
                .map_err(|error| malformed(error.to_string().into())),
            KeyType::EcdsaP256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                .map(Self::EcdsaP256)
                .map_err(|error| malformed(error.into())),
            found @ (KeyType::EcdsaP384
            | KeyType::EcdsaP521
            | KeyType::EcdsaOther
            | KeyType::Rsa
            | KeyType::Other { .. }) => Err(KeyError::UnsupportedKey { found }),
        }
    }

    /// Reads a key that is not PKCS#8: SEC1, or one that only gets a name.
    fn from_older_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Ok(Self::EcdsaP256(key));
        }
        let is_on = |curve| EcdsaKeyPair::from_private_key_der(curve, der).is_ok();
        let found = if is_on(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            KeyType::EcdsaP384
        } else if is_on(&ECDSA_P521_SHA512_ASN1_SIGNING) {
            KeyType::EcdsaP521
        } else if rsa::KeyPair::from_der(der).is_ok() {
            KeyType::Rsa
        } else {
            return Err(KeyError::Malformed {
                source: "it is neither PKCS#8 nor SEC1".into(),
            });
        };
        Err(KeyError::UnsupportedKey { found })
    }

    pub(crate) fn key_type(&self) -> KeyType {
        match self {
            Self::Ed25519(_) => KeyType::Ed25519,
            Self::EcdsaP256(_) => KeyType::EcdsaP256,
        }
    }
}

/// Names the kind and shows nothing else.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.key_type())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{EcdsaP256Signer, Ed25519Signer, Identity};

    const ED25519_KEY: &str = include_str!("../tests/data/ed25519.key");
    const ED25519_CERTIFICATE: &str = include_str!("../tests/data/ed25519.crt");
    const P256_KEY: &str = include_str!("../tests/data/p256_sec1.key");
    const P256_CERTIFICATE: &str = include_str!("../tests/data/p256.crt");

    fn identity(certificate: &str) -> Identity {
        Identity::new("Org1MSP", certificate).unwrap()
    }

    #[test]
    fn signers_take_the_certified_key_alone() {
        let (ed25519, p256) = (identity(ED25519_CERTIFICATE), identity(P256_CERTIFICATE));
        let other_ed25519 = SigningKey::from_bytes(&[7; 32]);
        let other_ed25519 =
            ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&other_ed25519).unwrap();
        let other_p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .unwrap()
            .to_pkcs8v1()
            .unwrap();

        Ed25519Signer::new(ed25519.clone(), ED25519_KEY).unwrap();
        EcdsaP256Signer::new(p256.clone(), P256_KEY).unwrap();
        let rows = [
            (
                Ed25519Signer::new(ed25519.clone(), other_ed25519.as_bytes()).unwrap_err(),
                "does not belong",
            ),
            (
                Ed25519Signer::new(p256.clone(), ED25519_KEY).unwrap_err(),
                "does not belong",
            ),
            (
                Ed25519Signer::new(ed25519.clone(), P256_KEY).unwrap_err(),
                "is ECDSA P-256, but the signer is for Ed25519",
            ),
            (
                EcdsaP256Signer::new(p256.clone(), &other_p256).unwrap_err(),
                "does not belong",
            ),
            (
                EcdsaP256Signer::new(ed25519, P256_KEY).unwrap_err(),
                "does not belong",
            ),
            (
                EcdsaP256Signer::new(p256, ED25519_KEY).unwrap_err(),
                "is Ed25519, but the signer is for ECDSA P-256",
            ),
        ];
        for (error, words) in rows {
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_key_bytes() {
        let ed25519 = Ed25519Signer::new(identity(ED25519_CERTIFICATE), ED25519_KEY).unwrap();
        let p256 = EcdsaP256Signer::new(identity(P256_CERTIFICATE), P256_KEY).unwrap();
        // Where the secret stands in the DER of the two files.
        for (shown, key, secret) in [
            (format!("{ed25519:?} {ed25519:#?}"), ED25519_KEY, 16..48),
            (
                format!("{:?}", PrivateKey::parse(ED25519_KEY.as_bytes()).unwrap()),
                ED25519_KEY,
                16..48,
            ),
            (format!("{p256:?} {p256:#?}"), P256_KEY, 7..39),
            (
                format!("{:?}", PrivateKey::parse(P256_KEY.as_bytes()).unwrap()),
                P256_KEY,
                7..39,
            ),
        ] {
            let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(key.as_bytes()).unwrap();
            let lines: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
            for part in der[secret].chunks(4) {
                let list = format!("{part:?}");
                for form in [
                    hex::encode(part),
                    hex::encode_upper(part),
                    list.trim_matches(['[', ']']).to_owned(),
                ] {
                    assert!(!shown.contains(&form), "{shown} has {form}");
                }
            }
            assert!(lines.iter().all(|line| !shown.contains(line)), "{shown}");
        }
        let shown = format!("{p256:?}");
        assert!(
            shown.contains("Org1MSP") && shown.contains("ECDSA P-256"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn mutated_keys_do_not_panic(
            ed25519: bool,
            mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
            as_der: bool,
        ) {
            let pem = if ed25519 { ED25519_KEY } else { P256_KEY };
            let mut bytes = if as_der {
                <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).unwrap().1
            } else {
                pem.as_bytes().to_vec()
            };
            for (index, byte) in mutations {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            let _ = PrivateKey::parse(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = PrivateKey::parse(&bytes);
        }

        #[test]
        fn arbitrary_bytes_are_no_key(bytes: Vec<u8>) {
            prop_assert!(PrivateKey::parse(&bytes).is_err());
        }

        #[test]
        fn every_ed25519_key_reads_back(secret: [u8; 32]) {
            let key = SigningKey::from_bytes(&secret);
            let der = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).unwrap();
            let PrivateKey::Ed25519(read) = PrivateKey::parse(der.as_bytes()).unwrap() else {
                panic!("another kind");
            };
            prop_assert_eq!(read.as_bytes(), &secret);
        }
    }
}
