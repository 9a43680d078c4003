// SPDX-License-Identifier: Apache-2.0
//! Where a verifier stands is known by who asks it: streams of blocks, and of headers.

use block_api::{BlockNumber, HeaderHash};

use super::*;
use crate::test_support::chain;

/// A stream of blocks, or of headers among which config blocks come whole, and how far it got.
struct Stream {
    verifier: ChannelVerifier,
    position: ChainInfo,
}

impl Stream {
    /// Behind a block of which the number and the hash are known.
    fn behind(verifier: &ChannelVerifier, number: BlockNumber, hash: HeaderHash) -> Self {
        Self {
            verifier: verifier.clone(),
            position: ChainInfo {
                height: number.height(),
                tip_hash: Some(hash),
                ..ChainInfo::EMPTY
            },
        }
    }

    fn take(&mut self, block: &Block) -> Result<(), String> {
        verify_chain_step(&self.position, block).map_err(|error| error.rule().to_owned())?;
        let verdict = match block.has_data() {
            true => self.verifier.verify(block, Standing::Linked),
            false => self.verifier.verify_attestation(block, Standing::Linked),
        };
        let accepted = outcome(verdict);
        if accepted != "accepted" {
            return Err(accepted);
        }
        if block.is_config() {
            let config = VerifiedBlock::new(block.clone(), &self.verifier, Standing::Linked);
            self.verifier.apply_config(&config.unwrap()).unwrap();
        }
        self.position.height = block.number().height();
        self.position.tip_hash = Some(block.header_hash());
        Ok(())
    }
}

/// The configuration is that of a config block, the position that of a later block.
///
/// Covers: VER-01, VER-04, VER-07, VER-08, VER-25
#[test]
fn a_stream_goes_on_behind_any_block() {
    let blocks = chain("bft", 70);
    let verifier = ChannelVerifier::from_trusted(&blocks[21]).unwrap();
    assert_eq!(verifier.channel().as_str(), "ch-bft");
    let last = &blocks[30];
    let mut stream = Stream::behind(&verifier, last.number(), last.header_hash());
    assert_eq!(stream.take(&blocks[30]), Err("number".to_owned()));
    assert_eq!(stream.take(&blocks[32]), Err("number".to_owned()));
    for block in &blocks[31..] {
        stream.take(block).unwrap();
    }
    assert_eq!(stream.position.height, BlockNumber::new(69).height());
    assert_eq!(stream.position.tip_hash, Some(blocks[69].header_hash()));
    // With the hash of another block the next one does not link.
    let mut stream = Stream::behind(&verifier, last.number(), blocks[29].header_hash());
    assert_eq!(stream.take(&blocks[31]), Err("previous-hash".to_owned()));
    // Blocks below the trusted one are nothing that it could judge.
    let below = &blocks[10];
    let mut stream = Stream::behind(&verifier, below.number(), below.header_hash());
    assert_eq!(stream.take(&blocks[11]), Err("genesis".to_owned()));
}

/// A stream of headers runs ahead of the blocks, across config blocks that come whole.
///
/// Covers: VER-26, VER-27, NEW-08
#[test]
fn headers_run_ahead_across_config_blocks() {
    for (name, count) in [("raft", 66), ("bft", 70)] {
        let blocks = chain(name, count);
        let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
        let genesis = &blocks[0];
        let mut headers = Stream::behind(&verifier, genesis.number(), genesis.header_hash());
        for block in &blocks[1..] {
            let header = match block.is_config() {
                true => block.clone(),
                false => block.without_data(),
            };
            headers.take(&header).unwrap();
        }
        assert_eq!(
            headers.position.tip_hash,
            blocks.last().map(Block::header_hash)
        );
    }
}

/// Streams share what is in force, and nothing else: one is not moved by another, nor by a block
/// that it refused.
///
/// Covers: VER-30
#[test]
fn streams_of_one_verifier_are_independent() {
    let blocks = chain("raft", 8);
    let verifier = ChannelVerifier::from_genesis(&blocks[0]).unwrap();
    let genesis = &blocks[0];
    let mut one = Stream::behind(&verifier, genesis.number(), genesis.header_hash());
    let mut other = Stream::behind(&verifier, genesis.number(), genesis.header_hash());
    for block in &blocks[1..] {
        one.take(block).unwrap();
    }
    assert_eq!(other.position.height, BlockNumber::GENESIS.height());
    let before = other.position;
    let mut forged = blocks[1].raw().to_vec();
    let end = forged.len() - 40;
    forged[end] ^= 1;
    assert!(other.take(&Block::parse(forged.into()).unwrap()).is_err());
    assert_eq!(other.position, before);
    for block in &blocks[1..] {
        other.take(block).unwrap();
    }
    assert_eq!(one.position, other.position);
}
