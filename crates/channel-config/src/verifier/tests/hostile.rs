// SPDX-License-Identifier: Apache-2.0
//! Bad signatures, bad identities and bad policies, as blocks: none is let through, and none of them
//! stops what it does not concern.

use std::ops::Range;

use block_api::{BlockNumber, Standing, wire::put_bytes};
use prost::Message;
use protos::{
    common::{
        Config, ConfigPolicy, HeaderType, ImplicitMetaPolicy, MetadataSignature, MspPrincipal,
        MspRole, Policy, SignaturePolicy, SignaturePolicyEnvelope,
        msp_principal::Classification,
        msp_role::MspRoleType,
        policy::PolicyType,
        signature_policy::{NOutOf, Type},
    },
    msp::{FabricCryptoConfig, FabricMspConfig, MspConfig},
};
use rcgen::{CustomExtension, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SerialNumber};

use super::*;
use crate::{
    ConfigError,
    test_support::{
        TestSigner, block, chain, config_entry, config_of, entry, group, high_s, last_config_value,
        pki::{TestCa, TestCert, msp_config, params},
        serialized, set_value, with_signatures,
    },
};

const ORGANISATION: [&str; 2] = ["Orderer", "OrdererOrg"];

/// A raft channel whose orderers are those of an authority made on the spot. Its blocks need the
/// signature of an admin, an orderer or a client, as those of Fabric's samples do.
fn channel(ca: &TestCa, change: impl FnOnce(&mut Config)) -> Result<ChannelVerifier, ConfigError> {
    channel_of(msp_config("OrdererMSP", &[ca]), change)
}

fn channel_of(
    msp: FabricMspConfig,
    change: impl FnOnce(&mut Config),
) -> Result<ChannelVerifier, ConfigError> {
    let mut config = config_of("raft/block_0.pb");
    let msp = MspConfig {
        r#type: 0,
        config: msp.encode_to_vec().into(),
    };
    set_value(group(&mut config, &ORGANISATION), "MSP", Some(msp));
    change(&mut config);
    let entries = [config_entry(&config, "ch-raft")];
    let genesis = Block::assemble(BlockNumber::GENESIS, &[], &entries, &[&[]]);
    ChannelVerifier::from_genesis(&genesis)
}

/// The block after the genesis block, not signed yet.
fn unsigned() -> Block {
    let transaction = entry(HeaderType::EndorserTransaction, "ch-raft", b"data".to_vec());
    Block::assemble(BlockNumber::new(1), &[1; 32], &[transaction], &[&[]])
}

fn judged(verifier: &ChannelVerifier, signatures: Vec<MetadataSignature>) -> String {
    let block = with_signatures(&unsigned(), &last_config_value(0), signatures);
    let whole = outcome(verifier.verify(&block, Standing::Linked));
    let attested = outcome(verifier.verify_attestation(&block.without_data(), Standing::Linked));
    assert_eq!(whole, attested);
    whole
}

fn by(signer: &TestSigner) -> MetadataSignature {
    signer.sign_block(&unsigned(), &last_config_value(0))
}

fn of(certificate: &TestCert) -> TestSigner {
    certificate.signer("OrdererMSP")
}

fn set_policy(config: &mut Config, path: &[&str], name: &str, kind: PolicyType, value: Vec<u8>) {
    let policy = ConfigPolicy {
        policy: Some(Policy {
            r#type: kind as i32,
            value: value.into(),
        }),
        ..Default::default()
    };
    group(config, path).policies.insert(name.to_owned(), policy);
}

fn signed_by(index: i32) -> SignaturePolicy {
    SignaturePolicy {
        r#type: Some(Type::SignedBy(index)),
    }
}

fn out_of(n: i32, rules: Vec<SignaturePolicy>) -> SignaturePolicy {
    SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf { n, rules })),
    }
}

/// A marshalled signature policy over members of the orderers' organisation.
fn members(rule: SignaturePolicy) -> Vec<u8> {
    let role = MspRole {
        msp_identifier: "OrdererMSP".to_owned(),
        role: MspRoleType::Member as i32,
    };
    let member = MspPrincipal {
        principal_classification: Classification::Role as i32,
        principal: role.encode_to_vec().into(),
    };
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities: vec![member],
    }
    .encode_to_vec()
}

#[test]
fn only_the_right_signer_in_the_right_role_is_heard() {
    let ca = TestCa::root("ca");
    let verifier = channel(&ca, |_| {}).unwrap();
    let orderer = of(&ca.issue("node", &["orderer"]));
    let other = of(&ca.issue("other", &["orderer"]));
    let namesake = TestCa::root("ca");
    let without_root = ca.intermediate("hidden").issue("node", &["orderer"]);
    // The other node's key under this node's certificate.
    let borrowed = MetadataSignature {
        signature_header: by(&orderer).signature_header,
        ..by(&other)
    };
    let resigned_high = MetadataSignature {
        signature: high_s(&by(&orderer).signature).into(),
        ..by(&orderer)
    };
    let elsewhere = orderer.sign_block(&unsigned(), &last_config_value(1));
    let rows = [
        ("an orderer", by(&orderer), "accepted"),
        (
            "a client",
            by(&of(&ca.issue("node", &["client"]))),
            "accepted",
        ),
        (
            "a peer",
            by(&of(&ca.issue("node", &["peer"]))),
            "signatures",
        ),
        (
            "nobody in particular",
            by(&of(&ca.issue("node", &[]))),
            "signatures",
        ),
        (
            "two roles",
            by(&of(&ca.issue("node", &["orderer", "client"]))),
            "signatures",
        ),
        (
            "a stranger of the same name",
            by(&of(&namesake.issue("node", &["orderer"]))),
            "signatures",
        ),
        ("an unknown authority", by(&of(&without_root)), "signatures"),
        (
            "another organisation",
            by(&of(&ca.issue("node", &["orderer"])).claiming("Org1MSP")),
            "signatures",
        ),
        (
            "no organisation",
            by(&of(&ca.issue("node", &["orderer"])).claiming("NoMSP")),
            "signatures",
        ),
        ("the authority itself", by(&ca_as_signer(&ca)), "signatures"),
        ("a borrowed certificate", borrowed, "signatures"),
        ("a high S", resigned_high, "signatures"),
        ("another value", elsewhere, "signatures"),
        ("nothing", MetadataSignature::default(), "signatures"),
    ];
    for (name, signature, expected) in rows {
        assert_eq!(
            judged(&verifier, vec![signature.clone()]),
            expected,
            "{name}"
        );
        // Whatever stands beside it, a good signature is enough for this policy.
        assert_eq!(
            judged(&verifier, vec![signature, by(&orderer)]),
            "accepted",
            "{name}"
        );
    }
}

/// The authority's own certificate, with a key that is not its own.
fn ca_as_signer(ca: &TestCa) -> TestSigner {
    let key = ca.issue("key", &["orderer"]).key;
    TestSigner::new(key.serialized_der(), "OrdererMSP", ca.pem.as_bytes())
}

#[test]
fn a_key_on_another_curve_signs_its_own_way_or_not_at_all() {
    let ca = TestCa::root("ca");
    let verifier = channel(&ca, |_| {}).unwrap();
    let good = of(&ca.issue("node", &["orderer"]));
    let long = ca.issue_with(params("long", &["orderer"]), &PKCS_ECDSA_P384_SHA384);
    let value = last_config_value(0);
    let message = |header: &[u8]| {
        let block = unsigned();
        let header_of = block.header();
        let der = block_api::header_der(
            header_of.number,
            header_of.previous_hash,
            header_of.data_hash,
        );
        [value.as_slice(), header, &der].concat()
    };
    let mut header_of_long = Vec::new();
    let identity = serialized("OrdererMSP", long.pem.as_bytes());
    put_bytes(&mut header_of_long, 1, &identity);
    let header_of_good = by(&good).signature_header;
    // Fabric's signatures are over SHA-256 whatever the curve; this one is over SHA-384.
    for header in [&header_of_long[..], &header_of_good] {
        let signature = rcgen::SigningKey::sign(&long.key, &message(header)).unwrap();
        let signature = MetadataSignature {
            signature_header: header.to_vec().into(),
            signature: signature.into(),
            ..Default::default()
        };
        assert_eq!(judged(&verifier, vec![signature]), "signatures");
    }
    // A signature of a key on the shorter curve under the longer one's certificate.
    let signature = MetadataSignature {
        signature: good.sign(&message(&header_of_long)).into(),
        signature_header: header_of_long.into(),
        ..Default::default()
    };
    assert_eq!(judged(&verifier, vec![signature]), "signatures");
    // Ed25519 needs the capability V3_0.
    let edwards = ca.issue_with(params("edwards", &["orderer"]), &rcgen::PKCS_ED25519);
    let mut header = Vec::new();
    put_bytes(
        &mut header,
        1,
        &serialized("OrdererMSP", edwards.pem.as_bytes()),
    );
    let signature = MetadataSignature {
        signature: rcgen::SigningKey::sign(&edwards.key, &message(&header))
            .unwrap()
            .into(),
        signature_header: header.into(),
        ..Default::default()
    };
    assert_eq!(judged(&verifier, vec![signature]), "signatures");
}

#[test]
fn a_revoked_certificate_signs_nothing_more() {
    let ca = TestCa::root("ca");
    let with_serial = |serial: u8| {
        let mut params = params("node", &["orderer"]);
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        of(&ca.issue_with(params, &PKCS_ECDSA_P256_SHA256))
    };
    let (good, revoked) = (with_serial(6), with_serial(7));
    let mut msp = msp_config("OrdererMSP", &[&ca]);
    assert_eq!(
        judged(
            &channel_of(msp.clone(), |_| {}).unwrap(),
            vec![by(&revoked)]
        ),
        "accepted"
    );
    msp.revocation_list = vec![ca.revoke(7).into()];
    let verifier = channel_of(msp, |_| {}).unwrap();
    assert_eq!(judged(&verifier, vec![by(&revoked)]), "signatures");
    assert_eq!(judged(&verifier, vec![by(&good)]), "accepted");
}

/// Two members have to sign: two certificates, not two signatures or two forms of one.
#[test]
fn an_identity_counts_once_in_whatever_form_it_comes() {
    let ca = TestCa::root("ca");
    let two = members(out_of(2, vec![signed_by(0), signed_by(0)]));
    let verifier = channel(&ca, |config| {
        set_policy(
            config,
            &["Orderer"],
            "BlockValidation",
            PolicyType::Signature,
            two,
        );
    })
    .unwrap();
    let certificate = ca.issue("node", &["orderer"]);
    let node = of(&certificate);
    let other = of(&ca.issue("other", &["orderer"]));
    let as_certificate = |pem: String| {
        TestSigner::new(
            certificate.key.serialized_der(),
            "OrdererMSP",
            pem.as_bytes(),
        )
    };
    let commented = as_certificate(format!("a comment\n{}", certificate.pem));
    let twice = as_certificate(certificate.pem.repeat(2));
    let headers = certificate.pem.replacen('\n', "\nName: value\n", 1);
    let mut forged = by(&node);
    forged.signature = vec![0x30, 6, 2, 1, 1, 2, 1, 1].into();
    let rows = [
        ("two nodes", vec![by(&node), by(&other)], "accepted"),
        ("one node", vec![by(&node)], "signatures"),
        ("twice", vec![by(&node), by(&node)], "signatures"),
        ("often", vec![by(&node); 200], "signatures"),
        (
            "with a comment",
            vec![by(&node), by(&commented)],
            "signatures",
        ),
        (
            "two certificates in one",
            vec![by(&node), by(&twice)],
            "signatures",
        ),
        (
            "with a header",
            vec![by(&node), by(&as_certificate(headers))],
            "signatures",
        ),
        (
            "a forged one first",
            vec![forged.clone(), by(&node), by(&node)],
            "signatures",
        ),
        (
            "forged, twice, and another",
            vec![forged, by(&node), by(&other)],
            "accepted",
        ),
    ];
    for (name, signatures, expected) in rows {
        assert_eq!(judged(&verifier, signatures), expected, "{name}");
    }
}

#[test]
fn a_quorum_needs_as_many_known_nodes_as_it_says() {
    let blocks = chain("bft", 5);
    let verifier = verified(&blocks);
    let block = &blocks[4];
    let value = last_config_value(1);
    let nodes: Vec<TestSigner> = (0..4)
        .map(|node| TestSigner::of_fixture(&format!("orderer/bft{node}"), "OrdererMSP"))
        .collect();
    let by_id = |node: usize, id: u32| nodes[node].sign_block_by_id(block, &value, id);
    let own = |node: usize| by_id(node, node as u32 + 1);
    let by_name = |node: usize| nodes[node].sign_block(block, &value);
    let both_headers = MetadataSignature {
        signature_header: by_name(2).signature_header,
        ..own(2)
    };
    let high = MetadataSignature {
        signature: high_s(&own(2).signature).into(),
        ..own(2)
    };
    let rows = [
        ("three", vec![own(0), own(1), own(2)], true),
        ("four", vec![own(0), own(1), own(2), own(3)], true),
        ("two", vec![own(0), own(1)], false),
        ("none", vec![], false),
        (
            "two and one of them again",
            vec![own(0), own(1), own(1)],
            false,
        ),
        (
            "two and an unknown id",
            vec![own(0), own(1), by_id(2, 9)],
            false,
        ),
        (
            "two and the id zero",
            vec![own(0), own(1), by_id(2, 0)],
            false,
        ),
        (
            "two and another's id",
            vec![own(0), own(1), by_id(2, 4)],
            false,
        ),
        ("two and a high S", vec![own(0), own(1), high], false),
        (
            "an unknown id, then three",
            vec![by_id(3, 9), own(0), own(1), own(2)],
            true,
        ),
        ("of both kinds", vec![own(0), own(1), by_name(2)], true),
        (
            "of one kind",
            vec![by_name(0), by_name(1), by_name(2)],
            true,
        ),
        (
            "of both kinds, one node twice",
            vec![own(0), own(1), by_name(1)],
            false,
        ),
        // The certificate counts then, and that is not what was signed.
        (
            "both headers in one",
            vec![own(0), own(1), both_headers],
            false,
        ),
    ];
    for (name, signatures, holds) in rows {
        let block = with_signatures(block, &value, signatures);
        let expected = if holds { "accepted" } else { "signatures" };
        assert_eq!(
            outcome(verifier.verify(&block, Standing::Linked)),
            expected,
            "{name}"
        );
        assert_eq!(
            outcome(verifier.verify_attestation(&block, Standing::Linked)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_policy_that_is_not_there_is_satisfied_by_nobody() {
    let ca = TestCa::root("ca");
    let orderer = of(&ca.issue("node", &["orderer"]));
    let verifier = channel(&ca, |config| {
        group(config, &ORGANISATION).policies.remove("Writers");
    });
    assert_eq!(judged(&verifier.unwrap(), vec![by(&orderer)]), "signatures");
    let without = channel(&ca, |config| {
        group(config, &["Orderer"])
            .policies
            .remove("BlockValidation");
    });
    assert!(matches!(without, Err(ConfigError::NoPolicy { .. })));
}

/// A certificate of a megabyte is judged like any other.
#[test]
fn big_certificates_are_judged_like_small_ones() {
    let ca = TestCa::root("ca");
    let verifier = channel(&ca, |_| {}).unwrap();
    let big = |ca: &TestCa| {
        let mut params = params("node", &["orderer"]);
        let content = vec![0x55; 1 << 20];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], content)];
        of(&ca.issue_with(params, &PKCS_ECDSA_P256_SHA256))
    };
    let mut many = params("node", &["orderer"]);
    many.custom_extensions = (0..10_000u64)
        .map(|index| CustomExtension::from_oid_content(&[1, 2, 3, 1_000_000 + index], vec![5, 0]))
        .collect();
    let many = of(&ca.issue_with(many, &PKCS_ECDSA_P256_SHA256));
    assert_eq!(judged(&verifier, vec![by(&many)]), "accepted");
    let (good, stranger) = (by(&big(&ca)), by(&big(&TestCa::root("ca"))));
    assert_eq!(judged(&verifier, vec![good]), "accepted");
    assert_eq!(judged(&verifier, vec![stranger; 2]), "signatures");
    let garbage = "x".repeat(1 << 20);
    for text in [
        garbage.clone(),
        format!("-----BEGIN CERTIFICATE-----\n{garbage}\n-----END CERTIFICATE-----\n"),
        "-----BEGIN CERTIFICATE-----\n".repeat(1 << 15),
    ] {
        let key = ca.issue("key", &["orderer"]).key;
        let nobody = TestSigner::new(key.serialized_der(), "OrdererMSP", text.as_bytes());
        assert_eq!(judged(&verifier, vec![by(&nobody)]), "signatures");
    }
}

/// A marshalled policy whose rule is one out of one, so many levels deep.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = signed_by(0).encode_to_vec();
    for _ in 0..levels {
        let mut n_out_of = vec![0x08, 0x01];
        put_bytes(&mut n_out_of, 2, &bytes);
        bytes.clear();
        put_bytes(&mut bytes, 2, &n_out_of);
    }
    let mut envelope = members(signed_by(0));
    put_bytes(&mut envelope, 2, &bytes);
    envelope
}

/// What Fabric takes is taken; a policy that is not evaluated here lets nobody in, and stops nobody
/// where another one decides.
#[test]
fn hostile_policies_let_nobody_in_and_concern_only_themselves() {
    let ca = TestCa::root("ca");
    let orderer = of(&ca.issue("node", &["orderer"]));
    let unknown_rule = ImplicitMetaPolicy {
        sub_policy: "Writers".to_owned(),
        rule: 7,
    };
    let wide = out_of(
        1,
        vec![out_of(1, vec![out_of(2, vec![signed_by(0); 2]); 20_000])],
    );
    let rows = [
        (
            "ten thousand levels",
            PolicyType::Signature,
            nested(10_000),
            false,
        ),
        (
            "four thousand levels",
            PolicyType::Signature,
            nested(4_000),
            true,
        ),
        (
            "an unknown rule",
            PolicyType::ImplicitMeta,
            unknown_rule.encode_to_vec(),
            true,
        ),
        (
            "twenty thousand rules",
            PolicyType::Signature,
            members(wide),
            true,
        ),
        ("an unknown type", PolicyType::Msp, Vec::new(), false),
        ("no policy", PolicyType::Signature, vec![0xff], false),
    ];
    for (name, kind, value, is_taken) in rows {
        for (path, policy, expected) in [
            (&["Orderer"][..], "BlockValidation", "signatures"),
            (&ORGANISATION, "Writers", "signatures"),
            (&["Orderer"], "Another", "accepted"),
            (&["Application"], "Writers", "accepted"),
        ] {
            let verifier = channel(&ca, |config| {
                set_policy(config, path, policy, kind, value.clone());
            });
            match verifier {
                Ok(verifier) if is_taken => {
                    let often = vec![by(&orderer); 256];
                    assert_eq!(judged(&verifier, often), expected, "{name} as {policy}");
                }
                Err(ConfigError::Policy(_)) if !is_taken => {}
                other => panic!("{name} as {policy}: {other:?}"),
            }
        }
    }
}

/// An organisation whose identities cannot be judged here does not stop the channel of others.
#[test]
fn organisations_that_cannot_be_judged_stop_nobody_else() {
    let ca = TestCa::root("ca");
    let orderer = of(&ca.issue("node", &["orderer"]));
    let idemix = MspConfig {
        r#type: 1,
        config: [&[0x0a, 8][..], b"Org1Anon"].concat().into(),
    };
    let verifier = channel(&ca, |config| {
        set_value(group(config, &["Application", "Org1"]), "MSP", Some(idemix));
    })
    .unwrap();
    assert_eq!(judged(&verifier, vec![by(&orderer)]), "accepted");
    let anonymous = of(&ca.issue("node", &["orderer"])).claiming("Org1Anon");
    assert_eq!(judged(&verifier, vec![by(&anonymous)]), "signatures");
}

#[test]
fn orderers_may_sign_over_sha3_where_their_msp_says_so() {
    let ca = TestCa::root("ca");
    let certificate = ca.issue("node", &["orderer"]);
    let node = of(&certificate);
    let with_family = |family: &str| {
        let mut msp = msp_config("OrdererMSP", &[&ca]);
        msp.crypto_config = Some(FabricCryptoConfig {
            signature_hash_family: family.to_owned(),
            ..Default::default()
        });
        channel_of(msp, |_| {}).unwrap()
    };
    let sha2 = by(&node);
    let block = unsigned();
    let header = block.header();
    let der = block_api::header_der(header.number, header.previous_hash, header.data_hash);
    let message = [&last_config_value(0)[..], &sha2.signature_header, &der].concat();
    let sha3 = MetadataSignature {
        signature: node.sign_sha3(&message).into(),
        ..sha2.clone()
    };
    for (family, of_sha2, of_sha3) in [
        ("SHA2", "accepted", "signatures"),
        ("SHA3", "signatures", "accepted"),
        ("SHA4", "signatures", "signatures"),
    ] {
        let verifier = with_family(family);
        assert_eq!(judged(&verifier, vec![sha2.clone()]), of_sha2, "{family}");
        assert_eq!(judged(&verifier, vec![sha3.clone()]), of_sha3, "{family}");
    }
}

/// A flip of every byte of header and signatures of two recorded blocks, as they travel without
/// their data. Whole blocks are turned over bit by bit beside the oracle.
#[test]
fn no_flipped_byte_of_an_attestation_is_accepted() {
    let accepts = |verifier: &ChannelVerifier, raw: Vec<u8>| {
        let block = Block::parse(raw.into());
        block.is_ok_and(|block| {
            outcome(verifier.verify_attestation(&block, Standing::Linked)) == "accepted"
        })
    };
    let flips = |verifier: &ChannelVerifier, block: &Block, range: Range<usize>| {
        let raw = block.raw().to_vec();
        assert!(accepts(verifier, raw.clone()));
        for position in range {
            let mut raw = raw.clone();
            raw[position] ^= 1 << (position % 8);
            assert!(!accepts(verifier, raw), "{block:?}: byte {position}");
        }
    };
    for (name, number) in [("raft", 8), ("bft", 8)] {
        let blocks = chain(name, number + 1);
        let verifier = verified(&blocks);
        let block = blocks[number as usize]
            .with_signatures_slot_only()
            .without_data();
        let slot = block.signatures_slot().unwrap();
        let start = slot.as_ptr() as usize - block.raw().as_ptr() as usize;
        flips(&verifier, &block, 0..block.relay().body.len());
        flips(&verifier, &block, start..start + slot.len());
    }
    // A genesis block is known by its header alone.
    let genesis = block("raft/block_0.pb");
    let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
    let genesis = genesis.without_data();
    flips(&verifier, &genesis, 0..genesis.relay().body.len());
}
