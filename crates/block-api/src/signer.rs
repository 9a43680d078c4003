// SPDX-License-Identifier: Apache-2.0
//! The seam to whoever holds a private key.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::BoxError;

/// An identity of an organisation together with the means to sign as it.
///
/// The key may live in the process, in a hardware module or behind a network; an implementation
/// never shows key bytes in its `Debug` form.
#[async_trait]
pub trait Signer: Send + Sync + fmt::Debug {
    /// The serialized identity (`msp.SerializedIdentity`: MSP id and certificate) whose key signs.
    fn identity(&self) -> Bytes;

    /// Signs a message as Fabric does: ECDSA over its SHA-256 as a DER sequence with low S, or
    /// Ed25519 over the message itself.
    ///
    /// # Errors
    ///
    /// When the holder of the key cannot or will not sign.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the signature and nothing else.
    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError>;
}

/// The holder of a key did not sign.
#[derive(Debug, thiserror::Error)]
#[error("the signer did not sign: {source}")]
pub struct SignError {
    /// What it said.
    #[source]
    source: BoxError,
}

impl SignError {
    /// Wraps what the holder of the key said.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self {
            source: source.into(),
        }
    }
}
