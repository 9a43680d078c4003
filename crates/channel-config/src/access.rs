// SPDX-License-Identifier: Apache-2.0
//! Who may read a channel, and who may write to it.

use std::time::SystemTime;

use block_api::{Readers, ReadersDenied};

use crate::{
    config::{ChannelConfig, ConsensusState},
    msp::{IdentityError, SerializedIdentity},
    policy::{Evaluation, SignedData},
    verifier::{ChannelVerifier, SharedHistory},
};

/// The policy over those who read for applications.
const APPLICATION_READERS: &str = "/Channel/Application/Readers";

/// Judges who may read a channel or write to it, by the newest configuration of its verifier
/// (semantics §3.10, points 9 and 10).
#[derive(Debug, Clone)]
pub struct ChannelAccess {
    history: SharedHistory,
    right: Right,
    scope: ReaderScope,
    respects_maintenance: bool,
}

/// Who of those that may read a channel is meant: all, or fewer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReaderScope {
    /// Whoever satisfies `/Channel/Readers`, as orderers have it: their own organisations too, as a
    /// rule.
    #[default]
    Channel,
    /// Of those, whoever satisfies `/Channel/Application/Readers`, as Fabric's peers have it
    /// (semantics §4.6).
    Application,
    /// Of those, who is of one organisation and satisfies the policy `Readers` of its group in the
    /// channel, as Fabric's peers have it for blocks that are pushed (semantics §4.5).
    Organisation {
        /// The MSP id of the organisation. One that is not in the channel has no readers.
        msp_id: Box<str>,
    },
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
        policy: String,
    },
    /// The identity is of another organisation than the one that alone has the right.
    #[error("{subject} is of {found}, and only {organisation} has the right")]
    OtherOrganisation {
        /// Whose certificate.
        subject: String,
        /// The MSP id of its organisation.
        found: String,
        /// The MSP id of the organisation that has the right.
        organisation: String,
    },
}

#[derive(Debug, Clone, Copy)]
enum Right {
    Read,
    Write,
}

impl ReaderScope {
    /// Those of the organisation that a marshalled identity claims to be of, as a rule one's own.
    /// Bytes that are none belong to nobody, and so has nobody the right.
    pub fn organisation_of(identity: &[u8]) -> Self {
        let claimed = SerializedIdentity::parse(identity).map_or("", |parts| parts.msp_id);
        Self::Organisation {
            msp_id: claimed.into(),
        }
    }
}

impl ChannelAccess {
    /// The right by which orderers give blocks: `/Channel/Readers`.
    pub fn readers(verifier: &ChannelVerifier) -> Self {
        Self {
            history: verifier.history().clone(),
            right: Right::Read,
            scope: ReaderScope::Channel,
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

    /// The same, for those alone who are within this scope too.
    #[must_use]
    pub fn within(self, scope: ReaderScope) -> Self {
        Self { scope, ..self }
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
        let subject = || known.subject().to_owned();
        // One evaluation, so that the signature is checked once.
        let signed = [SignedData::by(identity, message, signature)];
        let evaluation = Evaluation::new(&signed, config.msps());
        let satisfies = |path: &str| {
            let policy = config.policy(path);
            policy.is_some_and(|policy| policy.is_satisfied(&evaluation))
        };
        let denied = |policy: &str| AccessError::Denied {
            subject: subject(),
            policy: policy.to_owned(),
        };
        if !satisfies(policy) {
            return Err(denied(policy));
        }
        match &self.scope {
            ReaderScope::Channel => Ok(()),
            ReaderScope::Application => match satisfies(APPLICATION_READERS) {
                true => Ok(()),
                false => Err(denied(APPLICATION_READERS)),
            },
            ReaderScope::Organisation { msp_id } if known.msp_id() != &**msp_id => {
                Err(AccessError::OtherOrganisation {
                    subject: subject(),
                    found: known.msp_id().to_owned(),
                    organisation: msp_id.to_string(),
                })
            }
            ReaderScope::Organisation { msp_id } => {
                let paths = readers_of(config, msp_id);
                match paths.iter().any(|path| satisfies(path)) {
                    true => Ok(()),
                    false => Err(denied(&paths.join(" or "))),
                }
            }
        }
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

/// The policies over who reads for an organisation: one for each group of it, since one organisation
/// may both have applications and run orderers.
fn readers_of(config: &ChannelConfig, msp_id: &str) -> Vec<String> {
    let applications = config.applications().map(|group| ("Application", group));
    let orderers = config.orderer().organisations();
    applications
        .chain(orderers.map(|group| ("Orderer", group)))
        .filter(|(_, group)| group.msp().id() == msp_id)
        .map(|(kind, group)| format!("/Channel/{kind}/{}/Readers", group.name()))
        .collect()
}

#[cfg(test)]
mod tests;
