// SPDX-License-Identifier: Apache-2.0
//! What a block costs at least beside the way over the network.

use std::{fmt, fs::File, io::Write as _};

use anyhow::Result;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use tokio::time::Instant;

use crate::chain::Chain;

/// How many times each is done.
const TIMES: usize = 300;

/// How many bytes an append of a node that catches up has, and is made durable together.
const BATCH: usize = 16 << 20;

/// Seconds for each block.
pub(crate) struct Bound {
    bytes: f64,
    hash_s: f64,
    verify_s: f64,
    append_s: f64,
}

impl Bound {
    /// Does it with as many bytes as a block of the chain has.
    pub(crate) fn measure(chain: &Chain) -> Result<Self> {
        let length = usize::try_from(chain.bytes)? / chain.blocks;
        let block = vec![0xa5_u8; length];
        let hash_s = each(|| {
            std::hint::black_box(digest(&SHA256, &block));
            Ok(())
        })?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let signature = key.sign(&SystemRandom::new(), &[1; 100])?;
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
        let verify_s = each(|| Ok(public.verify(&[1; 100], signature.as_ref())?))?;
        let mut file = File::create(chain.dir().join("append"))?;
        let mut waiting = 0;
        let append_s = each(|| {
            file.write_all(&block)?;
            waiting += length;
            if waiting >= BATCH {
                file.sync_data()?;
                waiting = 0;
            }
            Ok(())
        })?;
        Ok(Self {
            bytes: length as f64,
            hash_s,
            verify_s,
            append_s,
        })
    }

    /// MB per second on two cores, if the network takes so much of a core for a byte.
    pub(crate) fn rate(&self, network_s_per_byte: f64) -> f64 {
        let rest = self.hash_s + self.verify_s + self.append_s;
        2.0 / (network_s_per_byte + rest / self.bytes) / 1e6
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [hash, verify, append] =
            [self.hash_s, self.verify_s, self.append_s].map(|seconds| seconds * 1e6);
        write!(
            f,
            "a block takes {hash:.0} µs to hash, {verify:.0} µs to verify, {append:.0} µs to append"
        )
    }
}

/// How long it takes, in seconds.
fn each(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..TIMES {
        work()?;
    }
    Ok(began.elapsed().as_secs_f64() / TIMES as f64)
}
