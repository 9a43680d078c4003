// SPDX-License-Identifier: Apache-2.0
//! An identity: a certificate as its MSP judged it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;

use crate::{
    certificate::CertificateError,
    key::{PublicKey, SignatureError, SignatureHash},
    msp::chain::ChainError,
};

/// What an identity counts as under its MSP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A client.
    Client,
    /// A peer.
    Peer,
    /// An administrator, by organisational unit or by name.
    Admin,
    /// An orderer.
    Orderer,
    /// Only a member: the MSP does not tell its identities apart.
    Member,
}

/// Why bytes are no identity of a channel, or an identity is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The bytes are no `msp.SerializedIdentity`.
    #[error("the identity does not parse")]
    Malformed,
    /// No organisation of the channel has this MSP.
    #[error("the channel has no MSP {msp_id:?}")]
    UnknownMsp {
        /// The MSP id that the identity claims.
        msp_id: String,
    },
    /// The MSP is one whose identities are not supported.
    #[error("identities of the MSP {msp_id:?} are not supported: {reason}")]
    UnsupportedMsp {
        /// The MSP id.
        msp_id: String,
        /// Why not.
        reason: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There is no chain to a root, or more than one.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The certificate belongs to an authority.
    #[error("the certificate of {subject} is that of an authority, which is no identity")]
    Authority {
        /// Whose certificate.
        subject: String,
    },
    /// The certificate was issued by an authority that issued another authority.
    #[error(
        "the issuer of the certificate of {subject} also issued another authority, so it may not issue identities"
    )]
    IssuerNotLeaf {
        /// Whose certificate.
        subject: String,
    },
    /// The key is of an algorithm that the channel's capabilities do not allow.
    #[error(
        "the key of {subject} is not allowed: Ed25519 needs the channel capability V3_0, and RSA is for authorities"
    )]
    KeyNotAllowed {
        /// Whose certificate.
        subject: String,
    },
    /// The certificate was revoked.
    #[error("the certificate of {subject} was revoked")]
    Revoked {
        /// Whose certificate.
        subject: String,
    },
    /// Some revocation list of the MSP has no authority key identifier, which Fabric takes as an error.
    #[error("a revocation list of the MSP {msp_id:?} has no authority key identifier")]
    RevocationList {
        /// The MSP id.
        msp_id: String,
    },
    /// None of the organisational units is one of those that the MSP asks for.
    #[error("none of the organisational units of {subject} is one that the MSP asks for")]
    Unit {
        /// Whose certificate.
        subject: String,
    },
    /// The organisational units do not name exactly one role.
    #[error(
        "the organisational units of {subject} name {count} of the roles client, peer, admin and orderer instead of one"
    )]
    RoleUnits {
        /// Whose certificate.
        subject: String,
        /// How many roles.
        count: usize,
    },
    /// The unit that gives the role was certified by another authority.
    #[error(
        "the organisational unit {unit:?} of {subject} comes from another authority than the MSP says"
    )]
    UnitIssuer {
        /// Whose certificate.
        subject: String,
        /// The unit.
        unit: String,
    },
}

/// A certificate as its MSP judged it.
#[derive(Clone)]
pub struct Identity {
    pub(super) msp_id: Arc<str>,
    pub(super) der: Box<[u8]>,
    pub(super) subject: String,
    pub(super) key: PublicKey,
    pub(super) signature_hash: SignatureHash,
    pub(super) units: Vec<String>,
    /// The hash over the certificates of the chain behind the identity's own.
    pub(super) certifiers: Option<Box<[u8]>>,
    pub(super) not_after: i64,
    pub(super) validity: Result<(), IdentityError>,
    pub(super) roles: Roles,
}

/// The roles that an identity satisfies, as its MSP's version has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) client: bool,
    pub(crate) peer: bool,
    pub(crate) admin: bool,
    pub(crate) orderer: bool,
}

impl Identity {
    /// The id of its MSP.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The subject of its certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its certificate, with a low S in its signature.
    pub fn certificate(&self) -> CertificateDer<'_> {
        CertificateDer::from(&*self.der)
    }

    /// Whether its MSP holds it valid. Dates other than that of the beginning do not matter
    /// (semantics §2.6).
    ///
    /// # Errors
    ///
    /// With the first rule that it breaks.
    pub fn validity(&self) -> Result<(), &IdentityError> {
        self.validity.as_ref().copied()
    }

    /// What it counts as.
    pub fn role(&self) -> Role {
        match self.roles {
            Roles { admin: true, .. } => Role::Admin,
            Roles { orderer: true, .. } => Role::Orderer,
            Roles { peer: true, .. } => Role::Peer,
            Roles { client: true, .. } => Role::Client,
            _ => Role::Member,
        }
    }

    /// When its certificate expires, which matters only where a rule says so (semantics §3.10).
    pub fn not_after(&self) -> SystemTime {
        let seconds = Duration::from_secs(self.not_after.unsigned_abs());
        let time = if self.not_after < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether it made a signature over the parts of a message, one after the other.
    ///
    /// # Errors
    ///
    /// When it did not, or not in the form that Fabric takes.
    pub fn verify(&self, message: &[&[u8]], signature: &[u8]) -> Result<(), SignatureError> {
        self.key.verify(self.signature_hash, message, signature)
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.validity.is_ok()
    }

    pub(crate) fn roles(&self) -> Roles {
        self.roles
    }

    /// Its organisational units.
    pub(crate) fn units(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(String::as_str)
    }

    /// Whether these authorities certified it, as the hash over their certificates tells.
    pub(crate) fn is_certified_by(&self, certifiers: &[u8]) -> bool {
        self.certifiers.as_deref() == Some(certifiers)
    }

    /// Whether two identities are one: the same certificate under the same MSP.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.msp_id == other.msp_id && self.der == other.der
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("msp_id", &self.msp_id)
            .field("subject", &self.subject)
            .field("role", &self.role())
            .field("validity", &self.validity)
            .finish()
    }
}
