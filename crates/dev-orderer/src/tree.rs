// SPDX-License-Identifier: Apache-2.0
//! The configuration tree that says what is in force on a channel (semantics §3.4).

mod merge;
mod policy;

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use protos::{common, etcdraft, orderer, smartbft};

use crate::{
    config::{BatchConfig, Consensus},
    pki::{Member, Organization, Role},
    terms::{OrdererNode, Terms},
};

pub(crate) use self::{
    merge::{carry_over, grow_versions},
    policy::quorum,
};

/// The policy that decides about changes of nearly everything.
const ADMINS: &str = "Admins";

impl Terms {
    /// The tree that says what is in force, with all versions 0.
    pub(crate) fn tree(&self) -> common::ConfigGroup {
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
        put_value(
            &mut group,
            "Capabilities",
            &capabilities(&self.capabilities.channel),
        );
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
            Consensus::Bft => ("BFT", bft_options(&self.batch).encode_to_vec()),
        };
        let state = if self.maintenance {
            orderer::consensus_type::State::Maintenance
        } else {
            orderer::consensus_type::State::Normal
        };
        put_value(
            &mut group,
            "ConsensusType",
            &orderer::ConsensusType {
                r#type: consensus.to_owned(),
                metadata: metadata.into(),
                state: state.into(),
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
        put_value(
            &mut group,
            "Capabilities",
            &capabilities(&self.capabilities.orderer),
        );
        group.policies = policy::of_sub_groups();
        let block_validation = match self.consensus {
            Consensus::Raft => {
                policy::implicit_meta(common::implicit_meta_policy::Rule::Any, "Writers")
            }
            Consensus::Bft => {
                policy::quorum_of(self.nodes.iter().map(|node| node.member().identity()))
            }
        };
        group
            .policies
            .insert("BlockValidation".to_owned(), block_validation);
        if self.consensus == Consensus::Bft {
            put_value(&mut group, "Orderers", &self.bft_consenters());
        }

        for organization in &self.orderers {
            let org = self.orderer_organization(organization);
            group.groups.insert(organization.name().to_owned(), org);
        }
        group
    }

    fn orderer_organization(&self, organization: &Organization) -> common::ConfigGroup {
        let mut group = organization_group(organization);
        let readers = [Role::Admin, Role::Orderer, Role::Client];
        policy::insert_role_policies(
            &mut group,
            organization.msp_id(),
            &[("Readers", &readers), ("Writers", &readers)],
        );
        let addresses = self
            .nodes_of(organization.name())
            .map(|node| node.endpoint().as_str().to_owned())
            .collect();
        put_value(
            &mut group,
            "Endpoints",
            &common::OrdererAddresses { addresses },
        );
        group
    }

    fn application_group(&self) -> common::ConfigGroup {
        let mut group = group();
        put_value(
            &mut group,
            "Capabilities",
            &capabilities(&self.capabilities.application),
        );
        group.policies = policy::of_sub_groups();
        for name in ["Endorsement", "LifecycleEndorsement"] {
            let majority =
                policy::implicit_meta(common::implicit_meta_policy::Rule::Majority, "Endorsement");
            group.policies.insert(name.to_owned(), majority);
        }
        for application in &self.applications {
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
        let consenters = self.nodes.iter().map(|node| {
            let certificate = tls_certificate(node.member());
            etcdraft::Consenter {
                host: node.endpoint().host().to_owned(),
                port: port(node),
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
        let consenters = self.nodes.iter().map(|node| common::Consenter {
            id: node.id(),
            host: node.endpoint().host().to_owned(),
            port: port(node),
            msp_id: node.member().msp_id().to_owned(),
            identity: node.member().certificate_pem().to_owned().into(),
            client_tls_cert: tls_certificate(node.member()),
            server_tls_cert: tls_certificate(node.member()),
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

fn port(node: &OrdererNode) -> u32 {
    node.endpoint().port().unwrap_or_default().into()
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
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_reads_them() {
        assert_eq!(go_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1500ns");
        assert_eq!(go_duration(Duration::from_millis(200)), "200ms");
    }
}
