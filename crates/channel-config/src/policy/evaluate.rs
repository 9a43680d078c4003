// SPDX-License-Identifier: Apache-2.0
//! One evaluation of a policy: who signed, and whether they really did.

use std::{cell::Cell, sync::Arc};

use tracing::debug;

use crate::{
    msp::{Identity, IdentityError, Msps, SerializedIdentity},
    policy::principal::Principal,
};

/// How many steps one evaluation may take, the policies behind an implicit meta policy included: a
/// step is a rule that is asked, a look at an identity, or a comparison of so many bytes. Ten
/// thousand rules that look at 256 identities each take fewer.
pub(super) const MAX_STEPS: usize = 1 << 22;

/// How many bytes are compared in one step.
const BYTES_PER_STEP: usize = 256;

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
    steps: Steps,
}

/// What an evaluation may still do. When nothing is left, nothing more is satisfied.
#[derive(Debug)]
pub(super) struct Steps(Cell<Option<usize>>);

/// Which identities were used, and in which order, so that a rule that fails gives its own back.
#[derive(Debug)]
pub(super) struct Used {
    is_used: Vec<bool>,
    order: Vec<usize>,
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
    /// Leaves out the signatures of identities that the channel does not know, and logs why
    /// (POL-05).
    pub(crate) fn new(signed: &[SignedData<'a>], msps: &Msps) -> Self {
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(signed.len());
        for data in signed {
            let identity = match data.identity(msps) {
                Ok(identity) => identity,
                Err(error) => {
                    debug!(%error, "the signature of an unknown identity does not count");
                    continue;
                }
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
        Self {
            entries,
            steps: Steps(Cell::new(Some(MAX_STEPS))),
        }
    }

    pub(super) fn steps(&self) -> &Steps {
        &self.steps
    }

    /// No identity is used yet.
    pub(super) fn nobody_used(&self) -> Used {
        Used {
            is_used: vec![false; self.entries.len()],
            order: Vec::new(),
        }
    }

    /// Finds the first identity that is not used yet, satisfies the principal and has a genuine
    /// signature, and uses it. An identity is used at the place of its first entry, so that it
    /// counts once whatever stands in between (semantics §2.5).
    pub(super) fn use_signature(&self, principal: &Principal, used: &mut Used) -> bool {
        for entry in &self.entries {
            if !self.steps.take(1) {
                return false;
            }
            let is_used = used.is_used.get(entry.first).copied().unwrap_or(true);
            if !is_used
                && principal.is_satisfied_by(&entry.identity, &self.steps)
                && entry.is_genuine()
            {
                if let Some(slot) = used.is_used.get_mut(entry.first) {
                    *slot = true;
                }
                used.order.push(entry.first);
                return true;
            }
        }
        false
    }
}

impl Steps {
    /// Takes so many steps; `false` when they are not left, and from then on.
    pub(super) fn take(&self, count: usize) -> bool {
        let left = self.0.get().and_then(|left| left.checked_sub(count));
        self.0.set(left);
        left.is_some()
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> Option<usize> {
        self.0.get()
    }

    /// Whether the evaluation stayed within its bound.
    pub(super) fn sufficed(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether two strings of bytes are the same; long ones take more steps.
    pub(super) fn same(&self, one: &[u8], other: &[u8]) -> bool {
        one.len() == other.len() && self.take(one.len() / BYTES_PER_STEP) && one == other
    }
}

impl Used {
    /// How many are used.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// Gives back all but so many that were used first.
    pub(super) fn give_back_to(&mut self, count: usize) {
        for first in self.order.drain(count..) {
            if let Some(slot) = self.is_used.get_mut(first) {
                *slot = false;
            }
        }
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
