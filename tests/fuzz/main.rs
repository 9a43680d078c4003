// SPDX-License-Identifier: Apache-2.0
//! Every fuzz body on the corpus and on seeded mutations of it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{fs, path::Path};

use e2e_tests::{
    fixtures,
    fuzz::{BODIES, Body},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Files above this size are left out: what is in them is in smaller ones, too.
const LARGEST: u64 = 48 << 10;

/// Mutations of each file.
const MUTATIONS: usize = 12;

/// Bytes that have a meaning in protobuf, DER or PEM.
const TELLING: &[u8] = &[0x00, 0x01, 0x07, 0x0a, 0x12, 0x1a, 0x30, 0x7f, 0x80, 0xff];

fn corpus() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let folders = [
        "raft",
        "bft",
        "bft-other-node",
        "verdicts/raft",
        "verdicts/bft",
        "seek",
        "msp/org1/user1/msp/signcerts",
        "msp/org1/user1/msp/keystore",
    ];
    for folder in folders.map(fixtures::path) {
        collect(&folder, &mut files);
    }
    assert!(files.len() > 300, "the corpus is in the tree");
    files
}

fn collect(folder: &Path, files: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for file in entries {
        let text = file.extension().is_some_and(|extension| {
            extension == "txt" || extension == "csv" || extension == "json"
        });
        if !text && fs::metadata(&file).unwrap().len() <= LARGEST {
            files.push(fs::read(&file).unwrap());
        }
    }
}

fn mutated(rng: &mut StdRng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = TELLING[rng.random_range(0..TELLING.len())],
            2 => bytes.truncate(at),
            3 => bytes.insert(at, TELLING[rng.random_range(0..TELLING.len())]),
            4 if at < bytes.len() => {
                drop(bytes.drain(at..bytes.len().min(at + rng.random_range(1..64))))
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                let to = other.len().min(from + rng.random_range(0..128));
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

fn run(name: &str) {
    let (_, body): &(&str, Body) = BODIES.iter().find(|(body, _)| *body == name).unwrap();
    let corpus = corpus();
    let mut rng = StdRng::seed_from_u64(0xb10c);
    for (index, bytes) in corpus.iter().enumerate() {
        body(bytes);
        let other = &corpus[rng.random_range(0..corpus.len())];
        for _ in 0..MUTATIONS {
            let bytes = mutated(&mut rng, bytes, other);
            let outcome = std::panic::catch_unwind(|| body(&bytes));
            assert!(
                outcome.is_ok(),
                "{name} panics on a mutation of file {index}: {}",
                hex::encode(&bytes)
            );
        }
    }
}

macro_rules! bodies {
    ($($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )+

        #[test]
        fn every_body_is_run() {
            let run = [$(stringify!($name)),+];
            assert_eq!(BODIES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), run);
        }
    };
}

bodies!(
    block,
    deliver_response,
    config,
    verifier,
    segment,
    gossip,
    pem
);
