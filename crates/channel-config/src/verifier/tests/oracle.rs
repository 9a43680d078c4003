// SPDX-License-Identifier: Apache-2.0
//! The recorded chains, and Fabric's own verdicts on mutated blocks.

use std::ops::Range;

use block_api::{BlockNumber, HeaderHash};
use proptest::prelude::*;

use super::*;
use crate::test_support::{CHAINS, chain, fixture};

/// Rows that get another verdict than Fabric's, by the end of the file's name, with the reason.
const DEVIATIONS: [(&str, &str); 2] = [
    (
        "_one_slot.pb",
        "only the slot of the signatures is required (docs/adr/0001)",
    ),
    (
        "_three_slots.pb",
        "only the slot of the signatures is required (docs/adr/0001)",
    ),
];

/// Covers: VER-10, VER-11, VER-26, VER-27, VER-31, PRC-05, PRB-12, MCS-05, MCS-12
#[test]
fn recorded_chains_verify_from_their_genesis_block() {
    for (name, count) in CHAINS {
        let blocks = chain(name, count);
        let verifier = verified(&blocks);
        let configs = if name.starts_with("bft") {
            vec![0, 1, 21, 37, 46]
        } else {
            vec![0, 7, 21, 37, 46]
        };
        let configs: Vec<u64> = configs
            .into_iter()
            .filter(|number| *number < count)
            .collect();
        assert_eq!(
            verifier.config_number().get(),
            *configs.last().unwrap(),
            "{name}"
        );
        for block in &blocks {
            let Verdict::Accepted(accepted) = verifier.verify(block, Standing::Linked) else {
                panic!("{name} {block:?}")
            };
            let number = block.number().get();
            assert_eq!(
                accepted.is_config,
                configs.contains(&number),
                "{name} {number}"
            );
            let newest = configs
                .iter()
                .rev()
                .find(|config| **config <= number)
                .unwrap();
            assert_eq!(accepted.last_config.get(), *newest, "{name} {number}");
            let Verdict::Accepted(attested) = verifier.verify_attestation(block, Standing::Linked)
            else {
                panic!("{name} {block:?}")
            };
            assert_eq!(attested, accepted);
            let Verdict::Accepted(attested) =
                verifier.verify_attestation(&block.without_data(), Standing::Linked)
            else {
                panic!("{name} {number} without data")
            };
            assert_eq!(attested, accepted, "{name} {number}");
        }
    }
}

/// `blocks.txt` says what Fabric's own tool computed.
///
/// Covers: PRB-02
#[test]
fn hashes_are_those_of_the_table() {
    for (name, count) in CHAINS {
        // Another node's copies have other metadata, but the same headers and data.
        let table = format!("{}/blocks.txt", name.trim_end_matches("-other-node"));
        let table = String::from_utf8(fixture(&table)).unwrap();
        let blocks = chain(name, count);
        assert!(table.lines().count() >= blocks.len(), "{name}");
        for (block, row) in blocks.iter().zip(table.lines()) {
            let column = |key: &str| {
                row.split_whitespace()
                    .find_map(|column| column.strip_prefix(key))
                    .unwrap_or_else(|| panic!("{row}"))
            };
            assert_eq!(
                block.header_hash(),
                column("header_hash=").parse::<HeaderHash>().unwrap()
            );
            assert_eq!(block.data_hash().to_string(), column("data_hash="));
            assert_eq!(hex::encode(block.header().previous_hash), column("prev="));
        }
    }
}

/// Each row of `verdicts.csv` gets the verdict of Fabric's own verifier.
///
/// Covers: VER-12, VER-13, VER-14, VER-15, VER-16, VER-17, VER-18, VER-19, VER-20, NEW-06, NEW-07, MCS-09, MCS-10
#[test]
fn mutated_blocks_get_the_verdict_of_fabric() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for name in ["raft", "bft"] {
        let blocks = chain(name, 22);
        let table = String::from_utf8(fixture(&format!("verdicts/{name}/verdicts.csv"))).unwrap();
        for row in table.lines() {
            rows += 1;
            let mut columns = row.splitn(4, ',');
            let number: usize = columns.next().unwrap().parse().unwrap();
            let file = columns.next().unwrap();
            let accepts = columns.next().unwrap() == "accept";
            let verifier = verified(&blocks[..number]);
            let tip = tip_before(&blocks, number);
            let verdict = match Block::parse(fixture(&format!("verdicts/{name}/{file}")).into()) {
                Err(error) => Err(error.to_string()),
                Ok(block) => match verify_chain_step(&tip, &block) {
                    Err(rejection) => Err(rejection.to_string()),
                    Ok(()) => match verifier.verify(&block, Standing::Linked) {
                        Verdict::Accepted(_) => Ok(()),
                        other @ (Verdict::Rejected(_)
                        | Verdict::AwaitsConfig(_)
                        | Verdict::AwaitsLink) => Err(outcome(other)),
                    },
                },
            };
            let deviates = DEVIATIONS.iter().any(|(suffix, _)| file.ends_with(suffix));
            assert!(
                !(deviates && accepts),
                "{file} deviates only by being accepted"
            );
            if verdict.is_ok() != (accepts || deviates) {
                wrong.push(format!("{name}/{file}: {verdict:?}, Fabric: {row}"));
            }
        }
    }
    assert_eq!(rows, 322);
    assert!(
        wrong.is_empty(),
        "{} of {rows}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What a chain says of itself when the next block is this one.
fn tip_before(blocks: &[Block], number: usize) -> ChainInfo {
    match number.checked_sub(1) {
        None => ChainInfo::EMPTY,
        Some(tip) => ChainInfo {
            height: BlockNumber::new(tip as u64).height(),
            tip_hash: Some(blocks[tip].header_hash()),
            ..ChainInfo::EMPTY
        },
    }
}

/// Where header and data stand, and where the slot of the signatures does: all that is covered by
/// hashes and signatures. The genesis block has no signatures.
fn covered(block: &Block) -> [Range<usize>; 2] {
    let raw = block.raw();
    let slot = block.signatures_slot().unwrap();
    let start = slot.as_ptr() as usize - raw.as_ptr() as usize;
    let signed = if block.number().get() == 0 {
        0..0
    } else {
        start..start + slot.len()
    };
    [0..block.relay().body.len(), signed]
}

fn is_accepted(verifier: &ChannelVerifier, tip: &ChainInfo, raw: Vec<u8>) -> bool {
    let Ok(block) = Block::parse(raw.into()) else {
        return false;
    };
    verify_chain_step(tip, &block).is_ok()
        && matches!(
            verifier.verify(&block, Standing::Linked),
            Verdict::Accepted(_)
        )
}

/// Every single bit of two small blocks.
#[test]
fn no_flipped_bit_is_accepted() {
    for (name, number) in [("raft", 8), ("bft", 8)] {
        let blocks = chain(name, number + 1);
        let verifier = verified(&blocks);
        let block = &blocks[number as usize];
        let tip = tip_before(&blocks, number as usize);
        assert!(is_accepted(&verifier, &tip, block.raw().to_vec()));
        for position in covered(block).into_iter().flatten() {
            for bit in 0..8 {
                let mut raw = block.raw().to_vec();
                raw[position] ^= 1 << bit;
                assert!(
                    !is_accepted(&verifier, &tip, raw),
                    "{name} {number}: byte {position}, bit {bit}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any bit of any recorded block.
    #[test]
    fn no_flipped_bit_anywhere_is_accepted(
        which in 0usize..4,
        number in any::<prop::sample::Index>(),
        position in any::<prop::sample::Index>(),
        signed_part in any::<bool>(),
        bit in 0u8..8,
    ) {
        use std::sync::LazyLock;
        static LOADED: LazyLock<Vec<(Vec<Block>, ChannelVerifier)>> = LazyLock::new(|| {
            let chains = CHAINS.iter().map(|(name, count)| chain(name, *count));
            chains.map(|blocks| { let verifier = verified(&blocks); (blocks, verifier) }).collect()
        });
        let (blocks, verifier) = &LOADED[which];
        let number = number.index(blocks.len());
        let [body, signed] = covered(&blocks[number]);
        let range = if signed_part && !signed.is_empty() { signed } else { body };
        let mut raw = blocks[number].raw().to_vec();
        raw[range.start + position.index(range.len())] ^= 1 << bit;
        prop_assert!(!is_accepted(verifier, &tip_before(blocks, number), raw));
    }
}
