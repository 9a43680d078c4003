// SPDX-License-Identifier: Apache-2.0
//! What a client is told: its endpoints, its TLS, its limits.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::Endpoint;
use protos::grpc::MAX_MESSAGE_BYTES;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use signer::envelope::tls_cert_hash;

/// The shortest keepalive interval: an orderer answers faster pings with GOAWAY.
pub(crate) const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(60);

/// The largest window that HTTP/2 knows.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// What a client is told.
///
/// Everything but the endpoints has a default, so that a configuration is written
/// `Config { endpoints, tls, ..Config::default() }`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The endpoints of the ordering service. Default: none.
    pub endpoints: Vec<OrdererEndpoint>,
    /// Whether and how connections are encrypted. Default: [`Tls::Plain`].
    pub tls: Tls,
    /// Endpoints that are reached at another address than the one they are named by. The first
    /// entry for an endpoint counts. Default: none.
    pub overrides: Vec<AddressOverride>,
    /// The limit on dialling, the TLS handshake and the HTTP/2 preface together. Default: 3 s.
    pub connect_timeout: Duration,
    /// The limit on the first message of an answer that the orderer can give at once: to a request
    /// that starts with the oldest or newest block, or that does not wait for a missing one.
    /// `None` is no limit. Default: 30 s.
    pub initial_timeout: Option<Duration>,
    /// The limit on every message after the first, and on the first one of a request that may have
    /// to wait for its block. A channel may rest for hours, so that `None`, no limit, is the
    /// default; a dead connection is found by TCP and by the keepalive. Requests that do not wait
    /// are then held to `initial_timeout` between two messages, too.
    pub idle_timeout: Option<Duration>,
    /// After so long without a frame from the orderer an HTTP/2 ping is sent. At least 60 s,
    /// because an orderer closes the connection of who pings faster. Default: 60 s.
    pub keepalive_interval: Duration,
    /// So long a ping may stay unanswered. Default: 20 s.
    pub keepalive_timeout: Duration,
    /// The size of a message, in bytes, above which the stream fails. Default: 100 MiB, which is
    /// Fabric's own limit.
    pub max_message_bytes: NonZeroUsize,
    /// How many bytes of one stream the orderer may have on the way. What was taken is given back
    /// when it is half of this, so that a link is full where half of it is on the way: with 50 ms
    /// there and back, 12 MiB, the default, fill 1 Gbit/s. It also bounds what waits here for a
    /// consumer that is slower than the orderer.
    pub stream_window_bytes: u32,
    /// The same for the connection, which carries one stream only. Default: 12 MiB.
    pub connection_window_bytes: u32,
    /// What the orderer shall do while it has no leader. Default: [`ErrorResponse::Strict`].
    pub error_response: ErrorResponse,
}

/// An endpoint and the certificates that its TLS certificate must lead to.
///
/// An endpoint may be given more than once, by several organisations of a channel and by an
/// operator: it is then served if it proves itself by the TLS roots of any of them. Were it the last
/// one that counts, then one organisation that names the addresses of the others would decide
/// alone whom a client trusts there, and could cut it off from all of them. More roots let in only
/// those for whom an organisation vouches that named the address, and what they serve is judged by
/// its signatures all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererEndpoint {
    /// Where the orderer listens, as the channel's configuration writes it.
    pub endpoint: Endpoint,
    /// The TLS roots, and intermediates, of the orderer's organisation. The roots of the machine
    /// are never used, so that with TLS there must be one at least (H15).
    pub tls_roots: Vec<CertificateDer<'static>>,
}

/// What was given with endpoints and is not in force, since it cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// One TLS root, which is left out; the endpoint may have others.
    #[error("a TLS root of {endpoint} is left out: {reason}")]
    TlsRoot {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong.
        reason: ConfigError,
    },
    /// A whole endpoint, which is left out.
    #[error("{endpoint} is left out: {reason}")]
    Endpoint {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong.
        reason: ConfigError,
    },
    /// A change of an endpoint, which stays as it was, because no endpoint at all could be used.
    #[error("{endpoint} stays as it was, since no endpoint at all can be used: {reason}")]
    Change {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is wrong.
        reason: ConfigError,
    },
}

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, Default)]
pub enum Tls {
    /// Not at all.
    #[default]
    Plain,
    /// The orderer proves who it is.
    Server,
    /// Both sides prove who they are; the request is bound to the client's certificate.
    Mutual {
        /// The client's certificate, and intermediates after it.
        certificates: Vec<CertificateDer<'static>>,
        /// Its key.
        key: Arc<PrivateKeyDer<'static>>,
    },
}

/// An endpoint that is reached at another address than the one it is named by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressOverride {
    /// The endpoint as it is named.
    pub from: Endpoint,
    /// Where it is dialled; the TLS certificate must be for this host.
    pub to: Endpoint,
    /// The TLS roots there; `None` keeps those of the endpoint.
    pub tls_roots: Option<Vec<CertificateDer<'static>>>,
}

/// What an orderer does with a stream while it cannot order: it has no leader, or is halted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorResponse {
    /// It ends the stream with SERVICE_UNAVAILABLE.
    #[default]
    Strict,
    /// It serves the blocks that it has.
    BestEffort,
}

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// TLS is on and an endpoint has no roots (H15).
    #[error(
        "endpoint {endpoint} has no TLS root certificate: give the TLS CA of the orderer's organisation, or turn TLS \
         off; the roots of the machine are not used"
    )]
    NoTlsRoots {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// A root certificate cannot be used.
    #[error("TLS root certificate {position} of endpoint {endpoint} cannot be used: {source}")]
    TlsRoot {
        /// The endpoint.
        endpoint: Endpoint,
        /// Which certificate of all that are given for the endpoint, counted from 1.
        position: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// Mutual TLS without a client certificate.
    #[error("mutual TLS needs a client certificate and its key, and no certificate is given")]
    NoClientCertificate,
    /// The client's certificate and key do not go together, or cannot be used.
    #[error("the client's TLS certificate and key cannot be used: {source}")]
    ClientCertificate {
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS has no protocol version in common with itself, which no set of our own does.
    #[error("TLS cannot be set up: {source}")]
    Tls {
        /// What is wrong.
        source: rustls::Error,
    },
    /// A host is neither a name nor an address that a certificate can be for.
    #[error("the host of {endpoint} is no name that a TLS certificate can be for")]
    ServerName {
        /// The endpoint that is dialled.
        endpoint: Endpoint,
    },
    /// Pings come too fast.
    #[error(
        "the keepalive interval is {} ms: orderers close the connection of a client that pings more often than every \
         60 s, so make it 60 s or longer",
        interval.as_millis()
    )]
    KeepaliveTooShort {
        /// The interval.
        interval: Duration,
    },
    /// A time limit is zero.
    #[error(
        "{field} is zero, so that nothing could ever be in time: make it longer, or leave it out"
    )]
    ZeroTimeout {
        /// Which one.
        field: &'static str,
    },
    /// A window is zero, or larger than HTTP/2 allows.
    #[error("{field} is {bytes} bytes, and an HTTP/2 window has 1 to {LARGEST_WINDOW}")]
    Window {
        /// Which one.
        field: &'static str,
        /// Its size.
        bytes: u32,
    },
}

impl NotTaken {
    /// What is wrong.
    pub(crate) fn into_reason(self) -> ConfigError {
        match self {
            Self::TlsRoot { reason, .. }
            | Self::Endpoint { reason, .. }
            | Self::Change { reason, .. } => reason,
        }
    }
}

/// The endpoint, and the beginning of the SHA-256 of each of its TLS roots.
impl fmt::Display for OrdererEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "{}", self.endpoint)?;
        for (position, root) in self.tls_roots.iter().enumerate() {
            f.write_str(if position == 0 { " (TLS roots " } else { ", " })?;
            for byte in tls_cert_hash(root).iter().take(SHOWN) {
                write!(f, "{byte:02x}")?;
            }
        }
        f.write_str(if self.tls_roots.is_empty() { "" } else { ")" })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            tls: Tls::Plain,
            overrides: Vec::new(),
            connect_timeout: Duration::from_secs(3),
            initial_timeout: Some(Duration::from_secs(30)),
            idle_timeout: None,
            keepalive_interval: SHORTEST_KEEPALIVE,
            keepalive_timeout: Duration::from_secs(20),
            max_message_bytes: NonZeroUsize::new(MAX_MESSAGE_BYTES)
                .expect("invariant: 100 MiB are not zero"),
            stream_window_bytes: 12 << 20,
            connection_window_bytes: 12 << 20,
            error_response: ErrorResponse::Strict,
        }
    }
}

impl Config {
    /// Checks the limits; what TLS needs is checked where it is built.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.keepalive_interval < SHORTEST_KEEPALIVE {
            return Err(ConfigError::KeepaliveTooShort {
                interval: self.keepalive_interval,
            });
        }
        let timeouts = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("initial_timeout", self.initial_timeout),
            ("idle_timeout", self.idle_timeout),
            ("keepalive_timeout", Some(self.keepalive_timeout)),
        ];
        for (field, timeout) in timeouts {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(ConfigError::ZeroTimeout { field });
            }
        }
        let windows = [
            ("stream_window_bytes", self.stream_window_bytes),
            ("connection_window_bytes", self.connection_window_bytes),
        ];
        for (field, bytes) in windows {
            if !(1..=LARGEST_WINDOW).contains(&bytes) {
                return Err(ConfigError::Window { field, bytes });
            }
        }
        Ok(())
    }
}
