// SPDX-License-Identifier: Apache-2.0
//! The other side of what a test counts in its own process: an ordering service that has a chain.
//!
//! It is told the folder with the blocks and whether to use TLS, says where it listens and by which roots it is known, and
//! ends with its standard input.

use std::{env, fs, io::ErrorKind, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use block_api::{SystemClock, testing::OpenReaders};
use bytes::Bytes;
use dev_orderer::{DevOrderer, NodesConfig, Pace, RecordedChain, TlsMode};
use tokio::io::AsyncReadExt as _;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "who started it reads this")]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let dir = arguments.next().context("no folder with blocks is named")?;
    let tls = match arguments.next().as_deref() {
        Some("tls") => TlsMode::Server,
        Some("plain") => TlsMode::Plain,
        other => bail!("it is to be tls or plain, and not {other:?}"),
    };
    let chain = RecordedChain::new(read(Path::new(&dir))?)?;
    let nodes = NodesConfig {
        tls,
        ..NodesConfig::new(Arc::new(SystemClock))
    };
    let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, Arc::new(OpenReaders), nodes).await?;
    let roots: Vec<String> = orderer.tls_roots().iter().map(hex::encode).collect();
    println!("{} {}", orderer.endpoint(), roots.join(","));
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
