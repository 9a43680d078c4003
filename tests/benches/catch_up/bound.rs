// SPDX-License-Identifier: Apache-2.0
//! What no node can do without: the hash of the data, the signatures, and the bytes on the disk.

use std::{
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        ParsedPublicKey,
    },
};
use tokio::time::Instant;

use crate::rig::{Reading, Rig, Shape};

/// So long something short is repeated to be measured.
const AT_LEAST: Duration = Duration::from_millis(100);

/// How often it is done before one looks at the clock.
const AT_ONCE: u32 = 10;

/// What an orderer's signature covers: a header, an identity and a few numbers.
const SIGNED_BYTES: usize = 1000;

/// The cores that the bound counts with.
const CORES: f64 = 2.0;

/// Seconds of a core for a block, and of the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Both ends of the bare stream.
    pub(crate) stream: f64,
    /// SHA-256 of the data.
    pub(crate) hash: f64,
    /// One signature.
    pub(crate) signature: f64,
    /// So many signatures there are.
    signatures: u8,
    /// Writing, and waiting for the disk as often as a node that catches up does.
    pub(crate) append: f64,
}

impl Bound {
    /// Measures it beside what was read.
    pub(crate) fn measure(
        shape: &Shape,
        rig: &Rig,
        bare: &Reading,
        node: &Reading,
    ) -> Result<Self> {
        let blocks = shape.blocks as f64;
        Ok(Self {
            stream: (bare.reader_cpu_s + bare.orderer_cpu_s) / blocks,
            hash: hash(shape.bytes)?,
            signature: signature()?,
            signatures: shape.signatures.count(),
            append: append(rig, shape.blocks, node.appends)?,
        })
    }

    /// The blocks in a second of cores that are never idle and do nothing else.
    pub(crate) fn rate(&self) -> f64 {
        let signatures = f64::from(self.signatures) * self.signature;
        CORES / (self.stream + self.hash + signatures + self.append)
    }
}

fn hash(bytes: usize) -> Result<f64> {
    let data = vec![0xda; bytes];
    seconds(|| {
        black_box(digest(&SHA256, black_box(&data)));
    })
}

fn signature() -> Result<f64> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pair = EcdsaKeyPair::generate(algorithm)?;
    let message = [0x51; SIGNED_BYTES];
    let signature = pair.sign(&random, &message)?;
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key())?;
    let mut genuine = true;
    let seconds = seconds(|| genuine &= key.verify_sig(&message, signature.as_ref()).is_ok())?;
    ensure!(genuine, "the signature is its own");
    Ok(seconds)
}

/// The mean time of a core for one of them.
fn seconds(mut work: impl FnMut()) -> Result<f64> {
    let (began, mut times) = (own_cpu()?, 0_u32);
    let used = loop {
        (0..AT_ONCE).for_each(|_| work());
        times += AT_ONCE;
        let used = own_cpu()?.saturating_sub(began);
        if used >= AT_LEAST {
            break used;
        }
    };
    Ok(used.as_secs_f64() / f64::from(times))
}

/// The time that this thread has had of a core, to the nanosecond: that of the wall has in it what
/// others did meanwhile.
fn own_cpu() -> Result<Duration> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ran = schedstat.split_whitespace().next();
    Ok(Duration::from_nanos(
        ran.context("/proc/thread-self/schedstat")?.parse()?,
    ))
}

/// Appends as many bytes as the chain has, in as many steps, each of which ends with `fdatasync`.
fn append(rig: &Rig, blocks: usize, appends: usize) -> Result<f64> {
    let batch = vec![0xda; rig.raw_bytes() * blocks.div_ceil(appends.max(1))];
    let mut left = rig.raw_bytes() * blocks;
    let path = rig.folder().join("bare");
    let mut file = File::create(&path)?;
    let began = Instant::now();
    while left > 0 {
        let part = batch.get(..left).unwrap_or(&batch);
        file.write_all(part)?;
        file.sync_data()?;
        left -= part.len();
    }
    let elapsed = began.elapsed();
    drop(file);
    fs::remove_file(&path)?;
    Ok(elapsed.as_secs_f64() / blocks as f64)
}
