// SPDX-License-Identifier: Apache-2.0
//! Throughput over the size of blocks, as a picture.

use std::path::Path;

use anyhow::Result;
use e2e_tests::{
    bench::{median, plot::throughput},
    drawing::Line,
};

use crate::rig::{Reader, Rig, Shape, Signatures};

/// Sizes in bytes, each with how many blocks of it there are.
const SIZES: [(&str, usize, usize); 5] = [
    ("1KB", 1_000, 20_000),
    ("10KB", 10_000, 10_000),
    ("100KB", 100_000, 3_000),
    ("1MB", 1_000_000, 300),
    ("10MB", 10_000_000, 30),
];

/// How many rounds there are at most.
const ROUNDS: usize = 3;

/// What a smoke test makes do with.
const FEW: usize = 3;

pub(crate) async fn plot(dir: &Path, smoke: bool, rounds: usize) -> Result<()> {
    let (mut bare, mut node) = (Vec::new(), Vec::new());
    for (size, bytes, blocks) in SIZES {
        let shape = Shape {
            size,
            blocks: if smoke { FEW } else { blocks },
            bytes,
            signatures: Signatures::One,
        };
        let rig = Rig::start(shape).await?;
        let megabytes = (rig.raw_bytes() * shape.blocks) as f64 / 1e6;
        let (mut of_bare, mut of_node) = (Vec::new(), Vec::new());
        for round in 0..rounds.min(ROUNDS) {
            for reader in Reader::in_turn(round) {
                let rate = megabytes / rig.read(reader).await?.elapsed_s;
                match reader {
                    Reader::Bare => of_bare.push(rate),
                    Reader::Node => of_node.push(rate),
                }
            }
        }
        bare.push((bytes as f64, median(of_bare)));
        node.push((bytes as f64, median(of_node)));
        rig.stop().await?;
    }
    let line = |name: &str, points| Line {
        name: name.to_owned(),
        points,
    };
    let lines = [
        line("bare stream", bare),
        line("catch-up: verified and durable", node),
    ];
    let title = "catch-up from an ordering service over TLS, both ends on one machine";
    throughput(&dir.join("catch-up.svg"), title, &lines)
}
