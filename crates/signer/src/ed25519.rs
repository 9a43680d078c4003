// SPDX-License-Identifier: Apache-2.0
//! The signer for Ed25519, by ed25519-dalek.

use std::fmt;

use async_trait::async_trait;
use block_api::{SignError, Signer};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::{Identity, KeyError, KeyType, key::PrivateKey};

/// Signs with Ed25519 over the message itself, which Fabric accepts on channels with the capability
/// V3_0 (semantics §2.6).
pub struct Ed25519Signer {
    identity: Identity,
    // It wipes its bytes when it is dropped.
    key: SigningKey,
}

impl Ed25519Signer {
    /// A signer for an identity, from its private key in PKCS#8, as PEM or DER.
    ///
    /// # Errors
    ///
    /// When there is not exactly one such key, or it is not the certified one.
    pub fn new(identity: Identity, key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::with_key(identity, PrivateKey::parse(key.as_ref())?)
    }

    pub(crate) fn with_key(identity: Identity, key: PrivateKey) -> Result<Self, KeyError> {
        let expected = KeyType::Ed25519;
        match key {
            PrivateKey::Ed25519(key) => {
                identity.check_certifies(&expected, key.verifying_key().as_bytes())?;
                Ok(Self { identity, key })
            }
            PrivateKey::EcdsaP256(_) => Err(KeyError::WrongKeyType {
                expected,
                found: KeyType::EcdsaP256,
            }),
        }
    }
}

#[async_trait]
impl Signer for Ed25519Signer {
    fn identity(&self) -> Bytes {
        self.identity.serialized()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        let signature = self.key.try_sign(message).map_err(SignError::new)?;
        Ok(Bytes::copy_from_slice(&signature.to_bytes()))
    }
}

/// Shows whose signer it is and nothing of the key.
impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ed25519Signer")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}
