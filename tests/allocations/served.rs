// SPDX-License-Identifier: Apache-2.0
//! A chain, and the process that serves it.

use std::{fs, process::Stdio, sync::Arc};

use block_api::{Block, Clock as _, Endpoint, Height, Signer, SystemClock, testing::within};
use dev_orderer::{ChainMaker, NetworkConfig};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// A chain that is served, and who may read it.
pub(crate) struct Served {
    pub(crate) genesis: Block,
    pub(crate) height: Height,
    /// The bytes of all blocks.
    pub(crate) bytes: usize,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls_roots: Vec<CertificateDer<'static>>,
    process: Child,
    _dir: TempDir,
}

impl Served {
    /// So many blocks behind a genesis block, each of one transaction with so many bytes of its own.
    pub(crate) async fn start(blocks: usize, transaction_bytes: usize) -> Self {
        let config = NetworkConfig::new("ch".parse().unwrap());
        let endpoints = ["localhost:7050".parse().unwrap()];
        let mut maker = ChainMaker::new(config, &endpoints, SystemClock.now()).unwrap();
        let chain = maker.chain(blocks, transaction_bytes).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (number, block) in chain.blocks().iter().enumerate() {
            fs::write(dir.path().join(number.to_string()), block.raw()).unwrap();
        }
        let mut process = Command::new(env!("CARGO_BIN_EXE_other-side"))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = within("the ordering service", lines.next_line()).await;
        let said = said.unwrap().expect("it says where it listens");
        let mut words = said.split(' ');
        let endpoint = words.next().unwrap().parse().unwrap();
        let roots = words.map(|root| hex::decode(root).unwrap().into());
        Self {
            genesis: maker.network().genesis().clone(),
            height: Height::new(blocks as u64 + 1),
            bytes: chain.blocks().iter().map(|block| block.raw().len()).sum(),
            signer: maker.network().client().signer(),
            endpoint,
            tls_roots: roots.collect(),
            process,
            _dir: dir,
        }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.process.stdin.take());
        within("the end of the ordering service", self.process.wait())
            .await
            .unwrap();
    }
}
