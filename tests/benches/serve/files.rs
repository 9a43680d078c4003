// SPDX-License-Identifier: Apache-2.0
//! What the processes of a case share, as files: a stored chain, and certificates.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use block_api::{Clock as _, SystemClock};
use block_store::SegmentStore;
use dev_orderer::{ChainMaker, NetworkConfig};
use e2e_tests::{
    bench::{self, Blocks, Role},
    node::{self, CHANNEL, write_files},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

/// The files of a case, which end with it.
pub(crate) struct Made(TempDir);

/// Where the files are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl Made {
    /// Makes a chain of so many blocks beside the genesis block, each with so many bytes of data.
    pub(crate) async fn make(blocks: Blocks) -> Result<Self> {
        let dir = bench::folder()?;
        let files = Files(dir.path());
        let config = NetworkConfig::new(CHANNEL.parse()?);
        let maker = ChainMaker::new(config, &["localhost:7050".parse()?], SystemClock.now())?;
        let network = maker.network();
        write_files(dir.path(), network)?;
        let node = network.nodes().first().context("a node that orders")?;
        fs::write(files.certificate(), node.member().tls_certificate_der())?;
        fs::write(files.key(), node.member().tls_key_der())?;
        blocks.store(maker, files.config()?, &files.chain()).await?;
        Ok(Self(dir))
    }

    pub(crate) fn files(&self) -> Files<'_> {
        Files(self.0.path())
    }
}

impl<'a> Files<'a> {
    /// Where a child is told that they are, with its first argument.
    pub(crate) fn of(role: &'a Role) -> Result<Self> {
        let dir = role.arguments.first();
        Ok(Self(dir.context("where the files are")?.as_ref()))
    }

    /// The store of the chain.
    pub(crate) fn store(self) -> Result<(SegmentStore, block_store::OpenReport)> {
        Ok(SegmentStore::open(self.chain(), self.config()?)?)
    }

    /// What readers know.
    pub(crate) fn of_readers(self) -> node::Files<'a> {
        node::Files(self.0)
    }

    /// The certificate of a server, and its key.
    pub(crate) fn server(self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from(fs::read(self.certificate())?);
        let key = PrivatePkcs8KeyDer::from(fs::read(self.key())?);
        Ok((certificate, key.into()))
    }

    fn config(self) -> Result<block_store::Config> {
        Ok(block_store::Config::new(CHANNEL.parse()?))
    }

    fn chain(self) -> PathBuf {
        self.0.join("chain")
    }

    fn certificate(self) -> PathBuf {
        self.0.join("server.der")
    }

    fn key(self) -> PathBuf {
        self.0.join("server-key.der")
    }
}
