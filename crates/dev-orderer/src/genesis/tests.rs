// SPDX-License-Identifier: Apache-2.0
//! Compares our genesis blocks with those that Fabric's own tool made.

use std::{collections::BTreeMap, time::Duration};

use block_api::Endpoint;
use prost::Message;
use protos::{etcdraft, msp, orderer};

use super::*;
use crate::{Consensus, KeyKind, Network, NetworkConfig};

/// Values that name certificates or addresses, which differ from network to network.
const OWN: [&str; 4] = ["MSP", "ConsensusType", "Endpoints", "Orderers"];

fn fixture(folder: &str) -> Block {
    let path = format!(
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/{}/block_0.pb"
        ),
        folder
    );
    Block::parse(std::fs::read(path).unwrap().into()).unwrap()
}

fn network(consensus: Consensus, key_kind: KeyKind, nodes: usize) -> Network {
    let config = NetworkConfig {
        consensus,
        key_kind,
        ..NetworkConfig::new("ch-dev".parse().unwrap())
    };
    let endpoints: Vec<Endpoint> = (0..nodes)
        .map(|i| format!("127.0.0.1:{}", 7050 + i).parse().unwrap())
        .collect();
    Network::generate(
        config,
        &endpoints,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    )
    .unwrap()
}

fn payload(block: &Block) -> common::Payload {
    let envelope = common::Envelope::decode(block.data().next().unwrap()).unwrap();
    assert!(envelope.signature.is_empty());
    common::Payload::decode(envelope.payload).unwrap()
}

fn channel_group(block: &Block) -> common::ConfigGroup {
    let config = common::ConfigEnvelope::decode(payload(block).data).unwrap();
    assert_eq!(config.last_update, None);
    let config = config.config.unwrap();
    assert_eq!(config.sequence, 0);
    config.channel_group.unwrap()
}

/// Every element of a tree by its path, as what decides about it: its mod_policy and its bytes.
fn flat(group: &common::ConfigGroup, path: &str, out: &mut BTreeMap<String, (String, Vec<u8>)>) {
    out.insert(path.to_owned(), (group.mod_policy.clone(), Vec::new()));
    for (name, value) in &group.values {
        let bytes = match name.as_str() {
            own if OWN.contains(&own) => Vec::new(),
            // Go writes the empty value of a map's entry, and prost does not.
            "Capabilities" => common::Capabilities::decode(value.value.clone())
                .unwrap()
                .encode_to_vec(),
            _ => value.value.to_vec(),
        };
        out.insert(
            format!("{path}/value {name}"),
            (value.mod_policy.clone(), bytes),
        );
    }
    for (name, policy) in &group.policies {
        let bytes = policy.policy.as_ref().unwrap().encode_to_vec();
        out.insert(
            format!("{path}/policy {name}"),
            (policy.mod_policy.clone(), bytes),
        );
    }
    for (name, group) in &group.groups {
        // Names of groups are the network's own affair.
        let name = if name == "OrdererOrg" {
            "Orderer"
        } else {
            name
        };
        flat(group, &format!("{path}/{name}"), out);
    }
}

fn tree(block: &Block) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut out = BTreeMap::new();
    flat(&channel_group(block), "Channel", &mut out);
    // The recorded networks have a second organisation, and peers.
    out.retain(|path, _| !path.contains("Org2") && !path.contains("AnchorPeers"));
    out
}

fn value<M: Message + Default>(group: &common::ConfigGroup, key: &str) -> M {
    M::decode(group.values[key].value.clone()).unwrap()
}

#[test]
fn the_raft_tree_is_that_of_fabrics_own_tool() {
    let ours = network(Consensus::Raft, KeyKind::EcdsaP256, 3);
    assert_eq!(tree(ours.genesis()), tree(&fixture("raft")));

    let group = channel_group(ours.genesis());
    let orderer = &group.groups["Orderer"];
    let consensus: orderer::ConsensusType = value(orderer, "ConsensusType");
    assert_eq!(consensus.r#type, "etcdraft");
    let consenters = etcdraft::ConfigMetadata::decode(consensus.metadata)
        .unwrap()
        .consenters;
    assert_eq!(
        consenters.iter().map(|c| c.port).collect::<Vec<_>>(),
        [7050, 7051, 7052]
    );
    let endpoints: common::OrdererAddresses = value(&orderer.groups["Orderer"], "Endpoints");
    assert_eq!(
        endpoints.addresses,
        ["127.0.0.1:7050", "127.0.0.1:7051", "127.0.0.1:7052"]
    );
}

#[test]
fn the_bft_tree_is_that_of_fabrics_own_tool() {
    let ours = network(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let (mut own, mut recorded) = (tree(ours.genesis()), tree(&fixture("bft")));
    // The policy names certificates.
    let path = "Channel/Orderer/policy BlockValidation";
    own.remove(path).unwrap();
    recorded.remove(path).unwrap();
    assert_eq!(own, recorded);

    let orderer = &channel_group(ours.genesis()).groups["Orderer"];
    let policy = orderer.policies["BlockValidation"].policy.clone().unwrap();
    let policy = common::SignaturePolicyEnvelope::decode(policy.value).unwrap();
    let Some(common::signature_policy::Type::NOutOf(rule)) = policy.rule.unwrap().r#type else {
        panic!("not a quorum");
    };
    assert_eq!(
        (rule.n, rule.rules.len(), policy.identities.len()),
        (3, 4, 4)
    );
    let consenters: common::Orderers = value(orderer, "Orderers");
    for (consenter, principal) in consenters.consenter_mapping.iter().zip(&policy.identities) {
        let identity = msp::SerializedIdentity::decode(principal.principal.clone()).unwrap();
        assert_eq!(
            (&identity.id_bytes, &identity.mspid),
            (&consenter.identity, &consenter.msp_id)
        );
    }
}

#[test]
fn ed25519_needs_the_capability_that_allows_it() {
    let ours = network(Consensus::Raft, KeyKind::Ed25519, 1);
    let capabilities: common::Capabilities = value(&channel_group(ours.genesis()), "Capabilities");
    assert_eq!(
        capabilities.capabilities.into_keys().collect::<Vec<_>>(),
        ["V3_0"]
    );
}

#[test]
fn the_msp_is_laid_out_like_fabrics_own() {
    let msp = |block: &Block| {
        let config: msp::MspConfig = value(
            &channel_group(block).groups["Application"].groups["Org1"],
            "MSP",
        );
        let mut config = msp::FabricMspConfig::decode(config.config).unwrap();
        let ca = config.root_certs[0].clone();
        let units = config.fabric_node_ous.as_mut().unwrap();
        for unit in [
            &mut units.client_ou_identifier,
            &mut units.peer_ou_identifier,
            &mut units.admin_ou_identifier,
            &mut units.orderer_ou_identifier,
        ] {
            assert_eq!(unit.as_ref().unwrap().certificate, ca);
            unit.as_mut().unwrap().certificate.clear();
        }
        config.root_certs[0].clear();
        config.tls_root_certs[0].clear();
        config
    };
    let ours = network(Consensus::Raft, KeyKind::EcdsaP256, 1);
    assert_eq!(msp(ours.genesis()), msp(&fixture("raft")));
}

#[test]
fn header_and_metadata_are_those_of_a_genesis_block() {
    let (ours, recorded) = (
        network(Consensus::Raft, KeyKind::EcdsaP256, 1),
        fixture("raft"),
    );
    let ours = ours.genesis();
    assert!(ours.header().previous_hash.is_empty());
    assert_eq!(
        ours.slots().collect::<Vec<_>>(),
        recorded.slots().collect::<Vec<_>>()
    );
    assert_eq!(ours.header().data_hash, ours.data_hash().as_ref());
    assert!(ours.is_config());

    let header = payload(ours).header.unwrap();
    let channel_header = common::ChannelHeader::decode(header.channel_header).unwrap();
    let signature_header = common::SignatureHeader::decode(header.signature_header).unwrap();
    assert_eq!(channel_header.channel_id, "ch-dev");
    assert_eq!(
        (
            channel_header.version,
            channel_header.timestamp.unwrap().seconds
        ),
        (1, 1_800_000_000)
    );
    assert_eq!(
        channel_header.tx_id,
        transaction_id(&signature_header.nonce, b"")
    );
    assert!(signature_header.creator.is_empty());
}
