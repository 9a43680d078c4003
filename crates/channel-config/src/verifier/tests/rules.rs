// SPDX-License-Identifier: Apache-2.0
//! Each rule with blocks that keep it and blocks that break it.

use block_api::{BlockNumber, DataHashing, wire::put_bytes};
use proptest::prelude::*;
use prost::Message;
use protos::common::{Envelope, HeaderType, Metadata, MetadataSignature};

use super::*;
use crate::{
    BlockError, ConfigError, SignerKind,
    test_support::{
        TestSigner, block, chain, config_entry, config_of, entry, high_s, last_config_value,
        with_signatures, with_slots,
    },
    verifier::rule::{MAX_HASHED, MAX_SIGNATURES, MAX_SIGNED, MAX_SLOT},
};

fn raft() -> ChannelVerifier {
    ChannelVerifier::from_genesis(&block("raft/block_0.pb")).unwrap()
}

fn orderer(name: &str) -> TestSigner {
    TestSigner::of_fixture(&format!("orderer/{name}"), "OrdererMSP")
}

/// A block with these transactions, signed by a raft node.
fn signed(number: u64, entries: &[Vec<u8>], last_config: u64) -> Block {
    let block = Block::assemble(BlockNumber::new(number), &[1; 32], entries, &[&[]]);
    let value = last_config_value(last_config);
    let signature = orderer("raft0").sign_block(&block, &value);
    with_signatures(&block, &value, vec![signature])
}

fn message(channel: &str) -> Vec<u8> {
    entry(HeaderType::EndorserTransaction, channel, b"data".to_vec())
}

/// Covers: VER-09, VER-12, VER-13, VER-14, VER-17, VER-19, VER-20, PRB-11, PRB-15, PRB-16, PRB-17, PRB-18, MCS-08
#[test]
fn each_rule_has_its_name() {
    let good = block("raft/block_6.pb");
    let two = [message("ch-raft"), message("ch-raft")];
    let unsigned = |entry: &[u8]| {
        let payload = Envelope::decode(entry).unwrap().payload;
        Envelope {
            payload,
            ..Envelope::default()
        }
        .encode_to_vec()
    };
    let config = config_entry(&config_of("raft/block_0.pb"), "ch-raft");
    let with_entries = |entries: &[Vec<u8>]| signed(6, entries, 0);
    let raw_of = |block: &Block, change: &dyn Fn(&mut Vec<u8>)| {
        let mut raw = block.raw().to_vec();
        change(&mut raw);
        Block::parse(raw.into()).unwrap()
    };
    let last_byte_of_data = good.relay().body.len() - 1;
    let malformed_header = MetadataSignature {
        signature_header: vec![0xff].into(),
        ..Default::default()
    };
    let bft_header = MetadataSignature {
        identifier_header: vec![0xff].into(),
        ..Default::default()
    };
    let crowd = vec![MetadataSignature::default(); MAX_SIGNATURES + 1];
    let rows: Vec<(&str, Block, &str)> = vec![
        ("a recorded block", good.clone(), "accepted"),
        ("made here", with_entries(&two), "accepted"),
        ("no metadata", with_slots(&good, &[]), "metadata"),
        (
            "a malformed slot",
            with_slots(&good, &[&[0xff]]),
            "metadata",
        ),
        (
            "a malformed signature",
            with_slots(&good, &[&[0x12, 1, 0xff]]),
            "metadata",
        ),
        (
            "one slot",
            with_slots(&good, &[good.signatures_slot().unwrap()]),
            "accepted",
        ),
        ("no data", good.without_data(), "well-formed"),
        ("an empty list", with_entries(&[]), "well-formed"),
        (
            "an unsigned transaction",
            with_entries(&[unsigned(&two[0])]),
            "well-formed",
        ),
        ("two in one", with_entries(&[two.concat()]), "well-formed"),
        (
            "an unknown field behind",
            with_entries(&[[two[0].as_slice(), &[0x1a, 1, 0]].concat()]),
            "accepted",
        ),
        (
            "a configuration among others",
            with_entries(&[unsigned(&config), message("ch-raft")]),
            "well-formed",
        ),
        (
            "another channel in its place",
            with_entries(&[message("ch-other")]),
            "accepted",
        ),
        ("no channel", with_entries(&[message("")]), "accepted"),
        (
            "another byte of data",
            raw_of(&good, &|raw| raw[last_byte_of_data] ^= 1),
            "data-hash",
        ),
        (
            "no signature",
            with_signatures(&good, &last_config_value(0), vec![]),
            "signatures",
        ),
        (
            "a malformed header",
            with_signatures(&good, &last_config_value(0), vec![malformed_header]),
            "signatures",
        ),
        (
            "an id on raft",
            with_signatures(&good, &last_config_value(0), vec![bft_header]),
            "signatures",
        ),
        (
            "too many signatures",
            with_signatures(&good, &last_config_value(0), crowd),
            "signatures",
        ),
        ("a config block to come", signed(6, &two, 7), "accepted"),
        ("its own config, but none", signed(6, &two, 6), "accepted"),
        (
            "a config block that is none",
            signed(9, &two, 7),
            "accepted",
        ),
    ];
    let verifier = raft();
    let other = with_entries(&[message("ch-other")]);
    let ahead = outcome(verifier.verify(&other, Standing::Ahead));
    assert_eq!(ahead, "channel");
    for (name, block, expected) in rows {
        assert_eq!(
            outcome(verifier.verify(&block, Standing::Linked)),
            expected,
            "{name}: {:?}",
            verifier.verify(&block, Standing::Linked)
        );
    }
}

/// What condemns a block condemns its attestation, except what is said of the data.
///
/// Covers: VER-26, VER-27, VER-28, VER-29, MCS-11
#[test]
fn attestations_are_judged_without_their_data() {
    let verifier = raft();
    let good = block("raft/block_6.pb");
    let attest = |block: &Block| outcome(verifier.verify_attestation(block, Standing::Linked));
    assert_eq!(attest(&good), "accepted");
    assert_eq!(attest(&good.without_data()), "accepted");
    assert_eq!(attest(&with_slots(&good.without_data(), &[])), "metadata");
    let unsigned = with_signatures(&good, &last_config_value(0), vec![]);
    assert_eq!(attest(&unsigned), "signatures");
    let mut other_number = good.without_data().raw().to_vec();
    other_number[3] ^= 1;
    assert_eq!(
        attest(&Block::parse(other_number.into()).unwrap()),
        "signatures"
    );
    let unlinked = signed(9, &[message("ch-raft")], 7);
    let ahead = outcome(verifier.verify_attestation(&unlinked, Standing::Ahead));
    assert_eq!(ahead, "awaits 7");
    let config = block("raft/block_7.pb");
    assert_eq!(attest(&config), "accepted");
    assert_eq!(
        attest(&config.without_data()),
        "accepted",
        "a config block too big for the topic is announced like any other"
    );
}

/// Every signature is checked over the whole value and the header: neither may be so long that a
/// crowd of signatures keeps a thread busy for minutes.
#[test]
fn what_is_signed_has_a_bound() {
    let verifier = raft();
    let judge = |block: &Block| {
        let whole = outcome(verifier.verify(block, Standing::Linked));
        assert_eq!(
            outcome(verifier.verify_attestation(block, Standing::Linked)),
            whole
        );
        whole
    };
    let signed_over = |previous: &[u8], filler: usize| {
        let entries = [message("ch-raft")];
        let block = Block::assemble(BlockNumber::new(6), previous, &entries, &[&[]]);
        let mut value = last_config_value(0);
        put_bytes(&mut value, 2, &vec![0; filler]);
        let signature = orderer("raft0").sign_block(&block, &value);
        with_signatures(&block, &value, vec![signature])
    };
    assert_eq!(judge(&signed_over(&[1; 32], MAX_SIGNED / 2)), "accepted");
    assert_eq!(judge(&signed_over(&[1; 32], MAX_SIGNED)), "metadata");
    assert_eq!(judge(&signed_over(&vec![1; MAX_SIGNED], 0)), "metadata");
    // Together they cover no more than some of the longest do.
    let long = signed_over(&[1; 32], MAX_SIGNED / 2);
    let slot = Metadata::decode(long.signatures_slot().unwrap()).unwrap();
    let times = |count: usize| {
        let signatures = vec![slot.signatures[0].clone(); count];
        with_signatures(&long, &slot.value, signatures)
    };
    assert_eq!(judge(&times(MAX_HASHED / MAX_SIGNED)), "accepted");
    assert_eq!(judge(&times(2 * MAX_HASHED / MAX_SIGNED + 1)), "metadata");
    let mut padded = long.signatures_slot().unwrap().to_vec();
    put_bytes(&mut padded, 15, &vec![0; MAX_SLOT]);
    assert_eq!(judge(&with_slots(&long, &[&padded])), "metadata");
}

/// What a stranger wrote goes into logs: it is cut, and has no control characters.
#[test]
fn an_error_repeats_only_a_little_of_a_block() {
    let good = block("raft/block_6.pb");
    let long = "x".repeat(100_000);
    let previous = vec![7; 100_000];
    let entries: Vec<&[u8]> = good.data().collect();
    let unlinked = Block::assemble(good.number(), &previous, &entries, &[&[]]);
    let tip = ChainInfo {
        first: BlockNumber::GENESIS,
        height: good.number().previous().unwrap().height(),
        tip_hash: Some(good.header_hash()),
    };
    // A second header is merged with the first one.
    let (mut claims_hash, mut header) = (good.raw().to_vec(), Vec::new());
    put_bytes(&mut header, 3, &previous);
    put_bytes(&mut claims_hash, 1, &header);
    let claims_hash = Block::parse(claims_hash.into()).unwrap();
    let stranger = orderer("raft0").claiming(&format!("two\nlines{long}"));
    let value = last_config_value(0);
    let by_stranger = with_signatures(&good, &value, vec![stranger.sign_block(&good, &value)]);
    let verifier = raft();
    let other_channel = signed(6, &[message(&long)], 0);
    let texts = [
        verify_chain_step(&tip, &unlinked).unwrap_err().to_string(),
        refusal(&verifier, &claims_hash, Standing::Linked),
        refusal(&verifier, &other_channel, Standing::Ahead),
        refusal(&verifier, &by_stranger, Standing::Linked),
    ];
    for text in texts {
        assert!(text.len() < 1000, "{} bytes: {}", text.len(), &text[..500]);
        assert!(!text.contains('\n'), "{text}");
    }
}

fn refusal(verifier: &ChannelVerifier, block: &Block, standing: Standing) -> String {
    match verifier.verify(block, standing) {
        Verdict::Rejected(rejection) => rejection.to_string(),
        Verdict::Accepted(_) | Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => {
            panic!("{block:?} is not rejected")
        }
    }
}

/// Covers: VER-16, VER-18, MCS-06
#[test]
fn a_step_of_the_chain_has_the_next_number_and_the_hash_before() {
    let blocks = chain("raft", 8);
    let step = |tip: u64, tip_hash, block: &Block| {
        let info = ChainInfo {
            height: BlockNumber::new(tip).height(),
            tip_hash,
            ..ChainInfo::EMPTY
        };
        verify_chain_step(&info, block)
            .map_err(|rejection| (rejection.rule(), rejection.to_string()))
    };
    let hash = Some(blocks[5].header_hash());
    assert_eq!(step(5, hash, &blocks[6]), Ok(()));
    assert_eq!(
        step(5, None, &blocks[6]),
        Ok(()),
        "nothing is known of the block before"
    );
    let (rule, text) = step(5, hash, &blocks[7]).unwrap_err();
    assert_eq!(rule, "number");
    assert!(text.contains("number 7, expected was 6"), "{text}");
    let (rule, text) = step(5, Some(blocks[4].header_hash()), &blocks[6]).unwrap_err();
    assert_eq!(rule, "previous-hash");
    assert!(
        text.contains(&blocks[4].header_hash().to_string()),
        "{text}"
    );
    assert_eq!(
        verify_chain_step(&ChainInfo::EMPTY, &blocks[0]).map_err(|error| error.rule()),
        Ok(())
    );
    assert_eq!(
        verify_chain_step(&ChainInfo::EMPTY, &blocks[1]).map_err(|error| error.rule()),
        Err("number")
    );
}

#[test]
fn the_genesis_block_is_the_trusted_one() {
    let (raft, bft) = (block("raft/block_0.pb"), block("bft/block_0.pb"));
    let verifier = ChannelVerifier::from_genesis(&raft).unwrap();
    assert_eq!(verifier.trusted_hash(), raft.header_hash());
    let judge = |block: &Block| {
        (
            outcome(verifier.verify(block, Standing::Linked)),
            outcome(verifier.verify_attestation(block, Standing::Linked)),
        )
    };
    let pair = |whole: &str, attested: &str| (whole.to_owned(), attested.to_owned());
    assert_eq!(judge(&raft), pair("accepted", "accepted"));
    assert_eq!(judge(&with_slots(&raft, &[])), pair("accepted", "accepted"));
    assert_eq!(judge(&raft.without_data()), pair("well-formed", "accepted"));
    assert_eq!(judge(&bft), pair("genesis", "genesis"));
    // The same bytes in two entries have the same hash.
    let entry = raft.data().next().unwrap();
    let (left, right) = entry.split_at(100);
    let split = Block::assemble(BlockNumber::GENESIS, &[], &[left, right], &[&[]]);
    assert_eq!(split.header_hash(), raft.header_hash());
    assert_eq!(judge(&split), pair("config", "config"));
}

/// Covers: VER-05, VER-32
#[test]
fn only_a_genesis_block_makes_a_verifier() {
    let error = |block: &Block| ChannelVerifier::from_genesis(block).unwrap_err();
    assert!(matches!(
        error(&block("raft/block_7.pb")),
        ConfigError::NotGenesis { .. }
    ));
    assert!(matches!(
        error(&block("raft/block_0.pb").without_data()),
        ConfigError::DataHash { .. }
    ));
    let garbage = Block::assemble(BlockNumber::GENESIS, &[], &[b"garbage"], &[&[]]);
    assert!(matches!(error(&garbage), ConfigError::Malformed { .. }));
    let mut raw = block("raft/block_0.pb").raw().to_vec();
    raw[5_000] ^= 1;
    assert!(matches!(
        error(&Block::parse(raw.into()).unwrap()),
        ConfigError::DataHash { .. }
    ));
    let mut config = config_of("raft/block_0.pb");
    crate::test_support::group(&mut config, &["Orderer"])
        .policies
        .remove("BlockValidation");
    let entries = [config_entry(&config, "ch-raft")];
    let genesis = Block::assemble(BlockNumber::GENESIS, &[], &entries, &[&[]]);
    assert!(matches!(error(&genesis), ConfigError::NoPolicy { .. }));
}

/// Covers: VER-04, VER-08
#[test]
fn a_later_config_block_can_be_trusted_instead() {
    let blocks = chain("raft", 40);
    let verifier = ChannelVerifier::from_trusted(&blocks[21]).unwrap();
    assert_eq!(
        outcome(verifier.verify(&blocks[20], Standing::Linked)),
        "genesis"
    );
    for block in &blocks[21..37] {
        assert_eq!(
            outcome(verifier.verify(block, Standing::Linked)),
            "accepted",
            "{block:?}"
        );
    }
    let stored = VerifiedBlock::new(blocks[37].clone(), &verifier, Standing::Linked).unwrap();
    assert_eq!(
        outcome(verifier.verify(&blocks[38], Standing::Ahead)),
        "awaits 37"
    );
    verifier.apply_config(&stored).unwrap();
    assert_eq!(
        outcome(verifier.verify(&blocks[38], Standing::Linked)),
        "accepted"
    );
    assert!(ChannelVerifier::from_trusted(&blocks[22]).is_err());
}

#[test]
fn an_error_tells_who_signed_and_what_is_wrong() {
    let verifier = raft();
    let good = block("raft/block_6.pb");
    let value = last_config_value(0);
    let by_client = TestSigner::of_fixture("org1/user1", "Org1MSP").sign_block(&good, &value);
    let mut forged = orderer("raft0").sign_block(&good, &value);
    forged.signature = vec![1].into();
    let Verdict::Rejected(rejection) = verifier.verify(
        &with_signatures(&good, &value, vec![by_client, forged]),
        Standing::Linked,
    ) else {
        panic!("accepted");
    };
    assert_eq!(rejection.number(), good.number());
    let text = rejection.to_string();
    for part in [
        "block 6 breaks the rule `signatures`",
        "/Channel/Orderer/BlockValidation (ANY Writers)",
        "0 by Org1MSP [C=US, ST=California, L=San Francisco, OU=client, CN=User1@org1.test] (genuine)",
        "1 by OrdererMSP [",
        "is no DER sequence",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn signers_are_named() {
    let signers = raft().signers(&block("raft/block_6.pb")).unwrap();
    assert_eq!(signers.len(), 1);
    assert_eq!(
        (signers[0].kind, signers[0].valid),
        (SignerKind::Creator, true)
    );
    assert_eq!(signers[0].msp_id, "OrdererMSP");
    assert!(
        signers[0].subject.contains("CN=raft"),
        "{}",
        signers[0].subject
    );

    let bft = ChannelVerifier::from_genesis(&block("bft/block_0.pb")).unwrap();
    let recorded = block("bft/block_4.pb");
    let signers = bft.signers(&recorded).unwrap();
    assert!(
        signers
            .iter()
            .all(|signer| signer.valid && matches!(signer.kind, SignerKind::Consenter(1..=4)))
    );
    assert_eq!(signers.len(), 3);
    let value = last_config_value(1);
    let unknown = orderer("bft0").sign_block_by_id(&recorded, &value, 9);
    let wrong = orderer("bft0").sign_block_by_id(&recorded, &value, 2);
    let signers = bft
        .signers(&with_signatures(&recorded, &value, vec![unknown, wrong]))
        .unwrap();
    assert_eq!(
        signers[0].problem.as_deref(),
        Some("there is no consenter 9")
    );
    assert!(
        signers[1].subject.contains("CN=bft1") && !signers[1].valid,
        "{signers:?}"
    );
    assert!(matches!(
        bft.signers(&with_slots(&recorded, &[])),
        Err(BlockError::NoMetadata)
    ));
    assert!(bft.signers(&block("bft/block_0.pb")).unwrap().is_empty());
}

/// A signature of a BFT block: by which node, under which name, and how.
#[derive(Debug, Clone, Copy)]
struct Vote {
    node: usize,
    by_id: bool,
    /// Genuine, with a high S, over something else, or under the next node's name.
    quality: u8,
}

fn any_vote() -> impl Strategy<Value = Vote> {
    (
        0usize..4,
        any::<bool>(),
        prop_oneof![4 => Just(0u8), 1 => 1u8..4],
    )
        .prop_map(|(node, by_id, quality)| Vote {
            node,
            by_id,
            quality,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Covers: NEW-07, PRB-12, PRB-13
    #[test]
    fn random_signers_reach_the_quorum_as_the_naive_model_says(votes in proptest::collection::vec(any_vote(), 0..7)) {
        use std::sync::LazyLock;
        static BFT: LazyLock<(ChannelVerifier, Block, Vec<TestSigner>)> = LazyLock::new(|| {
            let nodes = (0..4).map(|node| orderer(&format!("bft{node}")));
            let blocks = chain("bft", 5);
            (verified(&blocks), blocks[4].clone(), nodes.collect())
        });
        let (verifier, block, nodes) = &*BFT;
        let value = last_config_value(1);
        let signature = |vote: &Vote| {
            let signer = &nodes[vote.node];
            let id = vote.node as u32 + 1;
            let id = if vote.quality == 3 && vote.by_id { id % 4 + 1 } else { id };
            let mut signature = match vote.by_id {
                true => signer.sign_block_by_id(block, &value, id),
                false => signer.sign_block(block, &value),
            };
            match vote.quality {
                1 => signature.signature = high_s(&signature.signature).into(),
                2 => signature.signature = signer.sign(b"something else").into(),
                3 if !vote.by_id => signature.signature_header = nodes[(vote.node + 1) % 4]
                    .sign_block(block, &value).signature_header,
                _ => {}
            }
            signature
        };
        let good: std::collections::BTreeSet<usize> =
            votes.iter().filter(|vote| vote.quality == 0).map(|vote| vote.node).collect();
        let signatures = votes.iter().map(signature).collect();
        let verdict = outcome(verifier.verify(&with_signatures(block, &value, signatures), Standing::Linked));
        prop_assert_eq!(verdict, if good.len() >= 3 { "accepted" } else { "signatures" });
    }

    #[test]
    fn arbitrary_blocks_never_panic(
        number in 0u64..3,
        slot in proptest::collection::vec(any::<u8>(), 0..120),
        data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..3),
        wraps in any::<bool>(),
    ) {
        use std::sync::LazyLock;
        static BFT: LazyLock<ChannelVerifier> =
            LazyLock::new(|| ChannelVerifier::from_genesis(&block("bft/block_0.pb")).unwrap());
        let slot = if wraps {
            // Closer to the goal: well-formed outside, arbitrary in the three headers.
            let bytes = bytes::Bytes::from(slot);
            let signature = MetadataSignature {
                signature_header: bytes.slice(..bytes.len() / 2),
                signature: bytes.clone(),
                identifier_header: bytes.slice(bytes.len() / 3..),
            };
            Metadata { value: bytes, signatures: vec![signature] }.encode_to_vec()
        } else {
            slot
        };
        let block = Block::assemble(BlockNumber::new(number), &[], &data, &[slot]);
        drop(BFT.verify(&block, Standing::Linked));
        drop(BFT.verify_attestation(&block.without_data(), Standing::Linked));
        drop(BFT.signers(&block));
    }
}

/// Fabric-X puts the length of each transaction before it, so that their form needs no rule.
#[test]
fn a_channel_may_hash_the_lengths_of_its_transactions() {
    let prefixed = DataHashing::LengthPrefixed;
    let genesis = block("raft/block_0.pb");
    let entries: Vec<&[u8]> = genesis.data().collect();
    let hashed_so = |number: u64, previous: &[u8], entries: &[&[u8]], slots: &[Vec<u8>]| {
        Block::assemble_hashing(prefixed, BlockNumber::new(number), previous, entries, slots)
    };
    let genesis_x = hashed_so(0, &[], &entries, &[]);
    assert!(matches!(
        ChannelVerifier::from_genesis_hashing(&genesis, prefixed),
        Err(ConfigError::DataHash { .. })
    ));
    assert!(ChannelVerifier::from_genesis(&genesis_x).is_err());
    let verifier = ChannelVerifier::from_genesis_hashing(&genesis_x, prefixed).unwrap();

    let (one, two) = (message("ch-raft"), message("ch-raft"));
    let signed_so = |entries: &[&[u8]]| {
        let bare = hashed_so(1, genesis_x.header_hash().as_ref(), entries, &[]);
        let value = last_config_value(0);
        let signature = orderer("raft0").sign_block(&bare, &value);
        let slot = Metadata {
            value: value.into(),
            signatures: vec![signature],
        };
        hashed_so(
            1,
            bare.header().previous_hash,
            entries,
            &[slot.encode_to_vec()],
        )
    };
    let judge = |block: &Block| outcome(verifier.verify(block, Standing::Linked));
    assert_eq!(judge(&signed_so(&[&one, &two])), "accepted");
    let joined = [one.as_slice(), two.as_slice()].concat();
    assert_eq!(
        judge(&signed_so(&[&joined])),
        "accepted",
        "its hash is another one"
    );
    assert_eq!(judge(&signed_so(&[])), "well-formed");
    // The header and the signatures of one list do not stand for another one.
    let good = signed_so(&[&one, &two]);
    let mut parts = signed_so(&[&joined]).relay().body.to_vec();
    parts.extend_from_slice(&good.relay().metadata);
    let mut swapped = Vec::new();
    put_bytes(&mut swapped, 3, good.header().data_hash);
    put_bytes(&mut parts, 1, &swapped);
    let swapped = Block::parse(parts.into()).unwrap();
    assert_eq!(swapped.header_hash(), good.header_hash());
    assert_eq!(judge(&swapped), "data-hash");
}

/// Covers: PRB-10
#[test]
fn the_newest_config_block_is_the_one_that_was_signed() {
    use crate::verifier::signatures::SignedMetadata;
    let with_value = |value: &[u8]| {
        let mut slot = Vec::new();
        put_bytes(&mut slot, 1, value);
        Block::assemble(BlockNumber::new(5), &[], &[b"x"], &[slot])
    };
    let last_config = |value: &[u8]| {
        SignedMetadata::parse(&with_value(value))
            .unwrap()
            .last_config()
    };
    assert_eq!(
        last_config(&last_config_value(7)),
        Some(BlockNumber::new(7))
    );
    assert_eq!(
        last_config(&last_config_value(0)),
        Some(BlockNumber::GENESIS),
        "there, and zero"
    );
    assert_eq!(last_config(&[]), None, "none was signed before v1.4.1");
    assert_eq!(last_config(&[0x12, 0]), None);
    assert_eq!(
        last_config(&[0xff]),
        None,
        "Fabric does not read it while verifying"
    );
    assert_eq!(last_config(&[0x0a, 1, 0xff]), None);
}
