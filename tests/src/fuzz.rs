// SPDX-License-Identifier: Apache-2.0
//! The fuzz bodies: every parser of foreign bytes as a plain function that must not panic.
//!
//! The test `fuzz` runs them on the corpus and on seeded mutations of it; a coverage-guided fuzzer
//! can call the same functions.

use std::{path::PathBuf, sync::LazyLock, time::SystemTime};

use block_api::{Block, BlockVerifier as _, Standing};
use bytes::Bytes;
use channel_config::{ChannelConfig, ChannelVerifier, Role, SignedData};
use prost::Message as _;
use protos::{
    common::{Config, ConfigEnvelope, ConfigPolicy, Envelope, Payload, Policy},
    deliver::RawDeliverResponse,
};
use signer::load_msp_folder;

use crate::fixtures;

/// A fuzz body.
pub type Body = fn(&[u8]);

/// Every fuzz body, by name.
pub const BODIES: &[(&str, Body)] = &[
    ("block", block),
    ("deliver_response", deliver_response),
    ("config", config),
    ("verifier", verifier),
    ("segment", block_store::fuzz_segment),
    ("gossip", gossip_libp2p::fuzz_wire),
    ("pem", pem),
    ("identity", identity),
    ("policy", policy),
];

/// The identities of the fixtures: their MSP folders and their MSP ids.
pub const IDENTITIES: &[(&str, &str)] = &[
    ("org1/user1", "Org1MSP"),
    ("org1/admin", "Org1MSP"),
    ("org1/peer0", "Org1MSP"),
    ("org2/user1", "Org2MSP"),
    ("org2/peer0", "Org2MSP"),
    ("orderer/raft0", "OrdererMSP"),
    ("orderer/raft1", "OrdererMSP"),
    ("orderer/bft0", "OrdererMSP"),
    ("orderer/bft1", "OrdererMSP"),
    ("orderer/bft2", "OrdererMSP"),
    ("orderer/bft3", "OrdererMSP"),
];

/// What the holders of the identities sign.
const MESSAGE: &[u8] = b"a message";

/// Where a policy is put to be judged.
const POLICY: &str = "/Channel/Orderer/Fuzzed";

/// How long the text of a policy may be, with what says that it was cut.
const MAX_POLICY_TEXT: usize = (8 << 10) + 3;

static VERIFIERS: LazyLock<Vec<ChannelVerifier>> = LazyLock::new(|| {
    let of = |name: &str| {
        let blocks = fixtures::chain(name).expect("the fixtures are in the tree");
        let genesis = blocks
            .into_iter()
            .next()
            .expect("a chain has a genesis block");
        ChannelVerifier::from_genesis(&genesis).expect("a recorded genesis block is one")
    };
    vec![of("raft"), of("bft")]
});

/// The configurations of the recorded channels, as they stand in their genesis blocks.
static CONFIGS: LazyLock<Vec<(ChannelConfig, Config)>> = LazyLock::new(|| {
    let of = |name: &str| {
        let blocks = fixtures::chain(name).expect("the fixtures are in the tree");
        let genesis = blocks.first().expect("a chain has a genesis block");
        let config = ChannelConfig::from_block(genesis).expect("a recorded genesis block is one");
        (config, config_of(genesis).expect("it has a configuration"))
    };
    vec![of("raft"), of("bft")]
});

/// The identities of the fixtures, marshalled, with their signatures over the message.
static SIGNERS: LazyLock<Vec<(Bytes, Bytes)>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime that does no I/O can be built");
    let sign = |(folder, msp_id): &(&str, &str)| {
        let folder = fixtures::path(PathBuf::from("msp").join(folder).join("msp"));
        let signer = load_msp_folder(&folder, msp_id).expect("the fixtures have MSP folders");
        let signature = runtime.block_on(signer.sign(MESSAGE));
        (signer.identity(), signature.expect("a key in memory signs"))
    };
    IDENTITIES.iter().map(sign).collect()
});

/// The marshalled identities of the fixtures.
pub fn identities() -> impl Iterator<Item = &'static Bytes> {
    SIGNERS.iter().map(|(identity, _)| identity)
}

/// The configuration in a config block.
pub fn config_of(block: &Block) -> Option<Config> {
    let envelope = Envelope::decode(block.data().next()?).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    ConfigEnvelope::decode(payload.data).ok()?.config
}

/// Bytes as a block, and everything that is asked of one.
pub fn block(data: &[u8]) {
    let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let relayed = Block::parse(block.relay().to_bytes()).expect("what is relayed parses");
    assert_eq!(relayed.header_hash(), block.header_hash());
    assert_eq!(relayed.data_hash(), block.data_hash());
    assert_eq!(relayed.is_config(), block.is_config());
    assert_eq!(
        block.with_all_slots(None).header_hash(),
        block.header_hash()
    );
    assert!(!block.without_data().has_data());
    drop(block.channel_of_first_entry());
}

/// Bytes as a message of a Deliver stream.
pub fn deliver_response(data: &[u8]) {
    drop(RawDeliverResponse::from_bytes(Bytes::copy_from_slice(data)).parse());
}

/// Bytes as a genesis or config block.
pub fn config(data: &[u8]) {
    if let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) {
        drop(ChannelConfig::from_block(&block));
    }
}

/// Bytes as a block of a raft and of a BFT channel.
pub fn verifier(data: &[u8]) {
    if let Ok(block) = Block::parse(Bytes::copy_from_slice(data)) {
        for verifier in VERIFIERS.iter() {
            drop(verifier.verify(&block, Standing::Linked));
            drop(verifier.verify_attestation(&block, Standing::Linked));
            drop(verifier.signers(&block));
        }
    }
}

/// Bytes as PEM certificates and keys.
pub fn pem(data: &[u8]) {
    drop(orderer_client::parse_pem_certificates(data));
    drop(orderer_client::parse_pem_key(data));
}

/// Bytes as a marshalled identity, and as a certificate of each organisation. Only what the
/// authorities issued is valid.
pub fn identity(data: &[u8]) {
    for (config, _) in CONFIGS.iter() {
        let msps = config.msps();
        let claimed = msps.iter().map(|msp| msp.identity(data));
        for identity in claimed.chain([msps.identity(data)]).flatten() {
            assert!(msps.get(identity.msp_id()).is_some());
            assert!(identity.verify(&[data], data).is_err());
            let outlives_the_epoch = identity.not_after() >= SystemTime::UNIX_EPOCH;
            if identity.validity().is_ok() {
                assert!(outlives_the_epoch && identity.role() != Role::Member);
                let same = |known: &Bytes| {
                    let known = msps.identity(known);
                    known.is_ok_and(|known| known.certificate() == identity.certificate())
                };
                assert!(identities().any(same), "{identity:?} was issued by nobody");
            }
        }
    }
}

/// Bytes as a policy of the ordering service, asked about everyone's signatures and about none.
pub fn policy(data: &[u8]) {
    let Ok(policy) = Policy::decode(data) else {
        return;
    };
    // To read a configuration takes longest, so one channel serves.
    let Some((config, source)) = CONFIGS.first() else {
        return;
    };
    let mut source = source.clone();
    let orderer = source.channel_group.as_mut();
    let orderer = orderer.and_then(|group| group.groups.get_mut("Orderer"));
    let policy = ConfigPolicy {
        policy: Some(policy),
        ..ConfigPolicy::default()
    };
    orderer
        .expect("a recorded configuration has the group")
        .policies
        .insert("Fuzzed".to_owned(), policy);
    let Ok(config) = ChannelConfig::from_config(source, config.channel().as_str()) else {
        return;
    };
    let over = |message| {
        let signed: Vec<SignedData<'_>> = SIGNERS
            .iter()
            .map(|(identity, signature)| SignedData::by(identity, message, signature))
            .collect();
        config.satisfies(POLICY, &signed)
    };
    // Signatures over something else are nobody's.
    let (by_all, by_forgers) = (over(MESSAGE), over(data));
    assert!(by_all || !by_forgers);
    assert!(!by_forgers || config.satisfies(POLICY, &[]));
    let text = config.policy_text(POLICY).expect("the policy is there");
    assert!(text.len() <= MAX_POLICY_TEXT, "{} bytes", text.len());
}
