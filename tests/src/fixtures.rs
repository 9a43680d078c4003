// SPDX-License-Identifier: Apache-2.0
//! The recorded chains, as files and as what `blocks.txt` says of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use block_api::{Block, HeaderHash};

/// What `blocks.txt` says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub number: u64,
    /// Its header hash.
    pub header_hash: HeaderHash,
}

/// The folder of the fixtures, or what is in it.
pub fn path(name: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// The blocks of a recorded chain, in order.
///
/// # Errors
///
/// When a file cannot be read or holds no block.
pub fn chain(name: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    loop {
        let file = path(name).join(format!("block_{}.pb", blocks.len()));
        if !file.exists() {
            return Ok(blocks);
        }
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        blocks.push(Block::parse(bytes.into()).with_context(|| file.display().to_string())?);
    }
}

/// What `blocks.txt` says of a recorded chain.
///
/// # Errors
///
/// When the file cannot be read or a line is not of its form.
pub fn recorded(name: &str) -> Result<Vec<Recorded>> {
    let file = path(name).join("blocks.txt");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    text.lines()
        .map(|line| {
            let number = line
                .split_whitespace()
                .nth(1)
                .context("a line has a number")?
                .parse()?;
            let hash = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("header_hash="));
            Ok(Recorded {
                number,
                header_hash: hash.context("a line has a header hash")?.parse()?,
            })
        })
        .collect()
}
