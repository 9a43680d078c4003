// SPDX-License-Identifier: Apache-2.0
//! The organisations of a channel and its genesis block, made for one run.

use std::{sync::Arc, time::SystemTime};

use block_api::{Block, ChannelId, Endpoint, Signer};
use protos::common;

use crate::{
    config::{ConfigError, Consensus, NetworkConfig, ORDERER_ORGANIZATION},
    genesis::GenesisSpec,
    pki::{File, Member, Organization, OrganizationSpec, PkiError, Role},
    reconfigure::Configuration,
    writer::BlockWriter,
};

/// A channel that never was before: organisations with throw-away keys, and a genuine genesis
/// block that names them.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    ordering: Organization,
    applications: Vec<Organization>,
    nodes: Vec<(Member, Endpoint)>,
    genesis: Block,
    first_config: common::Config,
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
    /// When the configuration contradicts itself, there is no endpoint, or a name cannot stand in
    /// a certificate.
    pub fn generate(
        config: NetworkConfig,
        endpoints: &[Endpoint],
        now: SystemTime,
    ) -> Result<Self, NetworkError> {
        config.validate()?;
        if endpoints.is_empty() {
            return Err(ConfigError::NoOrderer.into());
        }
        let organization = OrganizationSpec::new(ORDERER_ORGANIZATION, [("admin", Role::Admin)]);
        let mut ordering = Organization::generate(&organization, config.key_kind, now)?;
        let mut nodes = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            let node = ordering.issue_reached_by(
                &format!("orderer{index}"),
                Role::Orderer,
                &[endpoint.host()],
            )?;
            ordering.insert(node.clone());
            nodes.push((node, endpoint.clone()));
        }
        let applications = config
            .applications
            .iter()
            .map(|spec| Organization::generate(spec, config.key_kind, now))
            .collect::<Result<Vec<_>, _>>()?;
        let spec = GenesisSpec {
            channel: &config.channel,
            consensus: config.consensus,
            key_kind: config.key_kind,
            batch: &config.batch,
            ordering: &ordering,
            nodes: &nodes,
            applications: &applications,
            now,
        };
        let first_config = spec.config();
        let genesis = spec.block(first_config.clone());
        Ok(Self {
            config,
            ordering,
            applications,
            nodes,
            genesis,
            first_config,
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

    /// The organisation that orders.
    pub fn ordering(&self) -> &Organization {
        &self.ordering
    }

    /// The organisations that use the channel.
    pub fn applications(&self) -> &[Organization] {
        &self.applications
    }

    /// The nodes of the ordering service and their endpoints, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (&Member, &Endpoint)> {
        self.nodes.iter().map(|(node, endpoint)| (node, endpoint))
    }

    /// A member that may read and write: the first client of the first organisation with one.
    pub fn client(&self) -> &Member {
        self.applications
            .iter()
            .flat_map(Organization::members)
            .map(|(_, member)| member)
            .find(|member| member.role() == Role::Client)
            .expect("invariant: a validated configuration has a client")
    }

    /// The certificate of the authority that issued the orderers' TLS certificates, as PEM.
    pub fn tls_ca_pem(&self) -> &str {
        self.ordering.tls_ca_pem()
    }

    /// All that a node needs to join the channel, as files: `genesis.block`, `tls-ca.pem` (the
    /// orderers' TLS authority), and a folder for each organisation with the MSP and TLS folders
    /// of its members, private keys among them.
    pub fn files(&self) -> Vec<File> {
        let mut files = vec![
            ("genesis.block".to_owned(), self.genesis.raw().to_vec()),
            ("tls-ca.pem".to_owned(), self.tls_ca_pem().into()),
        ];
        for organization in [&self.ordering].into_iter().chain(&self.applications) {
            files.extend(organization.files());
        }
        files
    }

    /// The configuration in the genesis block; the first node signs the next one.
    pub(crate) fn configuration(&self) -> Configuration {
        let (node, _) = self
            .nodes
            .first()
            .expect("invariant: an ordering service has a node");
        Configuration::new(
            self.channel().clone(),
            self.first_config.clone(),
            node.signer(),
        )
    }

    pub(crate) fn consensus(&self) -> Consensus {
        self.config.consensus
    }

    /// A writer that continues the chain after the genesis block.
    pub(crate) fn writer(&self) -> BlockWriter {
        let signers: Vec<Arc<dyn Signer>> =
            self.nodes.iter().map(|(node, _)| node.signer()).collect();
        BlockWriter::after_genesis(&self.genesis, self.consensus(), signers)
    }
}
