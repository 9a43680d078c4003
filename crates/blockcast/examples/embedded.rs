// SPDX-License-Identifier: Apache-2.0
//! A node inside a program: it signs with a signer of the program's own, and its blocks are a stream.
#![expect(clippy::print_stdout, reason = "an example shows what it made")]

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use block_api::{BlockNumber, ChannelId, SignError, Signer, SystemClock};
use blockcast::{Node, NodeConfig, config::ChannelSection};
use bytes::Bytes;
use dev_orderer::{Config, DevOrderer, Pace};
use futures::StreamExt as _;
use gossip_memory::MemoryNetwork;

/// A signer of one's own. This one counts; others ask a hardware module, or another machine.
#[derive(Debug)]
struct CountingSigner {
    key_holder: Arc<dyn Signer>,
    signatures: AtomicU64,
}

#[async_trait]
impl Signer for CountingSigner {
    fn identity(&self) -> Bytes {
        self.key_holder.identity()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.signatures.fetch_add(1, Ordering::Relaxed);
        self.key_holder.sign(message).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An ordering service to take blocks from, with a channel and identities of its own.
    let channel: ChannelId = "example".parse()?;
    let orderer = DevOrderer::start(Config::new(channel.clone(), Arc::new(SystemClock))).await?;
    let client = orderer.client().ok_or("an ordering service has a client")?;

    let folder = tempfile::tempdir()?;
    let genesis = folder.path().join("genesis.block");
    std::fs::write(&genesis, orderer.genesis().raw())?;
    let config = NodeConfig {
        channels: vec![ChannelSection::new(channel.clone(), genesis)],
        ..NodeConfig::new(folder.path().join("node"))
    };
    let signer = Arc::new(CountingSigner {
        key_holder: client.signer(),
        signatures: AtomicU64::new(0),
    });
    let node = Node::builder(config)
        .signer(signer.clone())
        .gossip(Arc::new(MemoryNetwork::new(1).node("alone")))
        .start()
        .await?;

    orderer.generate(5, 1000, Pace::AllAtOnce).await?;
    let mut blocks = node.subscribe(&channel, BlockNumber::new(1))?.take(5);
    while let Some(block) = blocks.next().await {
        let block = block?;
        println!(
            "block {} has the hash {}",
            block.number(),
            block.header_hash()
        );
    }
    println!(
        "{} signature(s) were asked for",
        signer.signatures.load(Ordering::Relaxed)
    );

    node.stop().await;
    orderer.stop().await;
    Ok(())
}
