// SPDX-License-Identifier: Apache-2.0
//! Chains that are joined behind a config block which is trusted.

use block_api::{BlockNumber, DataHashing, HeaderHash, Rejection, VerifyError};

use super::*;
use crate::{config::ConfigError, test_support::chain};

/// The recorded chains, the numbers of their config blocks, and their lengths.
fn recorded() -> [(Vec<Block>, Vec<usize>); 2] {
    [("raft", 66), ("bft", 70)].map(|(name, count)| {
        let blocks = chain(name, count);
        let configs = (0..blocks.len()).filter(|number| blocks[*number].is_config());
        let configs = configs.collect();
        (blocks, configs)
    })
}

fn joining(blocks: &[Block], config: usize, start: usize) -> ChannelVerifier {
    let start = BlockNumber::new(start as u64);
    let hashing = DataHashing::default();
    ChannelVerifier::from_config_block(&blocks[config], start, hashing).unwrap()
}

/// Goes through the blocks behind `start`; gives the number of the first one that is refused, and
/// why.
fn walk(verifier: ChannelVerifier, blocks: &[Block], start: usize) -> Option<(usize, Rejection)> {
    let position = ChainInfo {
        height: blocks[start].number().height(),
        tip_hash: Some(blocks[start].header_hash()),
        ..ChainInfo::EMPTY
    };
    let mut walk = ChainWalk::new(verifier, position);
    for (number, block) in blocks.iter().enumerate().skip(start + 1) {
        match walk.take(block.clone()) {
            Ok(_) => {}
            Err(VerifyError::Rejected(rejection)) => return Some((number, rejection)),
            Err(error) => panic!("block {number}: {error}"),
        }
    }
    assert_eq!(walk.chain().height.get(), blocks.len() as u64);
    None
}

/// Covers: VER-04, VER-07, VER-08
#[test]
fn a_chain_goes_on_behind_any_block_by_the_config_block_in_force_there() {
    for (blocks, configs) in recorded() {
        for start in 0..blocks.len() - 1 {
            let newest = *configs.iter().rfind(|config| **config <= start).unwrap();
            for &config in &configs {
                if config > start {
                    let start = BlockNumber::new(start as u64);
                    let hashing = DataHashing::default();
                    let refused =
                        ChannelVerifier::from_config_block(&blocks[config], start, hashing);
                    assert!(matches!(refused, Err(ConfigError::StartBelow { .. })));
                    continue;
                }
                let refused = walk(joining(&blocks, config, start), &blocks, start);
                let Some((number, rejection)) = refused else {
                    assert_eq!(config, newest, "start after {start}");
                    continue;
                };
                assert_ne!(config, newest, "{rejection}");
                assert_eq!((number, rejection.rule()), (start + 1, "last-config"));
                let needed = match configs.contains(&number) {
                    // It names itself, and its sequence tells that one is missing.
                    true => format!("the newest config block up to block {start}"),
                    false => format!("trust config block {newest} instead"),
                };
                assert!(rejection.to_string().contains(&needed), "{rejection}");
            }
        }
    }
}

/// What comes ahead of its turn is told the same, and does not wait for what never comes.
///
/// Covers: VER-07
#[test]
fn what_names_another_config_block_is_refused_ahead_of_its_turn() {
    for (blocks, configs) in recorded() {
        let (wrong, right) = (configs[1], configs[2]);
        let verifier = joining(&blocks, wrong, right + 1);
        for block in [&blocks[right + 3], &blocks[right + 3].without_data()] {
            let verdict = match block.has_data() {
                true => verifier.verify(block, Standing::Ahead),
                false => verifier.verify_attestation(block, Standing::Ahead),
            };
            assert_eq!(outcome(verdict), "last-config");
        }
        // A verifier that was told nothing of a start waits.
        let patient = ChannelVerifier::from_trusted(&blocks[wrong]).unwrap();
        let verdict = patient.verify(&blocks[right + 3], Standing::Ahead);
        assert!(
            matches!(verdict, Verdict::AwaitsConfig(number) if number == blocks[right].number())
        );
    }
}

/// The config block is known by its hash from then on, and stands for its own configuration.
#[test]
fn the_trusted_block_is_restored_and_no_other_in_its_place() {
    for (blocks, configs) in recorded() {
        let config = configs[2];
        let verifier = joining(&blocks, config, config + 2);
        let trusted = VerifiedBlock::new(blocks[config].clone(), &verifier, Standing::Linked);
        let trusted = trusted.unwrap();
        assert!(trusted.is_config());
        assert_eq!(trusted.judged_by(), blocks[config].number());
        verifier.apply_config(&trusted).unwrap();
        assert_eq!(verifier.config_number(), blocks[config].number());
        let entries: Vec<&[u8]> = blocks[config].data().collect();
        let other = HeaderHash::new([7; 32]);
        let other = Block::assemble(
            blocks[config].number(),
            other.as_ref(),
            &entries,
            &[&[] as &[u8]],
        );
        assert_eq!(
            outcome(verifier.verify(&other, Standing::Linked)),
            "genesis"
        );
    }
}
