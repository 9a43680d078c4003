// SPDX-License-Identifier: Apache-2.0
//! Judges, readers and signers without cryptography.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Acceptance, Block, BlockNumber, BlockVerifier, HeaderProof, Kinship, OwnOrganisation, Readers,
    ReadersDenied, Rejection, SignError, Signer, Standing, Verdict, VerifiedBlock,
};

/// Accepts the blocks of a [`TestChain`](crate::testing::TestChain): the data hash agrees, and the
/// signatures slot carries the mark. When the verifier is [`strict`](Self::strict), blocks are
/// judged by the configuration in force at their place: the mark must be that of its orderers.
#[derive(Debug, Default)]
pub struct TestVerifier {
    strict: bool,
    quorum: AtomicBool,
    newest_config: Mutex<BlockNumber>,
    judged: AtomicU64,
}

/// Accepts anything, as a node of an attacker does.
#[derive(Debug, Clone, Copy, Default)]
pub struct GullibleVerifier {
    /// The config block by which it says that it judged.
    pub judged_by: BlockNumber,
}

/// Lets everyone read.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenReaders;

/// Lets nobody read.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyReads;

/// Takes every identity that begins with this prefix for one of the own organisation that may pull.
#[derive(Debug, Clone, Copy)]
pub struct TestOrganisation(
    /// The prefix.
    pub &'static str,
);

/// An identity that signs with its own name.
#[derive(Debug, Clone)]
pub struct TestSigner(
    /// The identity.
    pub &'static str,
);

impl TestVerifier {
    /// A verifier that follows the config blocks that are applied to it.
    pub fn strict() -> Self {
        Self {
            strict: true,
            ..Self::default()
        }
    }

    /// The same, for a chain that begins under a config block that is trusted.
    pub fn trusting(config: BlockNumber) -> Self {
        Self {
            newest_config: Mutex::new(config),
            ..Self::strict()
        }
    }

    /// What stands for the signatures of a block: that the newest config block is `last_config`, by
    /// the orderers who are in force after the config block `signed_under`.
    pub fn mark(block: &Block, last_config: BlockNumber, signed_under: BlockNumber) -> Vec<u8> {
        let mut mark = b"signed ".to_vec();
        mark.extend_from_slice(block.header_hash().as_ref());
        mark.extend_from_slice(&last_config.get().to_be_bytes());
        mark.extend_from_slice(&signed_under.get().to_be_bytes());
        mark
    }

    /// Has signed headers prove this much from here on.
    pub fn set_header_proof(&self, proof: HeaderProof) {
        self.quorum
            .store(proof == HeaderProof::Quorum, Ordering::SeqCst);
    }

    /// How many blocks and attestations were judged.
    pub fn judged(&self) -> u64 {
        self.judged.load(Ordering::SeqCst)
    }

    fn judge(&self, block: &Block, whole: bool, standing: Standing) -> Verdict {
        self.judged.fetch_add(1, Ordering::SeqCst);
        let rejected =
            |rule, reason: &'static str| Verdict::Rejected(Rejection::new(block, rule, reason));
        if whole && block.data_hash().as_ref() != block.header().data_hash {
            return rejected("data-hash", "the data is another one");
        }
        let slot = block.signatures_slot().unwrap_or_default();
        let number = |bytes: Option<&[u8; 8]>| {
            BlockNumber::new(bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
        };
        let signed_under = number(slot.last_chunk());
        let before = slot.len().checked_sub(8).and_then(|end| slot.get(..end));
        let last_config = number(before.and_then(|before| before.last_chunk()));
        if slot != Self::mark(block, last_config, signed_under) {
            return rejected("signatures", "the mark is missing");
        }
        let newest = *self
            .newest_config
            .lock()
            .expect("invariant: no holder of this lock panics");
        if self.strict && newest < block.number() {
            if standing == Standing::Ahead && last_config == block.number() {
                return Verdict::AwaitsLink;
            }
            if standing == Standing::Ahead && last_config > newest {
                return Verdict::AwaitsConfig(last_config);
            }
            if signed_under != newest {
                let reason = "the mark is that of other orderers";
                let rejection = Rejection::new(block, "signatures", reason);
                return Verdict::Rejected(match last_config < newest {
                    true => rejection.in_good_faith(),
                    false => rejection,
                });
            }
        }
        Verdict::Accepted(Acceptance {
            is_config: block.is_config(),
            last_config,
            judged_by: signed_under,
        })
    }
}

impl BlockVerifier for TestVerifier {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        self.judge(block, true, standing)
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.judge(block, false, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        if stored.is_config() {
            let mut newest = self
                .newest_config
                .lock()
                .expect("invariant: no holder of this lock panics");
            *newest = (*newest).max(stored.number());
        }
        Ok(())
    }

    fn header_proof(&self) -> HeaderProof {
        match self.quorum.load(Ordering::SeqCst) {
            true => HeaderProof::Quorum,
            false => HeaderProof::OneSigner,
        }
    }
}

impl BlockVerifier for GullibleVerifier {
    fn verify(&self, block: &Block, _: Standing) -> Verdict {
        Verdict::Accepted(Acceptance {
            is_config: block.is_config(),
            last_config: BlockNumber::GENESIS,
            judged_by: self.judged_by,
        })
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verify(block, standing)
    }

    fn apply_config(&self, _: &VerifiedBlock) -> Result<(), Rejection> {
        Ok(())
    }
}

impl Readers for OpenReaders {
    fn may_read(&self, _: &[u8], _: &[u8], _: &[u8], _: SystemTime) -> Result<(), ReadersDenied> {
        Ok(())
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl Readers for NobodyReads {
    fn may_read(&self, _: &[u8], _: &[u8], _: &[u8], _: SystemTime) -> Result<(), ReadersDenied> {
        Err(ReadersDenied::new("nobody may"))
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl OwnOrganisation for TestOrganisation {
    fn kinship(&self, identity: &[u8]) -> Kinship {
        match identity.starts_with(self.0.as_bytes()) {
            true => Kinship::Puller,
            false => Kinship::Stranger,
        }
    }

    fn generation(&self) -> u64 {
        0
    }
}

#[async_trait]
impl Signer for TestSigner {
    fn identity(&self) -> Bytes {
        Bytes::from_static(self.0.as_bytes())
    }

    async fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Ok(self.identity())
    }
}
