// SPDX-License-Identifier: Apache-2.0
//! Recorded blocks, the keys that come with them, and certificates made on the spot.

pub(crate) mod pki;

use std::{fs, path::PathBuf};

use aws_lc_rs::{
    digest::{Digest, SHA3_256, SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use block_api::{
    Block, header_der,
    wire::{put_bytes, put_uint},
};
use prost::Message;
use protos::{
    common::{
        ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigValue, Envelope, Header,
        HeaderType, Metadata, MetadataSignature, Payload, SignatureHeader,
    },
    msp::SerializedIdentity,
};

use crate::{der::EcdsaSignature, key::Curve, pem};

/// The four recorded chains.
pub(crate) const CHAINS: [(&str, u64); 4] = [
    ("raft", 66),
    ("raft-other-node", 19),
    ("bft", 70),
    ("bft-other-node", 19),
];

/// An identity with its private key.
pub(crate) struct TestSigner {
    pair: EcdsaKeyPair,
    pub(crate) identity: Vec<u8>,
}

pub(crate) fn fixture(path: &str) -> Vec<u8> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    fs::read(root.join(path)).unwrap_or_else(|error| panic!("fixture {path}: {error}"))
}

/// The certificate in an MSP folder of the fixtures.
pub(crate) fn certificate_of_fixture(folder: &str) -> Vec<u8> {
    let certificates = format!(
        "{}/../../tests/fixtures/msp/{folder}/msp/signcerts",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut files = fs::read_dir(certificates).unwrap();
    fs::read(files.next().unwrap().unwrap().path()).unwrap()
}

pub(crate) fn block(path: &str) -> Block {
    Block::parse(fixture(path).into()).unwrap()
}

pub(crate) fn chain(name: &str, count: u64) -> Vec<Block> {
    (0..count)
        .map(|number| block(&format!("{name}/block_{number}.pb")))
        .collect()
}

impl TestSigner {
    /// The holder of an MSP folder of the fixtures, as `org1/user1`.
    pub(crate) fn of_fixture(folder: &str, msp_id: &str) -> Self {
        let key = fixture(&format!("msp/{folder}/msp/keystore/priv_sk"));
        let (der, _) = pem::first_block(&key).unwrap();
        Self::new(&der, msp_id, &certificate_of_fixture(folder))
    }

    pub(crate) fn new(pkcs8: &[u8], msp_id: &str, certificate: &[u8]) -> Self {
        Self {
            pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).unwrap(),
            identity: serialized(msp_id, certificate),
        }
    }

    /// The same key under another MSP id.
    pub(crate) fn claiming(mut self, msp_id: &str) -> Self {
        let own = SerializedIdentity::decode(self.identity.as_slice()).unwrap();
        self.identity = serialized(msp_id, &own.id_bytes);
        self
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        EcdsaSignature::parse(signature.as_ref())
            .unwrap()
            .to_low_s(Curve::P256)
            .unwrap()
    }

    /// A signature over the SHA3-256 of a message.
    pub(crate) fn sign_sha3(&self, message: &[u8]) -> Vec<u8> {
        let hash = digest(&SHA3_256, message);
        // The library ties the curve to SHA-256; the digests have one length.
        let hash = Digest::import_less_safe(hash.as_ref(), &SHA256).unwrap();
        let signature = self.pair.sign_digest(&hash).unwrap();
        EcdsaSignature::parse(signature.as_ref())
            .unwrap()
            .to_low_s(Curve::P256)
            .unwrap()
    }

    pub(crate) fn sign_high_s(&self, message: &[u8]) -> Vec<u8> {
        high_s(&self.sign(message))
    }

    /// A signature over a block as a raft node makes it.
    pub(crate) fn sign_block(&self, block: &Block, value: &[u8]) -> MetadataSignature {
        let header = SignatureHeader {
            creator: self.identity.clone().into(),
            nonce: vec![7; 24].into(),
        }
        .encode_to_vec();
        let signature = self.sign(&[value, &header, &der_of(block)].concat());
        MetadataSignature {
            signature_header: header.into(),
            signature: signature.into(),
            ..MetadataSignature::default()
        }
    }

    /// A signature over a block as a BFT node makes it.
    pub(crate) fn sign_block_by_id(
        &self,
        block: &Block,
        value: &[u8],
        id: u32,
    ) -> MetadataSignature {
        let mut header = Vec::new();
        put_uint(&mut header, 1, u64::from(id));
        put_bytes(&mut header, 2, &[7; 24]);
        let signature = self.sign(&[value, &header, &der_of(block)].concat());
        MetadataSignature {
            identifier_header: header.into(),
            signature: signature.into(),
            ..MetadataSignature::default()
        }
    }
}

/// The signature with the other value of S.
pub(crate) fn high_s(signature: &[u8]) -> Vec<u8> {
    EcdsaSignature::parse(signature)
        .unwrap()
        .with_other_s(Curve::P256)
        .unwrap()
}

pub(crate) fn serialized(msp_id: &str, certificate: &[u8]) -> Vec<u8> {
    SerializedIdentity {
        mspid: msp_id.to_owned(),
        id_bytes: certificate.to_vec().into(),
    }
    .encode_to_vec()
}

/// The value that orderers sign, with the number of the newest config block.
pub(crate) fn last_config_value(index: u64) -> Vec<u8> {
    let mut last_config = Vec::new();
    put_uint(&mut last_config, 1, index);
    let mut value = Vec::new();
    put_bytes(&mut value, 1, &last_config);
    value
}

/// A block with these signatures over this value, and five slots.
pub(crate) fn with_signatures(
    block: &Block,
    value: &[u8],
    signatures: Vec<MetadataSignature>,
) -> Block {
    let slot = Metadata {
        value: value.to_vec().into(),
        signatures,
    }
    .encode_to_vec();
    with_slots(block, &[&slot, &[], &[], &[], &[]])
}

/// A block with these metadata slots.
pub(crate) fn with_slots(block: &Block, slots: &[&[u8]]) -> Block {
    let entries: Vec<&[u8]> = block.data().collect();
    let built = Block::assemble(
        block.number(),
        block.header().previous_hash,
        &entries,
        slots,
    );
    if block.has_data() {
        built
    } else {
        built.without_data()
    }
}

fn der_of(block: &Block) -> Vec<u8> {
    let header = block.header();
    header_der(header.number, header.previous_hash, header.data_hash)
}

/// The configuration in a recorded block.
pub(crate) fn config_of(path: &str) -> Config {
    let block = block(path);
    let envelope = Envelope::decode(block.data().next().unwrap()).unwrap();
    let payload = Payload::decode(envelope.payload).unwrap();
    ConfigEnvelope::decode(payload.data)
        .unwrap()
        .config
        .unwrap()
}

/// The data entry of a config block.
pub(crate) fn config_entry(config: &Config, channel: &str) -> Vec<u8> {
    let envelope = ConfigEnvelope {
        config: Some(config.clone()),
        last_update: None,
    };
    entry(HeaderType::Config, channel, envelope.encode_to_vec())
}

/// A transaction.
pub(crate) fn entry(kind: HeaderType, channel: &str, data: Vec<u8>) -> Vec<u8> {
    let channel_header = ChannelHeader {
        r#type: kind as i32,
        channel_id: channel.to_owned(),
        ..ChannelHeader::default()
    };
    let header = Header {
        channel_header: channel_header.encode_to_vec().into(),
        ..Header::default()
    };
    let payload = Payload {
        header: Some(header),
        data: data.into(),
    }
    .encode_to_vec();
    Envelope {
        payload: payload.into(),
        signature: vec![1].into(),
    }
    .encode_to_vec()
}

/// Marshals a value into a group, or takes it out.
pub(crate) fn set_value<M: Message>(group: &mut ConfigGroup, key: &str, value: Option<M>) {
    match value {
        Some(value) => {
            let value = ConfigValue {
                value: value.encode_to_vec().into(),
                ..ConfigValue::default()
            };
            group.values.insert(key.to_owned(), value);
        }
        None => drop(group.values.remove(key)),
    }
}

/// A group of a configuration, by the names that lead to it.
pub(crate) fn group<'a>(config: &'a mut Config, path: &[&str]) -> &'a mut ConfigGroup {
    let mut group = config.channel_group.as_mut().unwrap();
    for name in path {
        group = group.groups.get_mut(*name).unwrap();
    }
    group
}
