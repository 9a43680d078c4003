// SPDX-License-Identifier: Apache-2.0
//! The first block of a channel: the whole configuration tree in one transaction
//! (semantics §3.4, §6.6).

mod policy;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use block_api::{Block, BlockNumber, ChannelId, Endpoint};
use prost::Message;
use protos::{common, etcdraft, orderer, smartbft};
use signer::envelope::{Nonce, transaction_id};

use crate::{
    config::{BatchConfig, Consensus},
    pki::{KeyKind, Member, Organization, Role},
    writer,
};

pub(crate) use self::policy::quorum;

/// The policy that decides about changes of nearly everything.
const ADMINS: &str = "Admins";

/// What a genesis block is made of.
pub(crate) struct GenesisSpec<'a> {
    pub(crate) channel: &'a ChannelId,
    pub(crate) consensus: Consensus,
    pub(crate) key_kind: KeyKind,
    pub(crate) batch: &'a BatchConfig,
    pub(crate) ordering: &'a Organization,
    /// The ordering service's nodes and where they are reached, in the order of their ids from 1.
    pub(crate) nodes: &'a [(Member, Endpoint)],
    pub(crate) applications: &'a [Organization],
    pub(crate) now: SystemTime,
}

impl GenesisSpec<'_> {
    /// The first configuration.
    pub(crate) fn config(&self) -> common::Config {
        common::Config {
            sequence: 0,
            channel_group: Some(self.channel_group()),
        }
    }

    /// The genesis block with a configuration.
    pub(crate) fn block(&self, config: common::Config) -> Block {
        let config = common::ConfigEnvelope {
            config: Some(config),
            last_update: None,
        };
        let nonce = Nonce::random();
        let channel_header = common::ChannelHeader {
            r#type: common::HeaderType::Config.into(),
            version: 1,
            timestamp: Some(self.now.into()),
            channel_id: self.channel.as_str().to_owned(),
            // The id of a transaction is over nonce and creator, and a genesis block has no creator.
            tx_id: transaction_id(nonce.as_bytes(), &[]),
            ..common::ChannelHeader::default()
        };
        let signature_header = common::SignatureHeader {
            nonce: nonce.as_bytes().to_vec().into(),
            ..common::SignatureHeader::default()
        };
        let payload = common::Payload {
            header: Some(common::Header {
                channel_header: channel_header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: config.encode_to_vec().into(),
        };
        let envelope = common::Envelope {
            payload: payload.encode_to_vec().into(),
            ..common::Envelope::default()
        };
        let metadata = common::Metadata {
            value: writer::signed_value(BlockNumber::GENESIS, &[]).into(),
            signatures: Vec::new(),
        };
        let slots = [
            metadata.encode_to_vec(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
        ];
        Block::assemble(
            BlockNumber::GENESIS,
            &[],
            &[envelope.encode_to_vec()],
            &slots,
        )
    }

    fn channel_group(&self) -> common::ConfigGroup {
        // Ed25519 signatures count from V3_0 on, and so do consenters that sign by their id.
        let capability = match (self.consensus, self.key_kind) {
            (Consensus::Raft, KeyKind::EcdsaP256) => "V2_0",
            (Consensus::Bft, _) | (_, KeyKind::Ed25519) => "V3_0",
        };
        let mut group = group();
        put_value(
            &mut group,
            "HashingAlgorithm",
            &common::HashingAlgorithm {
                name: "SHA256".to_owned(),
            },
        );
        put_value(
            &mut group,
            "BlockDataHashingStructure",
            &common::BlockDataHashingStructure { width: u32::MAX },
        );
        put_value(&mut group, "Capabilities", &capabilities(capability));
        group.policies = policy::of_sub_groups();
        group
            .groups
            .insert("Orderer".to_owned(), self.orderer_group());
        group
            .groups
            .insert("Application".to_owned(), self.application_group());
        group
    }

    fn orderer_group(&self) -> common::ConfigGroup {
        let mut group = group();
        let (consensus, metadata) = match self.consensus {
            Consensus::Raft => ("etcdraft", self.raft_metadata().encode_to_vec()),
            Consensus::Bft => ("BFT", bft_options(self.batch).encode_to_vec()),
        };
        put_value(
            &mut group,
            "ConsensusType",
            &orderer::ConsensusType {
                r#type: consensus.to_owned(),
                metadata: metadata.into(),
                state: orderer::consensus_type::State::Normal.into(),
            },
        );
        put_value(
            &mut group,
            "BatchSize",
            &orderer::BatchSize {
                max_message_count: self.batch.max_message_count.get(),
                absolute_max_bytes: self.batch.absolute_max_bytes.get(),
                preferred_max_bytes: self.batch.preferred_max_bytes.get(),
            },
        );
        put_value(
            &mut group,
            "BatchTimeout",
            &orderer::BatchTimeout {
                timeout: go_duration(self.batch.timeout),
            },
        );
        put_value(
            &mut group,
            "ChannelRestrictions",
            &orderer::ChannelRestrictions::default(),
        );
        put_value(&mut group, "Capabilities", &capabilities("V2_0"));
        group.policies = policy::of_sub_groups();
        let block_validation = match self.consensus {
            Consensus::Raft => {
                policy::implicit_meta(common::implicit_meta_policy::Rule::Any, "Writers")
            }
            Consensus::Bft => policy::quorum_of(self.nodes.iter().map(|(node, _)| node.identity())),
        };
        group
            .policies
            .insert("BlockValidation".to_owned(), block_validation);
        if self.consensus == Consensus::Bft {
            put_value(&mut group, "Orderers", &self.bft_consenters());
        }

        let mut org = organization_group(self.ordering);
        let readers = [Role::Admin, Role::Orderer, Role::Client];
        policy::insert_role_policies(
            &mut org,
            self.ordering.msp_id(),
            &[("Readers", &readers), ("Writers", &readers)],
        );
        let addresses = self
            .nodes
            .iter()
            .map(|(_, endpoint)| endpoint.as_str().to_owned())
            .collect();
        put_value(
            &mut org,
            "Endpoints",
            &common::OrdererAddresses { addresses },
        );
        group.groups.insert(self.ordering.name().to_owned(), org);
        group
    }

    fn application_group(&self) -> common::ConfigGroup {
        let mut group = group();
        put_value(&mut group, "Capabilities", &capabilities("V2_5"));
        group.policies = policy::of_sub_groups();
        for name in ["Endorsement", "LifecycleEndorsement"] {
            let majority =
                policy::implicit_meta(common::implicit_meta_policy::Rule::Majority, "Endorsement");
            group.policies.insert(name.to_owned(), majority);
        }
        for application in self.applications {
            let mut org = organization_group(application);
            policy::insert_role_policies(
                &mut org,
                application.msp_id(),
                &[
                    ("Readers", &[Role::Admin, Role::Peer, Role::Client]),
                    ("Writers", &[Role::Admin, Role::Client]),
                    ("Endorsement", &[Role::Peer]),
                ],
            );
            group.groups.insert(application.name().to_owned(), org);
        }
        group
    }

    fn raft_metadata(&self) -> etcdraft::ConfigMetadata {
        let consenters = self.nodes.iter().map(|(node, endpoint)| {
            let certificate = tls_certificate(node);
            etcdraft::Consenter {
                host: endpoint.host().to_owned(),
                port: endpoint.port().unwrap_or_default().into(),
                client_tls_cert: certificate.clone(),
                server_tls_cert: certificate,
            }
        });
        etcdraft::ConfigMetadata {
            consenters: consenters.collect(),
            options: Some(etcdraft::Options {
                tick_interval: "500ms".to_owned(),
                election_tick: 10,
                heartbeat_tick: 1,
                max_inflight_blocks: 5,
                snapshot_interval_size: 16 * 1024 * 1024,
            }),
        }
    }

    fn bft_consenters(&self) -> common::Orderers {
        let consenters = (1..)
            .zip(self.nodes)
            .map(|(id, (node, endpoint))| common::Consenter {
                id,
                host: endpoint.host().to_owned(),
                port: endpoint.port().unwrap_or_default().into(),
                msp_id: node.msp_id().to_owned(),
                identity: node.certificate_pem().to_owned().into(),
                client_tls_cert: tls_certificate(node),
                server_tls_cert: tls_certificate(node),
            });
        common::Orderers {
            consenter_mapping: consenters.collect(),
        }
    }
}

fn group() -> common::ConfigGroup {
    common::ConfigGroup {
        mod_policy: ADMINS.to_owned(),
        ..common::ConfigGroup::default()
    }
}

fn organization_group(organization: &Organization) -> common::ConfigGroup {
    let mut group = group();
    put_value(&mut group, "MSP", &organization.msp_config());
    group
}

fn put_value(group: &mut common::ConfigGroup, key: &str, value: &impl Message) {
    let value = common::ConfigValue {
        version: 0,
        value: value.encode_to_vec().into(),
        mod_policy: ADMINS.to_owned(),
    };
    group.values.insert(key.to_owned(), value);
}

fn capabilities(name: &str) -> common::Capabilities {
    common::Capabilities {
        capabilities: BTreeMap::from([(name.to_owned(), common::Capability {})]),
    }
}

fn tls_certificate(node: &Member) -> bytes::Bytes {
    node.tls_certificate_pem().to_owned().into()
}

/// A duration as Go writes it. Whole milliseconds look like what an operator would write.
fn go_duration(duration: Duration) -> String {
    if duration.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{}ns", duration.as_nanos())
    }
}

/// SmartBFT's options with the defaults of Fabric's sample configuration.
fn bft_options(batch: &BatchConfig) -> smartbft::Options {
    smartbft::Options {
        request_batch_max_count: batch.max_message_count.get().into(),
        request_batch_max_bytes: batch.absolute_max_bytes.get().into(),
        request_batch_max_interval: go_duration(batch.timeout),
        incoming_message_buffer_size: 200,
        request_pool_size: 100_000,
        request_forward_timeout: "2s".to_owned(),
        request_complain_timeout: "20s".to_owned(),
        request_auto_remove_timeout: "3m".to_owned(),
        request_max_bytes: batch.absolute_max_bytes.get().into(),
        view_change_resend_interval: "5s".to_owned(),
        view_change_timeout: "20s".to_owned(),
        leader_heartbeat_timeout: "60s".to_owned(),
        leader_heartbeat_count: 10,
        collect_timeout: "1s".to_owned(),
        ..smartbft::Options::default()
    }
}

#[cfg(test)]
mod tests;
