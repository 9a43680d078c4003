// SPDX-License-Identifier: Apache-2.0
//! What no node that catches up can do without: bytes from the network, the hash of the data, the
//! signatures, and the bytes on the disk.

use std::{
    fmt,
    fs::{self, File},
    hint::black_box,
    io::Write as _,
    path::Path,
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

/// So long something short is repeated to be measured.
const AT_LEAST: Duration = Duration::from_millis(100);

/// How often it is done before one looks at the clock.
const AT_ONCE: u32 = 10;

/// What an orderer's signature covers: a header, an identity and a few numbers.
const SIGNED_BYTES: usize = 1000;

/// The cores that a bound counts with.
pub const CORES: f64 = 2.0;

/// A chain that a node read, and what it took to bring it there.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// A folder on the disk that the node writes to.
    pub folder: &'a Path,
    /// How many blocks there were.
    pub blocks: usize,
    /// The bytes of a block's data.
    pub data_bytes: usize,
    /// The bytes of a block as a whole.
    pub raw_bytes: usize,
    /// How many signatures a block has.
    pub signatures: u8,
    /// How many appends the node's store made, each of which ends with `fdatasync`.
    pub appends: usize,
    /// Seconds of a core for the whole chain on bare streams, at both ends.
    pub stream_cpu_s: f64,
}

/// Seconds of a core for a block, and of the disk.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Both ends of the bare streams.
    pub stream: f64,
    /// SHA-256 of the data.
    pub hash: f64,
    /// One signature.
    pub signature: f64,
    /// So many signatures there are.
    signatures: u8,
    /// Writing, and waiting for the disk as often as the node did.
    pub append: f64,
}

impl Bound {
    /// Does what the node had to do, and no more.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn measure(load: &Load<'_>) -> Result<Self> {
        Ok(Self {
            stream: load.stream_cpu_s / load.blocks as f64,
            hash: hash(load.data_bytes)?,
            signature: signature()?,
            signatures: load.signatures,
            append: append(load)?,
        })
    }

    /// The blocks in a second of cores that are never idle and do nothing else.
    pub fn rate(&self) -> f64 {
        let signatures = f64::from(self.signatures) * self.signature;
        CORES / (self.stream + self.hash + signatures + self.append)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.stream, self.hash, self.signature, self.append];
        let [stream, hash, signature, append] = parts.map(|seconds| seconds * 1e6);
        write!(
            f,
            "bound {:.0} blocks/s: c {stream:.0} µs, h {hash:.0} µs, v {signature:.0} µs × {}, w {append:.0} µs",
            self.rate(),
            self.signatures
        )
    }
}

/// Seconds of a core for SHA-256 of so many bytes.
///
/// # Errors
///
/// Where there is no `/proc`.
pub fn hash(bytes: usize) -> Result<f64> {
    let data = vec![0xda; bytes];
    seconds(|| {
        black_box(digest(&SHA256, black_box(&data)));
    })
}

/// Seconds of a core for one signature of an orderer.
///
/// # Errors
///
/// Where there is no `/proc`.
pub fn signature() -> Result<f64> {
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
fn append(load: &Load<'_>) -> Result<f64> {
    let per_append = load.blocks.div_ceil(load.appends.max(1));
    let batch = vec![0xda; load.raw_bytes * per_append];
    let mut left = load.raw_bytes * load.blocks;
    let path = load.folder.join("bare");
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
    Ok(elapsed.as_secs_f64() / load.blocks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_of_two_cores_that_do_everything() {
        let bound = Bound {
            stream: 1e-4,
            hash: 2e-4,
            signature: 1e-4,
            signatures: 3,
            append: 4e-4,
        };
        assert!((bound.rate() - 2000.0).abs() < 1e-6, "{bound}");
    }

    #[test]
    fn every_part_is_measured_for_a_block() {
        let folder = tempfile::tempdir().unwrap();
        let load = Load {
            folder: folder.path(),
            blocks: 10,
            data_bytes: 100_000,
            raw_bytes: 101_000,
            signatures: 1,
            appends: 3,
            stream_cpu_s: 2.0,
        };
        let bound = Bound::measure(&load).unwrap();
        assert!((bound.stream - 0.2).abs() < 1e-9, "{bound}");
        for part in [bound.hash, bound.signature, bound.append] {
            assert!(part > 0.0, "{bound}");
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "nothing of it stays");
    }
}
