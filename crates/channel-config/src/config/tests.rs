// SPDX-License-Identifier: Apache-2.0
//! Configurations: recorded ones, and what Fabric refuses.

mod wire_types;

use std::time::Duration;

use block_api::{BlockNumber, BlockVerifier as _, Standing, Verdict};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use protos::{
    common::{
        Capabilities as CapabilitiesProto, Capability, Config, ConfigEnvelope, Envelope,
        HashingAlgorithm, Header, HeaderType, OrdererAddresses, Payload,
    },
    msp::MspConfig,
    orderer::{BatchSize as BatchSizeProto, BatchTimeout, ConsensusType as ConsensusTypeProto},
    peer::Acls,
};

use super::*;
use crate::{
    ChannelVerifier,
    msp::MspError,
    test_support::{
        TestSigner, block, config_entry, config_of, entry, fixture, group, last_config_value,
        set_value, with_signatures,
    },
};

fn raft_config(change: impl FnOnce(&mut Config)) -> Result<ChannelConfig, ConfigError> {
    let mut config = config_of("raft/block_0.pb");
    change(&mut config);
    ChannelConfig::from_config(config, "ch-raft")
}

fn bft_config(change: impl FnOnce(&mut Config)) -> Result<ChannelConfig, ConfigError> {
    let mut config = config_of("bft/block_0.pb");
    change(&mut config);
    ChannelConfig::from_config(config, "ch-bft")
}

fn capabilities(names: &[&str]) -> Option<CapabilitiesProto> {
    let capabilities = names
        .iter()
        .map(|name| ((*name).to_owned(), Capability {}))
        .collect();
    Some(CapabilitiesProto { capabilities })
}

fn addresses(addresses: &[&str]) -> Option<OrdererAddresses> {
    Some(OrdererAddresses {
        addresses: addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect(),
    })
}

/// Covers: CHC-11, PRC-03
#[test]
fn recorded_configurations_are_read() {
    let raft = ChannelConfig::from_block(&block("raft/block_0.pb")).unwrap();
    assert_eq!((raft.channel().as_str(), raft.sequence()), ("ch-raft", 0));
    assert_eq!(raft.capabilities().channel(), ["V2_0"]);
    assert_eq!(raft.capabilities().application(), ["V2_5"]);
    assert!(!raft.capabilities().identifier_headers());
    assert_eq!(raft.orderer().consensus(), &ConsensusType::Raft);
    assert_eq!(raft.orderer().state(), ConsensusState::Normal);
    assert_eq!(raft.orderer().batch_timeout(), Duration::from_millis(200));
    assert_eq!(raft.orderer().batch_size().max_messages, 10);
    assert!(raft.orderer().consenters().is_empty());
    let msps: Vec<&str> = raft.msps().iter().map(|msp| msp.id()).collect();
    assert_eq!(msps, ["OrdererMSP", "Org1MSP", "Org2MSP"]);
    let applications: Vec<&str> = raft.applications().map(Organisation::name).collect();
    assert_eq!(applications, ["Org1", "Org2"]);

    let bft = ChannelConfig::from_block(&block("bft/block_0.pb")).unwrap();
    assert!(bft.capabilities().identifier_headers());
    assert_eq!(bft.orderer().consensus(), &ConsensusType::Bft);
    let ids: Vec<u32> = bft
        .orderer()
        .consenters()
        .iter()
        .map(|consenter| consenter.id)
        .collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(bft.policy_text("/Channel/Readers").unwrap(), "ANY Readers");
    assert!(
        bft.policy_text(BLOCK_VALIDATION)
            .unwrap()
            .starts_with("OutOf(3, OrdererMSP.[")
    );
    assert_eq!(bft.policy_text("/Channel/Orderer/Nothing"), None);
}

#[test]
fn config_blocks_change_what_they_are_recorded_to_change() {
    let read = |number: u64| {
        ChannelConfig::from_block(&block(&format!("raft/block_{number}.pb"))).unwrap()
    };
    let configs = [0, 7, 21, 37, 46].map(read);
    let sequences: Vec<u64> = configs.iter().map(ChannelConfig::sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
    assert_ne!(
        configs[0].orderer().batch_timeout(),
        configs[1].orderer().batch_timeout()
    );
    assert_eq!(
        configs[1].endpoints().len() + 1,
        configs[2].endpoints().len()
    );
    assert_ne!(
        configs[2].applications["Org1"].anchor_peers(),
        configs[3].applications["Org1"].anchor_peers()
    );
    assert_ne!(
        configs[3].orderer().batch_size(),
        configs[4].orderer().batch_size()
    );
}

/// Each organisation's addresses come with its own authorities, and old addresses with those of
/// all (semantics §1.8).
#[test]
fn endpoints_come_with_whom_to_trust() {
    let raft = ChannelConfig::from_block(&block("raft/block_0.pb")).unwrap();
    let endpoints: Vec<String> = raft
        .endpoints()
        .iter()
        .map(|found| found.endpoint.to_string())
        .collect();
    assert_eq!(endpoints, ["127.0.0.1:17050", "127.0.0.1:17060"]);
    let tls = fixture("msp/orderer/msp/tlscacerts/tlsca.orderer.test-cert.pem");
    let (tls, _) = crate::pem::first_block(&tls).unwrap();
    for found in raft.endpoints() {
        assert_eq!(found.organisation.as_deref(), Some("OrdererMSP"));
        assert_eq!(found.tls_roots, [CertificateDer::from(tls.clone())]);
    }

    let with_old = |own: &[&str]| {
        raft_config(|config| {
            set_value(
                group(config, &[]),
                "OrdererAddresses",
                addresses(&["old.example.com:7050", "no address"]),
            );
            set_value(
                group(config, &["Orderer", "OrdererOrg"]),
                "Endpoints",
                addresses(own),
            );
        })
        .unwrap()
        .endpoints()
    };
    let old = with_old(&[]);
    assert_eq!(old.len(), 1, "what is no address is left out");
    assert_eq!(
        (old[0].endpoint.as_str(), &old[0].organisation),
        ("old.example.com:7050", &None)
    );
    assert_eq!(old[0].tls_roots, [CertificateDer::from(tls)]);
    let own = with_old(&["own.example.com:7050"]);
    assert_eq!(own.len(), 1, "own addresses hide the old ones");
    assert_eq!(own[0].endpoint.as_str(), "own.example.com:7050");
}

/// Covers: CFB-02, CFB-03, CFB-04, CFB-05, CFB-06, CFB-07, CFB-08, CFB-09, PRC-03, VER-22, VER-23
#[test]
fn blocks_without_a_configuration_are_refused_with_the_reason() {
    let read = |number: u64, entries: &[Vec<u8>]| {
        let block = Block::assemble(BlockNumber::new(number), &[], entries, &[&[]]);
        ChannelConfig::from_block(&block).map(|_| ()).unwrap_err()
    };
    let payload = |payload: Payload| {
        vec![
            Envelope {
                payload: payload.encode_to_vec().into(),
                ..Envelope::default()
            }
            .encode_to_vec(),
        ]
    };
    let raw_payload = |bytes: &[u8]| {
        vec![
            Envelope {
                payload: bytes.to_vec().into(),
                ..Envelope::default()
            }
            .encode_to_vec(),
        ]
    };
    let raw_header = |bytes: &[u8]| {
        let header = Header {
            channel_header: bytes.to_vec().into(),
            ..Header::default()
        };
        payload(Payload {
            header: Some(header),
            ..Payload::default()
        })
    };
    let part = |error: ConfigError| {
        if let ConfigError::Malformed { part, .. } | ConfigError::Absent { part, .. } = error {
            return part;
        }
        panic!("{error}")
    };
    let whole = block("raft/block_0.pb");
    assert!(matches!(
        ChannelConfig::from_block(&whole.without_data()),
        Err(ConfigError::NoData { .. })
    ));
    assert!(matches!(
        read(0, &[]),
        ConfigError::EntryCount { count: 0, .. }
    ));
    let twice = [
        whole.data().next().unwrap().to_vec(),
        whole.data().next().unwrap().to_vec(),
    ];
    assert!(matches!(
        read(0, &twice),
        ConfigError::EntryCount { count: 2, .. }
    ));
    for number in [0, 7] {
        assert_eq!(part(read(number, &[vec![0xff]])), "envelope");
        assert_eq!(part(read(number, &raw_payload(&[0xff]))), "payload");
        assert_eq!(part(read(number, &payload(Payload::default()))), "header");
        assert_eq!(part(read(number, &raw_header(&[0xff]))), "channel header");
        let garbage = vec![entry(HeaderType::Config, "ch", vec![0xff])];
        assert_eq!(part(read(number, &garbage)), "config envelope");
        let empty = vec![entry(
            HeaderType::Config,
            "ch",
            ConfigEnvelope::default().encode_to_vec(),
        )];
        assert_eq!(part(read(number, &empty)), "configuration");
    }
    // The type of the transaction matters in any but the genesis block.
    let config = ConfigEnvelope {
        config: Some(config_of("raft/block_0.pb")),
        last_update: None,
    };
    let message = vec![entry(
        HeaderType::Message,
        "ch-raft",
        config.encode_to_vec(),
    )];
    assert!(matches!(
        read(7, &message),
        ConfigError::NotConfig { kind: 0, .. }
    ));
    let genesis = Block::assemble(BlockNumber::GENESIS, &[], &message, &[&[]]);
    assert!(ChannelConfig::from_block(&genesis).is_ok());
}

/// Covers: CHC-01, CHC-02, CHC-03, CHC-04, CHC-05, CHC-06, CHC-07, CHC-12, CHC-13
#[test]
fn configurations_that_fabric_refuses_are_refused() {
    type Change = Box<dyn Fn(&mut Config)>;
    let batch = |count, absolute, preferred| {
        Some(BatchSizeProto {
            max_message_count: count,
            absolute_max_bytes: absolute,
            preferred_max_bytes: preferred,
        })
    };
    let timeout = |text: &str| {
        Some(BatchTimeout {
            timeout: text.to_owned(),
        })
    };
    let rows: Vec<(&str, Change)> = vec![
        ("no group /Channel", Box::new(|c| c.channel_group = None)),
        (
            "no group /Channel/Orderer",
            Box::new(|c| drop(group(c, &[]).groups.remove("Orderer"))),
        ),
        (
            "group /Channel/Consortiums",
            Box::new(|c| {
                drop(
                    group(c, &[])
                        .groups
                        .insert("Consortiums".into(), ConfigGroup::default()),
                )
            }),
        ),
        (
            "group /Channel/Orderer/OrdererOrg/X",
            Box::new(|c| {
                drop(
                    group(c, &["Orderer", "OrdererOrg"])
                        .groups
                        .insert("X".into(), ConfigGroup::default()),
                )
            }),
        ),
        (
            "value /Channel/X",
            Box::new(move |c| set_value(group(c, &[]), "X", timeout(""))),
        ),
        (
            "value /Channel/Orderer/X",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "X", timeout(""))),
        ),
        (
            "value /Channel/Application/Org1/Endpoints",
            Box::new(move |c| {
                set_value(group(c, &["Application", "Org1"]), "Endpoints", timeout(""))
            }),
        ),
        (
            "orderers needs capabilities first",
            Box::new(|c| set_value::<Acls>(group(c, &["Orderer"]), "Capabilities", None)),
        ),
        (
            "algorithm \"MD5\"",
            Box::new(|c| {
                set_value(
                    group(c, &[]),
                    "HashingAlgorithm",
                    Some(HashingAlgorithm { name: "MD5".into() }),
                )
            }),
        ),
        (
            "algorithm \"\"",
            Box::new(|c| set_value::<Acls>(group(c, &[]), "HashingAlgorithm", None)),
        ),
        (
            "width must be",
            Box::new(|c| set_value::<Acls>(group(c, &[]), "BlockDataHashingStructure", None)),
        ),
        (
            "BatchSize",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchSize", batch(0, 1, 1))),
        ),
        (
            "BatchSize",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchSize", batch(1, 0, 1))),
        ),
        (
            "BatchSize",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchSize", batch(1, 1, 0))),
        ),
        (
            "preferred size",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchSize", batch(1, 1, 2))),
        ),
        (
            "\"\" is no duration",
            Box::new(|c| set_value::<Acls>(group(c, &["Orderer"]), "BatchTimeout", None)),
        ),
        (
            "\"0s\" is no duration",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchTimeout", timeout("0s"))),
        ),
        (
            "\"-2s\" is no duration",
            Box::new(move |c| set_value(group(c, &["Orderer"]), "BatchTimeout", timeout("-2s"))),
        ),
        (
            "capability V9_9 of /Channel is",
            Box::new(|c| {
                set_value(
                    group(c, &[]),
                    "Capabilities",
                    capabilities(&["V2_0", "V9_9"]),
                )
            }),
        ),
        (
            "capability V9_9 of /Channel/Orderer is",
            Box::new(|c| {
                set_value(
                    group(c, &["Orderer"]),
                    "Capabilities",
                    capabilities(&["V9_9"]),
                )
            }),
        ),
        (
            "capability V9_9 of /Channel/Application is",
            Box::new(|c| {
                set_value(
                    group(c, &["Application"]),
                    "Capabilities",
                    capabilities(&["V9_9"]),
                )
            }),
        ),
        (
            "there must be one",
            Box::new(|c| set_value(group(c, &[]), "Capabilities", capabilities(&["V1_3"]))),
        ),
        (
            "Endpoints is not allowed: it needs",
            Box::new(|c| {
                set_value(group(c, &[]), "Capabilities", capabilities(&["V1_3"]));
                set_value(group(c, &[]), "OrdererAddresses", addresses(&["a:1"]));
            }),
        ),
        (
            "ACLs",
            Box::new(|c| {
                set_value(
                    group(c, &["Application"]),
                    "Capabilities",
                    capabilities(&["V1_1"]),
                );
                set_value(group(c, &["Application"]), "ACLs", Some(Acls::default()));
            }),
        ),
        (
            "MSP does not parse",
            Box::new(|c| {
                group(c, &["Application", "Org1"])
                    .values
                    .get_mut("MSP")
                    .unwrap()
                    .value = vec![0xff].into()
            }),
        ),
        (
            "Org1 has no usable MSP",
            Box::new(|c| set_value::<Acls>(group(c, &["Application", "Org1"]), "MSP", None)),
        ),
        (
            "defined in two different ways",
            Box::new(|c| {
                let msp = group(c, &["Orderer", "OrdererOrg"]).values["MSP"].clone();
                let mut changed = MspConfig::decode(msp.value).unwrap();
                let mut inner =
                    protos::msp::FabricMspConfig::decode(changed.config.clone()).unwrap();
                inner.tls_root_certs.clear();
                changed.config = inner.encode_to_vec().into();
                set_value(group(c, &["Application", "Org1"]), "MSP", Some(changed));
            }),
        ),
        (
            "policy /Channel/Readers",
            Box::new(|c| group(c, &[]).policies.get_mut("Readers").unwrap().policy = None),
        ),
    ];
    assert!(raft_config(|_| {}).is_ok());
    for (expected, change) in rows {
        let error = raft_config(change).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = bft_config(|c| set_value(group(c, &[]), "OrdererAddresses", addresses(&["a:1"])))
        .unwrap_err();
    assert!(
        error.to_string().contains("only those of organisations"),
        "{error}"
    );
    let error = bft_config(|c| {
        set_value(
            group(c, &["Orderer", "OrdererOrg"]),
            "Endpoints",
            addresses(&[]),
        )
    })
    .unwrap_err();
    assert!(error.to_string().contains("at least one"), "{error}");
    for id in ["", "UPPER", "1st"] {
        let error = ChannelConfig::from_config(config_of("raft/block_0.pb"), id).unwrap_err();
        assert!(matches!(error, ConfigError::ChannelId(_)), "{error}");
    }
}

/// Covers: CHC-03, CHC-07, CHC-12
#[test]
fn configurations_that_fabric_takes_are_taken() {
    let sha3 = Some(HashingAlgorithm {
        name: "SHA3_256".to_owned(),
    });
    assert!(raft_config(|c| set_value(group(c, &[]), "HashingAlgorithm", sha3)).is_ok());
    assert!(
        raft_config(|c| set_value(group(c, &["Application"]), "ACLs", Some(Acls::default())))
            .is_ok()
    );
    assert!(raft_config(|c| drop(group(c, &[]).groups.remove("Application"))).is_ok());
    let shared = raft_config(|c| {
        let msp = group(c, &["Orderer", "OrdererOrg"]).values["MSP"].clone();
        group(c, &["Application", "Org1"])
            .values
            .insert("MSP".to_owned(), msp);
    })
    .unwrap();
    assert_eq!(
        shared.msps().iter().count(),
        2,
        "two organisations with one MSP"
    );
    let consensus = |name: &str, state| {
        let value = ConsensusTypeProto {
            r#type: name.to_owned(),
            state,
            ..ConsensusTypeProto::default()
        };
        raft_config(|c| set_value(group(c, &["Orderer"]), "ConsensusType", Some(value)))
            .unwrap()
            .orderer()
            .clone()
    };
    assert_eq!(
        consensus("solo", 0).consensus(),
        &ConsensusType::Other("solo".to_owned())
    );
    assert_eq!(
        consensus("etcdraft", 1).state(),
        ConsensusState::Maintenance
    );
    let old = raft_config(|c| {
        set_value(group(c, &[]), "Capabilities", capabilities(&["V1_1"]));
        set_value(group(c, &[]), "OrdererAddresses", addresses(&["a:1"]));
        set_value::<Acls>(group(c, &["Orderer", "OrdererOrg"]), "Endpoints", None);
    })
    .unwrap();
    assert_eq!(old.capabilities().msp_version(), MspVersion::V1_1);
    assert_eq!(old.global_addresses(), ["a:1"]);
}

#[test]
fn msps_are_built_once_and_carried_over() {
    let first = ChannelConfig::from_block(&block("raft/block_0.pb")).unwrap();
    let second = ChannelConfig::from_block_after(&block("raft/block_7.pb"), Some(&first)).unwrap();
    for msp in first.msps().iter() {
        assert!(
            Arc::ptr_eq(msp, second.msps().get(msp.id()).unwrap()),
            "{}",
            msp.id()
        );
    }
    let broken = raft_config(|c| {
        let value = &mut group(c, &["Application", "Org1"])
            .values
            .get_mut("MSP")
            .unwrap()
            .value;
        let mut msp = MspConfig::decode(value.clone()).unwrap();
        msp.r#type = 5;
        *value = msp.encode_to_vec().into();
    });
    let Err(ConfigError::Msp { source, .. }) = broken else {
        panic!("an MSP of an unknown type was taken");
    };
    assert_eq!(*source, MspError::UnknownType { kind: 5 });
}

#[test]
fn a_configuration_reads_as_a_tree() {
    let config = ChannelConfig::from_block(&block("bft/block_21.pb")).unwrap();
    let text = config.tree().to_string();
    for line in [
        "channel ch-bft, sequence 2",
        "Channel (version 0)",
        "  Capabilities (version 0): V3_0",
        "    BatchTimeout (version 1): ",
        "    policy BlockValidation (version 0): OutOf(3, ",
        "      policy Readers (version 0): OR(Org1MSP.admin, Org1MSP.peer, Org1MSP.client)",
        "        id Org1MSP",
        "        node units on: admin, client, orderer, peer",
        "      1: 127.0.0.1:18050 OrdererMSP [",
        "        127.0.0.1:18050",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line:?} in\n{text}"
        );
    }
    let raft = ChannelConfig::from_block(&block("raft/block_0.pb"))
        .unwrap()
        .tree();
    let orderer = raft
        .root
        .groups
        .iter()
        .find(|group| group.name == "Orderer")
        .unwrap();
    let consensus = orderer
        .values
        .iter()
        .find(|value| value.name == "ConsensusType")
        .unwrap();
    assert_eq!(consensus.lines[..2], ["etcdraft", "STATE_NORMAL"]);
    assert!(
        consensus.lines[2].starts_with("consenter 127.0.0.1:17050 ["),
        "{:?}",
        consensus.lines
    );
}

/// The orderers' signature over the block stands for the transaction in it.
///
/// Covers: PRB-14
#[test]
fn a_config_block_whose_transaction_has_no_signature_is_taken() {
    let unsigned = |entry: Vec<u8>| {
        let envelope = Envelope::decode(entry.as_slice()).unwrap();
        Envelope {
            signature: Bytes::new(),
            ..envelope
        }
        .encode_to_vec()
    };
    let judged = |entry: Vec<u8>, last_config: u64| {
        let number = BlockNumber::new(7);
        let block = Block::assemble(number, &[1; 32], &[entry], &[&[]]);
        let value = last_config_value(last_config);
        let orderer = TestSigner::of_fixture("orderer/raft0", "OrdererMSP");
        let signature = orderer.sign_block(&block, &value);
        let block = with_signatures(&block, &value, vec![signature]);
        let genesis = self::block("raft/block_0.pb");
        verify(&ChannelVerifier::from_genesis(&genesis).unwrap(), &block)
    };
    let config = config_entry(&config_of("raft/block_7.pb"), "ch-raft");
    assert!(matches!(judged(unsigned(config), 7), Verdict::Accepted(_)));
    let data = unsigned(entry(HeaderType::EndorserTransaction, "ch-raft", vec![1]));
    let Verdict::Rejected(rejection) = judged(data, 0) else {
        panic!("a transaction without a signature was taken");
    };
    assert_eq!(rejection.rule(), "well-formed");
}

/// Judges a block as the verifier does.
fn verify(verifier: &ChannelVerifier, block: &Block) -> Verdict {
    verifier.verify(block, Standing::Linked)
}

/// What nests too deep is refused by the decoder, before anything recurses over it.
#[test]
fn a_configuration_of_a_thousand_levels_is_refused() {
    use block_api::wire::put_bytes;
    let mut level = Vec::new();
    for _ in 0..10_000 {
        let mut pair = vec![0x0a, 1, b'g'];
        put_bytes(&mut pair, 2, &level);
        level.clear();
        put_bytes(&mut level, 2, &pair);
    }
    let mut config = Vec::new();
    put_bytes(&mut config, 2, &level);
    let mut envelope = Vec::new();
    put_bytes(&mut envelope, 1, &config);
    let entries = [entry(HeaderType::Config, "ch", envelope)];
    let block = Block::assemble(BlockNumber::GENESIS, &[], &entries, &[&[]]);
    let error = ChannelConfig::from_block(&block).unwrap_err();
    assert!(
        matches!(
            error,
            ConfigError::Malformed {
                part: "config envelope",
                ..
            }
        ),
        "{error}"
    );
}

proptest! {
    #[test]
    fn arbitrary_configurations_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let entries = [entry(HeaderType::Config, "ch", bytes.clone()), bytes];
        for entry in entries {
            let block = Block::assemble(BlockNumber::GENESIS, &[], &[entry], &[&[]]);
            drop(ChannelConfig::from_block(&block));
        }
    }

    #[test]
    fn mutated_configurations_never_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut bytes = config_entry(&config_of("bft/block_0.pb"), "ch-bft");
        for (position, byte) in changes {
            let position = position % bytes.len();
            bytes[position] = byte;
        }
        let block = Block::assemble(BlockNumber::GENESIS, &[], &[bytes], &[&[]]);
        if let Ok(config) = ChannelConfig::from_block(&block) {
            drop(config.tree().to_string());
            drop(config.endpoints());
        }
    }
}
