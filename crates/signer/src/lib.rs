// SPDX-License-Identifier: Apache-2.0
//! Signers for Hyperledger Fabric identities and the envelopes they sign.
#![doc = include_str!("../README.md")]

mod ecdsa;
mod ed25519;
pub mod envelope;
mod identity;
mod key;
mod low_s;
mod msp_folder;

pub use block_api::{SignError, Signer};

pub use self::{
    ecdsa::EcdsaP256Signer,
    ed25519::Ed25519Signer,
    identity::{Identity, IdentityError},
    key::{KeyError, KeyType},
    msp_folder::{KeyFileError, MspFolderError, TriedKey, load_msp_folder},
};
