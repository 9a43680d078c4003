// SPDX-License-Identifier: Apache-2.0
//! Certificates of the fixtures.

use std::sync::Arc;

use orderer_client::{Tls, parse_pem_certificates, parse_pem_key};
use orderer_server::ServerTls;
use rustls::pki_types::CertificateDer;

use super::{clock, fixture};

pub(crate) fn certificates(path: &str) -> Vec<CertificateDer<'static>> {
    parse_pem_certificates(&fixture(path)).unwrap()
}

/// The CA that issued the certificate of `relay0`.
pub(crate) fn orderer_roots() -> Vec<CertificateDer<'static>> {
    certificates("msp/relay0/ca.crt")
}

/// A CA that did not.
pub(crate) fn other_roots() -> Vec<CertificateDer<'static>> {
    certificates("msp/org1/user1/tls/ca.crt")
}

/// TLS with the certificate of `relay0`, which is for localhost and 127.0.0.1.
pub(crate) fn server_tls() -> ServerTls {
    let key = parse_pem_key(&fixture("msp/relay0/server.key")).unwrap();
    ServerTls::server(certificates("msp/relay0/server.crt"), key, clock()).unwrap()
}

/// The same, for clients of Org1.
pub(crate) fn mutual_server_tls() -> ServerTls {
    let key = parse_pem_key(&fixture("msp/relay0/server.key")).unwrap();
    ServerTls::mutual(
        certificates("msp/relay0/server.crt"),
        key,
        &other_roots(),
        clock(),
    )
    .unwrap()
}

/// A client with the TLS identity of a user, such as `org1/user1`.
pub(crate) fn mutual_client_tls(user: &str) -> Tls {
    Tls::Mutual {
        certificates: certificates(&format!("msp/{user}/tls/client.crt")),
        key: Arc::new(parse_pem_key(&fixture(&format!("msp/{user}/tls/client.key"))).unwrap()),
    }
}
