// SPDX-License-Identifier: Apache-2.0
//! The fuzz bodies: every parser of foreign bytes as a plain function that must not panic.
//!
//! The test `fuzz` runs them on the corpus and on seeded mutations of it; a coverage-guided fuzzer
//! can call the same functions.

use std::sync::LazyLock;

use block_api::{Block, BlockVerifier as _, Standing};
use bytes::Bytes;
use channel_config::{ChannelConfig, ChannelVerifier};
use protos::deliver::RawDeliverResponse;

use crate::fixtures;

/// A fuzz body.
pub type Body = fn(&[u8]);

/// Every fuzz body, by name.
pub const BODIES: &[(&str, Body)] = &[
    ("block", block),
    ("deliver_response", deliver_response),
    ("config", config),
    ("verifier", verifier),
    ("segment", block_store::fuzz_segment),
    ("gossip", gossip_libp2p::fuzz_wire),
    ("pem", pem),
];

static VERIFIERS: LazyLock<Vec<ChannelVerifier>> = LazyLock::new(|| {
    let of = |name: &str| {
        let blocks = fixtures::chain(name).expect("the fixtures are in the tree");
        let genesis = blocks
            .into_iter()
            .next()
            .expect("a chain has a genesis block");
        ChannelVerifier::from_genesis(&genesis).expect("a recorded genesis block is one")
    };
    vec![of("raft"), of("bft")]
});

/// Bytes as a block, and everything that is asked of one.
pub fn block(data: &[u8]) {
    let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let relayed = Block::parse(block.relay().to_bytes()).expect("what is relayed parses");
    assert_eq!(relayed.header_hash(), block.header_hash());
    assert_eq!(relayed.data_hash(), block.data_hash());
    assert_eq!(relayed.is_config(), block.is_config());
    assert_eq!(
        block.with_all_slots(None).header_hash(),
        block.header_hash()
    );
    assert!(!block.without_data().has_data());
    drop(block.channel_of_first_entry());
}

/// Bytes as a message of a Deliver stream.
pub fn deliver_response(data: &[u8]) {
    drop(RawDeliverResponse::from_bytes(Bytes::copy_from_slice(data)).parse());
}

/// Bytes as a genesis or config block.
pub fn config(data: &[u8]) {
    if let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) {
        drop(ChannelConfig::from_block(&block));
    }
}

/// Bytes as a block of a raft and of a BFT channel.
pub fn verifier(data: &[u8]) {
    if let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) {
        for verifier in VERIFIERS.iter() {
            drop(verifier.verify(&block, Standing::Linked));
            drop(verifier.verify_attestation(&block, Standing::Linked));
            drop(verifier.signers(&block));
        }
    }
}

/// Bytes as PEM certificates and keys.
pub fn pem(data: &[u8]) {
    drop(orderer_client::parse_pem_certificates(data));
    drop(orderer_client::parse_pem_key(data));
}
