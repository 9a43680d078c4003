// SPDX-License-Identifier: Apache-2.0
//! What processes of a benchmark share: the files of a network, in a folder.

use std::{fs, path::Path, sync::Arc};

use anyhow::Result;
use block_api::{Block, Clock as _, Endpoint, Signer, Start, StreamRequest, SystemClock};
use dev_orderer::Network;
use orderer_client::{Config as ClientConfig, OrdererEndpoint, Tls, parse_pem_certificates};
use protos::common::Envelope;
use rustls_pki_types::CertificateDer;
use signer::{
    envelope::{Nonce, seek_envelope},
    load_msp_folder,
};

use super::{CHANNEL, Joins};

/// Who reads without being a node: the client of the first organisation.
pub const USER: &str = "user1";

/// Of the files, those of the channel and not of a member.
const GENESIS: &str = "genesis.block";
const AUTHORITIES: &str = "tls-ca.pem";

/// The folder.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a>(pub &'a Path);

/// Writes what the nodes of a network need to join it.
///
/// # Errors
///
/// When the system refuses.
pub fn write_files(dir: &Path, network: &Network) -> Result<()> {
    for (path, content) in network.files() {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}

impl Files<'_> {
    /// The genesis block.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn genesis(self) -> Result<Block> {
        Ok(Block::parse(fs::read(self.0.join(GENESIS))?.into())?)
    }

    /// The authorities of who orders.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn authorities(self) -> Result<Vec<CertificateDer<'static>>> {
        let pem = fs::read(self.0.join(AUTHORITIES))?;
        Ok(parse_pem_certificates(&pem)?)
    }

    /// Says of which authority the certificate is of the one that serves the chain: who replays it
    /// has one of its own.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn served_by(self, authority: &str) -> Result<()> {
        Ok(fs::write(self.0.join(AUTHORITIES), authority)?)
    }

    /// A member of the first organisation.
    ///
    /// # Errors
    ///
    /// When there is no such member.
    pub fn signer(self, member: &str) -> Result<Arc<dyn Signer>> {
        let msp = self.0.join("org1").join(member).join("msp");
        Ok(load_msp_folder(&msp, "Org1MSP")?)
    }

    /// How this orderer is reached.
    ///
    /// # Errors
    ///
    /// When nobody is known whom to trust.
    pub fn orderer(self, endpoint: Endpoint) -> Result<ClientConfig> {
        Ok(ClientConfig {
            endpoints: vec![OrdererEndpoint {
                endpoint,
                tls_roots: self.authorities()?,
            }],
            tls: Tls::Server,
            ..ClientConfig::default()
        })
    }

    /// What a member needs to join the channel, and to pull it from this orderer.
    ///
    /// # Errors
    ///
    /// When a file is missing.
    pub fn joins(self, member: &str, orderer: Endpoint) -> Result<Joins> {
        Ok(Joins {
            genesis: self.genesis()?,
            signer: self.signer(member)?,
            client: self.orderer(orderer)?,
        })
    }

    /// What the client asks an orderer for, signed: the blocks from there on.
    ///
    /// # Errors
    ///
    /// When the client has no files.
    pub async fn request(self, start: Start) -> Result<Envelope> {
        let signer = self.signer(USER)?;
        let request = StreamRequest::blocks_from(CHANNEL.parse()?, start);
        let now = SystemClock.now();
        Ok(seek_envelope(&*signer, &request, None, now, Nonce::random()).await?)
    }
}
