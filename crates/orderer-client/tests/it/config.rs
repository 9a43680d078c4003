// SPDX-License-Identifier: Apache-2.0
//! What a configuration must be, and what it is by default.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{BlockSource as _, FixedClock};
use orderer_client::{
    AddressOverride, Config, ConfigError, ErrorResponse, NotTaken, OrdererClient, OrdererEndpoint,
    Tls, parse_pem_certificates, parse_pem_key,
};
use rustls::pki_types::CertificateDer;

use crate::support::{
    clock, endpoint, fixture,
    pki::{certificates, mutual_client_tls, orderer_roots, other_roots},
    plain, test_signer,
};

fn secured(tls_roots: Vec<CertificateDer<'static>>) -> Config {
    let endpoint = endpoint("localhost:7050");
    Config {
        endpoints: vec![OrdererEndpoint {
            endpoint,
            tls_roots,
        }],
        tls: Tls::Server,
        ..Config::default()
    }
}

fn error(config: Config) -> ConfigError {
    OrdererClient::new(config, test_signer(), clock()).expect_err("this cannot work")
}

/// The keepalive is no shorter than 60 s, since an orderer answers faster pings with GOAWAY.
#[test]
fn the_defaults() {
    let Config {
        endpoints,
        tls,
        overrides,
        connect_timeout,
        initial_timeout,
        idle_timeout,
        keepalive_interval,
        keepalive_timeout,
        max_message_bytes,
        stream_window_bytes,
        connection_window_bytes,
        error_response,
    } = Config::default();
    assert!(endpoints.is_empty() && overrides.is_empty());
    assert!(matches!(tls, Tls::Plain));
    assert_eq!(connect_timeout, Duration::from_secs(3));
    assert_eq!(initial_timeout, Some(Duration::from_secs(30)));
    assert_eq!(idle_timeout, None);
    assert_eq!(keepalive_interval, Duration::from_secs(60));
    assert_eq!(keepalive_timeout, Duration::from_secs(20));
    assert_eq!(max_message_bytes, NonZeroUsize::new(104_857_600).unwrap());
    assert_eq!(
        (stream_window_bytes, connection_window_bytes),
        (12_582_912, 12_582_912)
    );
    assert_eq!(error_response, ErrorResponse::Strict);
}

#[test]
fn limits_that_cannot_work_are_refused() {
    let zero = Duration::ZERO;
    let rows = [
        (
            Config {
                keepalive_interval: Duration::from_millis(59_999),
                ..Config::default()
            },
            "the keepalive interval is 59999 ms",
        ),
        (
            Config {
                connect_timeout: zero,
                ..Config::default()
            },
            "connect_timeout is zero",
        ),
        (
            Config {
                initial_timeout: Some(zero),
                ..Config::default()
            },
            "initial_timeout is zero",
        ),
        (
            Config {
                idle_timeout: Some(zero),
                ..Config::default()
            },
            "idle_timeout is zero",
        ),
        (
            Config {
                keepalive_timeout: zero,
                ..Config::default()
            },
            "keepalive_timeout is zero",
        ),
        (
            Config {
                stream_window_bytes: 0,
                ..Config::default()
            },
            "stream_window_bytes is 0 bytes",
        ),
        (
            Config {
                connection_window_bytes: 1 << 31,
                ..Config::default()
            },
            "connection_window_bytes is 2147483648",
        ),
    ];
    for (config, expected) in rows {
        let text = error(config).to_string();
        assert!(text.starts_with(expected), "{text}");
    }
}

/// Without roots, the machine's would say whom to trust (H15).
#[test]
fn tls_without_roots_is_an_error() {
    let refused = error(secured(Vec::new()));
    assert!(
        matches!(&refused, ConfigError::NoTlsRoots { endpoint } if endpoint.as_str() == "localhost:7050")
    );
    assert!(refused.to_string().contains("TLS CA"), "{refused}");
    // Those of an override count, also when there are none.
    let localhost = endpoint("localhost:7050");
    let entry = |tls_roots| AddressOverride {
        from: localhost.clone(),
        to: endpoint("relay:1"),
        tls_roots,
    };
    let with = |config: Config, entry| Config {
        overrides: vec![entry],
        ..config
    };
    assert!(
        OrdererClient::new(
            with(secured(Vec::new()), entry(Some(orderer_roots()))),
            test_signer(),
            clock()
        )
        .is_ok()
    );
    assert!(
        OrdererClient::new(
            with(secured(orderer_roots()), entry(None)),
            test_signer(),
            clock()
        )
        .is_ok()
    );
    let refused = error(with(secured(orderer_roots()), entry(Some(Vec::new()))));
    assert!(
        matches!(refused, ConfigError::NoTlsRoots { .. }),
        "{refused}"
    );
}

#[test]
fn certificates_that_are_none_are_refused() {
    let mut roots = orderer_roots();
    roots.push(CertificateDer::from(b"no certificate".to_vec()));
    let refused = error(secured(roots));
    assert!(
        matches!(refused, ConfigError::TlsRoot { position: 2, .. }),
        "{refused}"
    );

    let Tls::Mutual {
        certificates: chain,
        key,
    } = mutual_client_tls("org1/user1")
    else {
        unreachable!()
    };
    let with = |tls| Config {
        tls,
        ..secured(orderer_roots())
    };
    let refused = error(with(Tls::Mutual {
        certificates: Vec::new(),
        key: key.clone(),
    }));
    assert_eq!(refused, ConfigError::NoClientCertificate);
    let other = Arc::new(parse_pem_key(&fixture("msp/org2/user1/tls/client.key")).unwrap());
    let refused = error(with(Tls::Mutual {
        certificates: chain.clone(),
        key: other,
    }));
    assert!(
        matches!(refused, ConfigError::ClientCertificate { .. }),
        "{refused}"
    );
    assert!(
        OrdererClient::new(
            with(Tls::Mutual {
                certificates: chain,
                key
            }),
            test_signer(),
            clock()
        )
        .is_ok()
    );
}

#[test]
fn pem_is_parsed_from_values() {
    assert_eq!(certificates("msp/relay0/ca.crt").len(), 1);
    let both = [
        fixture("msp/relay0/ca.crt"),
        fixture("msp/org1/user1/tls/ca.crt"),
    ]
    .concat();
    assert_eq!(parse_pem_certificates(&both).unwrap().len(), 2);
    let nothing = parse_pem_certificates(&fixture("msp/relay0/server.key")).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "there is no certificate in the PEM text"
    );
    let nothing = parse_pem_key(&both).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "there is no private key in the PEM text"
    );
    let cut = &both[..both.len() - 40];
    assert!(
        parse_pem_certificates(cut)
            .unwrap_err()
            .to_string()
            .contains("does not parse")
    );
}

#[test]
fn no_key_shows_in_a_debug_form() {
    let tls = mutual_client_tls("org1/user1");
    let Tls::Mutual { key, .. } = &tls else {
        unreachable!()
    };
    let shown = format!("{tls:?}");
    let bytes = format!("{:?}", &key.secret_der()[20..40]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}

#[test]
fn endpoints_can_be_replaced_for_all_clones() {
    let (one, two) = (endpoint("one:1"), endpoint("two:2"));
    let secure = |endpoint: &block_api::Endpoint, tls_roots| OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots,
    };
    let config = Config {
        endpoints: vec![secure(&one, orderer_roots()), secure(&one, orderer_roots())],
        tls: Tls::Server,
        ..Config::default()
    };
    let client = OrdererClient::new(
        config,
        test_signer(),
        Arc::new(FixedClock(std::time::UNIX_EPOCH)),
    )
    .unwrap();
    let clone = client.clone();
    assert_eq!(
        clone.endpoints(),
        std::slice::from_ref(&one),
        "named twice is one endpoint"
    );
    let left_out =
        client.set_endpoints(&[secure(&two, orderer_roots()), secure(&one, orderer_roots())]);
    assert_eq!(left_out, []);
    assert_eq!(clone.endpoints(), [two, one]);
}

/// One mistake does not keep in force what a configuration has removed.
///
/// Covers: SRC-10
#[test]
fn endpoints_that_cannot_be_used_are_left_out_and_the_rest_takes_force() {
    let [before, good, mixed, rootless, broken, nameless] = [
        "before:1",
        "good:1",
        "mixed:1",
        "rootless:1",
        "broken:1",
        "no..name:1",
    ]
    .map(endpoint);
    let given = |endpoint: &block_api::Endpoint, tls_roots| OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots,
    };
    let none = || CertificateDer::from(b"no certificate".to_vec());
    let config = Config {
        endpoints: vec![given(&before, orderer_roots())],
        tls: Tls::Server,
        ..Config::default()
    };
    let client = OrdererClient::new(config, test_signer(), clock()).unwrap();
    let not_taken = client.set_endpoints(&[
        given(&rootless, Vec::new()),
        given(&good, orderer_roots()),
        given(&broken, vec![none()]),
        given(&mixed, vec![none()]),
        given(&nameless, orderer_roots()),
        given(&mixed, orderer_roots()),
    ]);
    assert_eq!(client.endpoints(), [good, mixed.clone()]);
    assert!(
        matches!(
            &not_taken[..],
            [
                NotTaken::Endpoint { endpoint: first, reason: ConfigError::NoTlsRoots { .. } },
                NotTaken::TlsRoot { endpoint: second, reason: ConfigError::TlsRoot { position: 1, .. } },
                NotTaken::Endpoint { endpoint: third, reason: ConfigError::NoTlsRoots { .. } },
                NotTaken::TlsRoot { endpoint: fourth, reason: ConfigError::TlsRoot { .. } },
                NotTaken::Endpoint { endpoint: fifth, reason: ConfigError::ServerName { .. } },
            ] if [first, second, third, fourth, fifth] == [&rootless, &broken, &broken, &mixed, &nameless]
        ),
        "{not_taken:?}"
    );
}

/// Whatever the channel has removed goes; without the others, no config block could mend it.
#[test]
fn when_nothing_can_be_used_only_endpoints_still_named_stay() {
    let [removed, named, added] = ["removed:1", "named:1", "added:1"].map(endpoint);
    let given = |endpoint: &block_api::Endpoint, tls_roots| OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots,
    };
    let config = Config {
        endpoints: vec![
            given(&removed, orderer_roots()),
            given(&named, orderer_roots()),
        ],
        tls: Tls::Server,
        ..Config::default()
    };
    let client = OrdererClient::new(config, test_signer(), clock()).unwrap();
    let not_taken = client.set_endpoints(&[
        given(&added, Vec::new()),
        given(&named, Vec::new()),
        given(&named, Vec::new()),
    ]);
    assert_eq!(client.endpoints(), std::slice::from_ref(&named));
    assert!(
        matches!(
            &not_taken[..],
            [NotTaken::Endpoint { endpoint: first, .. }, NotTaken::Change { endpoint: second, .. }]
                if [first, second] == [&added, &named]
        ),
        "{not_taken:?}"
    );
    assert_eq!(client.set_endpoints(&[]), []);
    assert_eq!(client.endpoints(), [], "named by nobody");
}

/// Covers: SRC-03
#[test]
fn an_endpoint_shows_with_what_is_trusted_there() {
    let shown = plain(&endpoint("one:1")).to_string();
    assert_eq!(shown, "one:1");
    let mut secure = OrdererEndpoint {
        endpoint: endpoint("one:1"),
        tls_roots: orderer_roots(),
    };
    let one = secure.to_string();
    let begins = |text: &str| text.starts_with("one:1 (TLS roots ") && text.ends_with(')');
    assert!(begins(&one), "{one}");
    assert_eq!(one.len(), "one:1 (TLS roots 0123456789abcdef)".len());
    secure.tls_roots.extend(other_roots());
    let two = secure.to_string();
    let first = one.trim_end_matches(')');
    assert!(begins(&two) && two.starts_with(first), "{two}");
    assert_ne!(two.len(), one.len());
}

/// What counts as a change is where an endpoint is dialled and whom it must be, overrides applied
/// (hazard H16).
///
/// Covers: SRC-02, SRC-06, SRC-07, SRC-08, SRC-09
#[test]
fn changes_of_endpoints_are_told_and_nothing_else_is() {
    let secure = |name: &str, tls_roots| OrdererEndpoint {
        endpoint: endpoint(name),
        tls_roots,
    };
    let roots = orderer_roots();
    let config = Config {
        endpoints: vec![secure("one:1", roots.clone())],
        tls: Tls::Server,
        overrides: vec![AddressOverride {
            from: endpoint("far:1"),
            to: endpoint("near:1"),
            tls_roots: Some(roots.clone()),
        }],
        ..Config::default()
    };
    let clock = Arc::new(FixedClock(std::time::UNIX_EPOCH));
    let client = OrdererClient::new(config, test_signer(), clock).unwrap();
    let mut changes = client.endpoint_changes().unwrap();
    assert!(!changes.has_changed().unwrap());
    let other_roots = other_roots();
    let (one, two) = (
        secure("one:1", roots.clone()),
        secure("two:2", roots.clone()),
    );
    let rows = [
        (vec![one.clone()], false, "the same"),
        (vec![one.clone(), two.clone()], true, "one more"),
        (vec![two.clone(), one.clone()], false, "another order"),
        (
            vec![one.clone(), one.clone(), two.clone()],
            false,
            "named twice",
        ),
        (
            vec![secure("one:1", other_roots.clone()), two.clone()],
            true,
            "other roots",
        ),
        (vec![one.clone(), two], true, "the roots as before"),
        (vec![one.clone()], true, "one less"),
        (
            vec![one.clone(), secure("far:1", roots)],
            true,
            "an overridden one",
        ),
        (
            vec![one, secure("far:1", other_roots)],
            false,
            "roots that the override replaces",
        ),
        (vec![], true, "none"),
    ];
    for (endpoints, changed, what) in rows {
        assert!(client.set_endpoints(&endpoints).is_empty(), "{what}");
        assert_eq!(changes.has_changed().unwrap(), changed, "{what}");
        changes.mark_unchanged();
    }
    // Of two endpoints, only the one that is reached otherwise has another version.
    let (three, four) = (
        secure("three:1", orderer_roots()),
        secure("four:1", orderer_roots()),
    );
    client.set_endpoints(&[three.clone(), four]);
    let versions = || ["three:1", "four:1"].map(|name| client.endpoint_version(&endpoint(name)));
    let [before, other] = versions();
    assert!(before.is_some());
    client.set_endpoints(&[
        three.clone(),
        secure("four:1", crate::support::pki::other_roots()),
    ]);
    let [after, changed] = versions();
    assert_eq!(before, after);
    assert_ne!(other, changed);
    client.set_endpoints(&[three]);
    assert_eq!(versions(), [before, None]);
    client.set_endpoints(&[]);
    changes.mark_unchanged();

    let not_taken = client.set_endpoints(&[secure("one:1", Vec::new())]);
    assert_eq!(not_taken.len(), 1);
    assert!(!changes.has_changed().unwrap(), "refused, and as before");
}
