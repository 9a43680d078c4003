// SPDX-License-Identifier: Apache-2.0
//! The TLS authorities of an MSP.

use super::*;

/// Fabric takes such a TLS authority, and judges no identity by it.
#[test]
fn a_tls_authority_that_is_not_supported_is_left_out_and_identities_count() {
    let (root, tls) = (TestCa::root("ca"), TestCa::root("tls"));
    let mut config = msp_config("OrgMSP", &[&root]);
    config.tls_root_certs = vec![P224.into(), tls.pem.clone().into()];
    // Its issuer may be the one that is not supported.
    let below = TestCa::root("other").intermediate("below");
    config.tls_intermediate_certs = vec![below.pem.into()];
    let taken = msp(&config, V2).unwrap();
    assert_eq!(taken.tls_authorities(), [der(&tls.pem)]);
    assert_eq!(judged(&taken, &root.issue("someone", &["peer"])), Ok(()));
    config.tls_root_certs.truncate(1);
    let taken = msp(&config, V2).unwrap();
    assert_eq!(taken.tls_authorities(), []);
    assert_eq!(judged(&taken, &root.issue("someone", &["peer"])), Ok(()));
    // Where all are supported, its issuer is unknown.
    config.tls_root_certs = vec![tls.pem.into()];
    let error = msp(&config, V2).map(|_| ()).unwrap_err();
    assert!(matches!(error, MspError::Chain { .. }), "{error}");
}

/// The first certificate of a text is held to the rules of the MSP; clients trust all that are
/// handed on.
#[test]
fn of_a_tls_text_only_authorities_are_handed_on() {
    let (root, one, two) = (TestCa::root("ca"), TestCa::root("one"), TestCa::root("two"));
    let leaf = one.issue("leaf", &[]).pem;
    let other_kind = two.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let text = [
        &one.pem,
        &*leaf,
        &other_kind,
        no_certificate,
        P224,
        &two.pem,
    ]
    .concat();
    let mut config = msp_config("OrgMSP", &[&root]);
    config.tls_root_certs = vec![text.into()];
    let taken = msp(&config, V2).unwrap();
    assert_eq!(taken.tls_authorities(), [der(&one.pem), der(&two.pem)]);
}

/// Constraints on names do not end the checks of those that come after.
#[test]
fn a_tls_authority_behind_a_constrained_one_is_checked() {
    let root = TestCa::root_with("ca", &PKCS_ECDSA_P256_SHA256, constrain_names);
    let named = root.intermediate_with("tls", |params| {
        params.subject_alt_names = vec![SanType::DnsName("example.com".try_into().unwrap())];
    });
    let mut config = msp_config("OrgMSP", &[&root]);
    config.tls_root_certs = vec![root.pem.clone().into()];
    let leaf = root.issue("leaf", &[]).pem;
    config.tls_intermediate_certs = vec![named.pem.into(), leaf.into()];
    let error = msp(&config, V2).map(|_| ()).unwrap_err();
    assert!(matches!(error, MspError::NotAnAuthority { .. }), "{error}");
}
