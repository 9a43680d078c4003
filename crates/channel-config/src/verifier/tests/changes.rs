// SPDX-License-Identifier: Apache-2.0
//! Config blocks on the way: which are followed, and which stop the chain.

use block_api::BlockNumber;
use prost::Message;
use protos::{
    common::{Capabilities, Capability, Config, ConfigGroup, HeaderType, Orderers},
    msp::{FabricMspConfig, MspConfig},
    orderer::{BatchSize, ConsensusType},
    peer::AnchorPeers,
};

use super::*;
use crate::test_support::{
    TestSigner, block, chain, config_entry, config_of, entry, group, last_config_value, set_value,
    with_signatures,
};

fn orderer(name: &str) -> TestSigner {
    TestSigner::of_fixture(&format!("orderer/{name}"), "OrdererMSP")
}

/// A config block that a raft node signed.
fn raft_config_block(number: u64, previous: &Block, entry: Vec<u8>) -> Block {
    let bare = Block::assemble(
        BlockNumber::new(number),
        previous.header_hash().as_ref(),
        &[entry],
        &[&[]],
    );
    let value = last_config_value(number);
    let signature = orderer("raft0").sign_block(&bare, &value);
    with_signatures(&bare, &value, vec![signature])
}

fn bft_config_block(number: u64, previous: &Block, entry: Vec<u8>) -> Block {
    let bare = Block::assemble(
        BlockNumber::new(number),
        previous.header_hash().as_ref(),
        &[entry],
        &[&[]],
    );
    let value = last_config_value(number);
    let sign = |node: u32| orderer(&format!("bft{node}")).sign_block_by_id(&bare, &value, node + 1);
    with_signatures(&bare, &value, (0..3).map(sign).collect())
}

fn message_block(number: u64, previous: &Block, last_config: u64) -> Block {
    let entries = [entry(
        HeaderType::EndorserTransaction,
        "ch-raft",
        b"data".to_vec(),
    )];
    let bare = Block::assemble(
        BlockNumber::new(number),
        previous.header_hash().as_ref(),
        &entries,
        &[&[]],
    );
    let value = last_config_value(last_config);
    let signature = orderer("raft0").sign_block(&bare, &value);
    with_signatures(&bare, &value, vec![signature])
}

/// What becomes of a config block that changes the configuration of the genesis block.
fn after(name: &str, change: impl Fn(&mut Config)) -> Result<String, Vec<String>> {
    let blocks = chain(name, 2);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let mut config = config_of(&format!("{name}/block_0.pb"));
    config.sequence += 1;
    change(&mut config);
    let block = match name {
        "raft" => raft_config_block(1, &blocks[0], config_entry(&config, "ch-raft")),
        _ => bft_config_block(1, &blocks[0], config_entry(&config, "ch-bft")),
    };
    let verdict = verifier.verify(&block);
    let Verdict::Rejected(rejection) = &verdict else {
        return Ok(outcome(verdict));
    };
    let error = rejection
        .reason()
        .downcast_ref::<crate::BlockError>()
        .unwrap();
    let crate::BlockError::ChangeUnsupported { changes } = error else {
        return Ok(outcome(verdict));
    };
    assert_eq!(rejection.rule(), "config-change-unsupported");
    assert!(
        rejection
            .to_string()
            .contains("this release does not follow"),
        "{rejection}"
    );
    Err(changes.clone())
}

fn change_msp(config: &mut Config, path: &[&str], change: impl Fn(&mut FabricMspConfig)) {
    let value = &mut group(config, path).values.get_mut("MSP").unwrap().value;
    let mut outer = MspConfig::decode(value.clone()).unwrap();
    let mut inner = FabricMspConfig::decode(outer.config).unwrap();
    change(&mut inner);
    outer.config = inner.encode_to_vec().into();
    *value = outer.encode_to_vec().into();
}

#[test]
fn changes_that_do_not_touch_judging_are_followed() {
    type Change = fn(&mut Config);
    let rows: [(&str, Change); 7] = [
        ("nothing", |_| {}),
        ("an endpoint", |c| {
            let more = protos::common::OrdererAddresses {
                addresses: vec!["new.example.com:7050".to_owned()],
            };
            set_value(
                group(c, &["Orderer", "OrdererOrg"]),
                "Endpoints",
                Some(more),
            );
        }),
        ("the batch size", |c| {
            let size = BatchSize {
                max_message_count: 99,
                absolute_max_bytes: 9,
                preferred_max_bytes: 8,
            };
            set_value(group(c, &["Orderer"]), "BatchSize", Some(size));
        }),
        ("anchor peers", |c| {
            set_value(
                group(c, &["Application", "Org1"]),
                "AnchorPeers",
                Some(AnchorPeers::default()),
            )
        }),
        ("an application organisation leaves", |c| {
            drop(group(c, &["Application"]).groups.remove("Org2"))
        }),
        ("an application's MSP", |c| {
            change_msp(c, &["Application", "Org1"], |msp| {
                msp.tls_root_certs.clear()
            });
        }),
        ("maintenance", |c| {
            let value = &mut group(c, &["Orderer"])
                .values
                .get_mut("ConsensusType")
                .unwrap()
                .value;
            let mut consensus = ConsensusType::decode(value.clone()).unwrap();
            consensus.state = 1;
            *value = consensus.encode_to_vec().into();
        }),
    ];
    for name in ["raft", "bft"] {
        for (what, change) in rows {
            assert_eq!(
                after(name, change),
                Ok("accepted".to_owned()),
                "{name}: {what}"
            );
        }
    }
}

#[test]
fn changes_of_judging_stop_the_chain_and_say_so() {
    type Change = fn(&mut Config);
    let rows: [(&str, Change, &str); 9] = [
        (
            "raft",
            |c| {
                change_msp(c, &["Orderer", "OrdererOrg"], |msp| {
                    msp.tls_root_certs.clear()
                })
            },
            "the MSP of the orderer organisation OrdererOrg",
        ),
        (
            "raft",
            |c| {
                let readers = group(c, &["Orderer"]).policies["Readers"].clone();
                group(c, &["Orderer"])
                    .policies
                    .insert("BlockValidation".to_owned(), readers);
            },
            "the policy /Channel/Orderer/BlockValidation",
        ),
        (
            "raft",
            |c| {
                drop(
                    group(c, &["Orderer", "OrdererOrg"])
                        .policies
                        .remove("Writers"),
                )
            },
            "the policy /Channel/Orderer/OrdererOrg/Writers",
        ),
        (
            "raft",
            |c| {
                let organisation = group(c, &["Application", "Org1"]).clone();
                let without_peers = ConfigGroup {
                    values: organisation
                        .values
                        .into_iter()
                        .filter(|(key, _)| key == "MSP")
                        .collect(),
                    ..organisation
                };
                group(c, &["Orderer"])
                    .groups
                    .insert("Org1".to_owned(), without_peers);
            },
            "the orderer organisation Org1, which is new",
        ),
        (
            "raft",
            |c| drop(group(c, &["Orderer"]).groups.remove("OrdererOrg")),
            "the orderer organisation OrdererOrg, which left",
        ),
        (
            "raft",
            |c| {
                let capabilities = [("V3_0".to_owned(), Capability {})].into();
                set_value(
                    group(c, &[]),
                    "Capabilities",
                    Some(Capabilities { capabilities }),
                );
            },
            "the channel capabilities, to V3_0",
        ),
        (
            "raft",
            |c| {
                let value = ConsensusType {
                    r#type: "BFT".to_owned(),
                    ..ConsensusType::default()
                };
                set_value(group(c, &["Orderer"]), "ConsensusType", Some(value));
            },
            "the consensus type, from etcdraft to BFT",
        ),
        (
            "bft",
            |c| {
                set_value(
                    group(c, &["Orderer"]),
                    "Orderers",
                    Some(Orderers::default()),
                )
            },
            "the consenters",
        ),
        (
            "bft",
            |c| {
                let writers = group(c, &["Orderer"]).policies["Writers"].clone();
                group(c, &["Orderer"])
                    .policies
                    .insert("BlockValidation".to_owned(), writers);
            },
            "the policy /Channel/Orderer/BlockValidation",
        ),
    ];
    for (name, change, expected) in rows {
        let changes = after(name, change).unwrap_err();
        assert!(
            changes.iter().any(|found| found == expected),
            "{expected}: {changes:?}"
        );
    }
    // An MSP of applications that the policy over block signatures names is a judge, too.
    let named = |change: fn(&mut Config)| {
        let mut config = config_of("raft/block_0.pb");
        let writers = group(&mut config, &["Application", "Org1"]).policies["Writers"].clone();
        group(&mut config, &["Orderer"])
            .policies
            .insert("BlockValidation".to_owned(), writers);
        let first = crate::ChannelConfig::from_config(config.clone(), "ch-raft").unwrap();
        change(&mut config);
        first.judging_changes(&crate::ChannelConfig::from_config(config, "ch-raft").unwrap())
    };
    let changes = named(|c| {
        change_msp(c, &["Application", "Org1"], |msp| {
            msp.tls_root_certs.clear()
        })
    });
    assert_eq!(
        changes,
        ["the MSP Org1MSP, which /Channel/Orderer/BlockValidation names"]
    );
    assert!(
        named(|c| change_msp(c, &["Application", "Org2"], |msp| msp
            .tls_root_certs
            .clear()))
        .is_empty()
    );
}

/// Covers: VER-22, VER-23, VER-24
#[test]
fn config_blocks_that_cannot_be_taken_are_rejected() {
    let blocks = chain("raft", 2);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let verdict =
        |entry: Vec<u8>| outcome(verifier.verify(&raft_config_block(1, &blocks[0], entry)));
    let config = config_of("raft/block_0.pb");
    assert_eq!(verdict(config_entry(&config, "ch-raft")), "accepted");
    assert_eq!(verdict(config_entry(&config, "ch-other")), "channel");
    assert_eq!(verdict(config_entry(&config, "")), "config");
    assert_eq!(
        verdict(entry(HeaderType::Config, "ch-raft", vec![0xff])),
        "config"
    );
    assert_eq!(
        verdict(entry(HeaderType::Config, "ch-raft", vec![])),
        "config"
    );
    let unknown = {
        let mut config = config;
        let capabilities = [("V9_9".to_owned(), Capability {})].into();
        set_value(
            group(&mut config, &[]),
            "Capabilities",
            Some(Capabilities { capabilities }),
        );
        config
    };
    let Verdict::Rejected(rejection) = verifier.verify(&raft_config_block(
        1,
        &blocks[0],
        config_entry(&unknown, "ch-raft"),
    )) else {
        panic!("accepted");
    };
    assert_eq!(rejection.rule(), "config");
    assert!(rejection.to_string().contains("V9_9"), "{rejection}");
    assert_eq!(
        verifier.config_number(),
        BlockNumber::GENESIS,
        "nothing was taken"
    );
}

/// Covers: VER-07, VER-21, NEW-08
#[test]
fn a_configuration_takes_force_after_its_block() {
    let recorded = chain("raft", 8);
    let verifier = verified(&recorded[..7]);
    let clone = verifier.clone();
    let config_block = &recorded[7];
    let stored = VerifiedBlock::new(config_block.clone(), &verifier).unwrap();
    let next = message_block(8, config_block, 7);
    let behind = message_block(8, config_block, 0);
    let ahead = message_block(8, config_block, 9);
    assert_eq!(outcome(verifier.verify(&next)), "awaits 7");
    assert_eq!(
        outcome(verifier.verify_attestation(&next.without_data())),
        "awaits 7"
    );
    assert_eq!(
        outcome(verifier.verify(&behind)),
        "accepted",
        "nothing newer is known"
    );
    assert_eq!(outcome(verifier.verify(&ahead)), "last-config");

    verifier.apply_config(&stored).unwrap();
    assert_eq!(verifier.config_number(), BlockNumber::new(7));
    assert_eq!(
        clone.config_number(),
        BlockNumber::new(7),
        "clones share what is in force"
    );
    assert_eq!(outcome(verifier.verify(&next)), "accepted");
    assert_eq!(
        outcome(verifier.verify_attestation(&next.without_data())),
        "accepted"
    );
    assert_eq!(
        outcome(verifier.verify(&behind)),
        "last-config",
        "a newer one is known below it"
    );
    assert_eq!(outcome(verifier.verify(&ahead)), "last-config");
    // Older blocks are judged by their position, as they were.
    for block in &recorded {
        assert_eq!(outcome(verifier.verify(block)), "accepted", "{block:?}");
    }
    assert_ne!(
        verifier.config_at(BlockNumber::new(6)).sequence(),
        verifier.config().sequence()
    );
    assert_eq!(
        verifier.config_at(BlockNumber::new(7)).sequence(),
        verifier.config().sequence()
    );
    assert_eq!(
        verifier.config_at(BlockNumber::new(u64::MAX)).sequence(),
        verifier.config().sequence()
    );
}

#[test]
fn applying_twice_changes_nothing_and_another_block_of_the_number_is_refused() {
    let recorded = chain("raft", 8);
    let verifier = verified(&recorded);
    let again = VerifiedBlock::new(recorded[7].clone(), &verifier).unwrap();
    verifier.apply_config(&again).unwrap();
    let plain = VerifiedBlock::new(recorded[6].clone(), &verifier).unwrap();
    verifier.apply_config(&plain).unwrap();
    let genesis = VerifiedBlock::new(recorded[0].clone(), &verifier).unwrap();
    verifier.apply_config(&genesis).unwrap();
    let rival = raft_config_block(
        7,
        &recorded[6],
        config_entry(&config_of("raft/block_0.pb"), "ch-raft"),
    );
    let rival = VerifiedBlock::new(rival, &verifier).unwrap();
    assert_eq!(verifier.apply_config(&rival).unwrap_err().rule(), "config");
    assert_eq!(verifier.config_number(), BlockNumber::new(7));
}

/// After a restart the config blocks alone rebuild the verifier.
#[test]
fn config_blocks_alone_rebuild_the_verifier() {
    let blocks = chain("bft", 70);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    for number in [1, 21, 37, 46] {
        let config = VerifiedBlock::new(blocks[number].clone(), &verifier).unwrap();
        verifier.apply_config(&config).unwrap();
    }
    for block in &blocks {
        assert_eq!(outcome(verifier.verify(block)), "accepted", "{block:?}");
    }
    // With one left out, the blocks that it judges wait for it.
    let gap = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    for number in [1, 46] {
        gap.apply_config(&VerifiedBlock::new(blocks[number].clone(), &verifier).unwrap())
            .unwrap();
    }
    assert_eq!(outcome(gap.verify(&blocks[25])), "awaits 21");
    assert_eq!(outcome(gap.verify(&blocks[50])), "accepted");
}

/// Two networks of one organisation of orderers sign with the same keys.
#[test]
fn a_block_of_another_channel_of_the_same_orderers_is_rejected() {
    let verifier = ChannelVerifier::from_genesis(&block("raft/block_0.pb")).unwrap();
    let other = chain("bft", 3);
    let entries: Vec<&[u8]> = other[2].data().collect();
    let bare = Block::assemble(BlockNumber::new(1), &[1; 32], &entries, &[&[]]);
    let value = last_config_value(0);
    let signature = orderer("raft0").sign_block(&bare, &value);
    assert_eq!(
        outcome(verifier.verify(&with_signatures(&bare, &value, vec![signature]))),
        "channel"
    );
}
