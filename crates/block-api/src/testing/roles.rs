// SPDX-License-Identifier: Apache-2.0
//! Judges, readers and signers without cryptography.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Acceptance, Block, BlockNumber, BlockVerifier, Readers, ReadersDenied, Rejection, SignError,
    Signer, Verdict, VerifiedBlock,
};

/// Accepts the blocks of a [`TestChain`](crate::testing::TestChain): the data hash agrees, and the
/// signatures slot carries the mark. Blocks after a config block wait until that was applied when
/// the verifier is [`strict`](Self::strict).
#[derive(Debug, Default)]
pub struct TestVerifier {
    strict: bool,
    newest_config: Mutex<BlockNumber>,
    judged: AtomicU64,
}

/// Lets everyone read.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenReaders;

/// Lets nobody read.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyReads;

/// An identity that signs with its own name.
#[derive(Debug, Clone)]
pub struct TestSigner(
    /// The identity.
    pub &'static str,
);

impl TestVerifier {
    /// A verifier for which a block awaits the config block that it names.
    pub fn strict() -> Self {
        Self {
            strict: true,
            ..Self::default()
        }
    }

    /// What stands for the signatures of a block.
    pub fn mark(block: &Block, last_config: BlockNumber) -> Vec<u8> {
        let mut mark = b"signed ".to_vec();
        mark.extend_from_slice(block.header_hash().as_ref());
        mark.extend_from_slice(&last_config.get().to_be_bytes());
        mark
    }

    /// How many blocks and attestations were judged.
    pub fn judged(&self) -> u64 {
        self.judged.load(Ordering::SeqCst)
    }

    fn judge(&self, block: &Block, whole: bool) -> Verdict {
        self.judged.fetch_add(1, Ordering::SeqCst);
        if whole && block.data_hash().as_ref() != block.header().data_hash {
            return Verdict::Rejected(Rejection::new(
                block,
                "data-hash",
                "the data is another one",
            ));
        }
        let slot = block.signatures_slot().unwrap_or_default();
        let last_config = slot
            .last_chunk()
            .map(|number| BlockNumber::new(u64::from_be_bytes(*number)))
            .unwrap_or_default();
        if slot != Self::mark(block, last_config) {
            return Verdict::Rejected(Rejection::new(block, "signatures", "the mark is missing"));
        }
        let newest = *self
            .newest_config
            .lock()
            .expect("invariant: no holder of this lock panics");
        if self.strict && last_config > newest && last_config != block.number() {
            return Verdict::AwaitsConfig(last_config);
        }
        Verdict::Accepted(Acceptance {
            is_config: block.is_config(),
            last_config,
        })
    }
}

impl BlockVerifier for TestVerifier {
    fn verify(&self, block: &Block) -> Verdict {
        self.judge(block, true)
    }

    fn verify_attestation(&self, block: &Block) -> Verdict {
        self.judge(block, false)
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

#[async_trait]
impl Signer for TestSigner {
    fn identity(&self) -> Bytes {
        Bytes::from_static(self.0.as_bytes())
    }

    async fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Ok(self.identity())
    }
}
