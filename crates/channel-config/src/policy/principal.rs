// SPDX-License-Identifier: Apache-2.0
//! Principals: what an identity has to be for a signature to count.

use std::fmt;

use protos::{
    common::{
        CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit,
        msp_identity_anonymity::MspIdentityAnonymityType, msp_principal::Classification,
        msp_role::MspRoleType,
    },
    decode_as_go,
};

use crate::{
    certificate::{low_s_forms, subject_of},
    msp::{Identity, MspVersion, SerializedIdentity},
    pem,
    policy::evaluate::Steps,
};

/// How deep combined principals may nest, and how many there may be together.
const MAX_COMBINED_DEPTH: usize = 16;
const MAX_COMBINED: usize = 1024;

/// A principal, decoded once. What does not decode is satisfied by nobody, as for Fabric.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    Role {
        msp_id: String,
        role: MspRoleType,
    },
    Unit {
        msp_id: String,
        unit: String,
        certifiers: Vec<u8>,
    },
    /// The certificate in every form in which its MSP may know it. To judge it here would be work
    /// that no bound holds: whoever has it and is valid has a valid one.
    Identity {
        msp_id: String,
        certificates: Vec<Box<[u8]>>,
    },
    /// Anyone who is not anonymous.
    Nominal,
    All(Vec<Self>),
    Never {
        reason: String,
    },
}

impl Principal {
    pub(super) fn decode(principal: &MspPrincipal, version: MspVersion) -> Self {
        Self::try_decode(principal, version).unwrap_or_else(|reason| Self::Never { reason })
    }

    fn try_decode(principal: &MspPrincipal, version: MspVersion) -> Result<Self, String> {
        let combined = principal.principal_classification == Classification::Combined as i32;
        if !combined || version <= MspVersion::V1_1 {
            return Self::decode_one(principal, version);
        }
        let mut all = Vec::new();
        flatten(principal, 0, &mut all)?;
        let all = all
            .iter()
            .map(|one| Self::decode_one(one, version))
            .collect::<Result<_, _>>()?;
        Ok(Self::All(all))
    }

    fn decode_one(principal: &MspPrincipal, version: MspVersion) -> Result<Self, String> {
        let bytes = principal.principal.as_ref();
        let malformed = |error: prost::DecodeError| error.to_string();
        let classification = Classification::try_from(principal.principal_classification);
        match classification {
            Ok(Classification::Role) => {
                let role: MspRole = decode_as_go(bytes).map_err(malformed)?;
                let kind = MspRoleType::try_from(role.role)
                    .map_err(|_| format!("unknown role {}", role.role))?;
                if kind == MspRoleType::Orderer && version < MspVersion::V1_4_3 {
                    return Err("the role orderer needs the channel capability V1_4_3".to_owned());
                }
                Ok(Self::Role {
                    msp_id: role.msp_identifier,
                    role: kind,
                })
            }
            Ok(Classification::OrganizationUnit) => {
                let unit: OrganizationUnit = decode_as_go(bytes).map_err(malformed)?;
                Ok(Self::Unit {
                    msp_id: unit.msp_identifier,
                    unit: unit.organizational_unit_identifier,
                    certifiers: unit.certifiers_identifier.to_vec(),
                })
            }
            Ok(Classification::Identity) => {
                let identity =
                    SerializedIdentity::parse(bytes).map_err(|error| error.to_string())?;
                let certificate = pem::first_block(identity.credential);
                Ok(Self::Identity {
                    msp_id: identity.msp_id.to_owned(),
                    certificates: certificate.map_or_else(Vec::new, |(der, _)| low_s_forms(der)),
                })
            }
            Ok(Classification::Anonymity) if version >= MspVersion::V1_3 => {
                let anonymity = decode_as_go::<MspIdentityAnonymity>(bytes)
                    .map_err(malformed)?
                    .anonymity_type;
                if anonymity == MspIdentityAnonymityType::Nominal as i32 {
                    Ok(Self::Nominal)
                } else {
                    Err("X.509 identities are not anonymous".to_owned())
                }
            }
            Ok(Classification::Anonymity | Classification::Combined) | Err(_) => Err(format!(
                "principals of kind {} are unknown",
                principal.principal_classification
            )),
        }
    }

    /// Whether an identity is this (semantics §2.5). Stricter than Fabric in one place: who is
    /// merely not anonymous has to be valid, too.
    pub(super) fn is_satisfied_by(&self, identity: &Identity, steps: &Steps) -> bool {
        let is_of = |msp_id: &str| steps.same(msp_id.as_bytes(), identity.msp_id().as_bytes());
        match self {
            Self::Role { msp_id, role } => is_of(msp_id) && has_role(identity, *role),
            Self::Unit {
                msp_id,
                unit,
                certifiers,
            } => {
                is_of(msp_id)
                    && identity.is_valid()
                    && identity.is_certified_by(certifiers)
                    && identity
                        .units()
                        .any(|own| steps.take(1) && steps.same(own.as_bytes(), unit.as_bytes()))
            }
            Self::Identity {
                msp_id,
                certificates,
            } => {
                is_of(msp_id)
                    && identity.is_valid()
                    && certificates
                        .iter()
                        .any(|certificate| steps.same(certificate, &identity.certificate()))
            }
            Self::Nominal => identity.is_valid(),
            Self::All(principals) => principals
                .iter()
                .all(|principal| steps.take(1) && principal.is_satisfied_by(identity, steps)),
            Self::Never { .. } => false,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { msp_id, role } => {
                write!(f, "{msp_id}.{}", role.as_str_name().to_ascii_lowercase())
            }
            Self::Unit { msp_id, unit, .. } => write!(f, "{msp_id}.OU={unit}"),
            Self::Identity {
                msp_id,
                certificates,
            } => match certificates.first().and_then(|der| subject_of(der)) {
                Some(subject) => write!(f, "{msp_id}.[{subject}]"),
                None => write!(f, "{msp_id}.[unknown identity]"),
            },
            Self::Nominal => f.write_str("not anonymous"),
            Self::All(principals) => {
                for (index, principal) in principals.iter().enumerate() {
                    write!(f, "{}{principal}", if index == 0 { "" } else { " and " })?;
                }
                Ok(())
            }
            Self::Never { reason } => write!(f, "nobody ({reason})"),
        }
    }
}

fn has_role(identity: &Identity, role: MspRoleType) -> bool {
    let roles = identity.roles();
    match role {
        MspRoleType::Member => identity.is_valid(),
        MspRoleType::Admin => roles.admin,
        MspRoleType::Client => roles.client,
        MspRoleType::Peer => roles.peer,
        MspRoleType::Orderer => roles.orderer,
    }
}

/// Collects what combined principals are made of.
fn flatten(
    principal: &MspPrincipal,
    depth: usize,
    out: &mut Vec<MspPrincipal>,
) -> Result<(), String> {
    if principal.principal_classification != Classification::Combined as i32 {
        out.push(principal.clone());
        return Ok(());
    }
    let parts = decode_as_go::<CombinedPrincipal>(principal.principal.as_ref())
        .map_err(|error| error.to_string())?
        .principals;
    if parts.is_empty() {
        return Err("a combined principal is empty".to_owned());
    }
    if depth >= MAX_COMBINED_DEPTH || out.len() + parts.len() > MAX_COMBINED {
        return Err("combined principals nest too deep or are too many".to_owned());
    }
    parts
        .iter()
        .try_for_each(|part| flatten(part, depth + 1, out))
}
