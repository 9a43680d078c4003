// SPDX-License-Identifier: Apache-2.0
//! What the configuration says of the ordering service.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use protos::{
    common::Orderers,
    orderer::{ConsensusType as ConsensusTypeProto, consensus_type::State},
};

use crate::config::{
    Capabilities, ConfigError, Organisation,
    organisation::MspBuilder,
    values::{BatchSize, Group},
};

/// What the configuration says of the ordering service.
#[derive(Debug, Clone)]
pub struct OrdererConfig {
    organisations: BTreeMap<String, Organisation>,
    consensus: ConsensusType,
    state: ConsensusState,
    metadata: Bytes,
    consenters: Vec<Consenter>,
    batch_size: BatchSize,
    batch_timeout: Duration,
}

/// How the orderers agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsensusType {
    /// `etcdraft`.
    Raft,
    /// `BFT`.
    Bft,
    /// Another name, as of old channels (`solo`, `kafka`).
    Other(String),
}

/// Whether the ordering service takes transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsensusState {
    /// It does.
    Normal,
    /// It is being changed: only orderers read and write.
    Maintenance,
}

/// A node of a BFT ordering service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consenter {
    /// The id that its signatures name.
    pub id: u32,
    /// Where the other nodes reach it.
    pub host: String,
    /// At which port.
    pub port: u32,
    /// The MSP id of its organisation.
    pub msp_id: String,
    /// Its certificate in PEM.
    pub identity: Bytes,
    /// The certificate, in PEM, by which it is known as a TLS client.
    pub client_tls_certificate: Bytes,
    /// The certificate, in PEM, by which it is known as a TLS server.
    pub server_tls_certificate: Bytes,
}

impl OrdererConfig {
    pub(super) fn read(
        group: &Group<'_>,
        capabilities: &Capabilities,
        msps: &mut MspBuilder<'_>,
    ) -> Result<Self, ConfigError> {
        group.allow_values(&[
            "ConsensusType",
            "BatchSize",
            "BatchTimeout",
            "KafkaBrokers",
            "ChannelRestrictions",
            "Orderers",
            "Capabilities",
        ])?;
        let consensus: ConsensusTypeProto = group.value("ConsensusType")?;
        let orderers: Orderers = group.value("Orderers")?;
        let mut organisations = BTreeMap::new();
        for (name, organisation) in group.groups() {
            if organisation.has_value("Endpoints") && !capabilities.organisation_addresses() {
                return Err(
                    organisation.illegal("Endpoints", "it needs the channel capability V1_4_2")
                );
            }
            let read = msps.orderer(name, &organisation)?;
            if read.addresses.is_empty() && capabilities.organisation_addresses_only() {
                return Err(
                    organisation.illegal("Endpoints", "the capability V3_0 asks for at least one")
                );
            }
            organisations.insert(name.to_owned(), read);
        }
        Ok(Self {
            organisations,
            consensus: match consensus.r#type.as_str() {
                "etcdraft" => ConsensusType::Raft,
                "BFT" => ConsensusType::Bft,
                _ => ConsensusType::Other(consensus.r#type),
            },
            state: if consensus.state == State::Maintenance as i32 {
                ConsensusState::Maintenance
            } else {
                ConsensusState::Normal
            },
            metadata: consensus.metadata,
            consenters: orderers
                .consenter_mapping
                .into_iter()
                .map(Consenter::from)
                .collect(),
            batch_size: group.batch_size()?,
            batch_timeout: group.batch_timeout()?,
        })
    }

    /// The organisations that run it, by name.
    pub fn organisations(&self) -> impl Iterator<Item = &Organisation> {
        self.organisations.values()
    }

    /// How its nodes agree.
    pub fn consensus(&self) -> &ConsensusType {
        &self.consensus
    }

    /// Whether it takes transactions.
    pub fn state(&self) -> ConsensusState {
        self.state
    }

    /// What the consensus type keeps of its own, marshalled.
    pub fn consensus_metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// The nodes that sign by their ids.
    pub fn consenters(&self) -> &[Consenter] {
        &self.consenters
    }

    /// How big blocks are.
    pub fn batch_size(&self) -> BatchSize {
        self.batch_size
    }

    /// How long a transaction waits for others at most.
    pub fn batch_timeout(&self) -> Duration {
        self.batch_timeout
    }
}

impl From<protos::common::Consenter> for Consenter {
    fn from(consenter: protos::common::Consenter) -> Self {
        Self {
            id: consenter.id,
            host: consenter.host,
            port: consenter.port,
            msp_id: consenter.msp_id,
            identity: consenter.identity,
            client_tls_certificate: consenter.client_tls_cert,
            server_tls_certificate: consenter.server_tls_cert,
        }
    }
}

impl fmt::Display for ConsensusType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "etcdraft",
            Self::Bft => "BFT",
            Self::Other(name) => name,
        })
    }
}
