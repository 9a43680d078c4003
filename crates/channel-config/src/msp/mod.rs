// SPDX-License-Identifier: Apache-2.0
//! Membership service providers: who belongs to an organisation, and as what.

mod cache;
mod chain;
mod error;
mod identity;
mod setup;
mod units;
mod version;

use std::{collections::BTreeMap, fmt, str, sync::Arc};

use aws_lc_rs::digest::Algorithm;
use block_api::wire::{Fields, Value};
use rustls_pki_types::CertificateDer;

use self::{
    cache::IdentityCache,
    chain::{Authorities, SanitiseError, sanitised},
    identity::Roles,
    units::{NodeUnits, Unit, hash_chain},
};
pub use self::{
    chain::ChainError,
    error::MspError,
    identity::{Identity, IdentityError, Role},
    version::MspVersion,
};
use crate::{
    certificate::{Certificate, RevocationList},
    key::SignatureHash,
};

/// The rules by which one organisation's identities are judged (semantics §2.6).
///
/// It remembers a bounded number of identities that it judged.
pub struct Msp {
    id: Arc<str>,
    version: MspVersion,
    /// Why no identity of it can be judged, if so.
    unsupported: Option<String>,
    authorities: Authorities,
    /// The authorities that issued other authorities: they may not issue identities.
    issuers_of_authorities: Vec<Box<[u8]>>,
    revocation_lists: Vec<RevocationList>,
    /// The organisational units one of which every identity needs, with who must certify them;
    /// none are needed when there are none.
    units: BTreeMap<String, Vec<Box<[u8]>>>,
    node_units: NodeUnits,
    admins: Vec<Box<[u8]>>,
    tls_authorities: Vec<CertificateDer<'static>>,
    identity_hash: &'static Algorithm,
    signature_hash: SignatureHash,
    cache: IdentityCache,
}

/// The MSPs of a channel. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Msps(Arc<BTreeMap<Arc<str>, Arc<Msp>>>);

/// The two parts of a `msp.SerializedIdentity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SerializedIdentity<'a> {
    /// The id of the MSP that it claims to belong to.
    pub msp_id: &'a str,
    /// The credential; of an X.509 MSP the certificate in PEM.
    pub credential: &'a [u8],
}

impl Msp {
    /// The MSP id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The rules that it follows.
    pub fn version(&self) -> MspVersion {
        self.version
    }

    /// Whether it tells peers from its other identities.
    pub fn tells_peers(&self) -> bool {
        self.node_units.enforced && self.node_units.peer.is_some()
    }

    /// The certificates of the authorities that sign the organisation's TLS certificates, roots
    /// first.
    pub fn tls_authorities(&self) -> &[CertificateDer<'static>] {
        &self.tls_authorities
    }

    /// The identity with this certificate in PEM; whether it is valid is another question, which
    /// [`Identity::validity`] answers.
    ///
    /// # Errors
    ///
    /// When it is no certificate, or none that any authority of the MSP vouches for.
    pub fn identity(&self, pem: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        if let Some(reason) = &self.unsupported {
            return Err(IdentityError::UnsupportedMsp {
                msp_id: self.id.to_string(),
                reason: reason.clone(),
            });
        }
        if let Some(known) = self.cache.get(pem) {
            return Ok(known);
        }
        let identity = Arc::new(self.judge(Certificate::from_pem(pem)?)?);
        self.cache.put(pem, &identity);
        Ok(identity)
    }

    fn judge(&self, certificate: Certificate) -> Result<Identity, IdentityError> {
        let certificate =
            sanitised(certificate, &self.authorities).map_err(|error| match error {
                SanitiseError::Chain(error) => IdentityError::from(error),
                SanitiseError::Certificate(error) => error.into(),
            })?;
        let chain = self.identity_chain(&certificate);
        let certifiers = chain
            .as_ref()
            .ok()
            .map(|chain| hash_chain(self.identity_hash, chain.iter().copied().skip(1)));
        let validity = chain.and_then(|chain| {
            self.check_key(&certificate)?;
            self.check_revocation(&certificate, &chain)?;
            self.check_units(&certificate, certifiers.as_deref().unwrap_or_default())
        });
        let mut identity = Identity {
            msp_id: self.id.clone(),
            subject: certificate.subject,
            key: certificate.key,
            signature_hash: self.signature_hash,
            units: certificate.units,
            certifiers,
            not_after: certificate.not_after,
            validity,
            roles: Roles::default(),
            der: certificate.der,
        };
        identity.roles = self.roles(&identity);
        Ok(identity)
    }

    /// The chain of what may be an identity: two certificates at least, the issuer one that issued
    /// no other authority.
    fn identity_chain<'a>(
        &'a self,
        certificate: &'a Certificate,
    ) -> Result<Vec<&'a Certificate>, IdentityError> {
        let subject = || certificate.subject.clone();
        if certificate.is_ca {
            return Err(IdentityError::Authority { subject: subject() });
        }
        let chain = self.authorities.chain(certificate)?;
        match chain.get(1) {
            None => Err(IdentityError::Authority { subject: subject() }),
            Some(issuer) if self.issuers_of_authorities.contains(&issuer.der) => {
                Err(IdentityError::IssuerNotLeaf { subject: subject() })
            }
            Some(_) => Ok(chain),
        }
    }

    fn check_key(&self, certificate: &Certificate) -> Result<(), IdentityError> {
        let key = &certificate.key;
        let is_ed25519_allowed = self.version >= MspVersion::V3_0;
        if key.curve().is_some() || (is_ed25519_allowed && key.is_ed25519()) {
            return Ok(());
        }
        Err(IdentityError::KeyNotAllowed {
            subject: certificate.subject.clone(),
        })
    }

    /// Whether a list of the issuer names the certificate; when it was revoked does not matter.
    fn check_revocation(
        &self,
        certificate: &Certificate,
        chain: &[&Certificate],
    ) -> Result<(), IdentityError> {
        let Some(issuer) = chain.get(1) else {
            return Ok(());
        };
        for list in &self.revocation_lists {
            let Some(authority) = &list.authority_key_id else {
                return Err(IdentityError::RevocationList {
                    msp_id: self.id.to_string(),
                });
            };
            if Some(authority) == issuer.subject_key_id.as_ref()
                && list.revokes(&certificate.serial, issuer)
            {
                return Err(IdentityError::Revoked {
                    subject: certificate.subject.clone(),
                });
            }
        }
        Ok(())
    }

    fn check_units(
        &self,
        certificate: &Certificate,
        certifiers: &[u8],
    ) -> Result<(), IdentityError> {
        let subject = || certificate.subject.clone();
        if !self.units.is_empty() {
            let certified = |unit: &String| {
                self.units
                    .get(unit)
                    .is_some_and(|allowed| allowed.iter().any(|allowed| **allowed == *certifiers))
            };
            if !certificate.units.iter().any(certified) {
                return Err(IdentityError::Unit { subject: subject() });
            }
        }
        if !self.node_units.enforced {
            return Ok(());
        }
        let mut count = 0;
        for unit in &certificate.units {
            let Some(node_unit) = self.node_units.find(unit) else {
                continue;
            };
            if !node_unit.certifiers.is_empty() && *node_unit.certifiers != *certifiers {
                return Err(IdentityError::UnitIssuer {
                    subject: subject(),
                    unit: unit.clone(),
                });
            }
            count += 1;
            if count > 1 {
                break;
            }
        }
        if count != 1 {
            return Err(IdentityError::RoleUnits {
                subject: subject(),
                count,
            });
        }
        Ok(())
    }

    fn roles(&self, identity: &Identity) -> Roles {
        let is = |unit: &Option<Unit>| {
            self.node_units.enforced
                && identity.is_valid()
                && self.has_unit(identity, unit.as_ref())
        };
        let since_v1_4_3 = self.version >= MspVersion::V1_4_3;
        Roles {
            client: is(&self.node_units.client),
            peer: is(&self.node_units.peer),
            admin: self.admins.contains(&identity.der)
                || (since_v1_4_3 && is(&self.node_units.admin)),
            orderer: since_v1_4_3 && is(&self.node_units.orderer),
        }
    }

    /// Whether an identity has an organisational unit. One without chain has none.
    fn has_unit(&self, identity: &Identity, unit: Option<&Unit>) -> bool {
        identity.certifiers.is_some()
            && unit.is_some_and(|unit| identity.units.contains(&unit.name))
    }
}

impl Msps {
    /// The MSPs of a channel; of two with one id the first counts.
    pub fn new(msps: impl IntoIterator<Item = Arc<Msp>>) -> Self {
        let mut map = BTreeMap::new();
        for msp in msps {
            map.entry(msp.id.clone()).or_insert(msp);
        }
        Self(Arc::new(map))
    }

    /// The MSP with this id.
    pub fn get(&self, msp_id: &str) -> Option<&Arc<Msp>> {
        self.0.get(msp_id)
    }

    /// The MSPs, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Msp>> {
        self.0.values()
    }

    /// The identity that a marshalled `msp.SerializedIdentity` stands for.
    ///
    /// # Errors
    ///
    /// When it does not parse, its MSP is unknown, or its MSP does not know it.
    pub fn identity(&self, serialized: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        self.identity_of(SerializedIdentity::parse(serialized)?)
    }

    /// The identity with this credential.
    ///
    /// # Errors
    ///
    /// When its MSP is unknown, or its MSP does not know it.
    pub fn identity_of(
        &self,
        identity: SerializedIdentity<'_>,
    ) -> Result<Arc<Identity>, IdentityError> {
        match self.get(identity.msp_id) {
            Some(msp) => msp.identity(identity.credential),
            None => Err(IdentityError::UnknownMsp {
                // It is a claim, of any length: an error repeats only its beginning.
                msp_id: identity.msp_id.chars().take(64).collect(),
            }),
        }
    }
}

impl<'a> SerializedIdentity<'a> {
    /// Finds the two parts without copying them.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Malformed`] when the bytes are no such message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IdentityError> {
        let mut found = SerializedIdentity {
            msp_id: "",
            credential: &[],
        };
        for field in Fields::new(bytes) {
            let field = field.map_err(|_| IdentityError::Malformed)?;
            match (field.number, field.value) {
                (1, Value::Bytes(text, _)) => {
                    found.msp_id = str::from_utf8(text).map_err(|_| IdentityError::Malformed)?;
                }
                (2, Value::Bytes(credential, _)) => found.credential = credential,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Msp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Msp")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("unsupported", &self.unsupported)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
