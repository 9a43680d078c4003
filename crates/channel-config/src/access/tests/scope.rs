// SPDX-License-Identifier: Apache-2.0
//! Scopes of readers, and how they follow the configuration.

use prost::Message as _;
use protos::{
    common::Config,
    msp::{FabricMspConfig, MspConfig},
};

use super::*;
use crate::test_support::{
    last_config_value,
    pki::{TestCa, marshalled, msp_config, params},
    with_signatures,
};

const ORG1: [&str; 2] = ["Application", "Org1"];

/// A channel whose configuration changes.
struct Channel {
    verifier: ChannelVerifier,
    config: Config,
    tip: Block,
}

impl Channel {
    fn start() -> Self {
        let tip = block("raft/block_0.pb");
        Self {
            verifier: ChannelVerifier::from_genesis(&tip).unwrap(),
            config: config_of("raft/block_0.pb"),
            tip,
        }
    }

    /// Takes a configuration into force that differs so from the one before.
    fn change(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.config.sequence += 1;
        let number = self.tip.number().get() + 1;
        let bare = Block::assemble(
            BlockNumber::new(number),
            self.tip.header_hash().as_ref(),
            &[config_entry(&self.config, "ch-raft")],
            &[&[]],
        );
        let value = last_config_value(number);
        let orderer = TestSigner::of_fixture("orderer/raft0", "OrdererMSP");
        let signature = orderer.sign_block(&bare, &value);
        let block = with_signatures(&bare, &value, vec![signature]);
        let stored = VerifiedBlock::new(block.clone(), &self.verifier, Standing::Linked).unwrap();
        self.verifier.apply_config(&stored).unwrap();
        self.tip = block;
    }

    fn readers(&self, scope: ReaderScope) -> ChannelAccess {
        ChannelAccess::readers(&self.verifier).within(scope)
    }
}

fn own(msp_id: &str) -> ReaderScope {
    ReaderScope::Organisation {
        msp_id: msp_id.into(),
    }
}

fn set_msp(config: &mut Config, path: &[&str], msp: &FabricMspConfig) {
    let value = MspConfig::decode(marshalled(msp).as_slice()).unwrap();
    set_value(group(config, path), "MSP", Some(value));
}

/// Replaces the policy `Readers` of a group by a policy of another one.
fn set_readers(config: &mut Config, of: &[&str], by: (&[&str], &str)) {
    let policy = group(config, by.0).policies[by.1].clone();
    let policies = &mut group(config, of).policies;
    policies.insert("Readers".to_owned(), policy);
}

/// Bytes with one text for another of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let starts = |at: &usize| bytes[*at..].starts_with(from);
    let found: Vec<usize> = (0..bytes.len()).filter(starts).collect();
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

/// Covers: GCH-12
#[test]
fn a_narrower_scope_leaves_fewer_readers() {
    let channel = Channel::start();
    let scopes = [
        ReaderScope::Channel,
        ReaderScope::Application,
        own("Org1MSP"),
        own("OrdererMSP"),
        own("NoMSP"),
        own(""),
    ];
    let rows = [
        ("org1/peer0", "Org1MSP", [true, true, true, false]),
        ("org1/user1", "Org1MSP", [true, true, true, false]),
        ("org2/peer0", "Org2MSP", [true, true, false, false]),
        ("orderer/raft0", "OrdererMSP", [true, false, false, true]),
    ];
    for (folder, msp_id, expected) in rows {
        let signer = TestSigner::of_fixture(folder, msp_id);
        let expected = expected.into_iter().chain([false, false]);
        for (scope, may) in scopes.iter().zip(expected) {
            let readers = channel.readers(scope.clone());
            let verdict = check(&readers, &signer);
            assert_eq!(verdict.is_ok(), may, "{folder}, {scope:?}: {verdict:?}");
            let signature = signer.sign(b"another payload");
            let forged = readers.check(&signer.identity, MESSAGE, &signature, now());
            assert!(forged.is_err(), "{folder}, {scope:?}");
        }
    }
    let orderer = TestSigner::of_fixture("orderer/raft0", "OrdererMSP");
    let of = ReaderScope::organisation_of;
    assert_eq!(of(&orderer.identity), own("OrdererMSP"));
    assert_eq!(of(b"\xff"), own(""));
    let refused = |scope| check(&channel.readers(scope), &orderer).unwrap_err();
    let text = refused(ReaderScope::Application).to_string();
    assert!(text.contains("/Channel/Application/Readers"), "{text}");
    let text = refused(own("Org1MSP")).to_string();
    assert!(
        text.contains("of OrdererMSP, and only Org1MSP has"),
        "{text}"
    );
}

#[test]
fn a_scope_takes_the_channels_own_policy_with_it() {
    let mut channel = Channel::start();
    let orderers = ["Orderer", "OrdererOrg"];
    channel.change(|config| set_readers(config, &[], (&orderers, "Readers")));
    let peer = TestSigner::of_fixture("org1/peer0", "Org1MSP");
    for scope in [
        ReaderScope::Channel,
        ReaderScope::Application,
        own("Org1MSP"),
    ] {
        let text = check(&channel.readers(scope), &peer)
            .unwrap_err()
            .to_string();
        assert!(text.contains(" /Channel/Readers"), "{text}");
    }
}

#[test]
fn the_own_organisation_says_who_of_it_reads() {
    let mut channel = Channel::start();
    channel.change(|config| {
        set_readers(config, &[], (&ORG1, "Readers"));
        // Administrators and clients.
        set_readers(config, &ORG1, (&ORG1, "Writers"));
    });
    let readers = channel.readers(own("Org1MSP"));
    let user = TestSigner::of_fixture("org1/user1", "Org1MSP");
    assert_eq!(check(&readers, &user), Ok(()));
    let peer = TestSigner::of_fixture("org1/peer0", "Org1MSP");
    assert_eq!(check(&channel.readers(ReaderScope::Channel), &peer), Ok(()));
    let text = check(&readers, &peer).unwrap_err().to_string();
    assert!(text.contains("/Channel/Application/Org1/Readers"), "{text}");
}

/// Covers: GCH-21, GCH-22
#[test]
fn organisations_that_come_and_go_gain_and_lose_the_right() {
    let mut channel = Channel::start();
    let ca = TestCa::root("ca.org3");
    let third = ca.issue("peer0.org3", &["peer"]).signer("Org3MSP");
    let second = TestSigner::of_fixture("org2/peer0", "Org2MSP");
    // Made once: what is held follows the configuration.
    let whole = channel.readers(ReaderScope::Channel);
    let applications = channel.readers(ReaderScope::Application);
    let generation = applications.generation();
    let may = |signer: &TestSigner| [&whole, &applications].map(|held| check(held, signer).is_ok());
    assert_eq!((may(&second), may(&third)), ([true; 2], [false; 2]));

    channel.change(|config| {
        let mut added = group(config, &["Application", "Org2"]).clone();
        for policy in added.policies.values_mut() {
            let policy = policy.policy.as_mut().unwrap();
            policy.value = replaced(&policy.value, b"Org2MSP", b"Org3MSP").into();
        }
        let applications = group(config, &["Application"]);
        applications.groups.insert("Org3".to_owned(), added);
        let msp = msp_config("Org3MSP", &[&ca]);
        set_msp(config, &["Application", "Org3"], &msp);
    });
    assert_eq!((may(&second), may(&third)), ([true; 2], [true; 2]));
    assert_eq!(check(&channel.readers(own("Org3MSP")), &third), Ok(()));
    assert_eq!(applications.generation(), generation + 1);

    channel.change(|config| drop(group(config, &["Application"]).groups.remove("Org2")));
    assert_eq!((may(&second), may(&third)), ([false; 2], [true; 2]));
    assert!(matches!(
        check(&channel.readers(own("Org2MSP")), &second),
        Err(AccessError::Identity(IdentityError::UnknownMsp { .. }))
    ));
    assert_eq!(applications.generation(), generation + 2);
}

/// Covers: GCH-22, GOS-12
#[test]
fn revoked_and_expired_identities_lose_the_right_in_every_scope() {
    let mut channel = Channel::start();
    let ca = TestCa::root("ca.org1");
    let numbered = |serial: u8| {
        let mut params = params("peer", &["peer"]);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[serial]));
        let certificate = ca.issue_with(params, &rcgen::PKCS_ECDSA_P256_SHA256);
        certificate.signer("Org1MSP")
    };
    let (kept, revoked) = (numbered(1), numbered(2));
    let msp = msp_config("Org1MSP", &[&ca]);
    channel.change(|config| set_msp(config, &ORG1, &msp));
    let scopes = [
        ReaderScope::Channel,
        ReaderScope::Application,
        own("Org1MSP"),
    ];
    let held = scopes.map(|scope| channel.readers(scope));
    for readers in &held {
        assert_eq!(check(readers, &kept), Ok(()));
        assert_eq!(check(readers, &revoked), Ok(()));
    }
    channel.change(|config| {
        let revocation_list = vec![ca.revoke(2).into()];
        let msp = FabricMspConfig {
            revocation_list,
            ..msp
        };
        set_msp(config, &ORG1, &msp);
    });
    let identity = channel.verifier.config().msps().identity(&kept.identity);
    let late = identity.unwrap().not_after() + Duration::from_secs(1);
    for readers in &held {
        assert_eq!(check(readers, &kept), Ok(()));
        let refused = check(readers, &revoked);
        assert!(
            matches!(refused, Err(AccessError::Denied { .. })),
            "{refused:?}"
        );
        let expired = readers.check(&kept.identity, MESSAGE, &kept.sign(MESSAGE), late);
        assert!(matches!(expired, Err(AccessError::Expired { .. })));
    }
}
