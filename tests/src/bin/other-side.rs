// SPDX-License-Identifier: Apache-2.0
//! The other side of what a test counts in its own process: an ordering service that has a chain.
//!
//! It is told the folder with the blocks, says where it listens and by which roots it is known, and
//! ends with its standard input.

use std::{env, fs, io::ErrorKind, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use block_api::{SystemClock, testing::OpenReaders};
use bytes::Bytes;
use dev_orderer::{DevOrderer, NodesConfig, Pace, RecordedChain};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "who started it reads this")]
async fn main() -> Result<()> {
    let dir = env::args()
        .nth(1)
        .context("no folder with blocks is named")?;
    let chain = RecordedChain::new(read(Path::new(&dir))?)?;
    let nodes = NodesConfig::new(Arc::new(SystemClock));
    let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, Arc::new(OpenReaders), nodes).await?;
    let roots: Vec<String> = orderer.tls_roots().iter().map(hex::encode).collect();
    println!("{} {}", orderer.endpoint(), roots.join(" "));
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    orderer.stop().await;
    Ok(())
}

/// The blocks in a folder, each in a file that is named after its number.
fn read(dir: &Path) -> Result<Vec<Bytes>> {
    let mut blocks = Vec::new();
    loop {
        match fs::read(dir.join(blocks.len().to_string())) {
            Ok(block) => blocks.push(block.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(blocks),
            Err(error) => return Err(error).context("a block cannot be read"),
        }
    }
}
