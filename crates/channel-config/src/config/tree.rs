// SPDX-License-Identifier: Apache-2.0
//! A configuration as a tree that people can read.

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;
use protos::{
    common::{
        BlockDataHashingStructure, Capabilities, ConfigGroup, Consortium, HashingAlgorithm,
        OrdererAddresses, Orderers,
    },
    decode_as_go,
    described::Described,
    etcdraft,
    msp::{FabricMspConfig, FabricOuIdentifier, MspConfig},
    orderer::{
        BatchSize, BatchTimeout, ChannelRestrictions, ConsensusType, KafkaBrokers,
        consensus_type::State,
    },
    peer::{Acls, AnchorPeers},
    smartbft,
};

use crate::{
    certificate::Certificate,
    config::{CHANNEL, ChannelConfig},
};

/// A configuration as a tree: groups, and in each its values and policies as text.
///
/// Its `Display` form is the tree with two spaces a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigTree {
    /// The channel.
    pub channel: String,
    /// How many times the configuration was changed.
    pub sequence: u64,
    /// The outermost group.
    pub root: ConfigNode,
}

/// A group of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigNode {
    /// Its name.
    pub name: String,
    /// How many times the set of its members changed.
    pub version: u64,
    /// The policy that changes need.
    pub mod_policy: String,
    /// The values, by name.
    pub values: Vec<ConfigLeaf>,
    /// The policies, by name.
    pub policies: Vec<ConfigLeaf>,
    /// The groups in it, by name.
    pub groups: Vec<Self>,
}

/// A value or a policy of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigLeaf {
    /// Its name.
    pub name: String,
    /// How many times it changed.
    pub version: u64,
    /// The policy that changes need.
    pub mod_policy: String,
    /// Its content, a line each.
    pub lines: Vec<String>,
    /// The SHA-256 of its content: not everything of it has a line.
    pub digest: [u8; 32],
}

impl ConfigTree {
    pub(super) fn new(config: &ChannelConfig) -> Self {
        Self {
            channel: config.channel.to_string(),
            sequence: config.sequence,
            root: ConfigNode::new(config, CHANNEL, &format!("/{CHANNEL}"), &config.group),
        }
    }
}

impl ConfigNode {
    fn new(config: &ChannelConfig, name: &str, path: &str, group: &ConfigGroup) -> Self {
        let values = group.values.iter().map(|(name, value)| ConfigLeaf {
            name: name.clone(),
            version: value.version,
            mod_policy: value.mod_policy.clone(),
            lines: value_lines(name, &value.value),
            digest: digest(&[&value.value]),
        });
        let policies = group.policies.iter().map(|(name, policy)| ConfigLeaf {
            name: name.clone(),
            version: policy.version,
            mod_policy: policy.mod_policy.clone(),
            lines: config
                .policy_text(&format!("{path}/{name}"))
                .into_iter()
                .collect(),
            digest: match &policy.policy {
                Some(policy) => digest(&[&policy.r#type.to_le_bytes(), &policy.value]),
                None => digest(&[]),
            },
        });
        let groups = group
            .groups
            .iter()
            .map(|(name, group)| Self::new(config, name, &format!("{path}/{name}"), group));
        Self {
            name: name.to_owned(),
            version: group.version,
            mod_policy: group.mod_policy.clone(),
            values: values.collect(),
            policies: policies.collect(),
            groups: groups.collect(),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        writeln!(f, "{:indent$}{} (version {})", "", self.name, self.version)?;
        let inner = indent + 2;
        for (kind, leaf) in self
            .values
            .iter()
            .map(|v| ("", v))
            .chain(self.policies.iter().map(|p| ("policy ", p)))
        {
            write!(
                f,
                "{:inner$}{kind}{} (version {}):",
                "", leaf.name, leaf.version
            )?;
            match leaf.lines.as_slice() {
                [line] => writeln!(f, " {line}")?,
                lines => {
                    writeln!(f)?;
                    let deeper = inner + 2;
                    lines
                        .iter()
                        .try_for_each(|line| writeln!(f, "{:deeper$}{line}", ""))?;
                }
            }
        }
        self.groups
            .iter()
            .try_for_each(|group| group.write(f, inner))
    }
}

impl fmt::Display for ConfigTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "channel {}, sequence {}", self.channel, self.sequence)?;
        self.root.write(f, 0)
    }
}

/// The content of a value. What has no known name or does not parse is told by its length.
fn value_lines(name: &str, bytes: &[u8]) -> Vec<String> {
    let lines = match name {
        "HashingAlgorithm" => lines(bytes, |value: HashingAlgorithm| vec![value.name]),
        "BlockDataHashingStructure" => lines(bytes, |value: BlockDataHashingStructure| {
            vec![format!("width {}", value.width)]
        }),
        "OrdererAddresses" | "Endpoints" => lines(bytes, |value: OrdererAddresses| value.addresses),
        "Consortium" => lines(bytes, |value: Consortium| vec![value.name]),
        "Capabilities" => lines(bytes, |value: Capabilities| {
            value.capabilities.into_keys().collect()
        }),
        "KafkaBrokers" => lines(bytes, |value: KafkaBrokers| value.brokers),
        "ChannelRestrictions" => lines(bytes, |value: ChannelRestrictions| {
            vec![format!("at most {} channels", value.max_count)]
        }),
        "BatchTimeout" => lines(bytes, |value: BatchTimeout| vec![value.timeout]),
        "BatchSize" => lines(bytes, |value: BatchSize| {
            vec![
                format!("max_message_count {}", value.max_message_count),
                format!("absolute_max_bytes {}", value.absolute_max_bytes),
                format!("preferred_max_bytes {}", value.preferred_max_bytes),
            ]
        }),
        "ConsensusType" => lines(bytes, consensus_lines),
        "Orderers" => lines(bytes, |value: Orderers| {
            let consenters = value.consenter_mapping.iter();
            consenters
                .map(|node| {
                    let identity = certificate(&node.identity);
                    format!(
                        "{}: {}:{} {} {identity}",
                        node.id, node.host, node.port, node.msp_id
                    )
                })
                .collect()
        }),
        "AnchorPeers" => lines(bytes, |value: AnchorPeers| {
            value
                .anchor_peers
                .iter()
                .map(|peer| format!("{}:{}", peer.host, peer.port))
                .collect()
        }),
        "ACLs" => lines(bytes, |value: Acls| {
            value
                .acls
                .iter()
                .map(|(name, resource)| format!("{name}: {}", resource.policy_ref))
                .collect()
        }),
        "MSP" => msp_lines(bytes),
        _ => None,
    };
    lines.unwrap_or_else(|| vec![format!("{} bytes", bytes.len())])
}

fn lines<M: Described + Message + Default>(
    bytes: &[u8],
    to_lines: impl FnOnce(M) -> Vec<String>,
) -> Option<Vec<String>> {
    decode_as_go(bytes).ok().map(to_lines)
}

fn consensus_lines(value: ConsensusType) -> Vec<String> {
    let state = State::try_from(value.state).map_or("unknown state", |state| state.as_str_name());
    let mut lines = vec![value.r#type.clone(), state.to_owned()];
    if value.r#type == "etcdraft"
        && let Ok(metadata) = decode_as_go::<etcdraft::ConfigMetadata>(value.metadata.as_ref())
    {
        for node in &metadata.consenters {
            lines.push(format!(
                "consenter {}:{} {}",
                node.host,
                node.port,
                certificate(&node.server_tls_cert)
            ));
        }
        if let Some(options) = &metadata.options {
            lines.push(format!(
                "tick_interval {}, election_tick {}, heartbeat_tick {}, max_inflight_blocks {}, snapshot_interval_size {}",
                options.tick_interval,
                options.election_tick,
                options.heartbeat_tick,
                options.max_inflight_blocks,
                options.snapshot_interval_size
            ));
        }
    } else if value.r#type == "BFT"
        && let Ok(options) = decode_as_go::<smartbft::Options>(value.metadata.as_ref())
    {
        lines.push(format!(
            "request_batch_max_count {}, request_batch_max_bytes {}, request_batch_max_interval {}",
            options.request_batch_max_count,
            options.request_batch_max_bytes,
            options.request_batch_max_interval
        ));
        lines.push(format!(
            "leader_heartbeat_timeout {}, view_change_timeout {}, decisions_per_leader {}",
            options.leader_heartbeat_timeout,
            options.view_change_timeout,
            options.decisions_per_leader
        ));
    } else {
        lines.push(format!("{} bytes of metadata", value.metadata.len()));
    }
    lines
}

fn msp_lines(bytes: &[u8]) -> Option<Vec<String>> {
    let outer: MspConfig = decode_as_go(bytes).ok()?;
    if outer.r#type != 0 {
        return Some(vec![format!(
            "type {}, {} bytes",
            outer.r#type,
            outer.config.len()
        )]);
    }
    let msp: FabricMspConfig = decode_as_go(outer.config).ok()?;
    let mut lines = vec![format!("id {}", msp.name)];
    let certificates = [
        ("root", &msp.root_certs),
        ("intermediate", &msp.intermediate_certs),
        ("admin", &msp.admins),
        ("TLS root", &msp.tls_root_certs),
        ("TLS intermediate", &msp.tls_intermediate_certs),
    ];
    for (kind, certificates) in certificates {
        lines.extend(
            certificates
                .iter()
                .map(|pem| format!("{kind} {}", certificate(pem))),
        );
    }
    if !msp.revocation_list.is_empty() {
        lines.push(format!("{} revocation lists", msp.revocation_list.len()));
    }
    let unit = |unit: &FabricOuIdentifier| unit.organizational_unit_identifier.clone();
    lines.extend(
        msp.organizational_unit_identifiers
            .iter()
            .map(|needed| format!("unit {}", unit(needed))),
    );
    if let Some(nodes) = &msp.fabric_node_ous {
        let units = [
            &nodes.client_ou_identifier,
            &nodes.peer_ou_identifier,
            &nodes.admin_ou_identifier,
            &nodes.orderer_ou_identifier,
        ];
        let units: BTreeSet<String> = units.into_iter().flatten().map(unit).collect();
        let units: Vec<String> = units.into_iter().collect();
        lines.push(format!(
            "node units {}: {}",
            if nodes.enable { "on" } else { "off" },
            units.join(", ")
        ));
    }
    Some(lines)
}

/// The subject of a certificate, and the serial number that tells it from another one of the same
/// subject.
fn certificate(pem: &[u8]) -> String {
    match Certificate::from_pem(pem) {
        Ok(certificate) => format!(
            "[{}] serial {}",
            certificate.subject,
            hex::encode(&certificate.serial)
        ),
        Err(error) => format!("[{error}]"),
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let digest = context.finish();
    digest
        .as_ref()
        .try_into()
        .expect("invariant: a SHA-256 has 32 bytes")
}
