// SPDX-License-Identifier: Apache-2.0
//! Judges a chain block by block, each by the configuration in force at its height.

use std::sync::Arc;

use block_api::{
    Block, BlockNumber, BlockVerifier as _, ChainInfo, Rejection, Standing, Verdict, VerifiedBlock,
};
use channel_config::{ChannelConfig, ChannelVerifier, verify_chain_step};
use prost::Message as _;
use protos::common::{IdentifierHeader, LastConfig, Metadata, MetadataSignature, SignatureHeader};

/// A verifier that follows every config block, and the chain so far.
pub(crate) struct Judge {
    verifier: ChannelVerifier,
    config: BlockNumber,
    chain: ChainInfo,
}

/// How a signature says who made it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signer {
    Id(u32),
    Identity(Vec<u8>),
}

impl Judge {
    pub(crate) fn new(genesis: &Block) -> Self {
        let mut judge = Self {
            verifier: ChannelVerifier::from_genesis(genesis).unwrap(),
            config: BlockNumber::GENESIS,
            chain: ChainInfo::EMPTY,
        };
        judge.grow(genesis);
        judge
    }

    /// Takes the next block, which must be good. If it is a config block, its configuration is in
    /// force from here on.
    pub(crate) fn accept(&mut self, block: &Block) {
        self.approve(block);
        if block.is_config() {
            let sequence = self.config().sequence();
            let verified = VerifiedBlock::new(block.clone(), &self.verifier, Standing::Linked);
            self.verifier.apply_config(&verified.unwrap()).unwrap();
            self.config = block.number();
            assert_eq!(self.config().sequence(), sequence + 1);
        }
        self.grow(block);
    }

    /// Checks that a block is good as the next one: it links, is signed as the configuration before
    /// it demands, and names the newest config block. The chain is as before.
    pub(crate) fn approve(&self, block: &Block) {
        let number = block.number();
        verify_chain_step(&self.chain, block).unwrap();
        let config = if block.is_config() {
            number
        } else {
            self.config
        };
        match verdict(&self.verifier, block) {
            Verdict::Accepted(acceptance) => assert_eq!(acceptance.last_config, config),
            other @ (Verdict::Rejected(_) | Verdict::AwaitsConfig(_) | Verdict::AwaitsLink) => {
                panic!("block {number}: {other:?}")
            }
        }
        assert_eq!(last_config_slot(block), config.get(), "block {number}");
    }

    /// Why the next block is not accepted for its signatures; the chain is as before.
    pub(crate) fn refuse(&self, block: &Block) -> Rejection {
        verify_chain_step(&self.chain, block).unwrap();
        match verdict(&self.verifier, block) {
            Verdict::Rejected(rejection) if rejection.rule() == "signatures" => rejection,
            other @ (Verdict::Accepted(_)
            | Verdict::Rejected(_)
            | Verdict::AwaitsConfig(_)
            | Verdict::AwaitsLink) => panic!("block {}: {other:?}", block.number()),
        }
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<ChannelConfig> {
        self.verifier.config()
    }

    fn grow(&mut self, block: &Block) {
        self.chain.height = block.number().height();
        self.chain.tip_hash = Some(block.header_hash());
    }
}

/// Those whose signatures a block has.
pub(crate) fn signers(block: &Block) -> Vec<Signer> {
    let metadata = Metadata::decode(block.signatures_slot().unwrap()).unwrap();
    let signer = |signature: MetadataSignature| {
        if signature.signature_header.is_empty() {
            let header = IdentifierHeader::decode(signature.identifier_header).unwrap();
            Signer::Id(header.identifier)
        } else {
            assert!(signature.identifier_header.is_empty());
            let header = SignatureHeader::decode(signature.signature_header).unwrap();
            Signer::Identity(header.creator.to_vec())
        }
    };
    metadata.signatures.into_iter().map(signer).collect()
}

fn verdict(verifier: &ChannelVerifier, block: &Block) -> Verdict {
    verifier.verify(block, Standing::Linked)
}

fn last_config_slot(block: &Block) -> u64 {
    let slot = Metadata::decode(block.slots().nth(1).unwrap()).unwrap();
    LastConfig::decode(slot.value).unwrap().index
}
