// SPDX-License-Identifier: Apache-2.0
//! The rules of MSPs, with authorities made on the spot.

mod tls;

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use protos::msp::{FabricCryptoConfig, FabricMspConfig, FabricOuIdentifier};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};

use super::*;
use crate::{
    certificate::CertificateError,
    key::SignatureError,
    test_support::{
        TestSigner, block, fixture,
        pki::{TestCa, TestCert, marshalled, msp_config, params},
    },
};

const V2: MspVersion = MspVersion::V1_4_3;

/// An authority on the curve P-224, made with OpenSSL.
const P224: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBTzCB/aADAgECAhQUd4oiGY0njyhI/n8bwlcyP3CgDDAKBggqhkjOPQQDAjAP\n\
MQ0wCwYDVQQDDARwMjI0MB4XDTI2MTEyMjExMjU0NloXDTM2MTExOTExMjU0Nlow\n\
DzENMAsGA1UEAwwEcDIyNDBOMBAGByqGSM49AgEGBSuBBAAhAzoABO12VvHw31pX\n\
+9hSB4/ziyOKCqudg3uSzLrftb+muOeRg6IUoyYHFr7zheg7xdGytrASS+AcVsof\n\
o0IwQDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwICBDAdBgNVHQ4EFgQU\n\
YauAvh/z3xPMBrxi5XUuFnuswdYwCgYIKoZIzj0EAwIDQQAwPgIdAKpBAqWHW/Z2\n\
ZgQGjtc9ktyi1xt5SUg3OV8MgUICHQCJ3iOj8CMlpYiNn4jAN0VjcBZK73XcFY1q\n\
VCZg\n\
-----END CERTIFICATE-----\n\
";

fn msp(config: &FabricMspConfig, version: MspVersion) -> Result<Msp, MspError> {
    Msp::from_config(&marshalled(config), version)
}

fn org(root: &TestCa) -> Msp {
    msp(&msp_config("OrgMSP", &[root]), V2).unwrap()
}

fn judged(msp: &Msp, certificate: &TestCert) -> Result<(), IdentityError> {
    let identity = msp.identity(certificate.pem.as_bytes())?;
    identity.validity().map_err(Clone::clone)
}

fn unit(ca: &TestCa, name: &str) -> FabricOuIdentifier {
    FabricOuIdentifier {
        certificate: ca.pem.clone().into(),
        organizational_unit_identifier: name.to_owned(),
    }
}

/// Covers: CHC-10
#[test]
fn identities_are_told_apart_by_their_units() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let rows = [
        ("client", Role::Client),
        ("peer", Role::Peer),
        ("admin", Role::Admin),
        ("orderer", Role::Orderer),
    ];
    for (unit, role) in rows {
        let certificate = root.issue("someone", &["other", unit]);
        let identity = msp.identity(certificate.pem.as_bytes()).unwrap();
        assert_eq!((identity.role(), identity.msp_id()), (role, "OrgMSP"));
        assert!(identity.validity().is_ok());
        let signer = certificate.signer("OrgMSP");
        let signature = signer.sign(b"a message");
        assert_eq!(identity.verify(&[b"a ", b"message"], &signature), Ok(()));
        assert_eq!(
            identity.verify(&[b"another message"], &signature),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            identity.verify(&[b"a message"], &signer.sign_high_s(b"a message")),
            Err(SignatureError::HighS)
        );
        assert_eq!(
            identity.verify(&[b"a message"], b"0"),
            Err(SignatureError::Malformed)
        );
    }
    for (units, count) in [(&["other"][..], 0), (&["client", "peer"], 2), (&[], 0)] {
        let error = judged(&msp, &root.issue("someone", units)).unwrap_err();
        assert!(
            matches!(error, IdentityError::RoleUnits { count: found, .. } if found == count),
            "{error}"
        );
    }
}

#[test]
fn certificate_dates_do_not_matter_but_that_of_the_beginning() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let mut expired = params("expired", &["orderer"]);
    expired.not_before = date_time_ymd(2024, 2, 1);
    expired.not_after = date_time_ymd(2024, 3, 1);
    let expired = root.issue_with(expired, &PKCS_ECDSA_P256_SHA256);
    assert_eq!(
        judged(&msp, &expired),
        Ok(()),
        "an expired orderer's old blocks stay valid"
    );
    let identity = msp.identity(expired.pem.as_bytes()).unwrap();
    assert_eq!(
        identity.not_after(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_251_200)
    );

    let mut early = params("early", &["orderer"]);
    early.not_before = date_time_ymd(2023, 1, 1);
    let error = judged(&msp, &root.issue_with(early, &PKCS_ECDSA_P256_SHA256)).unwrap_err();
    assert!(
        matches!(error, IdentityError::Chain(ChainError::NoAuthority { .. })),
        "older than its authority: {error}"
    );
}

#[test]
fn strangers_and_authorities_are_no_identities() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let namesake = TestCa::root("ca");
    for stranger in [&namesake, &TestCa::root("other")] {
        let error = judged(&msp, &stranger.issue("someone", &["client"])).unwrap_err();
        assert!(
            matches!(error, IdentityError::Chain(ChainError::NoAuthority { .. })),
            "{error}"
        );
    }
    let error = msp
        .identity(root.pem.as_bytes())
        .unwrap()
        .validity()
        .unwrap_err()
        .clone();
    assert!(matches!(error, IdentityError::Authority { .. }), "{error}");
    let mut authority = params("authority", &["client"]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let error = judged(&msp, &root.issue_with(authority, &PKCS_ECDSA_P256_SHA256)).unwrap_err();
    assert!(matches!(error, IdentityError::Authority { .. }), "{error}");
    for garbage in [
        "",
        "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----",
    ] {
        assert!(matches!(
            msp.identity(garbage.as_bytes()),
            Err(IdentityError::Certificate(_))
        ));
    }
}

#[test]
fn a_revoked_certificate_is_not_valid() {
    let root = TestCa::root("ca");
    let with_serial = |serial: u8| {
        let mut params = params("someone", &["orderer"]);
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        root.issue_with(params, &PKCS_ECDSA_P256_SHA256)
    };
    let (good, bad) = (with_serial(6), with_serial(7));
    let mut config = msp_config("OrgMSP", &[&root]);
    config.revocation_list = vec![root.revoke(7).into()];
    let revoking = msp(&config, V2).unwrap();
    assert_eq!(judged(&revoking, &good), Ok(()));
    assert!(matches!(
        judged(&revoking, &bad),
        Err(IdentityError::Revoked { .. })
    ));
    // A list of the same name by another key revokes nothing.
    config.revocation_list = vec![TestCa::root("ca").revoke(7).into()];
    assert_eq!(judged(&msp(&config, V2).unwrap(), &bad), Ok(()));
    config.revocation_list = vec!["garbage".into()];
    assert!(matches!(
        msp(&config, V2),
        Err(MspError::RevocationList { index: 0, .. })
    ));
}

#[test]
fn extended_key_usages_must_allow_servers_if_there_are_any() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let rows = [
        (vec![], true),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], true),
        (vec![ExtendedKeyUsagePurpose::Any], true),
        (
            vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
            true,
        ),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], false),
        (vec![ExtendedKeyUsagePurpose::CodeSigning], false),
    ];
    for (usages, good) in rows {
        let mut params = params("someone", &["client"]);
        params.extended_key_usages = usages.clone();
        let verdict = judged(&msp, &root.issue_with(params, &PKCS_ECDSA_P256_SHA256));
        assert_eq!(verdict.is_ok(), good, "{usages:?}: {verdict:?}");
        assert!(
            good || matches!(
                verdict,
                Err(IdentityError::Chain(ChainError::KeyUsage { .. }))
            )
        );
    }
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    for critical in [false, true] {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        let mut params = params("someone", &["client"]);
        params.custom_extensions = vec![extension];
        let verdict = judged(&msp, &root.issue_with(params, &PKCS_ECDSA_P256_SHA256));
        let refused = matches!(&verdict, Err(IdentityError::Chain(ChainError::UnknownCritical { oid, .. })) if oid == "1.2.3.4");
        assert_eq!(refused, critical, "{verdict:?}");
    }
}

#[test]
fn only_the_leaves_of_the_tree_of_authorities_issue_identities() {
    let root = TestCa::root("root");
    let upper = root.intermediate("upper");
    let lower = upper.intermediate("lower");
    let mut config = msp_config("OrgMSP", &[&root]);
    config.intermediate_certs = vec![upper.pem.clone().into(), lower.pem.clone().into()];
    let msp = msp(&config, V2).unwrap();
    assert_eq!(judged(&msp, &lower.issue("someone", &["peer"])), Ok(()));
    for issuer in [&root, &upper] {
        let error = judged(&msp, &issuer.issue("someone", &["peer"])).unwrap_err();
        assert!(
            matches!(error, IdentityError::IssuerNotLeaf { .. }),
            "{error}"
        );
    }
}

#[test]
fn path_lengths_and_key_usages_of_authorities_hold() {
    let short = TestCa::root_with(
        "root",
        &PKCS_ECDSA_P256_SHA256,
        |params: &mut CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        },
    );
    let intermediate = short.intermediate("intermediate");
    let mut config = msp_config("OrgMSP", &[&short]);
    assert_eq!(
        judged(
            &msp(&config, V2).unwrap(),
            &short.issue("someone", &["peer"])
        ),
        Ok(())
    );
    config.intermediate_certs = vec![intermediate.pem.clone().into()];
    // The intermediate itself is fine; an identity below it would be the second link too many.
    let msp_with_both = msp(&config, V2).unwrap();
    let error = judged(&msp_with_both, &intermediate.issue("someone", &["peer"])).unwrap_err();
    assert!(
        matches!(error, IdentityError::Chain(ChainError::NoAuthority { .. })),
        "{error}"
    );

    let signs_nothing = TestCa::root("root").intermediate_with("no signer", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let config = msp_config("OrgMSP", &[&signs_nothing]);
    assert!(
        matches!(msp(&config, V2), Err(MspError::Chain { .. })),
        "a root that did not sign itself"
    );
}

#[test]
fn two_chains_are_one_too_many() {
    let (one, other) = (TestCa::root("one"), TestCa::root("other"));
    let intermediate = one.intermediate("intermediate");
    // The same authority, vouched for by the other root, too.
    let crossed = other.vouch_for(&intermediate);
    let mut config = msp_config("OrgMSP", &[&one, &other]);
    config.intermediate_certs = vec![intermediate.pem.clone().into(), crossed.into()];
    let msp = msp(&config, V2).unwrap();
    let error = judged(&msp, &intermediate.issue("someone", &["peer"])).unwrap_err();
    assert!(
        matches!(
            error,
            IdentityError::Chain(ChainError::Ambiguous { count: 2, .. })
        ),
        "{error}"
    );
}

#[test]
fn units_are_tied_to_who_certifies_them() {
    let (one, other) = (TestCa::root("one"), TestCa::root("other"));
    let mut config = msp_config("OrgMSP", &[&one, &other]);
    let nodes = config.fabric_node_ous.as_mut().unwrap();
    nodes.orderer_ou_identifier = Some(unit(&one, "orderer"));
    let tied = msp(&config, V2).unwrap();
    assert_eq!(judged(&tied, &one.issue("someone", &["orderer"])), Ok(()));
    let error = judged(&tied, &other.issue("someone", &["orderer"])).unwrap_err();
    assert!(matches!(error, IdentityError::UnitIssuer { .. }), "{error}");

    config.organizational_unit_identifiers = vec![unit(&one, "department")];
    let department = msp(&config, V2).unwrap();
    assert_eq!(
        judged(
            &department,
            &one.issue("someone", &["client", "department"])
        ),
        Ok(())
    );
    for (issuer, units) in [(&one, &["client"][..]), (&other, &["client", "department"])] {
        let error = judged(&department, &issuer.issue("someone", units)).unwrap_err();
        assert!(matches!(error, IdentityError::Unit { .. }), "{error}");
    }
    config.organizational_unit_identifiers = vec![unit(&TestCa::root("stranger"), "department")];
    assert!(matches!(msp(&config, V2), Err(MspError::UnitIssuer { .. })));
}

#[test]
fn versions_differ_in_roles_and_keys() {
    let root = TestCa::root("ca");
    let config = {
        let mut config = msp_config("OrgMSP", &[&root]);
        config.admins = vec![root.issue("boss", &["client"]).pem.into()];
        config
    };
    let role = |version, unit: &str| {
        let msp = msp(&config, version).unwrap();
        let identity = msp
            .identity(root.issue("someone", &[unit]).pem.as_bytes())
            .unwrap();
        identity
            .validity()
            .map(|()| identity.role())
            .map_err(ToString::to_string)
    };
    for version in [MspVersion::V1_1, MspVersion::V1_3] {
        assert_eq!(role(version, "peer"), Ok(Role::Peer), "{version:?}");
        assert!(role(version, "orderer").is_err(), "{version:?}");
        assert!(role(version, "admin").is_err(), "{version:?}");
    }
    assert_eq!(
        role(MspVersion::V1_0, "peer"),
        Ok(Role::Member),
        "V1_0 tells nobody apart"
    );
    assert_eq!(role(V2, "orderer"), Ok(Role::Orderer));

    let edwards = root.issue_with(params("someone", &["orderer"]), &PKCS_ED25519);
    let error = judged(&msp(&config, V2).unwrap(), &edwards).unwrap_err();
    assert!(
        matches!(error, IdentityError::KeyNotAllowed { .. }),
        "{error}"
    );
    let newest = msp(&config, MspVersion::V3_0).unwrap();
    assert_eq!(judged(&newest, &edwards), Ok(()));
    let signature = rcgen::SigningKey::sign(&edwards.key, b"a message").unwrap();
    let identity = newest.identity(edwards.pem.as_bytes()).unwrap();
    assert_eq!(identity.verify(&[b"a ", b"message"], &signature), Ok(()));
    assert_eq!(
        identity.verify(&[b"message"], &signature),
        Err(SignatureError::Wrong)
    );
    assert_eq!(
        judged(
            &newest,
            &root.issue_with(params("someone", &["peer"]), &PKCS_ECDSA_P384_SHA384)
        ),
        Ok(())
    );
}

#[test]
fn administrators_are_listed_or_carry_the_unit() {
    let root = TestCa::root("ca");
    let boss = root.issue("boss", &["client"]);
    let mut config = msp_config("OrgMSP", &[&root]);
    config.admins = vec![boss.pem.clone().into()];
    let listed = msp(&config, V2).unwrap();
    assert_eq!(
        listed.identity(boss.pem.as_bytes()).unwrap().role(),
        Role::Admin
    );
    assert_eq!(
        listed
            .identity(root.issue("other", &["client"]).pem.as_bytes())
            .unwrap()
            .role(),
        Role::Client
    );
    // The same certificate in other bytes is the same administrator.
    let other_bytes = format!("a comment\n{}\n", boss.pem);
    assert_eq!(
        listed.identity(other_bytes.as_bytes()).unwrap().role(),
        Role::Admin
    );

    config.admins = vec![root.issue("peer", &["peer"]).pem.into()];
    assert!(matches!(
        msp(&config, V2),
        Err(MspError::AdminRole { index: 0, .. })
    ));
    config.admins = vec![TestCa::root("ca").issue("stranger", &["client"]).pem.into()];
    assert!(matches!(
        msp(&config, V2),
        Err(MspError::Chain { index: 0, .. })
    ));
    config.admins.clear();
    config.fabric_node_ous = None;
    assert!(matches!(msp(&config, V2), Err(MspError::NoAdmin { .. })));
}

#[test]
fn configurations_that_fabric_refuses_are_refused() {
    let root = TestCa::root("ca");
    let good = msp_config("OrgMSP", &[&root]);
    let refused = |change: &dyn Fn(&mut FabricMspConfig)| {
        let mut config = good.clone();
        change(&mut config);
        msp(&config, V2).map(|_| ()).unwrap_err()
    };
    assert!(msp(&good, V2).is_ok());
    assert!(matches!(refused(&|c| c.name.clear()), MspError::NoId));
    assert!(matches!(
        refused(&|c| c.root_certs.clear()),
        MspError::NoRoot { .. }
    ));
    assert!(matches!(
        refused(&|c| c.root_certs = vec!["x".into()]),
        MspError::Certificate {
            source: CertificateError::NoPem,
            ..
        }
    ));
    let leaf = root.issue("leaf", &["client"]).pem;
    let error = refused(&|c| c.root_certs.push(leaf.clone().into()));
    assert!(
        matches!(
            error,
            MspError::Chain { index: 1, .. } | MspError::NotAnAuthority { .. }
        ),
        "{error}"
    );
    let error = refused(&|c| c.tls_root_certs = vec![leaf.clone().into()]);
    assert!(
        matches!(
            error,
            MspError::NotAnAuthority {
                what: "CA flag",
                ..
            }
        ),
        "{error}"
    );
    let stranger = TestCa::root("other").intermediate("stranger");
    let error = refused(&|c| c.intermediate_certs = vec![stranger.pem.clone().into()]);
    assert!(
        matches!(
            error,
            MspError::Chain {
                kind: "intermediate",
                ..
            }
        ),
        "{error}"
    );
    let hashes = |signature: &str, identity: &str| FabricCryptoConfig {
        signature_hash_family: signature.to_owned(),
        identity_identifier_hash_function: identity.to_owned(),
    };
    assert!(matches!(
        refused(&|c| c.crypto_config = Some(hashes("", "MD5"))),
        MspError::Hash { .. }
    ));
    for (signature, identity) in [
        ("SHA2", "SHA256"),
        ("", "SHA384"),
        ("", "SHA3_256"),
        ("", "SHA3_384"),
        ("SHA3", "SHA256"),
        ("MD5", "SHA256"),
    ] {
        let mut config = good.clone();
        config.crypto_config = Some(hashes(signature, identity));
        assert!(msp(&config, V2).is_ok(), "{identity}");
    }
    let error = Msp::from_config(&[0x08, 0x07], V2).unwrap_err();
    assert!(
        matches!(error, MspError::UnknownType { kind: 7 }),
        "{error}"
    );
    assert!(matches!(
        Msp::from_config(&[0xff], V2),
        Err(MspError::Malformed { .. })
    ));
}

/// Fabric takes these MSPs. Here they are there, so that the configuration serves, and know nobody.
#[test]
fn msps_that_cannot_be_judged_are_there_but_know_nobody() {
    // type 1; config { name: "anon" }
    let idemix = [&[0x08, 1, 0x12, 6][..], &[0x0a, 4], b"anon"].concat();
    let root = TestCa::root("ca");
    let mut short_curve = msp_config("OrgMSP", &[&root]);
    short_curve.root_certs.push(P224.into());
    let constrained = TestCa::root_with("ca", &PKCS_ECDSA_P256_SHA256, constrain_names);
    let named = constrained.intermediate_with("named", |params| {
        params.subject_alt_names = vec![SanType::DnsName("example.com".try_into().unwrap())];
    });
    let mut names = msp_config("OrgMSP", &[&constrained]);
    names.intermediate_certs = vec![named.pem.clone().into()];
    let rows = [
        (idemix, "anon", "idemix"),
        (marshalled(&short_curve), "OrgMSP", "1.3.132.0.33"),
        (marshalled(&names), "OrgMSP", "constrains names"),
    ];
    for (config, id, reason) in rows {
        let msp = Msp::from_config(&config, V2).unwrap();
        assert_eq!(msp.id(), id);
        for certificate in [
            &root.issue("someone", &["peer"]),
            &named.issue("someone", &["peer"]),
        ] {
            let error = judged(&msp, certificate).unwrap_err();
            assert!(matches!(error, IdentityError::UnsupportedMsp { .. }));
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    crate::pem::first_block(pem.as_bytes()).unwrap().0.into()
}

fn constrain_names(params: &mut CertificateParams) {
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".to_owned())],
        excluded_subtrees: vec![],
    });
}

/// Constraints concern alternative names alone.
#[test]
fn constrained_authorities_vouch_for_who_has_no_alternative_names() {
    let root = TestCa::root_with("ca", &PKCS_ECDSA_P256_SHA256, constrain_names);
    let mut config = msp_config("OrgMSP", &[&root]);
    let tls = root.intermediate_with("tls", |params| {
        params.subject_alt_names = vec![SanType::DnsName("example.com".try_into().unwrap())];
    });
    config.tls_root_certs = vec![root.pem.clone().into()];
    config.tls_intermediate_certs = vec![tls.pem.into()];
    let constrained = msp(&config, V2).unwrap();
    assert_eq!(constrained.tls_authorities().len(), 2);
    assert_eq!(
        judged(&constrained, &root.issue("someone", &["peer"])),
        Ok(())
    );
    let mut named = params("someone", &["peer"]);
    named.subject_alt_names = vec![SanType::DnsName("example.com".try_into().unwrap())];
    let error = judged(
        &constrained,
        &root.issue_with(named.clone(), &PKCS_ECDSA_P256_SHA256),
    );
    assert!(
        matches!(
            error,
            Err(IdentityError::Chain(ChainError::NameConstraints { .. }))
        ),
        "{error:?}"
    );
    let free = TestCa::root("ca");
    assert_eq!(
        judged(
            &org(&free),
            &free.issue_with(named, &PKCS_ECDSA_P256_SHA256)
        ),
        Ok(())
    );

    // Go does not know constraints on names of directories.
    let unknown = TestCa::root_with("ca", &PKCS_ECDSA_P256_SHA256, |params| {
        let name = params.distinguished_name.clone();
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DirectoryName(name)],
            excluded_subtrees: vec![],
        });
    });
    let error = msp(&msp_config("OrgMSP", &[&unknown]), V2).unwrap_err();
    assert!(
        matches!(
            error,
            MspError::Chain {
                source: ChainError::UnknownCritical { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_msp_says_over_which_hash_its_identities_sign() {
    let root = TestCa::root("ca");
    let certificate = root.issue("someone", &["client"]);
    let signer = certificate.signer("OrgMSP");
    let sha2 = signer.sign(b"a message");
    let sha3 = signer.sign_sha3(b"a message");
    let verify = |family: &str, signature: &[u8]| {
        let mut config = msp_config("OrgMSP", &[&root]);
        config.crypto_config = Some(FabricCryptoConfig {
            signature_hash_family: family.to_owned(),
            ..Default::default()
        });
        let msp = msp(&config, V2).unwrap();
        let identity = msp.identity(certificate.pem.as_bytes()).unwrap();
        identity.verify(&[b"a ", b"message"], signature)
    };
    for (family, sha2_outcome, sha3_outcome) in [
        ("", Ok(()), Err(SignatureError::Wrong)),
        ("SHA2", Ok(()), Err(SignatureError::Wrong)),
        ("SHA3", Err(SignatureError::Wrong), Ok(())),
        (
            "MD5",
            Err(SignatureError::UnknownHash),
            Err(SignatureError::UnknownHash),
        ),
    ] {
        assert_eq!(verify(family, &sha2), sha2_outcome, "{family:?}");
        assert_eq!(verify(family, &sha3), sha3_outcome, "{family:?}");
    }
}

/// A certificate whose signature has a high S and the same with a low S are one identity.
#[test]
fn certificates_are_compared_with_a_low_s() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    // Half of all certificates are made with a high S.
    let certificates: Vec<TestCert> = (0..40)
        .map(|_| root.issue("someone", &["client"]))
        .collect();
    let mut high = 0;
    for certificate in &certificates {
        let identity = msp.identity(certificate.pem.as_bytes()).unwrap();
        assert!(identity.validity().is_ok());
        let (der, _) = crate::pem::first_block(certificate.pem.as_bytes()).unwrap();
        high += usize::from(der != *identity.certificate());
    }
    assert!((1..40).contains(&high), "{high} of 40");
}

#[test]
fn the_cache_is_bounded_and_a_hit_is_the_same_identity() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let certificate = root.issue("someone", &["client"]);
    let first = msp.identity(certificate.pem.as_bytes()).unwrap();
    for comment in 0..600 {
        // Other bytes, so other entries.
        msp.identity(format!("{comment}\n{}", certificate.pem).as_bytes())
            .unwrap();
        if comment % 100 == 0 {
            assert!(
                Arc::ptr_eq(&first, &msp.identity(certificate.pem.as_bytes()).unwrap()),
                "used, so it stays"
            );
        }
    }
    assert_eq!(msp.cache.len(), 512);
    let big = format!("{}\n{}", " ".repeat(20_000), certificate.pem);
    msp.identity(big.as_bytes()).unwrap();
    assert_eq!(msp.cache.len(), 512);
}

/// Covers: MCS-02, MCS-14
#[test]
fn the_identities_of_the_recorded_network_are_what_they_are_called() {
    let config = crate::ChannelConfig::from_block(&block("raft/block_0.pb")).unwrap();
    let rows = [
        ("org1/user1", "Org1MSP", Role::Client),
        ("org1/peer0", "Org1MSP", Role::Peer),
        ("org1/admin", "Org1MSP", Role::Admin),
        ("org2/peer0", "Org2MSP", Role::Peer),
        ("orderer/raft0", "OrdererMSP", Role::Orderer),
    ];
    for (folder, msp_id, role) in rows {
        let signer = TestSigner::of_fixture(folder, msp_id);
        let identity = config.msps().identity(&signer.identity).unwrap();
        assert_eq!(
            (identity.role(), identity.validity().is_ok()),
            (role, true),
            "{folder}"
        );
        let claimed = if msp_id == "Org1MSP" {
            "Org2MSP"
        } else {
            "Org1MSP"
        };
        let error = config
            .msps()
            .identity(&signer.claiming(claimed).identity)
            .unwrap_err();
        assert!(
            matches!(error, IdentityError::Chain(_)),
            "{folder}: {error}"
        );
    }
    let unknown = TestSigner::of_fixture("org1/user1", "NoMSP");
    assert!(matches!(
        config.msps().identity(&unknown.identity),
        Err(IdentityError::UnknownMsp { .. })
    ));
    assert!(matches!(
        config.msps().identity(&[0xff]),
        Err(IdentityError::Malformed)
    ));
}

#[test]
fn a_certificate_of_a_megabyte_is_no_trouble() {
    let root = TestCa::root("ca");
    let msp = org(&root);
    let mut big = params("someone", &["client"]);
    big.custom_extensions = vec![CustomExtension::from_oid_content(
        &[1, 2, 3],
        vec![0x55; 1 << 20],
    )];
    assert_eq!(
        judged(&msp, &root.issue_with(big, &PKCS_ECDSA_P256_SHA256)),
        Ok(())
    );
    assert_eq!(msp.cache.len(), 0, "it is not kept");
}

proptest! {
    #[test]
    fn mutated_certificates_never_panic(position in 0usize..10_000, byte in any::<u8>()) {
        let config = crate::ChannelConfig::from_block(&block("raft/block_0.pb")).unwrap();
        let pem = fixture("msp/org1/msp/cacerts/ca.org1.test-cert.pem");
        let (mut der, _) = crate::pem::first_block(&pem).unwrap();
        let position = position % der.len();
        der[position] = byte;
        if let Ok(certificate) = Certificate::from_der(der) {
            drop(config.msps().get("Org1MSP").unwrap().judge(certificate));
        }
    }

    #[test]
    fn arbitrary_identities_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(SerializedIdentity::parse(&bytes));
        drop(Msp::from_config(&bytes, V2));
    }
}
