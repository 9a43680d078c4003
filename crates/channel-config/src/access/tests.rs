// SPDX-License-Identifier: Apache-2.0
//! Who may read and write the recorded channels.

mod scope;

use std::time::{Duration, SystemTime};

use block_api::{Block, BlockNumber, BlockVerifier, Standing, VerifiedBlock};
use protos::orderer::ConsensusType;

use super::*;
use crate::{
    msp::IdentityError,
    recent::CHECKED,
    test_support::{TestSigner, block, chain, config_entry, config_of, group, set_value},
};

const MESSAGE: &[u8] = b"a payload";

/// 2027-01-15, when every recorded certificate is valid.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn verifier() -> ChannelVerifier {
    ChannelVerifier::from_genesis(&block("raft/block_0.pb")).unwrap()
}

fn check(access: &ChannelAccess, signer: &TestSigner) -> Result<(), AccessError> {
    access.check(&signer.identity, MESSAGE, &signer.sign(MESSAGE), now())
}

/// Covers: MCS-04
#[test]
fn members_by_role_may_read_and_write() {
    let verifier = verifier();
    let (readers, writers) = (
        ChannelAccess::readers(&verifier),
        ChannelAccess::writers(&verifier),
    );
    let rows = [
        ("org1/user1", "Org1MSP", true, true),
        ("org1/peer0", "Org1MSP", true, false),
        ("org1/admin", "Org1MSP", true, true),
        ("org2/user1", "Org2MSP", true, true),
        ("orderer/raft0", "OrdererMSP", true, true),
    ];
    for (folder, msp_id, reads, writes) in rows {
        let signer = TestSigner::of_fixture(folder, msp_id);
        assert_eq!(check(&readers, &signer).is_ok(), reads, "{folder} reads");
        assert_eq!(check(&writers, &signer).is_ok(), writes, "{folder} writes");
        let signature = signer.sign(MESSAGE);
        assert!(
            readers
                .may_read(&signer.identity, MESSAGE, &signature, now())
                .is_ok()
        );
        let error = readers
            .may_read(&signer.identity, b"another payload", &signature, now())
            .unwrap_err();
        assert!(error.to_string().contains("/Channel/Readers"), "{error}");
    }
}

#[test]
fn strangers_and_forgers_may_not() {
    let verifier = verifier();
    let readers = ChannelAccess::readers(&verifier);
    let user = TestSigner::of_fixture("org1/user1", "Org1MSP");
    let other = TestSigner::of_fixture("org1/user1", "Org1MSP").claiming("Org2MSP");
    assert!(matches!(
        check(&readers, &other),
        Err(AccessError::Identity(IdentityError::Chain(_)))
    ));
    let nobody = TestSigner::of_fixture("org1/user1", "Org1MSP").claiming("NoMSP");
    assert!(matches!(
        check(&readers, &nobody),
        Err(AccessError::Identity(IdentityError::UnknownMsp { .. }))
    ));
    let denied = |signature: &[u8]| {
        matches!(
            readers.check(&user.identity, MESSAGE, signature, now()),
            Err(AccessError::Denied { .. })
        )
    };
    assert!(denied(&user.sign_high_s(MESSAGE)), "high S");
    assert!(denied(&user.sign(b"something else")));
    assert!(
        denied(&TestSigner::of_fixture("org1/peer0", "Org1MSP").sign(MESSAGE)),
        "by another key"
    );
    assert!(denied(b""));
    assert!(
        readers
            .check(b"", MESSAGE, &user.sign(MESSAGE), now())
            .is_err()
    );
    assert!(
        readers
            .check(b"\xff", MESSAGE, &user.sign(MESSAGE), now())
            .is_err()
    );
}

/// A node of thousands of channels asks each of them about who comes.
#[test]
fn many_channels_look_at_one_signature_once() {
    let verifiers: Vec<ChannelVerifier> = (0..20).map(|_| verifier()).collect();
    let user = TestSigner::of_fixture("org1/user1", "Org1MSP");
    let (good, bad) = (user.sign(MESSAGE), user.sign(b"something else"));
    let forged = TestSigner::of_fixture("org1/user1", "Org1MSP").claiming("Org2MSP");
    for (identity, signature, may_read) in [
        (&user.identity, &good, true),
        (&user.identity, &bad, false),
        (&forged.identity, &good, false),
    ] {
        let mut checked = Vec::new();
        for verifier in &verifiers {
            let before = CHECKED.get();
            let readers = ChannelAccess::readers(verifier);
            let right = readers.check(identity, MESSAGE, signature, now());
            assert_eq!(right.is_ok(), may_read);
            checked.push(CHECKED.get() - before);
        }
        assert!(checked[0] > 0 || !may_read, "{checked:?}");
        assert!(
            checked[1..].iter().all(|checked| *checked == 0),
            "{checked:?}"
        );
    }
}

/// Covers: MCS-13, STA-13
#[test]
fn expired_certificates_lose_their_right() {
    let verifier = verifier();
    let readers = ChannelAccess::readers(&verifier);
    let user = TestSigner::of_fixture("org1/user1", "Org1MSP");
    let not_after = verifier
        .config()
        .msps()
        .identity(&user.identity)
        .unwrap()
        .not_after();
    let at = |now| readers.check(&user.identity, MESSAGE, &user.sign(MESSAGE), now);
    assert_eq!(at(not_after), Ok(()), "the last second counts");
    assert_eq!(readers.expires(&user.identity), Some(not_after));
    assert_eq!(readers.expires(b"\xff"), None);
    assert!(matches!(
        at(not_after + Duration::from_secs(1)),
        Err(AccessError::Expired { .. })
    ));
}

#[test]
fn orderers_have_the_channel_to_themselves_in_maintenance() {
    let mut config = config_of("raft/block_0.pb");
    let value = ConsensusType {
        r#type: "etcdraft".to_owned(),
        state: 1,
        ..ConsensusType::default()
    };
    set_value(
        group(&mut config, &["Orderer"]),
        "ConsensusType",
        Some(value),
    );
    let entries = [config_entry(&config, "ch-raft")];
    let genesis = Block::assemble(BlockNumber::GENESIS, &[], &entries, &[&[]]);
    let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
    let user = TestSigner::of_fixture("org1/user1", "Org1MSP");
    let orderer = TestSigner::of_fixture("orderer/raft0", "OrdererMSP");
    for access in [
        ChannelAccess::readers(&verifier),
        ChannelAccess::writers(&verifier),
    ] {
        assert!(check(&access, &user).is_ok() && check(&access, &orderer).is_ok());
        let strict = access.respecting_maintenance();
        let error = check(&strict, &user).unwrap_err().to_string();
        assert!(error.contains("/Channel/Orderer/"), "{error}");
        assert_eq!(check(&strict, &orderer), Ok(()));
    }
}

/// Covers: GSV-11
#[test]
fn sessions_hear_of_new_configurations() {
    let blocks = chain("raft", 8);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let readers = ChannelAccess::readers(&verifier);
    let before = readers.generation();
    let stored = VerifiedBlock::new(blocks[7].clone(), &verifier, Standing::Linked).unwrap();
    verifier.apply_config(&stored).unwrap();
    assert!(readers.generation() > before);
    verifier.apply_config(&stored).unwrap();
    assert_eq!(
        readers.generation(),
        before + 1,
        "the same block changes nothing"
    );
}
