// SPDX-License-Identifier: Apache-2.0
//! The organisations of a channel and its genesis block, made for one run.

use std::{sync::Arc, time::SystemTime};

use block_api::{Block, ChannelId, Endpoint, Signer};
use protos::common;

use crate::{
    change::{Change, ChangeError},
    config::{ConfigError, NetworkConfig},
    genesis::genesis_block,
    pki::{File, Member, Organization, PkiError},
    reconfigure::Configuration,
    terms::{OrdererNode, Supply, Terms},
    writer::BlockWriter,
};

/// A channel that never was before: organisations with throw-away keys, and a genuine genesis
/// block that names them. After changes of its configuration it is the channel as it is then.
#[derive(Debug, Clone)]
pub struct Network {
    config: NetworkConfig,
    genesis: Block,
    first_config: common::Config,
    terms: Terms,
}

/// A network could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys or certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Network {
    /// Makes the organisations and the genesis block.
    ///
    /// The ordering service has a node for each endpoint, named `orderer0` and so on; its TLS
    /// certificate is good for the endpoint's host, `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    ///
    /// When the configuration contradicts itself, there are fewer endpoints than organisations that
    /// order, or a name cannot stand in a certificate.
    pub fn generate(
        config: NetworkConfig,
        endpoints: &[Endpoint],
        now: SystemTime,
    ) -> Result<Self, NetworkError> {
        let terms = Terms::first(&config, endpoints, now)?;
        let first_config = common::Config {
            sequence: 0,
            channel_group: Some(terms.tree()),
        };
        Ok(Self {
            genesis: genesis_block(&config.channel, first_config.clone(), now),
            config,
            first_config,
            terms,
        })
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.config.channel
    }

    /// The genesis block.
    pub fn genesis(&self) -> &Block {
        &self.genesis
    }

    /// The organisations that order, one at least.
    pub fn orderers(&self) -> &[Organization] {
        &self.terms.orderers
    }

    /// The organisations that use the channel.
    pub fn applications(&self) -> &[Organization] {
        &self.terms.applications
    }

    /// The nodes of the ordering service, one at least, in the order of their ids.
    pub fn nodes(&self) -> &[OrdererNode] {
        &self.terms.nodes
    }

    /// The node with this id.
    pub fn node(&self, id: u32) -> Option<&OrdererNode> {
        self.terms.nodes.iter().find(|node| node.id() == id)
    }

    /// A member that may read and write: the first client of the first organisation with one.
    pub fn client(&self) -> &Member {
        self.terms
            .client()
            .expect("invariant: a validated configuration has a client")
    }

    /// The certificates of the authorities that issue the orderers' TLS certificates, as PEM.
    pub fn tls_ca_pem(&self) -> String {
        self.orderers()
            .iter()
            .map(Organization::tls_roots_pem)
            .collect()
    }

    /// All that a node needs to join the channel, as files: `genesis.block`, `tls-ca.pem` (the
    /// orderers' TLS authorities), and a folder for each organisation with the MSP and TLS folders
    /// of its members, private keys among them.
    pub fn files(&self) -> Vec<File> {
        let mut files = vec![
            ("genesis.block".to_owned(), self.genesis.raw().to_vec()),
            ("tls-ca.pem".to_owned(), self.tls_ca_pem().into()),
        ];
        for organization in self.orderers().iter().chain(self.applications()) {
            files.extend(organization.files());
        }
        files
    }

    /// The network after changes of its configuration; there is an endpoint for each node that comes
    /// or moves.
    pub(crate) fn changed(
        &self,
        changes: &[Change],
        endpoints: Vec<Endpoint>,
        now: SystemTime,
    ) -> Result<Self, ChangeError> {
        let supply = Supply {
            endpoints: endpoints.into_iter(),
            now,
        };
        Ok(Self {
            terms: self.terms.changed(changes, supply)?,
            ..self.clone()
        })
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The configuration in the genesis block.
    pub(crate) fn first_configuration(&self) -> Configuration {
        Configuration::new(self.channel().clone(), self.first_config.clone())
    }

    /// Who signs the transactions of config blocks.
    pub(crate) fn config_signer(&self) -> Arc<dyn Signer> {
        self.nodes()
            .first()
            .expect("invariant: an ordering service has a node")
            .member()
            .signer()
    }

    /// A writer that continues the chain after the genesis block, as nobody has changed it since.
    pub(crate) fn writer(&self) -> BlockWriter {
        BlockWriter::after_genesis(&self.genesis, self.terms.membership())
    }
}
