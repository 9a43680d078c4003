// SPDX-License-Identifier: Apache-2.0
//! Config blocks on the way: what they change, and from when on.

use block_api::{BlockNumber, VerifyError};
use prost::Message;
use protos::{
    common::{
        Capabilities, Capability, Config, ConfigGroup, HeaderType, ImplicitMetaPolicy, Orderers,
    },
    msp::{FabricMspConfig, MspConfig},
    orderer::{BatchSize, ConsensusType},
    peer::AnchorPeers,
};

use super::*;
use crate::test_support::{
    TestSigner, block, certificate_of_fixture, chain, config_entry, config_of, entry, group,
    last_config_value,
    pki::{TestCa, msp_config},
    set_value, with_signatures,
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

/// A verifier behind a config block that changes the configuration of the genesis block, and that
/// block; or the rule by which it is refused.
fn after(name: &str, change: impl Fn(&mut Config)) -> Result<(ChannelVerifier, Block), String> {
    let blocks = chain(name, 1);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let mut config = config_of(&format!("{name}/block_0.pb"));
    config.sequence += 1;
    change(&mut config);
    let block = match name {
        "raft" => raft_config_block(1, &blocks[0], config_entry(&config, "ch-raft")),
        _ => bft_config_block(1, &blocks[0], config_entry(&config, "ch-bft")),
    };
    match VerifiedBlock::new(block.clone(), &verifier, Standing::Linked) {
        Ok(stored) => {
            verifier.apply_config(&stored).unwrap();
            Ok((verifier, block))
        }
        Err(VerifyError::Rejected(rejection)) => {
            eprintln!("{rejection}");
            Err(rejection.rule().to_owned())
        }
        Err(error) => panic!("{error}"),
    }
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
fn changes_that_do_not_touch_judging_let_the_same_signers_go_on() {
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
    for (what, change) in rows {
        let (verifier, config) = after("raft", change).unwrap();
        let next = message_block(2, &config, 1);
        assert_eq!(
            outcome(verifier.verify(&next, Standing::Linked)),
            "accepted",
            "{what}"
        );
        assert!(after("bft", change).is_ok(), "{what}");
    }
}

/// Each change is judged by the configuration before it, and judges what comes after it.
///
/// Covers: VER-21
#[test]
fn changes_of_judging_take_force_behind_their_block() {
    type Change = fn(&mut Config);
    let refused: [(&str, Change); 5] = [
        ("the orderers' organisation left, and another came", |c| {
            let organisation = group(c, &["Application", "Org1"]).clone();
            let orderers = group(c, &["Orderer"]);
            orderers.groups.remove("OrdererOrg");
            let values = organisation.values.into_iter();
            let without_peers = ConfigGroup {
                values: values.filter(|(key, _)| key == "MSP").collect(),
                ..organisation
            };
            orderers.groups.insert("Org1".to_owned(), without_peers);
        }),
        ("the signer's authority was replaced", |c| {
            let authority = TestCa::root("another authority");
            change_msp(c, &["Orderer", "OrdererOrg"], |msp| {
                *msp = msp_config("OrdererMSP", &[&authority]);
            });
        }),
        ("administrators alone make blocks valid", |c| {
            let admins = group(c, &["Orderer"]).policies["Admins"].clone();
            let policies = &mut group(c, &["Orderer"]).policies;
            policies.insert("BlockValidation".to_owned(), admins);
        }),
        ("the policy that is asked for is gone", |c| {
            let orderers = group(c, &["Orderer", "OrdererOrg"]);
            drop(orderers.policies.remove("Writers"));
        }),
        ("two organisations must agree", |c| {
            let organisation = group(c, &["Orderer", "OrdererOrg"]).clone();
            let mut other = group(c, &["Application", "Org1"]).clone();
            other.values.retain(|key, _| key == "MSP");
            other.policies.remove("Writers");
            let orderers = group(c, &["Orderer"]);
            orderers
                .groups
                .insert("OrdererOrg".to_owned(), organisation);
            orderers.groups.insert("Org1".to_owned(), other);
            let all = ImplicitMetaPolicy {
                rule: protos::common::implicit_meta_policy::Rule::All as i32,
                sub_policy: "Writers".to_owned(),
            };
            let policy = orderers.policies.get_mut("BlockValidation").unwrap();
            policy.policy.as_mut().unwrap().value = all.encode_to_vec().into();
        }),
    ];
    for (what, change) in refused {
        let (verifier, config) =
            after("raft", change).unwrap_or_else(|rule| panic!("{what}: {rule}"));
        // The same orderer signs on, and owns up to the configuration or not.
        let next = message_block(2, &config, 1);
        assert_eq!(
            outcome(verifier.verify(&next, Standing::Linked)),
            "signatures",
            "{what}"
        );
        assert_eq!(
            outcome(verifier.verify(&next, Standing::Ahead)),
            "signatures",
            "{what}"
        );
        assert_eq!(
            outcome(verifier.verify_attestation(&next.without_data(), Standing::Linked)),
            "signatures",
            "{what}"
        );
        let denies = message_block(2, &config, 0);
        assert_eq!(
            outcome(verifier.verify(&denies, Standing::Linked)),
            "signatures",
            "{what}"
        );
        assert_eq!(
            outcome(verifier.verify(&denies, Standing::Ahead)),
            "last-config",
            "{what}"
        );
    }
}

#[test]
fn a_configuration_that_nobody_could_satisfy_is_refused() {
    type Change = fn(&mut Config);
    let rows: [(&str, Change); 4] = [
        ("no policy over block signatures", |c| {
            drop(group(c, &["Orderer"]).policies.remove("BlockValidation"))
        }),
        ("no group of orderers", |c| {
            drop(group(c, &[]).groups.remove("Orderer"))
        }),
        ("an authority that is none", |c| {
            change_msp(c, &["Orderer", "OrdererOrg"], |msp| {
                msp.root_certs = vec![b"not a certificate".to_vec().into()];
            })
        }),
        ("an unknown capability", |c| {
            let capabilities = [("V9_9".to_owned(), Capability {})].into();
            let value = Some(Capabilities { capabilities });
            set_value(group(c, &[]), "Capabilities", value);
        }),
    ];
    for (what, change) in rows {
        for name in ["raft", "bft"] {
            assert_eq!(after(name, change).unwrap_err(), "config", "{name}: {what}");
        }
    }
    // Without consenters nobody satisfies the policy any more, which is the orderers' business.
    let no_consenters = |c: &mut Config| {
        let none = Some(Orderers::default());
        set_value(group(c, &["Orderer"]), "Orderers", none);
    };
    assert!(after("bft", no_consenters).is_ok());
}

/// The capability decides how signatures are read, from the block after the config block on.
#[test]
fn signatures_by_id_count_once_the_capability_is_there() {
    let consenter = protos::common::Consenter {
        id: 1,
        msp_id: "OrdererMSP".to_owned(),
        identity: certificate_of_fixture("orderer/raft0").into(),
        ..Default::default()
    };
    let with_consenter = |c: &mut Config, capability: &str| {
        let consenters = Orderers {
            consenter_mapping: vec![consenter.clone()],
        };
        set_value(group(c, &["Orderer"]), "Orderers", Some(consenters));
        let capabilities = [(capability.to_owned(), Capability {})].into();
        let value = Some(Capabilities { capabilities });
        set_value(group(c, &[]), "Capabilities", value);
        let orderers = group(c, &[]).values.remove("OrdererAddresses");
        drop(orderers);
    };
    for (capability, expected) in [("V2_0", "signatures"), ("V3_0", "accepted")] {
        let (verifier, config) = after("raft", |c| with_consenter(c, capability)).unwrap();
        let bare = message_block(2, &config, 1);
        let value = last_config_value(1);
        let by_id = orderer("raft0").sign_block_by_id(&bare, &value, 1);
        let block = with_signatures(&bare, &value, vec![by_id]);
        assert_eq!(
            outcome(verifier.verify(&block, Standing::Linked)),
            expected,
            "{capability}"
        );
    }
}

/// Covers: VER-22, VER-23, VER-24
#[test]
fn config_blocks_that_cannot_be_taken_are_rejected() {
    let blocks = chain("raft", 2);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let verdict = |entry: Vec<u8>| {
        outcome(verifier.verify(&raft_config_block(1, &blocks[0], entry), Standing::Linked))
    };
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
    let Verdict::Rejected(rejection) = verifier.verify(
        &raft_config_block(1, &blocks[0], config_entry(&unknown, "ch-raft")),
        Standing::Linked,
    ) else {
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
    let stored = VerifiedBlock::new(config_block.clone(), &verifier, Standing::Linked).unwrap();
    assert_eq!(stored.judged_by(), BlockNumber::GENESIS);
    let next = message_block(8, config_block, 7);
    let behind = message_block(8, config_block, 0);
    let itself = message_block(8, config_block, 8);
    let later = message_block(8, config_block, 9);
    let ahead = |block: &Block| outcome(verifier.verify(block, Standing::Ahead));
    let attested = |block: &Block| {
        outcome(verifier.verify_attestation(&block.without_data(), Standing::Ahead))
    };
    assert_eq!(ahead(&next), "awaits 7");
    assert_eq!(attested(&next), "awaits 7");
    assert_eq!(ahead(&behind), "accepted", "nothing newer is known");
    for unclear in [&itself, &later] {
        assert_eq!(ahead(unclear), "awaits its link");
        assert_eq!(attested(unclear), "awaits its link");
    }
    assert_eq!(
        ahead(config_block),
        "awaits its link",
        "its predecessor judges it"
    );
    assert_eq!(attested(config_block), "awaits its link");

    verifier.apply_config(&stored).unwrap();
    assert_eq!(verifier.config_number(), BlockNumber::new(7));
    assert_eq!(
        clone.config_number(),
        BlockNumber::new(7),
        "clones share what is in force"
    );
    assert_eq!(ahead(&next), "accepted");
    assert_eq!(attested(&next), "accepted");
    assert_eq!(
        ahead(&behind),
        "last-config",
        "a newer one is known below it"
    );
    assert_eq!(attested(&behind), "last-config");
    let in_good_faith = |block: &Block, standing| {
        let Verdict::Rejected(rejection) = verifier.verify(block, standing) else {
            panic!("accepted");
        };
        rejection.may_be_in_good_faith()
    };
    assert!(
        in_good_faith(&behind, Standing::Ahead),
        "whoever lacks the newer one accepts it"
    );
    let unsigned = with_signatures(&behind, &last_config_value(0), vec![]);
    assert!(
        !in_good_faith(&unsigned, Standing::Linked),
        "nobody accepts it"
    );
    // In its place a block is judged by its position, whatever its signatures say: as Fabric does.
    for block in [&next, &behind, &itself, &later] {
        let verdict = verifier.verify(block, Standing::Linked);
        let Verdict::Accepted(acceptance) = verdict else {
            panic!("{}", outcome(verdict));
        };
        assert_eq!(acceptance.judged_by, BlockNumber::new(7));
    }
    // Older blocks are judged by their position, as they were.
    for block in &recorded {
        let verdict = outcome(verifier.verify(block, Standing::Linked));
        assert_eq!(verdict, "accepted", "{block:?}");
    }
    let sequence = |number| {
        verifier
            .config_at(BlockNumber::new(number))
            .unwrap()
            .sequence()
    };
    assert_eq!(sequence(6) + 1, sequence(7));
    assert_eq!(sequence(u64::MAX), verifier.config().sequence());
}

/// Blocks from before v1.4.1 do not sign which config block is the newest one.
#[test]
fn a_block_that_names_no_config_block_waits_for_its_place() {
    let recorded = chain("raft", 8);
    let verifier = verified(&recorded);
    let bare = message_block(8, &recorded[7], 7);
    let signature = orderer("raft0").sign_block(&bare, &[]);
    let block = with_signatures(&bare, &[], vec![signature]);
    let ahead = outcome(verifier.verify(&block, Standing::Ahead));
    assert_eq!(ahead, "awaits its link");
    let linked = VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap();
    assert_eq!(linked.last_config(), BlockNumber::new(7));
}

/// Any number of configurations pass, and the memory stays bounded.
#[test]
fn the_newest_configurations_are_kept() {
    let genesis = chain("raft", 1).remove(0);
    let verifier = verified(std::slice::from_ref(&genesis));
    let mut config = config_of("raft/block_0.pb");
    let mut blocks = vec![genesis];
    for number in 1..40 {
        config.sequence += 1;
        let entry = config_entry(&config, "ch-raft");
        let block = raft_config_block(number, &blocks[blocks.len() - 1], entry);
        let stored = VerifiedBlock::new(block.clone(), &verifier, Standing::Linked).unwrap();
        verifier.apply_config(&stored).unwrap();
        blocks.push(block);
    }
    let newest = verifier.config();
    assert_eq!(newest.sequence(), config.sequence);
    assert!(verifier.config_at(BlockNumber::new(24)).is_some());
    assert!(verifier.config_at(BlockNumber::new(10)).is_none());
    assert_eq!(
        outcome(verifier.verify(&blocks[10], Standing::Linked)),
        "not-kept"
    );
    // What was in force once changes nothing when it comes again.
    let fresh = verified(&blocks[..11]);
    let old = VerifiedBlock::new(blocks[10].clone(), &fresh, Standing::Linked).unwrap();
    verifier.apply_config(&old).unwrap();
    assert_eq!(verifier.config().sequence(), newest.sequence());
}

#[test]
fn applying_twice_changes_nothing_and_another_block_of_the_number_is_refused() {
    let recorded = chain("raft", 8);
    let verifier = verified(&recorded);
    let again = VerifiedBlock::new(recorded[7].clone(), &verifier, Standing::Linked).unwrap();
    verifier.apply_config(&again).unwrap();
    let plain = VerifiedBlock::new(recorded[6].clone(), &verifier, Standing::Linked).unwrap();
    verifier.apply_config(&plain).unwrap();
    let genesis = VerifiedBlock::new(recorded[0].clone(), &verifier, Standing::Linked).unwrap();
    verifier.apply_config(&genesis).unwrap();
    let rival = raft_config_block(
        7,
        &recorded[6],
        config_entry(&config_of("raft/block_0.pb"), "ch-raft"),
    );
    let rival = VerifiedBlock::new(rival, &verifier, Standing::Linked).unwrap();
    assert_eq!(verifier.apply_config(&rival).unwrap_err().rule(), "config");
    assert_eq!(verifier.config_number(), BlockNumber::new(7));
}

/// After a restart the config blocks alone rebuild the verifier.
#[test]
fn config_blocks_alone_rebuild_the_verifier() {
    let blocks = chain("bft", 70);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    for number in [1, 21, 37, 46] {
        let config =
            VerifiedBlock::new(blocks[number].clone(), &verifier, Standing::Linked).unwrap();
        verifier.apply_config(&config).unwrap();
    }
    for block in &blocks {
        assert_eq!(
            outcome(verifier.verify(block, Standing::Linked)),
            "accepted",
            "{block:?}"
        );
    }
    // They come in order: what would judge blocks behind the newest one is refused.
    let gap = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let verified = |number: usize| {
        VerifiedBlock::new(blocks[number].clone(), &verifier, Standing::Linked).unwrap()
    };
    gap.apply_config(&verified(1)).unwrap();
    gap.apply_config(&verified(46)).unwrap();
    assert_eq!(
        gap.apply_config(&verified(21)).unwrap_err().rule(),
        "config"
    );
    assert_eq!(
        outcome(gap.verify(&blocks[50], Standing::Ahead)),
        "accepted"
    );
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
        outcome(verifier.verify(
            &with_signatures(&bare, &value, vec![signature]),
            Standing::Ahead
        )),
        "channel"
    );
}
