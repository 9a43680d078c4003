// SPDX-License-Identifier: Apache-2.0
//! The TLS of a server, from certificates that are given as values.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use block_api::Clock;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};

/// Whether and how connections are encrypted: TLS 1.2 and 1.3, with HTTP/2.
#[derive(Debug, Clone, Default)]
pub struct ServerTls(pub(crate) Option<Enabled>);

#[derive(Debug, Clone)]
pub(crate) struct Enabled {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) mutual: bool,
}

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate or its key cannot be used.
    #[error("the server's TLS certificate and key cannot be used: {source}")]
    Certificate {
        /// What is wrong.
        source: rustls::Error,
    },
    /// A root for client certificates cannot be used.
    #[error("root certificate {position} for clients cannot be used: {source}")]
    ClientRoot {
        /// Which one, counted from 1.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// There is no root for client certificates.
    #[error(
        "client certificates cannot be verified: {source}; give the TLS CA of the clients' organisations"
    )]
    ClientRoots {
        /// What is wrong.
        source: VerifierBuilderError,
    },
}

/// The wall clock, as rustls asks for it.
struct ClockTime(Arc<dyn Clock>);

impl ServerTls {
    /// Without TLS.
    pub fn plain() -> Self {
        Self(None)
    }

    /// The server proves who it is, with a certificate and intermediates after it.
    ///
    /// # Errors
    ///
    /// When certificate and key cannot be used.
    pub fn server(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        Self::enabled(certificates, key, None, clock)
    }

    /// Both sides prove who they are, and requests are bound to the client's certificate (BND-02).
    ///
    /// # Errors
    ///
    /// When certificate and key cannot be used, or a root cannot, or there is none.
    pub fn mutual(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_roots: &[CertificateDer<'static>],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        Self::enabled(certificates, key, Some(client_roots), clock)
    }

    /// Whether clients prove who they are.
    pub fn is_mutual(&self) -> bool {
        self.0.as_ref().is_some_and(|enabled| enabled.mutual)
    }

    fn enabled(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_roots: Option<&[CertificateDer<'static>]>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_details(provider.clone(), Arc::new(ClockTime(clock)))
                .with_protocol_versions(&[&TLS13, &TLS12])
                .map_err(|source| TlsError::Certificate { source })?;
        let builder = match client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let mut store = RootCertStore::empty();
                for (index, root) in roots.iter().enumerate() {
                    store
                        .add(root.clone())
                        .map_err(|source| TlsError::ClientRoot {
                            position: index + 1,
                            source,
                        })?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
                        .build()
                        .map_err(|source| TlsError::ClientRoots { source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|source| TlsError::Certificate { source })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Some(Enabled {
            config: Arc::new(config),
            mutual: client_roots.is_some(),
        })))
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
