// SPDX-License-Identifier: Apache-2.0
//! What the processes of a case share, as files: a stored chain, certificates, and a request.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use block_api::{
    BlockStore, Clock, Signer, Standing, Start, StreamRequest, SystemClock, VerifiedBlock,
};
use block_store::SegmentStore;
use bytes::Bytes;
use channel_config::ChannelVerifier;
use dev_orderer::{ChainMaker, NetworkConfig};
use e2e_tests::bench::{self, Role};
use prost::Message as _;
use protos::common::Envelope;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use signer::envelope::{Nonce, seek_envelope};
use tempfile::TempDir;

/// The channel of the chain.
pub(crate) const CHANNEL: &str = "bench";
/// So many blocks are appended at once.
const BATCH: usize = 50;

/// The files of a case, which end with it.
pub(crate) struct Made {
    dir: TempDir,
    signer: Arc<dyn Signer>,
}

/// Where the files are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a>(pub(crate) &'a Path);

impl Made {
    /// Makes a chain of so many blocks beside the genesis block, each with so many bytes of data.
    pub(crate) async fn make(blocks: usize, bytes: usize) -> Result<Self> {
        let dir = bench::folder()?;
        let files = Files(dir.path());
        let config = NetworkConfig::new(CHANNEL.parse()?);
        let mut maker = ChainMaker::new(config, &["localhost:7050".parse()?], SystemClock.now())?;
        let genesis = maker.network().genesis().clone();
        let (store, _) = files.store()?;
        let verifier = ChannelVerifier::from_genesis(&genesis)?;
        let mut batch = vec![VerifiedBlock::new(genesis, &verifier, Standing::Linked)?];
        for _ in 0..blocks {
            let block = maker.block(&[bytes]).await?;
            batch.push(VerifiedBlock::new(block, &verifier, Standing::Linked)?);
            if batch.len() == BATCH {
                store.append(std::mem::take(&mut batch)).await?;
            }
        }
        store.append(batch).await?;
        store.close().await;
        let network = maker.network();
        for node in network.nodes().iter().take(1) {
            fs::write(files.certificate(), node.member().tls_certificate_der())?;
            fs::write(files.key(), node.member().tls_key_der())?;
        }
        for organization in network.orderers().iter().take(1) {
            fs::write(files.root(), organization.tls_ca_der())?;
        }
        let signer = network.client().signer();
        Ok(Self { dir, signer })
    }

    pub(crate) fn files(&self) -> Files<'_> {
        Files(self.dir.path())
    }

    /// Signs what the readers ask for next: the blocks from this one on.
    pub(crate) async fn request(&self, from: u64) -> Result<()> {
        let request = StreamRequest::blocks_from(CHANNEL.parse()?, Start::At(from.into()));
        let now = SystemClock.now();
        let envelope = seek_envelope(&*self.signer, &request, None, now, Nonce::random()).await?;
        fs::write(self.files().request(), envelope.encode_to_vec())?;
        Ok(())
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
        let config = block_store::Config::new(CHANNEL.parse()?);
        Ok(SegmentStore::open(self.0.join("chain"), config)?)
    }

    /// The certificate of a server, and its key.
    pub(crate) fn server(self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let certificate = CertificateDer::from(fs::read(self.certificate())?);
        let key = PrivatePkcs8KeyDer::from(fs::read(self.key())?);
        Ok((certificate, key.into()))
    }

    /// The certificate that readers trust.
    pub(crate) fn trusted(self) -> Result<CertificateDer<'static>> {
        Ok(CertificateDer::from(fs::read(self.root())?))
    }

    /// What the readers ask for.
    pub(crate) fn asked(self) -> Result<Envelope> {
        Ok(Envelope::decode(Bytes::from(fs::read(self.request())?))?)
    }

    fn certificate(self) -> PathBuf {
        self.0.join("server.der")
    }

    fn key(self) -> PathBuf {
        self.0.join("server-key.der")
    }

    fn root(self) -> PathBuf {
        self.0.join("root.der")
    }

    fn request(self) -> PathBuf {
        self.0.join("request")
    }
}
