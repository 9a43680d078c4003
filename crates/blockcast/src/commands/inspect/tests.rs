// SPDX-License-Identifier: Apache-2.0
//! Inspects recorded blocks, and bytes that were made up.

use std::{fs, path::PathBuf};

use block_api::{Block, BlockNumber, DataHashing};
use proptest::prelude::*;
use prost::Message as _;
use protos::common::{
    ChannelHeader, Envelope, Header, Metadata, MetadataSignature, Payload, SignatureHeader,
};

use super::*;

fn file(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

fn block(path: &str) -> Block {
    block_files::read(&file(path)).unwrap()
}

fn judged(path: &str, by: &str) -> Report {
    let block = block(path);
    let judge = Judge::given(&self::block(by), &file(by), &block).unwrap();
    Report::new(&block, Some(&judge), DataHashing::default())
}

fn alone(block: &Block) -> Report {
    Report::new(block, Judge::itself(block).as_ref(), DataHashing::default())
}

fn json(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).unwrap()
}

#[test]
fn a_block_is_told_as_its_table_has_it() {
    for folder in ["raft", "bft"] {
        let table = fs::read_to_string(file(folder).join("blocks.txt")).unwrap();
        for (number, line) in table.lines().enumerate() {
            let block = block(&format!("{folder}/block_{number}.pb"));
            let report = alone(&block);
            let told = |name: &str| {
                let mut words = line.split_whitespace();
                words
                    .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                    .unwrap()
                    .to_owned()
            };
            let context = format!("{folder} {number}");
            assert_eq!(report.number, u64::try_from(number).unwrap(), "{context}");
            assert_eq!(
                report.channel.as_deref(),
                Some(format!("ch-{folder}").as_str())
            );
            assert_eq!(report.config_block, line.contains("CONFIG"), "{context}");
            assert_eq!(report.config.is_some(), report.config_block, "{context}");
            assert_eq!(report.header_hash, told("header_hash"), "{context}");
            assert_eq!(report.previous_hash, told("prev"), "{context}");
            assert_eq!(report.data_hash, told("data_hash"), "{context}");
            assert_eq!(report.data_hash_ok, Some(true), "{context}");
            assert_eq!(report.bytes.to_string(), told("pb_bytes"), "{context}");
            assert_eq!(
                report.transactions_total.to_string(),
                told("txs"),
                "{context}"
            );
            let last_config = report.metadata.last_config.unwrap();
            assert_eq!(last_config.to_string(), told("last_config"), "{context}");
            let kinds: String = report
                .signers
                .iter()
                .map(|signer| match signer.by {
                    signers::By::Certificate => 'S',
                    signers::By::Consenter => 'I',
                })
                .collect();
            assert_eq!(kinds, told("sigs"), "{context}");
            for transaction in &report.transactions {
                assert_eq!(transaction.problem, None, "{context}");
                let stamp = transaction.timestamp.as_deref().unwrap();
                assert!(stamp.starts_with("2026-11-22T05:4"), "{context}: {stamp}");
            }
        }
    }
}

#[test]
fn a_block_reads_well_as_text() {
    let text = text::render(&judged("raft/block_12.pb", "raft/block_0.pb"));
    let expected = "\
block 12 of ch-raft, 101,029 bytes, 1 transaction
  header hash    babdae3ac19cc019065adc424e44f02e68a9de26b664d6dee82833d45d027d58
  previous hash  ac7a69614dcdee323cd23329a16d5879129b572d40eeab32dcfa4792c883b71f
  data hash      efcedcfd087fb599760fe0d9d4c8ea2a818db7d9a93553c4fab4b5ca60f91383 ok

metadata
  0  SIGNATURES           940  1 signature, last config 7, raft index 16
  1  LAST_CONFIG          4    last config 7
  2  TRANSACTIONS_FILTER  0    empty
  3  ORDERER              0    empty
  4  COMMIT_HASH          0    empty

signers (judged by the configuration of block 0)
  0  certificate  genuine  OrdererMSP  C=US, ST=California, L=San Francisco, OU=orderer, CN=raft0.orderer.test

transactions
  0  ENDORSER_TRANSACTION  99,991 bytes  2026-11-22T05:46:36.000Z  ch-raft
     id b8a870db52b43d697113cc33d626b76ed35e3913783a0c24dca5ca6aea539686
     by Org1MSP [C=US, ST=California, L=San Francisco, OU=client, CN=User1@org1.test]";
    assert_eq!(text, expected);
}

#[test]
fn consenters_are_named_by_id_and_known_by_the_configuration() {
    let unjudged = alone(&block("bft/block_4.pb"));
    assert_eq!(unjudged.judged_by, None);
    let signers = serde_json::to_value(&unjudged.signers).unwrap();
    assert_eq!(
        signers[1],
        serde_json::json!({
            "index": 1, "by": "consenter", "consenter": 3, "msp_id": null, "subject": null,
            "valid": null, "problem": null
        })
    );
    let text = text::render(&unjudged);
    assert!(
        text.contains("signers (not judged: give --genesis, which says who they are)"),
        "{text}"
    );

    let report = judged("bft/block_4.pb", "bft/block_0.pb");
    assert_eq!(
        report.judged_by.as_deref(),
        Some("the configuration of block 0")
    );
    let nodes: Vec<_> = report
        .signers
        .iter()
        .map(|signer| (signer.consenter.unwrap(), signer.subject.clone().unwrap()))
        .collect();
    assert_eq!(nodes.len(), 3);
    for (id, subject) in nodes {
        assert!(
            subject.ends_with(&format!("CN=bft{}.orderer.test", id - 1)),
            "{id}: {subject}"
        );
    }
    assert!(
        report
            .signers
            .iter()
            .all(|signer| signer.valid == Some(true))
    );
    assert_eq!(
        json(&report)["metadata"]["consenter"],
        serde_json::json!({"type": "BFT", "view": 0, "sequence": 4})
    );
}

/// Covers: PRB-07
#[test]
fn the_record_of_the_consensus_is_the_signed_one_or_that_of_the_old_slot() {
    let raft = |index: u64| {
        let record = protos::etcdraft::BlockMetadata {
            raft_index: index,
            ..Default::default()
        };
        Metadata {
            value: record.encode_to_vec().into(),
            ..Default::default()
        }
        .encode_to_vec()
    };
    let shown = |signed: Vec<u8>, slot: Vec<u8>| {
        let value = protos::common::OrdererBlockMetadata {
            consenter_metadata: signed.into(),
            ..Default::default()
        };
        let signatures = Metadata {
            value: value.encode_to_vec().into(),
            ..Default::default()
        };
        let slots = [signatures.encode_to_vec(), vec![], vec![], slot];
        let block = Block::assemble(BlockNumber::new(3), &[], &[b"entry"], &slots);
        json(&alone(&block))["metadata"]["consenter"].clone()
    };
    let record = |index: u64| serde_json::json!({"type": "etcdraft", "raft_index": index});
    assert_eq!(shown(raft(5), vec![]), record(5));
    assert_eq!(shown(vec![], raft(6)), record(6));
    assert_eq!(shown(raft(5), raft(6)), record(5));
    let nothing = serde_json::Value::Null;
    assert_eq!(shown(vec![], vec![]), nothing);
    assert_eq!(shown(vec![0xff], raft(6)), nothing);
    assert_eq!(shown(vec![], vec![0xff]), nothing);
}

#[test]
fn a_config_block_is_a_tree_and_judges_itself() {
    let report = alone(&block("bft/block_21.pb"));
    assert_eq!(
        report.judged_by.as_deref(),
        Some("the configuration in the block itself")
    );
    let text = text::render(&report);
    for part in [
        "config block 21 of ch-bft, 34,750 bytes, 1 transaction",
        "\nconfiguration (sequence 2)\n  Channel (version 0, changed by Admins)\n",
        "\n      BatchTimeout (version 1): 300ms\n",
        "\n      Orderers:\n        1: 127.0.0.1:18050 OrdererMSP [",
        "\n        Endpoints (version 1):\n          127.0.0.1:18050\n",
        "\n          localhost:18050\n",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let long = text.lines().find(|line| line.chars().count() > 120);
    assert_eq!(long, None);
    let genesis = alone(&block("raft/block_0.pb"));
    let text = text::render(&genesis);
    assert!(text.starts_with("genesis block 0 of ch-raft"), "{text}");
    assert!(
        text.contains("\n  previous hash  none\n") && text.contains("\nsigners (none)\n"),
        "{text}"
    );
    assert!(text.contains("\n      BatchTimeout: 200ms\n"), "{text}");
    let config = &json(&genesis)["config"];
    assert_eq!(config["sequence"], 0);
    assert_eq!(config["root"]["name"], "Channel");
    let timeout = config["root"]["groups"][1]["values"]
        .as_array()
        .unwrap()
        .iter()
        .find(|value| value["name"] == "BatchTimeout");
    assert_eq!(timeout.unwrap()["lines"], serde_json::json!(["200ms"]));
}

#[test]
fn what_was_changed_is_seen() {
    let good = fs::read(file("raft/block_12.pb")).unwrap();
    let genesis = block("raft/block_0.pb");
    let changed = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let block = Block::parse(bad.into()).unwrap();
        let judge = Judge::given(&genesis, &file("raft/block_0.pb"), &block).unwrap();
        Report::new(&block, Some(&judge), DataHashing::default())
    };
    let data = changed(good.len() / 2);
    assert_eq!(data.data_hash_ok, Some(false));
    let text = text::render(&data);
    assert!(
        text.contains("ca60f91383 MISMATCH\n  of the data    "),
        "{text}"
    );
    assert_eq!(data.signers[0].valid, Some(true));
    // The end of the first metadata slot is the end of the signature.
    let signature = good
        .windows(2)
        .rposition(|pair| pair == [0x0a, 0x04])
        .unwrap()
        - 1;
    let report = changed(signature);
    assert_eq!(report.signers[0].valid, Some(false));
    let text = text::render(&report);
    assert!(
        text.contains("  0  certificate  NOT VALID  OrdererMSP") && text.contains("\n  0: "),
        "{text}"
    );
    let attestation = alone(&block("raft/block_12.pb").without_data());
    assert_eq!(attestation.data_hash_ok, None);
    assert!(text::render(&attestation).contains("no data to compare"));
}

#[test]
fn a_judge_of_another_channel_or_without_a_configuration_is_refused() {
    let block = block("raft/block_12.pb");
    let refused = |by: &str| {
        let error = Judge::given(&self::block(by), &file(by), &block).unwrap_err();
        error.to_string()
    };
    assert!(
        refused("bft/block_0.pb").contains("is of channel ch-bft, the block is of channel ch-raft")
    );
    assert!(
        refused("raft/block_1.pb").contains("a config block has one"),
        "{}",
        refused("raft/block_1.pb")
    );
}

/// A block whose every text is hostile.
fn hostile(text: &str, count: usize) -> Block {
    let identity = protos::msp::SerializedIdentity {
        mspid: text.to_owned(),
        id_bytes: text.to_owned().into(),
    };
    let signature_header = SignatureHeader {
        creator: identity.encode_to_vec().into(),
        ..Default::default()
    };
    let channel_header = ChannelHeader {
        r#type: -7,
        channel_id: text.to_owned(),
        tx_id: text.to_owned(),
        ..Default::default()
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        ..Default::default()
    };
    let envelope = Envelope {
        payload: payload.encode_to_vec().into(),
        ..Default::default()
    };
    let signature = MetadataSignature {
        signature_header: signature_header.encode_to_vec().into(),
        ..Default::default()
    };
    let metadata = Metadata {
        signatures: vec![signature; count],
        ..Default::default()
    };
    Block::assemble(
        BlockNumber::new(1),
        text.as_bytes(),
        &vec![envelope.encode_to_vec(); count],
        &[metadata.encode_to_vec(), text.as_bytes().to_vec()],
    )
}

#[test]
fn hostile_text_is_escaped_and_lists_end() {
    let block = hostile(&"\x1b]0;owned\x07\u{202e}\n".repeat(10_000), 2);
    let report = alone(&block);
    for shown in [
        text::render(&report),
        serde_json::to_string(&report).unwrap(),
    ] {
        assert!(shown.contains("bytes more"), "{shown}");
        let bad = shown
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None);
        assert!(shown.len() < 20_000, "{}", shown.len());
    }
    let many = alone(&hostile("x", 12_000));
    assert_eq!((many.signers.len(), many.signers_total), (256, 12_000));
    assert_eq!(
        (many.transactions.len(), many.transactions_total),
        (10_000, 12_000)
    );
    let text = text::render(&many);
    assert!(text.contains("  and 11,744 signers more\n"));
    assert!(text.ends_with("  and 2,000 transactions more"));
}

/// Blocks that were taken apart in every way that Fabric's verifier was asked about.
#[test]
fn blocks_that_break_rules_are_told_too() {
    let mut told = 0;
    for folder in ["verdicts/raft", "verdicts/bft"] {
        for entry in fs::read_dir(file(folder)).unwrap() {
            // Some are no blocks at all.
            if let Ok(block) = block_files::read(&entry.unwrap().path()) {
                let text = text::render(&alone(&block));
                assert!(text.contains("\n  header hash    "), "{text}");
                told += 1;
            }
        }
    }
    assert!(told > 250, "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A recorded block with bytes changed anywhere is told without a panic, if it is a block.
    #[test]
    fn changed_blocks_are_told(
        number in prop_oneof![Just(0u64), Just(1), Just(4), Just(7), Just(21)],
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut raw = fs::read(file(&format!("bft/block_{number}.pb"))).unwrap();
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        if let Ok(block) = Block::parse(raw.into()) {
            let report = alone(&block);
            let text = text::render(&report);
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
    }

    #[test]
    fn any_entry_and_any_slot_are_told(
        entry in proptest::collection::vec(any::<u8>(), 0..200),
        slot in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let slots = vec![slot; 6];
        let block = Block::assemble(BlockNumber::new(3), &[], &[entry], &slots);
        let report = alone(&block);
        prop_assert_eq!(report.transactions.len(), 1);
        prop_assert_eq!(report.metadata.slots.len(), 6);
        prop_assert!(!text::render(&report).is_empty());
    }
}
