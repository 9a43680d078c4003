// SPDX-License-Identifier: Apache-2.0
//! The TLS of a client, from certificates that are given as values.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use block_api::{Clock, Endpoint};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use signer::envelope::tls_cert_hash;

use crate::{
    config::{ConfigError, Tls},
    connection::TargetTls,
};

/// The wall clock, as rustls asks for it.
struct ClockTime(Arc<dyn Clock>);

impl Tls {
    /// The SHA-256 of the client's certificate, to which a request is bound.
    pub(crate) fn certificate_hash(&self) -> Option<[u8; 32]> {
        match self {
            Self::Plain | Self::Server => None,
            Self::Mutual { certificates, .. } => {
                certificates.first().map(|leaf| tls_cert_hash(leaf))
            }
        }
    }

    /// Checks what is the same for all endpoints.
    pub(crate) fn validate(&self, clock: &Arc<dyn Clock>) -> Result<(), ConfigError> {
        match self {
            Self::Plain => Ok(()),
            Self::Server | Self::Mutual { .. } => {
                self.client_config(RootCertStore::empty(), clock).map(drop)
            }
        }
    }

    /// The roots that can be used, and what is wrong with the others; none without TLS.
    pub(crate) fn roots(
        &self,
        endpoint: &Endpoint,
        roots: &[&CertificateDer<'static>],
    ) -> (RootCertStore, Vec<ConfigError>) {
        let mut store = RootCertStore::empty();
        let mut unusable = Vec::new();
        if matches!(self, Self::Plain) {
            return (store, unusable);
        }
        for (index, root) in roots.iter().copied().enumerate() {
            if let Err(source) = store.add(root.clone()) {
                unusable.push(ConfigError::TlsRoot {
                    endpoint: endpoint.clone(),
                    position: index + 1,
                    source,
                });
            }
        }
        (store, unusable)
    }

    /// What it takes to reach an endpoint at an address; `None` without TLS.
    pub(crate) fn for_target(
        &self,
        endpoint: &Endpoint,
        address: &Endpoint,
        roots: RootCertStore,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<TargetTls>, ConfigError> {
        if matches!(self, Self::Plain) {
            return Ok(None);
        }
        if roots.is_empty() {
            return Err(ConfigError::NoTlsRoots {
                endpoint: endpoint.clone(),
            });
        }
        let server_name = ServerName::try_from(address.host().to_owned()).map_err(|_| {
            ConfigError::ServerName {
                endpoint: address.clone(),
            }
        })?;
        Ok(Some(TargetTls {
            config: Arc::new(self.client_config(roots, clock)?),
            server_name,
            client_certificate: matches!(self, Self::Mutual { .. }),
        }))
    }

    fn client_config(
        &self,
        roots: RootCertStore,
        clock: &Arc<dyn Clock>,
    ) -> Result<ClientConfig, ConfigError> {
        let builder = ClientConfig::builder_with_details(
            Arc::new(aws_lc_rs::default_provider()),
            Arc::new(ClockTime(clock.clone())),
        )
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|source| ConfigError::Tls { source })?
        .with_root_certificates(roots);
        let mut config = match self {
            Self::Plain | Self::Server => builder.with_no_client_auth(),
            Self::Mutual { certificates, .. } if certificates.is_empty() => {
                return Err(ConfigError::NoClientCertificate);
            }
            Self::Mutual { certificates, key } => builder
                .with_client_auth_cert(certificates.clone(), key.clone_key())
                .map_err(|source| ConfigError::ClientCertificate { source })?,
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each stream makes its own connection, and none stands on what an earlier one proved.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let now: SystemTime = self.0.now();
        now.duration_since(UNIX_EPOCH)
            .ok()
            .map(UnixTime::since_unix_epoch)
    }
}

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
