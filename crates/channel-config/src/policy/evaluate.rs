// SPDX-License-Identifier: Apache-2.0
//! One evaluation of a policy: who signed, and whether they really did.

use std::{cell::Cell, sync::Arc};

use crate::{
    msp::{Identity, IdentityError, Msps, SerializedIdentity},
    policy::principal::Principal,
};

/// Something that was signed, by someone.
#[derive(Debug, Clone, Copy)]
pub struct SignedData<'a> {
    /// Who claims to have signed; `None` when the claim does not parse, so that nobody did.
    pub identity: Option<SerializedIdentity<'a>>,
    /// What was signed: these parts, one after the other.
    pub message: [&'a [u8]; 3],
    /// The signature.
    pub signature: &'a [u8],
}

/// The signatures that a policy is asked about. A signature is checked when it first matters, and
/// only once, however many policies ask.
#[derive(Debug)]
pub(crate) struct Evaluation<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    data: SignedData<'a>,
    identity: Arc<Identity>,
    /// Where the first entry of the same identity stands: an identity counts once.
    first: usize,
    is_genuine: Cell<Option<bool>>,
}

impl<'a> SignedData<'a> {
    /// Something that the holder of a marshalled identity signed.
    pub fn by(identity: &'a [u8], message: &'a [u8], signature: &'a [u8]) -> Self {
        Self {
            identity: SerializedIdentity::parse(identity).ok(),
            message: [message, &[], &[]],
            signature,
        }
    }

    /// The identity that claims to have signed.
    ///
    /// # Errors
    ///
    /// When the channel does not know it.
    pub fn identity(&self, msps: &Msps) -> Result<Arc<Identity>, IdentityError> {
        msps.identity_of(self.identity.ok_or(IdentityError::Malformed)?)
    }
}

impl<'a> Evaluation<'a> {
    /// Leaves out the signatures of identities that the channel does not know (POL-05).
    pub(crate) fn new(signed: &[SignedData<'a>], msps: &Msps) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(signed.len());
        for data in signed {
            let Ok(identity) = data.identity(msps) else {
                continue;
            };
            let first = entries
                .iter()
                .position(|earlier| earlier.identity.is_same(&identity));
            let first = first.unwrap_or(entries.len());
            entries.push(Entry {
                data: *data,
                identity,
                first,
                is_genuine: Cell::new(None),
            });
        }
        Self { entries }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Finds the first identity that is not used yet, satisfies the principal and has a genuine
    /// signature, and uses it. An identity is used at the place of its first entry, so that it
    /// counts once whatever stands in between (semantics §2.5).
    pub(super) fn use_signature(&self, principal: &Principal, used: &mut [bool]) -> bool {
        for entry in &self.entries {
            let is_used = used.get(entry.first).copied().unwrap_or(true);
            if !is_used && principal.is_satisfied_by(&entry.identity) && entry.is_genuine() {
                if let Some(slot) = used.get_mut(entry.first) {
                    *slot = true;
                }
                return true;
            }
        }
        false
    }
}

impl Entry<'_> {
    fn is_genuine(&self) -> bool {
        self.is_genuine.get().unwrap_or_else(|| {
            let genuine = self
                .identity
                .verify(&self.data.message, self.data.signature)
                .is_ok();
            self.is_genuine.set(Some(genuine));
            genuine
        })
    }
}
