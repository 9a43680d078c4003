// SPDX-License-Identifier: Apache-2.0
//! Why a connection failed, in one line that names the thing, the reason and the remedy.

use std::{error::Error, fmt, io};

use block_api::Endpoint;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tonic::{Code, Status};

use crate::connection::{Link, Loss};

/// What a connection to an orderer failed of. It is the source of
/// [`SourceError::Connect`](block_api::SourceError::Connect) and of
/// [`SourceError::Broken`](block_api::SourceError::Broken).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address did not answer.
    #[error("{address} does not answer: {source}")]
    Dial {
        /// Where it was dialled.
        address: Endpoint,
        /// What the network said.
        source: io::Error,
    },
    /// The orderer's certificate is not trusted.
    #[error("the TLS certificate of {address} is not accepted: {reason}; {remedy}")]
    ServerCertificate {
        /// Where it was dialled.
        address: Endpoint,
        /// What is wrong with the certificate.
        reason: CertificateError,
        /// What to do.
        remedy: &'static str,
    },
    /// The orderer refused the client in the TLS handshake.
    #[error("{address} refused the TLS handshake with the alert {alert:?}: {remedy}")]
    ClientRefused {
        /// Where it was dialled.
        address: Endpoint,
        /// What the orderer said.
        alert: AlertDescription,
        /// What to do.
        remedy: &'static str,
    },
    /// TLS failed otherwise.
    #[error("TLS with {address} failed: {source}{}", remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    Tls {
        /// Where it was dialled.
        address: Endpoint,
        /// What TLS said.
        source: TlsError,
        /// What to do, where that is known.
        remedy: Option<&'static str>,
    },
    /// The connection was closed or lost.
    #[error("the connection to {address} was lost: {loss}{}", hint.map(|hint| format!("; {hint}")).unwrap_or_default())]
    Lost {
        /// Where it was dialled.
        address: Endpoint,
        /// What the network said.
        loss: Loss,
        /// What it may come from, where that can be guessed.
        hint: Option<&'static str>,
    },
    /// HTTP/2 failed; a GOAWAY of the orderer is among it.
    #[error("HTTP/2 with {address} failed: {chain}")]
    Http2 {
        /// Where it was dialled.
        address: Endpoint,
        /// What HTTP/2 said, each cause after the one it caused.
        chain: String,
    },
    /// A message is larger than this client takes.
    #[error(
        "a message is above the limit of {limit} bytes ({detail}); raise max_message_bytes if the channel has such blocks"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
        /// How large it is, in the words of the decoder.
        detail: String,
    },
    /// The orderer ended the call with a gRPC status of its own.
    #[error("{address} ended the call with the gRPC status {code:?}: {message}")]
    Status {
        /// Where it was dialled.
        address: Endpoint,
        /// The status.
        code: Code,
        /// Its text.
        message: String,
    },
}

/// What is known of a connection when it fails.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) address: Endpoint,
    pub(crate) tls: bool,
    pub(crate) client_certificate: bool,
    pub(crate) max_message_bytes: usize,
}

impl Circumstances {
    pub(crate) fn dial(&self, source: io::Error) -> TransportError {
        TransportError::Dial {
            address: self.address.clone(),
            source,
        }
    }

    /// An error in the TLS handshake, or instead of it.
    pub(crate) fn handshake(&self, error: io::Error) -> TransportError {
        self.lost(&Link {
            answered: false,
            loss: Some(Loss::of(&error)),
        })
    }

    pub(crate) fn http2(&self, error: &hyper::Error) -> TransportError {
        TransportError::Http2 {
            address: self.address.clone(),
            chain: chain(error),
        }
    }

    /// A connection that was closed or lost.
    pub(crate) fn lost(&self, link: &Link) -> TransportError {
        let loss = link.loss.clone().unwrap_or(Loss::Closed);
        if let Loss::Tls(error) = loss {
            return self.tls(error);
        }
        let hint = match (link.answered, self.tls, self.client_certificate) {
            (true, ..) => None,
            _ if matches!(loss, Loss::NotHttp2 { tls: false }) => Some("check the address"),
            (false, false, _) => Some("if the orderer uses TLS, turn TLS on"),
            (false, true, false) => Some(
                "it may demand a client certificate: configure mutual TLS if the orderer has client authentication on",
            ),
            (false, true, true) => Some(
                "it may not accept the client's certificate: check that the orderer trusts its issuer",
            ),
        };
        TransportError::Lost {
            address: self.address.clone(),
            loss,
            hint,
        }
    }

    /// A call that ended with an error, on a connection in this state.
    pub(crate) fn call(&self, status: &Status, link: &Link) -> TransportError {
        let address = self.address.clone();
        if status.code() == Code::OutOfRange {
            return TransportError::TooLarge {
                limit: self.max_message_bytes,
                detail: status.message().to_owned(),
            };
        }
        // A status with a cause was made on this side.
        match status.source() {
            None => TransportError::Status {
                address,
                code: status.code(),
                message: status.message().to_owned(),
            },
            Some(_) if link.loss.is_some() && !is_goaway(status) => self.lost(link),
            Some(cause) => TransportError::Http2 {
                address,
                chain: chain(cause),
            },
        }
    }

    fn tls(&self, error: TlsError) -> TransportError {
        let address = self.address.clone();
        if let TlsError::InvalidCertificate(reason) = error {
            let remedy = remedy_for_certificate(&reason);
            return TransportError::ServerCertificate {
                address,
                reason,
                remedy,
            };
        }
        if let TlsError::AlertReceived(alert) = error
            && let Some(remedy) = self.remedy_for_alert(alert)
        {
            return TransportError::ClientRefused {
                address,
                alert,
                remedy,
            };
        }
        let remedy = matches!(error, TlsError::InvalidMessage(_))
            .then_some("what listens there does not speak TLS: check the address, or turn TLS off");
        TransportError::Tls {
            address,
            source: error,
            remedy,
        }
    }

    fn remedy_for_alert(&self, alert: AlertDescription) -> Option<&'static str> {
        // The list of alerts is open, and each that is not about certificates says enough itself.
        #[expect(clippy::wildcard_enum_match_arm, reason = "see above")]
        match alert {
            AlertDescription::CertificateRequired => Some(
                "it demands a client certificate; configure mutual TLS with a certificate and key",
            ),
            AlertDescription::HandshakeFailure | AlertDescription::BadCertificate
                if !self.client_certificate =>
            {
                Some(
                    "it may demand a client certificate; configure mutual TLS with a certificate and key",
                )
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Some(
                "it does not accept the client's certificate; use one of an issuer that the orderer trusts",
            ),
            _ => None,
        }
    }
}

/// An error and its causes in one line; a cause that only repeats what is written is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// Whether the orderer said why before it closed the connection.
fn is_goaway(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2.is_go_away() && h2.is_remote();
        }
        next = cause.source();
    }
    false
}

fn remedy_for_certificate(error: &CertificateError) -> &'static str {
    // The list of reasons is open, and the rest of them have one remedy.
    #[expect(clippy::wildcard_enum_match_arm, reason = "see above")]
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "give the TLS CA that issued it as a TLS root of this endpoint"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "reach the orderer by a name that its certificate has, if need be with an address override"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the orderer's certificate, or set the clock of this machine right"
        }
        _ => "the orderer needs another certificate",
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it was closed at the other end"),
            Self::Io(kind, text) if text.is_empty() => write!(f, "{kind}"),
            Self::Io(_, text) => f.write_str(text),
            Self::Tls(error) => error.fmt(f),
            Self::NotHttp2 { tls: false } => {
                f.write_str("what answers there does not speak HTTP/2")
            }
            Self::NotHttp2 { tls: true } => f.write_str("what answers there speaks TLS"),
        }
    }
}
