// SPDX-License-Identifier: Apache-2.0
//! A member of an organisation, with the keys of its certificates.

use std::{fmt, sync::Arc};

use block_api::{BoxError, Signer};
use bytes::Bytes;
use signer::{EcdsaP256Signer, Ed25519Signer, Identity};

use super::{Certificates, File, KeyKind, PkiError, Role, authority::Certified, folder};

/// A member of an organisation: its identity, its TLS certificate, and the keys of both.
#[derive(Clone)]
pub struct Member {
    name: String,
    role: Role,
    authorities: Arc<Certificates>,
    signer: Arc<dyn Signer>,
    identity: Certified,
    tls: Certified,
}

impl Member {
    /// A member with the certificates that were issued for it.
    pub(super) fn new(
        name: &str,
        role: Role,
        kind: KeyKind,
        authorities: Arc<Certificates>,
        identity: Certified,
        tls: Certified,
    ) -> Result<Self, PkiError> {
        let signer =
            signer_of(&authorities.msp_id, &identity, kind).map_err(|source| PkiError::Signer {
                member: qualified_name(name, role, &authorities.domain),
                source,
            })?;
        Ok(Self {
            name: name.to_owned(),
            role,
            authorities,
            signer,
            identity,
            tls,
        })
    }

    /// The certificates of the organisation's authorities.
    pub(super) fn authorities(&self) -> &Certificates {
        &self.authorities
    }

    /// The name within the organisation.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that the certificate gives.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The MSP id of the organisation.
    pub fn msp_id(&self) -> &str {
        &self.authorities.msp_id
    }

    /// The identity's certificate, as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.identity.certificate_pem
    }

    /// The identity's private key, as PKCS#8 in PEM.
    pub fn key_pem(&self) -> &str {
        &self.identity.key.pem
    }

    /// The TLS certificate, as PEM.
    pub fn tls_certificate_pem(&self) -> &str {
        &self.tls.certificate_pem
    }

    /// The TLS certificate, as DER; its SHA-256 is what a client under mutual TLS names.
    pub fn tls_certificate_der(&self) -> &[u8] {
        &self.tls.certificate_der
    }

    /// The private key of the TLS certificate, as PKCS#8 in PEM.
    pub fn tls_key_pem(&self) -> &str {
        &self.tls.key.pem
    }

    /// The private key of the TLS certificate, as PKCS#8 in DER.
    pub fn tls_key_der(&self) -> &[u8] {
        &self.tls.key.der
    }

    /// The serialized identity.
    pub fn identity(&self) -> Bytes {
        self.signer.identity()
    }

    /// A signer with the identity and its key.
    pub fn signer(&self) -> Arc<dyn Signer> {
        self.signer.clone()
    }

    /// The files of the member: `msp/signcerts`, `msp/keystore`, `msp/cacerts`,
    /// `msp/tlscacerts`, `msp/config.yaml` and `tls`.
    pub fn files(&self) -> Vec<File> {
        folder::member(self, "")
    }

    /// The name together with that of the organisation.
    pub(super) fn qualified_name(&self) -> String {
        qualified_name(&self.name, self.role, &self.authorities.domain)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("msp_id", &self.authorities.msp_id)
            .finish_non_exhaustive()
    }
}

fn signer_of(
    msp_id: &str,
    certified: &Certified,
    kind: KeyKind,
) -> Result<Arc<dyn Signer>, BoxError> {
    let identity = Identity::new(msp_id, &certified.certificate_pem)?;
    Ok(match kind {
        KeyKind::EcdsaP256 => Arc::new(EcdsaP256Signer::new(identity, &certified.key.der)?),
        KeyKind::Ed25519 => Arc::new(Ed25519Signer::new(identity, &certified.key.der)?),
    })
}

/// The common name of a member: nodes have the form of a host name, persons that of an address.
pub(super) fn qualified_name(name: &str, role: Role, domain: &str) -> String {
    match role {
        Role::Client | Role::Admin => format!("{name}@{domain}"),
        Role::Peer | Role::Orderer => format!("{name}.{domain}"),
    }
}
