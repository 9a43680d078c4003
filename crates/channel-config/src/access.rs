// SPDX-License-Identifier: Apache-2.0
//! Who may read a channel, and who may write to it.

use std::time::SystemTime;

use block_api::{Readers, ReadersDenied};

use crate::{
    config::ConsensusState,
    msp::IdentityError,
    policy::SignedData,
    verifier::{ChannelVerifier, SharedHistory},
};

/// Judges who may read a channel or write to it, by the newest configuration of its verifier
/// (semantics §3.10, points 9 and 10).
#[derive(Debug, Clone)]
pub struct ChannelAccess {
    history: SharedHistory,
    right: Right,
    respects_maintenance: bool,
}

/// Why an identity has no right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The channel does not know the identity.
    #[error("the identity is not known in the channel: {0}")]
    Identity(#[from] IdentityError),
    /// The certificate of the identity expired.
    #[error("the certificate of {subject} expired")]
    Expired {
        /// Whose certificate.
        subject: String,
    },
    /// The identity does not satisfy the policy, or did not make the signature.
    #[error("{subject} does not satisfy {policy}, or did not make the signature")]
    Denied {
        /// Whose certificate.
        subject: String,
        /// The path of the policy.
        policy: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
enum Right {
    Read,
    Write,
}

impl ChannelAccess {
    /// The right by which orderers give blocks: `/Channel/Readers`.
    pub fn readers(verifier: &ChannelVerifier) -> Self {
        Self {
            history: verifier.history().clone(),
            right: Right::Read,
            respects_maintenance: false,
        }
    }

    /// The right by which orderers take transactions: `/Channel/Writers`.
    pub fn writers(verifier: &ChannelVerifier) -> Self {
        Self {
            right: Right::Write,
            ..Self::readers(verifier)
        }
    }

    /// The same, except that only orderers have the right while the channel is in maintenance, as
    /// an ordering service has it.
    #[must_use]
    pub fn respecting_maintenance(self) -> Self {
        Self {
            respects_maintenance: true,
            ..self
        }
    }

    /// Checks that the holder of a marshalled identity, who made `signature` over `message`, has
    /// the right at the time `now`.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn check(
        &self,
        identity: &[u8],
        message: &[u8],
        signature: &[u8],
        now: SystemTime,
    ) -> Result<(), AccessError> {
        let history = self.history.snapshot();
        let config = &history.newest().config;
        let known = config.msps().identity(identity)?;
        if now > known.not_after() {
            return Err(AccessError::Expired {
                subject: known.subject().to_owned(),
            });
        }
        let in_maintenance =
            self.respects_maintenance && config.orderer().state() == ConsensusState::Maintenance;
        let policy = match (self.right, in_maintenance) {
            (Right::Read, false) => "/Channel/Readers",
            (Right::Read, true) => "/Channel/Orderer/Readers",
            (Right::Write, false) => "/Channel/Writers",
            (Right::Write, true) => "/Channel/Orderer/Writers",
        };
        if config.satisfies(policy, &[SignedData::by(identity, message, signature)]) {
            return Ok(());
        }
        Err(AccessError::Denied {
            subject: known.subject().to_owned(),
            policy,
        })
    }
}

impl Readers for ChannelAccess {
    fn may_read(
        &self,
        identity: &[u8],
        message: &[u8],
        signature: &[u8],
        now: SystemTime,
    ) -> Result<(), ReadersDenied> {
        self.check(identity, message, signature, now)
            .map_err(ReadersDenied::new)
    }

    fn generation(&self) -> u64 {
        self.history.snapshot().applied()
    }

    /// The last second in which its certificate is valid.
    fn expires(&self, identity: &[u8]) -> Option<SystemTime> {
        let history = self.history.snapshot();
        let known = history.newest().config.msps().identity(identity).ok()?;
        Some(known.not_after())
    }
}

#[cfg(test)]
mod tests;
