// SPDX-License-Identifier: Apache-2.0
//! Whose an identity says that it is.

use block_api::wire::{Fields, Value};

/// An identity does not say whose it is, or says so twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ambiguous {
    #[error("no identity of an MSP")]
    Malformed,
    #[error("ambiguous: a field of it is there twice")]
    Repeated,
}

/// The MSP id of a `msp.SerializedIdentity`; `None` for bytes that name none, or two.
pub(crate) fn msp_id(identity: &[u8]) -> Option<String> {
    claim_of(identity).ok()
}

/// What an identity says whose it is. Protobuf takes the last of two that stand for one field, so
/// that who reads the first is told another story than who verifies: there must be one of each.
pub(super) fn claim_of(identity: &[u8]) -> Result<String, Ambiguous> {
    let (mut organisation, mut has_credential) = (None, false);
    for field in Fields::new(identity) {
        let field = field.map_err(|_| Ambiguous::Malformed)?;
        let is_second = match (field.number, field.value) {
            (1, Value::Bytes(name, _)) => {
                let name = str::from_utf8(name).map_err(|_| Ambiguous::Malformed)?;
                organisation.replace(name.to_owned()).is_some()
            }
            (2, Value::Bytes(..)) => std::mem::replace(&mut has_credential, true),
            _ => false,
        };
        if is_second {
            return Err(Ambiguous::Repeated);
        }
    }
    organisation.ok_or(Ambiguous::Malformed)
}
