// SPDX-License-Identifier: Apache-2.0
//! What can be wrong with the configuration of an MSP.

use crate::{
    certificate::CertificateError,
    key::{KeyError, OID_P224},
    msp::{ChainError, IdentityError},
};

/// Why a configuration is no MSP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MspError {
    /// The bytes do not parse.
    #[error("the configuration of the MSP does not parse: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A type other than X.509 and idemix.
    #[error("MSPs of type {kind} are unknown")]
    UnknownType {
        /// The type.
        kind: i32,
    },
    /// The MSP has no id.
    #[error("the MSP has no id")]
    NoId,
    /// There is no root.
    #[error("MSP {msp_id:?} has no root certificate")]
    NoRoot {
        /// The MSP.
        msp_id: String,
    },
    /// A certificate is not usable.
    #[error("the {kind} certificate {index} of MSP {msp_id:?} is not usable: {source}")]
    Certificate {
        /// The MSP.
        msp_id: String,
        /// What it is for.
        kind: &'static str,
        /// Where it stands in its list.
        index: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// A certificate has no valid chain.
    #[error("the {kind} certificate {index} of MSP {msp_id:?} is not valid: {source}")]
    Chain {
        /// The MSP.
        msp_id: String,
        /// What it is for.
        kind: &'static str,
        /// Where it stands in its list.
        index: usize,
        /// What is wrong with it.
        source: ChainError,
    },
    /// An authority's certificate lacks what makes it one.
    #[error("the authority {subject} of MSP {msp_id:?} has no {what}")]
    NotAnAuthority {
        /// The MSP.
        msp_id: String,
        /// Whose certificate.
        subject: String,
        /// What it lacks.
        what: &'static str,
    },
    /// An authority was revoked, or an administrator is not valid.
    #[error("the {kind} {index} of MSP {msp_id:?} is not valid: {source}")]
    NotValid {
        /// The MSP.
        msp_id: String,
        /// What it is.
        kind: &'static str,
        /// Where it stands in its list.
        index: usize,
        /// Why it is not valid.
        source: Box<IdentityError>,
    },
    /// A revocation list does not parse.
    #[error("the revocation list {index} of MSP {msp_id:?} does not parse")]
    RevocationList {
        /// The MSP.
        msp_id: String,
        /// Where it stands.
        index: usize,
    },
    /// An organisational unit is tied to a certificate that is no authority of the MSP.
    #[error(
        "the organisational unit {unit:?} of MSP {msp_id:?} is tied to a certificate that is none of its authorities"
    )]
    UnitIssuer {
        /// The MSP.
        msp_id: String,
        /// The unit.
        unit: String,
    },
    /// Node OUs below V1_4_3 without unit for clients or peers.
    #[error("MSP {msp_id:?} has node OUs, but none for clients or none for peers")]
    NodeOus {
        /// The MSP.
        msp_id: String,
    },
    /// Nobody can administer the organisation.
    #[error("MSP {msp_id:?} has neither administrators nor an organisational unit for them")]
    NoAdmin {
        /// The MSP.
        msp_id: String,
    },
    /// An administrator whose organisational units say that it is something else.
    #[error(
        "administrator {index} of MSP {msp_id:?} is neither client nor admin by its organisational units"
    )]
    AdminRole {
        /// The MSP.
        msp_id: String,
        /// Where it stands.
        index: usize,
    },
    /// Identities are compared by a hash that is unknown.
    #[error("MSP {msp_id:?} asks for the hash {name:?}, which is unknown")]
    Hash {
        /// The MSP.
        msp_id: String,
        /// The hash.
        name: String,
    },
}

impl MspError {
    /// Whether the configuration may well be one that Fabric takes, and only lacks support here.
    ///
    /// It is not asked of TLS certificates: those that lack support are left out when they are
    /// read, since no identity is judged by them.
    pub(super) fn is_lack_of_support(&self) -> bool {
        if let Self::Certificate { source, .. } = self {
            return is_unsupported_curve(source);
        }
        matches!(
            self,
            Self::Chain {
                source: ChainError::NameConstraints { .. },
                ..
            }
        )
    }
}

/// Whether a certificate is one that Fabric takes and whose curve is not supported here.
pub(super) fn is_unsupported_curve(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Key(KeyError::Curve { oid }) if oid == OID_P224)
}
