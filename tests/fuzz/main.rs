// SPDX-License-Identifier: Apache-2.0
//! Every fuzz body on the corpus and on seeded mutations of it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{fs, path::Path};

use block_api::wire::{put_bytes, put_uint};
use e2e_tests::{
    fixtures,
    fuzz::{self, BODIES, Body},
};
use prost::Message as _;
use protos::common::ConfigGroup;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Files above this size are left out: what is in them is in smaller ones, too.
const LARGEST: u64 = 48 << 10;

/// Mutations of each file.
const MUTATIONS: usize = 12;

/// Mutations of a corpus, however few files it has.
const LEAST_MUTATIONS: usize = 2_000;

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

/// The marshalled identities of the fixtures, and their certificates.
fn identities() -> Vec<Vec<u8>> {
    let identities = fuzz::identities().map(|identity| identity.to_vec());
    let certificates = fuzz::IDENTITIES.iter().flat_map(|(folder, _)| {
        let mut files = Vec::new();
        let folder = Path::new("msp").join(folder).join("msp/signcerts");
        collect(&fixtures::path(folder), &mut files);
        files
    });
    identities.chain(certificates).collect()
}

/// The policies of the recorded channels, and one of each kind that they have not.
fn policies() -> Vec<Vec<u8>> {
    let mut policies = Vec::new();
    for chain in ["raft", "bft"] {
        let genesis = fixtures::chain(chain).unwrap().swap_remove(0);
        let config = fuzz::config_of(&genesis).unwrap();
        policies_of(&config.channel_group.unwrap(), &mut policies);
    }
    let message = |fields: &[(u32, &[u8])]| {
        let mut out = Vec::new();
        for (number, bytes) in fields {
            put_bytes(&mut out, *number, bytes);
        }
        out
    };
    // MSPPrincipal and what it holds, for each kind.
    let role = message(&[(1, b"OrdererMSP")]);
    let role = message(&[(2, &role)]);
    let classified = |kind: u64, principal: &[u8]| {
        let mut out = Vec::new();
        put_uint(&mut out, 1, kind);
        put_bytes(&mut out, 2, principal);
        out
    };
    let unit = message(&[(1, b"Org1MSP"), (2, b"client"), (3, &[7; 32])]);
    let principals = [
        role.clone(),
        classified(1, &unit),
        classified(2, fuzz::identities().next().unwrap()),
        classified(3, &[]),
        classified(4, &message(&[(1, &role), (1, &role)])),
    ];
    // Two out of each principal, and out of as many again.
    let rules: Vec<u8> = (0..principals.len() as u8)
        .flat_map(|index| message(&[(2, &[0x08, index])]))
        .collect();
    let two_out_of = [&[0x08, 2][..], &rules].concat();
    let nested = message(&[(2, &two_out_of)]);
    let outer = [two_out_of, message(&[(2, &nested)])].concat();
    let mut envelope = message(&[(2, &message(&[(2, &outer)]))]);
    for principal in &principals {
        put_bytes(&mut envelope, 3, principal);
    }
    policies.push([&[0x08, 1][..], &message(&[(2, &envelope)])].concat());
    policies
}

fn policies_of(group: &ConfigGroup, policies: &mut Vec<Vec<u8>>) {
    for policy in group.policies.values() {
        policies.push(policy.policy.as_ref().unwrap().encode_to_vec());
    }
    for group in group.groups.values() {
        policies_of(group, policies);
    }
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
    let corpus = match name {
        "identity" => identities(),
        "policy" => policies(),
        _ => corpus(),
    };
    let mutations = MUTATIONS.max(LEAST_MUTATIONS / corpus.len());
    let mut rng = StdRng::seed_from_u64(0xb10c);
    for (index, bytes) in corpus.iter().enumerate() {
        body(bytes);
        let other = &corpus[rng.random_range(0..corpus.len())];
        for _ in 0..mutations {
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
    pem,
    identity,
    policy
);
