// SPDX-License-Identifier: Apache-2.0
//! Fields of another wire type than their declaration's, which Go takes for unknown ones.

use block_api::wire::{Fields, Value, put_bytes, put_varint};
use protos::{
    common::{
        BlockDataHashingStructure, ChannelHeader, Consortium, ImplicitMetaPolicy, MspRole,
        Orderers, SignaturePolicyEnvelope,
    },
    decode_as_go,
    described::{Described, Field, Kind},
    etcdraft,
    msp::{FabricMspConfig, SerializedIdentity},
    orderer::ChannelRestrictions,
    peer::{AnchorPeers, ApiResource},
    smartbft,
};

use super::*;

/// Where a row puts fields of the wrong type.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Nowhere,
    Value(&'static str),
    /// The message within a value.
    Inner(&'static str),
    SignaturePolicies,
    Principals,
    ImplicitMetaPolicies,
    Config,
    ConfigEnvelope,
    ChannelHeader,
    Payload,
    Envelope,
}

const PLACES: &[At] = &[
    At::Value("ACLs"),
    At::Value("AnchorPeers"),
    At::Value("BatchSize"),
    At::Value("BatchTimeout"),
    At::Value("BlockDataHashingStructure"),
    At::Value("Capabilities"),
    At::Value("ChannelRestrictions"),
    At::Value("ConsensusType"),
    At::Value("Consortium"),
    At::Value("Endpoints"),
    At::Value("HashingAlgorithm"),
    At::Value("MSP"),
    At::Value("OrdererAddresses"),
    At::Value("Orderers"),
    At::Inner("ConsensusType"),
    At::Inner("MSP"),
    At::SignaturePolicies,
    At::Principals,
    At::ImplicitMetaPolicies,
    At::Config,
    At::ConfigEnvelope,
    At::ChannelHeader,
    At::Payload,
    At::Envelope,
];

/// A message with fields of the wrong type before and behind what is in it, and so every message in
/// it: one for each field that it declares.
fn spoilt(message: &[u8], fields: &[Field]) -> Vec<u8> {
    let mut wrong = Vec::new();
    for field in fields {
        let number = u64::from(field.number) << 3;
        if matches!(field.kind, Kind::Varint) {
            put_varint(&mut wrong, number | 5);
            wrong.extend([1; 4]);
        } else {
            put_varint(&mut wrong, number);
            wrong.push(1);
        }
    }
    let mut out = wrong.clone();
    for field in Fields::new(message) {
        let field = field.unwrap();
        let declared = fields.iter().find(|known| known.number == field.number);
        match (declared.map(|known| known.kind), &field.value) {
            (Some(Kind::Message(inner)), Value::Bytes(content, _)) => {
                put_bytes(&mut out, field.number, &spoilt(content, inner()));
            }
            _ => out.extend_from_slice(&message[field.span]),
        }
    }
    out.extend(wrong);
    out
}

fn spoil<M: Described>(message: &mut Bytes) {
    *message = spoilt(message, M::fields()).into();
}

fn spoil_value(key: &str, value: &mut Bytes) {
    match key {
        "ACLs" => spoil::<Acls>(value),
        "AnchorPeers" => spoil::<AnchorPeers>(value),
        "BatchSize" => spoil::<BatchSizeProto>(value),
        "BatchTimeout" => spoil::<BatchTimeout>(value),
        "BlockDataHashingStructure" => spoil::<BlockDataHashingStructure>(value),
        "Capabilities" => spoil::<CapabilitiesProto>(value),
        "ChannelRestrictions" => spoil::<ChannelRestrictions>(value),
        "ConsensusType" => spoil::<ConsensusTypeProto>(value),
        "Consortium" => spoil::<Consortium>(value),
        "Endpoints" | "OrdererAddresses" => spoil::<OrdererAddresses>(value),
        "HashingAlgorithm" => spoil::<HashingAlgorithm>(value),
        "MSP" => spoil::<MspConfig>(value),
        "Orderers" => spoil::<Orderers>(value),
        other => panic!("the value {other} is not known"),
    }
}

fn spoil_inner(key: &str, value: &mut Bytes) {
    if key == "MSP" {
        let mut msp = MspConfig::decode(value.clone()).unwrap();
        spoil::<FabricMspConfig>(&mut msp.config);
        *value = msp.encode_to_vec().into();
    } else {
        let mut consensus = ConsensusTypeProto::decode(value.clone()).unwrap();
        if consensus.r#type == "BFT" {
            spoil::<smartbft::Options>(&mut consensus.metadata);
        } else {
            spoil::<etcdraft::ConfigMetadata>(&mut consensus.metadata);
        }
        *value = consensus.encode_to_vec().into();
    }
}

fn spoil_principals(policy: &mut Bytes) {
    let mut envelope = SignaturePolicyEnvelope::decode(policy.clone()).unwrap();
    for principal in &mut envelope.identities {
        match principal.principal_classification {
            0 => spoil::<MspRole>(&mut principal.principal),
            2 => spoil::<SerializedIdentity>(&mut principal.principal),
            other => panic!("no principal of kind {other} is recorded"),
        }
    }
    *policy = envelope.encode_to_vec().into();
}

/// Spoils a group and those in it; returns in how many places.
fn spoil_group(group: &mut ConfigGroup, at: At) -> usize {
    let mut count = 0;
    for (key, value) in &mut group.values {
        if matches!(at, At::Value(spoilt) if spoilt == key) {
            spoil_value(key, &mut value.value);
            count += 1;
        } else if matches!(at, At::Inner(spoilt) if spoilt == key) {
            spoil_inner(key, &mut value.value);
            count += 1;
        }
    }
    for policy in group.policies.values_mut() {
        let policy = policy.policy.as_mut().unwrap();
        match (at, policy.r#type) {
            (At::SignaturePolicies, 1) => spoil::<SignaturePolicyEnvelope>(&mut policy.value),
            (At::Principals, 1) => spoil_principals(&mut policy.value),
            (At::ImplicitMetaPolicies, 3) => spoil::<ImplicitMetaPolicy>(&mut policy.value),
            _ => continue,
        }
        count += 1;
    }
    let groups = group.groups.values_mut();
    count + groups.map(|group| spoil_group(group, at)).sum::<usize>()
}

/// Adds the values that a configuration may have and the recorded ones do not.
fn complete(config: &mut Config) {
    let application = group(config, &["Application"]);
    let resource = ApiResource {
        policy_ref: "Readers".to_owned(),
    };
    let acls = Acls {
        acls: [("resource".to_owned(), resource)].into(),
    };
    set_value(application, "ACLs", Some(acls));
    let consortium = Consortium {
        name: "ours".to_owned(),
    };
    let channel = group(config, &[]);
    set_value(channel, "Consortium", Some(consortium));
    // With V3_0 only organisations have addresses.
    let capabilities = channel.values.get("Capabilities").unwrap();
    if !capabilities.value.windows(4).any(|name| name == b"V3_0") {
        set_value(channel, "OrdererAddresses", addresses(&["a:1"]));
    }
}

/// The transaction of a recorded block with what `at` says spoilt, and in how many places.
fn spoilt_entry(path: &str, at: At) -> (Vec<u8>, usize) {
    let recorded = block(path);
    let mut envelope = Envelope::decode(recorded.data().next().unwrap()).unwrap();
    let mut payload = Payload::decode(envelope.payload).unwrap();
    let mut config = ConfigEnvelope::decode(payload.data).unwrap();
    let tree = config.config.as_mut().unwrap();
    complete(tree);
    let mut count = spoil_group(tree.channel_group.as_mut().unwrap(), at);
    let mut if_at = |place: At, message: &mut Bytes, fields: &[Field]| {
        if at == place {
            *message = spoilt(message, fields).into();
            count += 1;
        }
    };
    let mut tree = tree.encode_to_vec().into();
    if_at(At::Config, &mut tree, Config::fields());
    let mut data = Vec::new();
    put_bytes(&mut data, 1, &tree);
    if let Some(update) = config.last_update {
        put_bytes(&mut data, 2, &update.encode_to_vec());
    }
    payload.data = data.into();
    if_at(
        At::ConfigEnvelope,
        &mut payload.data,
        ConfigEnvelope::fields(),
    );
    let header = payload.header.as_mut().unwrap();
    if_at(
        At::ChannelHeader,
        &mut header.channel_header,
        ChannelHeader::fields(),
    );
    envelope.payload = payload.encode_to_vec().into();
    if_at(At::Payload, &mut envelope.payload, Payload::fields());
    let mut envelope = envelope.encode_to_vec().into();
    if_at(At::Envelope, &mut envelope, Envelope::fields());
    (envelope.to_vec(), count)
}

/// The tree without the digests, which are of the bytes.
fn readable(config: &ChannelConfig) -> ConfigTree {
    fn without_digests(node: &mut ConfigNode) {
        for leaf in node.values.iter_mut().chain(&mut node.policies) {
            leaf.digest = [0; 32];
        }
        node.groups.iter_mut().for_each(without_digests);
    }
    let mut tree = config.tree();
    without_digests(&mut tree.root);
    tree
}

fn genesis_of(entry: Vec<u8>) -> Block {
    Block::assemble(BlockNumber::GENESIS, &[], &[entry], &[&[]])
}

/// Covers: CHC-01
#[test]
fn fields_of_the_wrong_type_change_nothing() {
    let mut spoilt_places = vec![0; PLACES.len()];
    for path in ["raft/block_46.pb", "bft/block_21.pb"] {
        let (entry, _) = spoilt_entry(path, At::Nowhere);
        let recorded = ChannelConfig::from_block(&genesis_of(entry)).unwrap();
        for (at, spoilt_places) in PLACES.iter().zip(&mut spoilt_places) {
            let (entry, count) = spoilt_entry(path, *at);
            *spoilt_places += count;
            let config = ChannelConfig::from_block(&genesis_of(entry.clone()))
                .unwrap_or_else(|error| panic!("{path}, {at:?}: {error}"));
            assert!(readable(&config) == readable(&recorded), "{path}, {at:?}");
            assert_eq!(config.endpoints(), recorded.endpoints(), "{path}, {at:?}");
            assert_eq!(
                config.orderer().consenters(),
                recorded.orderer().consenters(),
                "{path}, {at:?}"
            );
            let cut = entry[..entry.len() - 1].to_vec();
            assert!(
                ChannelConfig::from_block(&genesis_of(cut)).is_err(),
                "{path}, {at:?}, cut off"
            );
        }
    }
    for (at, count) in PLACES.iter().zip(spoilt_places) {
        assert!(count > 0, "nothing is recorded at {at:?}");
    }
}

/// The orderers sign such a block, so it is theirs to refuse and not ours; what they sign under it
/// is judged by it.
#[test]
fn a_block_with_fields_of_the_wrong_type_is_taken_and_takes_force() {
    let orderer = TestSigner::of_fixture("orderer/raft0", "OrdererMSP");
    for at in PLACES {
        let genesis = block("raft/block_0.pb");
        let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
        let (entry, _) = spoilt_entry("raft/block_7.pb", *at);
        let value = last_config_value(7);
        let signed = |number, entries: &[Vec<u8>]| {
            let block = Block::assemble(BlockNumber::new(number), &[1; 32], entries, &[&[]]);
            let signature = orderer.sign_block(&block, &value);
            with_signatures(&block, &value, vec![signature])
        };
        let verdict = verify(&verifier, &signed(7, &[entry]));
        assert!(
            matches!(verdict, Verdict::Accepted(_)),
            "{at:?}: {verdict:?}"
        );
        let data = super::entry(HeaderType::EndorserTransaction, "ch-raft", vec![1]);
        let verdict = verify(&verifier, &signed(8, &[data]));
        assert!(
            matches!(verdict, Verdict::Accepted(_)),
            "{at:?}: {verdict:?}"
        );
    }
}

/// An organisation's administrator can bring this about.
#[test]
fn one_field_at_the_end_of_the_anchor_peers_is_no_reason_to_refuse() {
    let config = raft_config(|config| {
        let group = group(config, &["Application", "Org1"]);
        let value = &mut group.values.get_mut("AnchorPeers").unwrap().value;
        *value = [value.as_ref(), &[0x08, 0x01]].concat().into();
        assert!(AnchorPeers::decode(value.clone()).is_err());
        assert!(decode_as_go::<AnchorPeers>(value.clone()).is_ok());
    })
    .unwrap();
    let recorded = raft_config(|_| {}).unwrap();
    assert_eq!(
        config.applications["Org1"].anchor_peers(),
        recorded.applications["Org1"].anchor_peers()
    );
}

/// Go decodes the update that led to a configuration with it, and refuses the block if it cannot.
#[test]
fn a_last_update_is_judged_as_go_judges_it() {
    let with_update = |update: &[u8]| {
        let config = config_of("raft/block_7.pb").encode_to_vec();
        let mut data = Vec::new();
        put_bytes(&mut data, 1, &config);
        put_bytes(&mut data, 2, update);
        let entry = entry(HeaderType::Config, "ch-raft", data);
        ChannelConfig::from_block(&genesis_of(entry))
    };
    assert!(with_update(&[]).is_ok());
    assert!(with_update(&[0x08, 1, 0x12, 1, 7]).is_ok());
    assert!(with_update(&[0x08, 1, 0x12, 2, 7]).is_err());
}
