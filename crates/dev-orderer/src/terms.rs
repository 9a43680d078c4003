// SPDX-License-Identifier: Apache-2.0
//! What is in force on a channel: its organisations, its nodes, and how they order.

mod apply;

use std::time::SystemTime;

use block_api::Endpoint;

use crate::{
    change::ChangeError,
    config::{BatchConfig, ConfigError, Consensus, NetworkConfig},
    network::NetworkError,
    pki::{KeyKind, Member, Organization, PkiError, Role},
    writer::{Membership, SigningNode},
};

pub(crate) use self::apply::Supply;

/// The channel capability from which on consenters sign by their ids.
const V3_0: &str = "V3_0";

/// A node of the ordering service, as it is or was at one time: with its id, its endpoint, and the
/// keys that it had then.
#[derive(Debug, Clone)]
pub struct OrdererNode {
    id: u32,
    organization: String,
    member: Member,
    endpoint: Endpoint,
}

/// All that the configuration tree says.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) key_kind: KeyKind,
    pub(crate) consensus: Consensus,
    pub(crate) maintenance: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) batch: BatchConfig,
    pub(crate) orderers: Vec<Organization>,
    /// In the order of their ids.
    pub(crate) nodes: Vec<OrdererNode>,
    /// The id of the next node: none comes back.
    pub(crate) next_id: u32,
    pub(crate) applications: Vec<Organization>,
}

/// The capability of each group that has one.
#[derive(Debug, Clone)]
pub(crate) struct Capabilities {
    pub(crate) channel: String,
    pub(crate) orderer: String,
    pub(crate) application: String,
}

impl OrdererNode {
    /// The id by which its signatures name it on a BFT channel, and by which it is known to the
    /// others on raft. They begin with 1, and that of a node that left does not come back.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The name of its organisation.
    pub fn organization(&self) -> &str {
        &self.organization
    }

    /// Its identity and its TLS certificate.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it signs with.
    pub(crate) fn signing(&self) -> SigningNode {
        SigningNode {
            id: self.id,
            signer: self.member.signer(),
        }
    }
}

impl Terms {
    /// What the first configuration of a channel says, with a node for each endpoint.
    pub(crate) fn first(
        config: &NetworkConfig,
        endpoints: &[Endpoint],
        now: SystemTime,
    ) -> Result<Self, NetworkError> {
        config.validate()?;
        if let Some(spec) = config.orderers.get(endpoints.len()) {
            let name = spec.name.clone();
            return Err(match endpoints {
                [] => ConfigError::NoOrderer,
                _ => ConfigError::OrganizationWithoutNode { name },
            }
            .into());
        }
        let generate = |specs: &[_]| {
            specs
                .iter()
                .map(|spec| Organization::generate(spec, config.key_kind, now))
                .collect::<Result<Vec<_>, _>>()
        };
        let names: Vec<_> = config.orderers.iter().map(|spec| &spec.name).collect();
        let mut terms = Self {
            key_kind: config.key_kind,
            consensus: config.consensus,
            maintenance: false,
            capabilities: Capabilities::of(config.consensus, config.key_kind),
            batch: config.batch.clone(),
            orderers: generate(&config.orderers)?,
            nodes: Vec::with_capacity(endpoints.len()),
            next_id: 1,
            applications: generate(&config.applications)?,
        };
        for (name, endpoint) in names.into_iter().cycle().zip(endpoints) {
            terms.add_node(name, endpoint.clone())?;
        }
        Ok(terms)
    }

    /// The nodes of an organisation, in the order of their ids.
    pub(crate) fn nodes_of(&self, organization: &str) -> impl Iterator<Item = &OrdererNode> {
        self.nodes
            .iter()
            .filter(move |node| node.organization == organization)
    }

    /// Who signs blocks, and how.
    pub(crate) fn membership(&self) -> Membership {
        Membership {
            consensus: self.consensus,
            nodes: self.nodes.iter().map(OrdererNode::signing).collect(),
            next_id: self.next_id,
        }
    }

    /// A member that may read and write: the first client of the first organisation with one.
    pub(crate) fn client(&self) -> Option<&Member> {
        self.applications
            .iter()
            .flat_map(Organization::members)
            .map(|(_, member)| member)
            .find(|member| member.role() == Role::Client)
    }

    /// So many endpoints for nodes of which nobody has asked where they are: on the host of the newest
    /// node, at the ports above all others.
    pub(crate) fn next_endpoints(&self, count: usize) -> Result<Vec<Endpoint>, ChangeError> {
        let host = self
            .nodes
            .last()
            .map_or("localhost", |node| node.endpoint.host());
        let ports = self.nodes.iter().filter_map(|node| node.endpoint.port());
        let port = ports.max().unwrap_or_default();
        (1..=count)
            .map(|above| {
                let next = u16::try_from(above)
                    .ok()
                    .and_then(|above| port.checked_add(above))
                    .ok_or(ChangeError::Ports { port })?;
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.to_owned()
                };
                Ok(format!("{host}:{next}")
                    .parse()
                    .expect("invariant: the host is that of an endpoint"))
            })
            .collect()
    }

    /// Gives an organisation that is there one more node.
    fn add_node(&mut self, organization: &str, endpoint: Endpoint) -> Result<(), PkiError> {
        let id = self.next_id;
        for orderer in self
            .orderers
            .iter_mut()
            .filter(|orderer| orderer.name() == organization)
        {
            let member = orderer.issue_reached_by(
                &format!("orderer{}", id - 1),
                Role::Orderer,
                &[endpoint.host()],
            )?;
            orderer.insert(member.clone());
            self.nodes.push(OrdererNode {
                id,
                organization: organization.to_owned(),
                member,
                endpoint: endpoint.clone(),
            });
        }
        self.next_id += 1;
        Ok(())
    }
}

impl Capabilities {
    fn of(consensus: Consensus, key_kind: KeyKind) -> Self {
        // Ed25519 signatures count from V3_0 on, and so do consenters that sign by their id.
        let channel = match (consensus, key_kind) {
            (Consensus::Raft, KeyKind::EcdsaP256) => "V2_0",
            (Consensus::Bft, _) | (_, KeyKind::Ed25519) => V3_0,
        };
        Self {
            channel: channel.to_owned(),
            orderer: "V2_0".to_owned(),
            application: "V2_5".to_owned(),
        }
    }
}
