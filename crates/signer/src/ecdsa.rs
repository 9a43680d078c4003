// SPDX-License-Identifier: Apache-2.0
//! The signer for ECDSA on P-256, by aws-lc-rs.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair as _},
};
use block_api::{SignError, Signer};
use bytes::Bytes;

use crate::{Identity, KeyError, KeyType, key::PrivateKey, low_s};

/// Signs with ECDSA on P-256 over the SHA-256 of the message, always with low S: Fabric refuses the
/// other half of the signatures (semantics §2.6).
pub struct EcdsaP256Signer {
    identity: Identity,
    key: EcdsaKeyPair,
}

impl EcdsaP256Signer {
    /// A signer for an identity, from its private key in PKCS#8 or SEC1, as PEM or DER.
    ///
    /// # Errors
    ///
    /// When there is not exactly one such key, or it is not the certified one.
    pub fn new(identity: Identity, key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::with_key(identity, PrivateKey::parse(key.as_ref())?)
    }

    pub(crate) fn with_key(identity: Identity, key: PrivateKey) -> Result<Self, KeyError> {
        let expected = KeyType::EcdsaP256;
        match key {
            PrivateKey::EcdsaP256(key) => {
                identity.check_certifies(&expected, key.public_key().as_ref())?;
                Ok(Self { identity, key })
            }
            PrivateKey::Ed25519(_) => Err(KeyError::WrongKeyType {
                expected,
                found: KeyType::Ed25519,
            }),
        }
    }
}

#[async_trait]
impl Signer for EcdsaP256Signer {
    fn identity(&self) -> Bytes {
        self.identity.serialized()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        let signature = self
            .key
            .sign(&SystemRandom::new(), message)
            .map_err(SignError::new)?;
        let der = low_s::der_with_low_s(signature.as_ref())
            .ok_or_else(|| SignError::new("the signature is not 64 bytes long"))?;
        Ok(der.into())
    }
}

/// Shows whose signer it is and nothing of the key.
impl fmt::Debug for EcdsaP256Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcdsaP256Signer")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    /// Semantics §2.6. The chance that this many signatures are low by themselves is 2^-256.
    #[tokio::test]
    async fn every_signature_is_low_and_verifies() {
        let identity = Identity::new("Org1MSP", include_str!("../tests/data/p256.crt")).unwrap();
        let public_key = identity.public_key().to_vec();
        let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key);
        let signer =
            EcdsaP256Signer::new(identity, include_str!("../tests/data/p256_sec1.key")).unwrap();
        for message in 0..=255_u8 {
            let signature = signer.sign(&[message]).await.unwrap();
            assert!(
                low_s::tests::is_minimal_with_low_s(&signature),
                "{}",
                hex::encode(&signature)
            );
            public_key.verify(&[message], &signature).unwrap();
        }
    }
}
