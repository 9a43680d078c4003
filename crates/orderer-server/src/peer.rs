// SPDX-License-Identifier: Apache-2.0
//! Who is at the other end of a connection.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

/// Who is at the other end of a connection. [`serve`](crate::serve) puts it among the extensions of
/// every request.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address, where there is one.
    pub address: Option<SocketAddr>,
    /// What its TLS proved.
    pub tls: PeerTls,
    /// Cancelled when the server stops: calls shall end.
    pub stop: CancellationToken,
}

/// What the TLS of a connection proved of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerTls {
    /// The server does not ask for a client certificate, so that a request is not bound to one
    /// (BND-01).
    #[default]
    NotMutual,
    /// The server does, and this is the SHA-256 of the certificate's DER: a request must be bound to
    /// it (BND-02). `None` refuses every request.
    Mutual(Option<[u8; 32]>),
}

impl PeerTls {
    /// Whether a request with this `tls_cert_hash` may come over the connection.
    pub(crate) fn binds(self, claimed: &[u8]) -> bool {
        match self {
            Self::NotMutual => true,
            Self::Mutual(None) => false,
            Self::Mutual(Some(hash)) => claimed == hash,
        }
    }
}
