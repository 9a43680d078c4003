// SPDX-License-Identifier: Apache-2.0
//! What everybody may know of an organisation: the certificates of its authorities.

use super::authority::Authority;

/// What is public of an organisation.
#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) msp_id: String,
    pub(super) domain: String,
    pub(super) ca_pem: String,
    pub(super) tls_ca: TlsRoot,
    /// Older authorities for TLS that the organisation still names, the newest one last.
    pub(super) older_tls_cas: Vec<TlsRoot>,
}

/// The certificate of an authority for TLS.
#[derive(Clone)]
pub(super) struct TlsRoot {
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

impl Certificates {
    /// All authorities for TLS, the newest one first.
    pub(super) fn tls_cas(&self) -> impl Iterator<Item = &TlsRoot> {
        [&self.tls_ca]
            .into_iter()
            .chain(self.older_tls_cas.iter().rev())
    }

    /// The authorities for TLS as one PEM file.
    pub(super) fn tls_pem(&self) -> String {
        self.tls_cas().map(|root| root.pem.as_str()).collect()
    }
}

impl TlsRoot {
    pub(super) fn of(authority: &Authority) -> Self {
        Self {
            pem: authority.certificate_pem(),
            der: authority.certificate_der().to_vec(),
        }
    }
}
