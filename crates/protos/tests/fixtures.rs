// SPDX-License-Identifier: Apache-2.0
//! Everything that a real ordering service and a real client wrote decodes, with no field unknown.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use blockcast_protos::{
    common::{
        self, Block, BlockMetadataIndex, Capabilities, ChannelHeader, ConfigEnvelope, ConfigGroup,
        ConfigUpdate, ConfigUpdateEnvelope, Envelope, Header, HeaderType, IdentifierHeader,
        ImplicitMetaPolicy, LastConfig, Metadata, MspPrincipal, MspRole, OrdererBlockMetadata,
        Payload, Policy, SignatureHeader, SignaturePolicyEnvelope, msp_principal::Classification,
        policy::PolicyType, signature_policy,
    },
    etcdraft, msp, orderer,
    orderer::{
        SeekInfo, SeekPosition,
        seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse},
        seek_position::Type as Seek,
    },
    peer, smartbft,
};
use bytes::Bytes;
use prost::Message;

fn fixtures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).to_owned()
}

/// Decodes a message and sees that encoding would give as many bytes. As long as the bytes were
/// written by Fabric, which writes no default values, a difference is a field that we do not know.
/// (Maps may come in any order, which is why the bytes themselves are not compared.)
#[track_caller]
fn whole<M: Message + Default + Debug>(bytes: &[u8]) -> M {
    let message = M::decode(bytes).unwrap();
    assert_eq!(message.encoded_len(), bytes.len(), "{message:?}");
    message
}

/// The chain of a folder: number, file, and what `blocks.txt` says, which the folders of other
/// nodes share with the first.
fn chain(folder: &str) -> Vec<(u64, Bytes)> {
    let mut blocks = Vec::new();
    for entry in fs::read_dir(fixtures().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(number) = name
            .strip_prefix("block_")
            .and_then(|rest| rest.strip_suffix(".pb"))
        else {
            continue;
        };
        let bytes = Bytes::from(fs::read(&path).unwrap());
        blocks.push((number.parse().unwrap(), bytes));
    }
    blocks.sort();
    for (at, (number, _)) in blocks.iter().enumerate() {
        assert_eq!(*number, at as u64, "{folder} has every block");
    }
    blocks
}

/// The columns of `blocks.txt`: those before the first `=` by place, the others by name.
fn told(folder: &str) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(fixtures().join(folder).join("blocks.txt")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("block"))
        .map(|line| {
            let mut columns = BTreeMap::new();
            for (at, word) in line.split_whitespace().enumerate() {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name.to_owned(), value),
                    None => (at.to_string(), word),
                };
                columns.insert(name, value.to_owned());
            }
            columns
        })
        .collect()
}

struct Chain {
    folder: &'static str,
    told_in: &'static str,
    channel: &'static str,
    len: usize,
    bft: bool,
}

const CHAINS: &[Chain] = &[
    Chain {
        folder: "raft",
        told_in: "raft",
        channel: "ch-raft",
        len: 66,
        bft: false,
    },
    Chain {
        folder: "raft-other-node",
        told_in: "raft",
        channel: "ch-raft",
        len: 19,
        bft: false,
    },
    Chain {
        folder: "bft",
        told_in: "bft",
        channel: "ch-bft",
        len: 70,
        bft: true,
    },
    Chain {
        folder: "bft-other-node",
        told_in: "bft",
        channel: "ch-bft",
        len: 19,
        bft: true,
    },
];

#[test]
fn every_block_decodes_and_agrees_with_what_fabric_said_of_it() {
    for chain_of in CHAINS {
        let blocks = chain(chain_of.folder);
        assert_eq!(blocks.len(), chain_of.len, "{}", chain_of.folder);
        let told = told(chain_of.told_in);
        let mut previous_hash = String::new();
        for ((number, bytes), told) in blocks.iter().zip(&told) {
            let block: Block = whole(bytes);
            let header = block.header.as_ref().unwrap();
            assert_eq!(header.number, *number);
            assert_eq!(told["1"], number.to_string());
            assert_eq!(hex::encode(&header.data_hash), told["data_hash"]);
            assert_eq!(hex::encode(&header.previous_hash), previous_hash);
            previous_hash.clone_from(&told["header_hash"]);

            let data = &block.data.as_ref().unwrap().data;
            assert_eq!(data.len().to_string(), told["txs"]);
            let config = told["2"].ends_with("CONFIG");
            for entry in data {
                transaction(entry, chain_of.channel, config);
            }
            metadata(&block, chain_of.bft, told);
        }
    }
}

fn transaction(entry: &[u8], channel: &str, config: bool) {
    let envelope: Envelope = whole(entry);
    let payload: Payload = whole(&envelope.payload);
    let header: Header = payload.header.unwrap();
    let channel_header: ChannelHeader = whole(&header.channel_header);
    assert_eq!(channel_header.channel_id, channel);
    assert!(channel_header.timestamp.is_some());
    let signature_header: SignatureHeader = whole(&header.signature_header);
    if !signature_header.creator.is_empty() {
        let creator: msp::SerializedIdentity = whole(&signature_header.creator);
        assert!(creator.mspid.ends_with("MSP"), "{}", creator.mspid);
        assert!(
            creator
                .id_bytes
                .starts_with(b"-----BEGIN CERTIFICATE-----\n")
        );
    }
    let header_type = HeaderType::try_from(channel_header.r#type).unwrap();
    assert_eq!(header_type == HeaderType::Config, config);
    if !config {
        // What the clients of these networks submitted as transactions is filling.
        assert_eq!(header_type, HeaderType::EndorserTransaction);
    }
}

fn metadata(block: &Block, bft: bool, told: &BTreeMap<String, String>) {
    let slots = &block.metadata.as_ref().unwrap().metadata;
    let signatures: Metadata = whole(&slots[BlockMetadataIndex::Signatures as usize]);
    let kinds: String = signatures
        .signatures
        .iter()
        .map(|signature| {
            if signature.identifier_header.is_empty() {
                let header: SignatureHeader = whole(&signature.signature_header);
                let _: msp::SerializedIdentity = whole(&header.creator);
                'S'
            } else {
                assert!(signature.signature_header.is_empty());
                let header: IdentifierHeader = whole(&signature.identifier_header);
                assert!((1..=4).contains(&header.identifier));
                'I'
            }
        })
        .collect();
    assert_eq!(kinds, told["sigs"]);
    let value: OrdererBlockMetadata = whole(&signatures.value);
    let last_config = value.last_config.unwrap_or_default().index;
    assert_eq!(last_config.to_string(), told["last_config"]);
    if !bft && !value.consenter_metadata.is_empty() {
        let wrapped: Metadata = whole(&value.consenter_metadata);
        let consenters: etcdraft::BlockMetadata = whole(&wrapped.value);
        assert_eq!(consenters.consenter_ids, [1, 2, 3]);
        assert_eq!(consenters.next_consenter_id, 4);
    }
    if let Some(slot) = slots.get(BlockMetadataIndex::LastConfig as usize) {
        let old: Metadata = whole(slot);
        let _: LastConfig = whole(&old.value);
    }
}

#[test]
fn every_config_block_decodes_down_to_its_values() {
    for chain_of in CHAINS {
        let told = told(chain_of.told_in);
        let mut seen = 0;
        for ((_, bytes), told) in chain(chain_of.folder).iter().zip(&told) {
            if !told["2"].ends_with("CONFIG") {
                continue;
            }
            let block = Block::decode(bytes.clone()).unwrap();
            let envelope: Envelope = whole(&block.data.unwrap().data[0]);
            let payload: Payload = whole(&envelope.payload);
            let config: ConfigEnvelope = whole(&payload.data);
            if let Some(update) = config.last_update {
                let payload: Payload = whole(&update.payload);
                let update: ConfigUpdateEnvelope = whole(&payload.data);
                assert!(!update.signatures.is_empty());
                // Not `whole`: the groups that it only passes through are empty values of maps.
                let update = ConfigUpdate::decode(update.config_update).unwrap();
                assert_eq!(update.channel_id, chain_of.channel);
            }
            let config = config.config.unwrap();
            assert_eq!(config.sequence, seen, "one change after the other");
            let group = config.channel_group.unwrap();
            assert_eq!(names(&group), ["Application", "Orderer"]);
            assert_eq!(names(&group.groups["Application"]), ["Org1", "Org2"]);
            assert_eq!(names(&group.groups["Orderer"]), ["OrdererOrg"]);
            config_group("Channel", &group, chain_of.bft);
            seen += 1;
        }
        assert!(seen >= 2, "{}", chain_of.folder);
    }
}

fn names(group: &ConfigGroup) -> Vec<&str> {
    group.groups.keys().map(String::as_str).collect()
}

fn config_group(name: &str, group: &ConfigGroup, bft: bool) {
    for (name, value) in &group.values {
        config_value(name, &value.value, bft);
    }
    for policy in group.policies.values() {
        config_policy(policy.policy.as_ref().unwrap());
    }
    assert_eq!(group.mod_policy, "Admins", "{name}");
    for (name, group) in &group.groups {
        config_group(name, group, bft);
    }
}

fn config_value(name: &str, value: &[u8], bft: bool) {
    match name {
        "HashingAlgorithm" => assert_eq!(whole::<common::HashingAlgorithm>(value).name, "SHA256"),
        "BlockDataHashingStructure" => {
            assert_eq!(
                whole::<common::BlockDataHashingStructure>(value).width,
                u32::MAX
            );
        }
        "Capabilities" => {
            // Go writes the value of a map's entry even where it is empty; prost does not.
            let capabilities = Capabilities::decode(value).unwrap();
            assert_eq!(capabilities.capabilities.len(), 1);
            assert_eq!(capabilities.encoded_len() + 2, value.len());
        }
        "Endpoints" => {
            let endpoints: common::OrdererAddresses = whole(value);
            assert!(endpoints.addresses.iter().all(|at| at.contains(':')));
        }
        "ConsensusType" => {
            let consensus: orderer::ConsensusType = whole(value);
            if bft {
                assert_eq!(consensus.r#type, "BFT");
                let options: smartbft::Options = whole(&consensus.metadata);
                assert_eq!(options.request_batch_max_bytes, 10_485_760);
                assert_eq!(options.leader_heartbeat_timeout, "60s");
                assert_eq!(options.collect_timeout, "1s");
            } else {
                assert_eq!(consensus.r#type, "etcdraft");
                let metadata: etcdraft::ConfigMetadata = whole(&consensus.metadata);
                assert_eq!(metadata.consenters.len(), 3);
                let options = metadata.options.unwrap();
                assert_eq!(options.tick_interval, "500ms");
                assert_eq!(options.snapshot_interval_size, 16_777_216);
            }
        }
        "BatchSize" => {
            let size: orderer::BatchSize = whole(value);
            assert_eq!(size.absolute_max_bytes, 10_485_760);
            assert_eq!(size.preferred_max_bytes, 2_097_152);
        }
        "BatchTimeout" => {
            assert!(
                whole::<orderer::BatchTimeout>(value)
                    .timeout
                    .ends_with("ms")
            );
        }
        "ChannelRestrictions" => {
            let _: orderer::ChannelRestrictions = whole(value);
        }
        "Orderers" => {
            let orderers: common::Orderers = whole(value);
            let ids: Vec<u32> = orderers.consenter_mapping.iter().map(|c| c.id).collect();
            assert_eq!(ids, [1, 2, 3, 4]);
        }
        "MSP" => {
            let config: msp::MspConfig = whole(value);
            let config: msp::FabricMspConfig = whole(&config.config);
            assert_eq!(config.root_certs.len(), 1);
            assert!(config.fabric_node_ous.unwrap().enable);
        }
        "AnchorPeers" => {
            let anchors: peer::AnchorPeers = whole(value);
            assert!(anchors.anchor_peers.iter().all(|anchor| anchor.port > 0));
        }
        other => panic!("no type is known for the value {other}"),
    }
}

fn config_policy(policy: &Policy) {
    match PolicyType::try_from(policy.r#type).unwrap() {
        PolicyType::Signature => {
            let envelope: SignaturePolicyEnvelope = whole(&policy.value);
            let rule = envelope.rule.unwrap().r#type.unwrap();
            assert!(matches!(rule, signature_policy::Type::NOutOf(_)));
            for principal in &envelope.identities {
                config_principal(principal);
            }
        }
        PolicyType::ImplicitMeta => {
            let implicit: ImplicitMetaPolicy = whole(&policy.value);
            assert!(!implicit.sub_policy.is_empty());
        }
        other @ (PolicyType::Unknown | PolicyType::Msp) => panic!("policy of type {other:?}"),
    }
}

fn config_principal(principal: &MspPrincipal) {
    match principal.principal_classification() {
        Classification::Role => {
            let role: MspRole = whole(&principal.principal);
            assert!(role.msp_identifier.ends_with("MSP"));
        }
        Classification::Identity => {
            let _: msp::SerializedIdentity = whole(&principal.principal);
        }
        other @ (Classification::OrganizationUnit
        | Classification::Anonymity
        | Classification::Combined) => panic!("principal of class {other:?}"),
    }
}

/// Covers: REQ-05, REQ-06
#[test]
fn every_seek_envelope_decodes_to_what_its_readme_says() {
    let text = fs::read_to_string(fixtures().join("seek/README.txt")).unwrap();
    let mut seen = 0;
    for told in text.split("\n\n").filter(|told| !told.trim().is_empty()) {
        let name = told.trim_start().split(' ').next().unwrap();
        let bytes = fs::read(fixtures().join("seek").join(name)).unwrap();
        assert!(told.contains(&format!("{name} ({} bytes)", bytes.len())));

        let envelope: Envelope = whole(&bytes);
        let signature = field(told, "signature (DER, low-S): ");
        assert_eq!(hex::encode(&envelope.signature), signature);
        let payload: Payload = whole(&envelope.payload);
        let header = payload.header.unwrap();

        let wanted = field(told, "channel_header hex: ");
        assert_eq!(hex::encode(&header.channel_header), wanted);
        let channel_header: ChannelHeader = whole(&header.channel_header);
        let timestamp = channel_header.timestamp.unwrap();
        let shown = format!(
            "type={} version={} timestamp={}.{:09} channel_id={:?} tx_id={:?} epoch={} ext={} \
             tls_cert_hash={}",
            channel_header.r#type,
            channel_header.version,
            timestamp.seconds,
            timestamp.nanos,
            channel_header.channel_id,
            channel_header.tx_id,
            channel_header.epoch,
            hex::encode(&channel_header.extension),
            hex::encode(&channel_header.tls_cert_hash),
        );
        assert!(told.contains(&shown), "{shown}\nis not in\n{told}");
        assert_eq!(channel_header.r#type, HeaderType::DeliverSeekInfo as i32);

        let signature_header: SignatureHeader = whole(&header.signature_header);
        assert_eq!(hex::encode(&signature_header.nonce), field(told, "nonce="));
        assert_eq!(signature_header.creator.len(), 798);
        let creator: msp::SerializedIdentity = whole(&signature_header.creator);
        assert_eq!(creator.mspid, "Org1MSP");

        assert_eq!(hex::encode(&payload.data), field(told, "seek_info hex: "));
        let seek: SeekInfo = whole(&payload.data);
        assert!(told.contains(&show(&seek)), "{}\n{told}", show(&seek));
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// The rest of the line after `label`.
fn field<'a>(text: &'a str, label: &str) -> &'a str {
    let (_, rest) = text.split_once(label).unwrap();
    rest.lines().next().unwrap()
}

/// As the README shows it, on a line of its own.
fn show(seek: &SeekInfo) -> String {
    let mut shown = format!(
        "    start:{{{}}} stop:{{{}}}",
        show_position(seek.start.as_ref()),
        show_position(seek.stop.as_ref()),
    );
    if seek.behavior() == SeekBehavior::FailIfNotReady {
        shown.push_str(" behavior:FAIL_IF_NOT_READY");
    }
    if seek.error_response() == SeekErrorResponse::BestEffort {
        shown.push_str(" error_response:BEST_EFFORT");
    }
    if seek.content_type() == SeekContentType::HeaderWithSig {
        shown.push_str(" content_type:HEADER_WITH_SIG");
    }
    shown.push('\n');
    shown
}

fn show_position(position: Option<&SeekPosition>) -> String {
    match position.unwrap().r#type.as_ref().unwrap() {
        Seek::Newest(_) => "newest:{}".to_owned(),
        Seek::Oldest(_) => "oldest:{}".to_owned(),
        Seek::Specified(at) => format!("specified:{{number:{}}}", at.number),
        Seek::NextCommit(_) => "next_commit:{}".to_owned(),
    }
}
