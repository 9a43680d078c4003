// SPDX-License-Identifier: Apache-2.0
//! Building an MSP from its configuration.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use protos::{
    decode_as_go,
    msp::{FabricMspConfig, MspConfig},
};
use rustls_pki_types::CertificateDer;

use crate::{
    certificate::{Certificate, RevocationList},
    key::SignatureHash,
    msp::{
        ChainError, Msp, MspError, MspVersion,
        cache::IdentityCache,
        chain::{Authorities, SanitiseError, sanitised},
        error::is_unsupported_curve,
        units::NodeUnits,
    },
    pem,
};

/// `MSPConfig.type` of an MSP of X.509 certificates.
const X509: i32 = 0;

/// `MSPConfig.type` of an MSP of idemix credentials.
const IDEMIX: i32 = 1;

impl Msp {
    /// Builds an MSP from a marshalled `msp.MSPConfig` (CHC-10).
    ///
    /// # Errors
    ///
    /// With the first part of the configuration that Fabric would not take either.
    pub fn from_config(config: &[u8], version: MspVersion) -> Result<Self, MspError> {
        let config: MspConfig = decode_as_go(config).map_err(|error| MspError::Malformed {
            reason: error.to_string(),
        })?;
        Self::from_message(&config, version)
    }

    pub(crate) fn from_message(outer: &MspConfig, version: MspVersion) -> Result<Self, MspError> {
        let malformed = |error: prost::DecodeError| MspError::Malformed {
            reason: error.to_string(),
        };
        match outer.r#type {
            X509 => {
                let inner: FabricMspConfig =
                    decode_as_go(outer.config.clone()).map_err(malformed)?;
                match Self::from_x509(&inner, version) {
                    Err(error) if error.is_lack_of_support() => {
                        Self::of_nobody(inner.name, version, error.to_string())
                    }
                    built => built,
                }
            }
            // The name is field 1 of both kinds; the rest of an idemix configuration is not needed
            // to know that no identity of it can be judged here.
            IDEMIX => {
                let name = decode_as_go::<FabricMspConfig>(idemix_name(&outer.config).as_slice())
                    .map_err(malformed)?
                    .name;
                let reason = "they are idemix credentials".to_owned();
                Self::of_nobody(name, version, reason)
            }
            kind => Err(MspError::UnknownType { kind }),
        }
    }

    /// An MSP that Fabric takes and whose identities cannot be judged here: the configuration
    /// serves for all others.
    fn of_nobody(name: String, version: MspVersion, reason: String) -> Result<Self, MspError> {
        let mut msp = Self::empty(name, version)?;
        tracing::warn!(msp = %msp.id, reason, "no identity of this msp can be judged");
        msp.unsupported = Some(reason);
        Ok(msp)
    }

    fn empty(name: String, version: MspVersion) -> Result<Self, MspError> {
        if name.is_empty() {
            return Err(MspError::NoId);
        }
        Ok(Self {
            id: name.into(),
            version,
            unsupported: None,
            authorities: Authorities::default(),
            issuers_of_authorities: Vec::new(),
            revocation_lists: Vec::new(),
            units: BTreeMap::new(),
            node_units: NodeUnits::default(),
            admins: Vec::new(),
            tls_authorities: Vec::new(),
            identity_hash: &digest::SHA256,
            signature_hash: SignatureHash::Sha256,
            cache: IdentityCache::default(),
        })
    }

    fn from_x509(config: &FabricMspConfig, version: MspVersion) -> Result<Self, MspError> {
        let mut msp = Self::empty(config.name.clone(), version)?;
        msp.set_hashes(config)?;
        msp.set_authorities(config)?;
        msp.set_revocation_lists(config)?;
        msp.check_authorities()?;
        msp.set_tls_authorities(config)?;
        for unit in &config.organizational_unit_identifiers {
            let certifiers = msp.certifiers_of(unit)?;
            let known = msp
                .units
                .entry(unit.organizational_unit_identifier.clone())
                .or_default();
            if !known.contains(&certifiers) {
                known.push(certifiers);
            }
        }
        if version >= MspVersion::V1_1 {
            msp.node_units = msp.node_units_of(config.fabric_node_ous.as_ref())?;
        }
        msp.set_admins(config)?;
        Ok(msp)
    }

    fn set_hashes(&mut self, config: &FabricMspConfig) -> Result<(), MspError> {
        let Some(hashes) = &config.crypto_config else {
            return Ok(());
        };
        let identity_hash = match hashes.identity_identifier_hash_function.as_str() {
            "" | "SHA256" => &digest::SHA256,
            "SHA384" => &digest::SHA384,
            "SHA3_256" => &digest::SHA3_256,
            "SHA3_384" => &digest::SHA3_384,
            other => {
                return Err(MspError::Hash {
                    msp_id: self.owned_id(),
                    name: other.to_owned(),
                });
            }
        };
        self.signature_hash = match hashes.signature_hash_family.as_str() {
            "" | "SHA2" => SignatureHash::Sha256,
            "SHA3" => SignatureHash::Sha3,
            _ => SignatureHash::Unknown,
        };
        self.identity_hash = identity_hash;
        Ok(())
    }

    fn set_authorities(&mut self, config: &FabricMspConfig) -> Result<(), MspError> {
        if config.root_certs.is_empty() {
            return Err(MspError::NoRoot {
                msp_id: self.owned_id(),
            });
        }
        let roots = self.certificates("root", &config.root_certs)?;
        let intermediates = self.certificates("intermediate", &config.intermediate_certs)?;
        let raw = Authorities::new(roots.clone(), intermediates.clone());
        let sanitise = |kind, certificates: Vec<Certificate>| {
            let certificates = certificates.into_iter().enumerate();
            certificates
                .map(|(index, certificate)| {
                    sanitised(certificate, &raw)
                        .map_err(|error| self.not_sanitised(kind, index, error))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        self.authorities = Authorities::new(
            sanitise("root", roots)?,
            sanitise("intermediate", intermediates)?,
        );
        Ok(())
    }

    fn set_revocation_lists(&mut self, config: &FabricMspConfig) -> Result<(), MspError> {
        for (index, bytes) in config.revocation_list.iter().enumerate() {
            let list = RevocationList::parse(bytes);
            let list = list.ok_or_else(|| MspError::RevocationList {
                msp_id: self.owned_id(),
                index,
            })?;
            self.revocation_lists.push(list);
        }
        Ok(())
    }

    fn check_authorities(&mut self) -> Result<(), MspError> {
        self.check_all("authority", &self.authorities)?;
        let mut issuers = Vec::new();
        for (index, intermediate) in self.authorities.intermediates().iter().enumerate() {
            let chain = self.chain_of("intermediate", index, &self.authorities, intermediate)?;
            issuers.extend(
                chain
                    .into_iter()
                    .skip(1)
                    .map(|certificate| certificate.der.clone()),
            );
        }
        self.issuers_of_authorities = issuers;
        Ok(())
    }

    /// Takes the TLS authorities, for those who dial the organisation's nodes. Identities are not
    /// judged by them, so that one which is not supported here is left out and the MSP stays.
    fn set_tls_authorities(&mut self, config: &FabricMspConfig) -> Result<(), MspError> {
        let roots = self.tls_certificates("TLS root", &config.tls_root_certs)?;
        let intermediates =
            self.tls_certificates("TLS intermediate", &config.tls_intermediate_certs)?;
        let texts = || {
            config
                .tls_root_certs
                .iter()
                .chain(&config.tls_intermediate_certs)
        };
        let all_known = roots.len() + intermediates.len() == texts().count();
        let authorities = Authorities::new(roots, intermediates);
        let mut left_out = Vec::new();
        for (index, certificate) in authorities.all().enumerate() {
            match self.check_authority("TLS authority", index, &authorities, certificate) {
                Ok(())
                // Whoever trusts them checks the names.
                | Err(MspError::Chain {
                    source: ChainError::NameConstraints { .. },
                    ..
                }) => {}
                // Its issuer may be one that was left out.
                Err(MspError::Chain {
                    source: source @ ChainError::NoAuthority { .. },
                    ..
                }) if !all_known => {
                    self.tls_left_out(&source);
                    left_out.push(&certificate.der);
                }
                Err(error) => return Err(error),
            }
        }
        // A PEM text may hold more than one certificate, and clients trust all of them. Fabric
        // looks at the first one alone; here each must be that of an authority, because a client
        // takes whatever it is given for one.
        let mut taken = Vec::new();
        for der in texts().flat_map(|text| pem::certificates(text)) {
            match Certificate::from_der(der) {
                Ok(certificate) if left_out.contains(&&certificate.der) => {}
                Ok(certificate) if certificate.is_ca => {
                    taken.push(CertificateDer::from(certificate.der.into_vec()));
                }
                Ok(certificate) => self.tls_left_out(&MspError::NotAnAuthority {
                    msp_id: self.owned_id(),
                    subject: certificate.subject,
                    what: "CA flag",
                }),
                Err(error) => self.tls_left_out(&error),
            }
        }
        self.tls_authorities = taken;
        Ok(())
    }

    /// The first certificate of each text, without those that lack support here.
    fn tls_certificates(
        &self,
        kind: &'static str,
        texts: &[bytes::Bytes],
    ) -> Result<Vec<Certificate>, MspError> {
        let mut certificates = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            match Certificate::from_pem(text) {
                Ok(certificate) => certificates.push(certificate),
                Err(source) if is_unsupported_curve(&source) => {}
                Err(source) => {
                    return Err(MspError::Certificate {
                        msp_id: self.owned_id(),
                        kind,
                        index,
                        source,
                    });
                }
            }
        }
        Ok(certificates)
    }

    fn tls_left_out(&self, reason: &dyn std::error::Error) {
        tracing::warn!(msp = %self.id, %reason, "TLS authority left out");
    }

    /// Checks that certificates are those of authorities, and not revoked.
    fn check_all(&self, kind: &'static str, authorities: &Authorities) -> Result<(), MspError> {
        let mut all = authorities.all().enumerate();
        all.try_for_each(|(index, certificate)| {
            self.check_authority(kind, index, authorities, certificate)
        })
    }

    fn check_authority(
        &self,
        kind: &'static str,
        index: usize,
        authorities: &Authorities,
        certificate: &Certificate,
    ) -> Result<(), MspError> {
        let lacks = |what| MspError::NotAnAuthority {
            msp_id: self.owned_id(),
            subject: certificate.subject.clone(),
            what,
        };
        if !certificate.is_ca {
            return Err(lacks("CA flag"));
        }
        if certificate.subject_key_id.is_none() {
            return Err(lacks("subject key identifier"));
        }
        let chain = self.chain_of(kind, index, authorities, certificate)?;
        self.check_revocation(certificate, &chain)
            .map_err(|source| MspError::NotValid {
                msp_id: self.owned_id(),
                kind,
                index,
                source: Box::new(source),
            })
    }

    fn set_admins(&mut self, config: &FabricMspConfig) -> Result<(), MspError> {
        let certificates = self.certificates("administrator's", &config.admins)?;
        for (index, certificate) in certificates.into_iter().enumerate() {
            let admin = sanitised(certificate, &self.authorities)
                .map_err(|error| self.not_sanitised("administrator's", index, error))?;
            self.admins.push(admin.der);
        }
        let classifies_admins = self.node_units.enforced && self.node_units.admin.is_some();
        if self.version >= MspVersion::V1_4_3 && self.admins.is_empty() && !classifies_admins {
            return Err(MspError::NoAdmin {
                msp_id: self.owned_id(),
            });
        }
        for (index, text) in config.admins.iter().enumerate() {
            let invalid = |source| MspError::NotValid {
                msp_id: self.owned_id(),
                kind: "administrator",
                index,
                source: Box::new(source),
            };
            let admin = self.identity(text).map_err(invalid)?;
            // Once roles are told apart, V1_4_3 asks for the role alone.
            if !(self.node_units.enforced && self.version >= MspVersion::V1_4_3) {
                admin.validity().map_err(|source| invalid(source.clone()))?;
            }
            let has = |unit: &Option<_>| self.has_unit(&admin, unit.as_ref());
            let is_admin = self.version >= MspVersion::V1_4_3 && has(&self.node_units.admin);
            if self.node_units.enforced && !has(&self.node_units.client) && !is_admin {
                return Err(MspError::AdminRole {
                    msp_id: self.owned_id(),
                    index,
                });
            }
        }
        Ok(())
    }

    fn certificates(
        &self,
        kind: &'static str,
        texts: &[bytes::Bytes],
    ) -> Result<Vec<Certificate>, MspError> {
        let texts = texts.iter().enumerate();
        texts
            .map(|(index, text)| {
                Certificate::from_pem(text).map_err(|source| MspError::Certificate {
                    msp_id: self.owned_id(),
                    kind,
                    index,
                    source,
                })
            })
            .collect()
    }

    fn chain_of<'a>(
        &self,
        kind: &'static str,
        index: usize,
        authorities: &'a Authorities,
        certificate: &'a Certificate,
    ) -> Result<Vec<&'a Certificate>, MspError> {
        let chain = authorities.chain(certificate);
        chain.map_err(|source| MspError::Chain {
            msp_id: self.owned_id(),
            kind,
            index,
            source,
        })
    }

    fn not_sanitised(&self, kind: &'static str, index: usize, error: SanitiseError) -> MspError {
        let msp_id = self.owned_id();
        match error {
            SanitiseError::Chain(source) => MspError::Chain {
                msp_id,
                kind,
                index,
                source,
            },
            SanitiseError::Certificate(source) => MspError::Certificate {
                msp_id,
                kind,
                index,
                source,
            },
        }
    }

    pub(super) fn owned_id(&self) -> String {
        self.id.to_string()
    }
}

/// The first field of an idemix configuration, alone.
fn idemix_name(config: &[u8]) -> Vec<u8> {
    use block_api::wire::{Fields, Value, put_bytes};
    let mut out = Vec::new();
    for field in Fields::new(config).flatten() {
        if let (1, Value::Bytes(name, _)) = (field.number, field.value) {
            out.clear();
            put_bytes(&mut out, 1, name);
        }
    }
    out
}
