// SPDX-License-Identifier: Apache-2.0
//! Puts blocks together and has them signed, as raft and SmartBFT nodes do (semantics §2.4, §6.6).

use std::sync::Arc;

use block_api::{Block, BlockNumber, HeaderHash, SLOT_COUNT, SignError, Signer, header_der, wire};
use bytes::Bytes;
use prost::Message as _;
use protos::{
    common::{
        IdentifierHeader, LastConfig, Metadata, MetadataSignature, OrdererBlockMetadata,
        SignatureHeader,
    },
    etcdraft,
};
use signer::envelope::Nonce;

use crate::{config::Consensus, cutter::Batch, genesis::quorum};

/// `Block.metadata`.
const METADATA: u32 = 3;

/// Continues a chain: each block in as many copies as there are nodes, equal in header and data.
#[derive(Debug, Clone)]
pub(crate) struct BlockWriter {
    next: BlockNumber,
    previous_hash: HeaderHash,
    last_config: BlockNumber,
    consensus: Consensus,
    nodes: Vec<Arc<dyn Signer>>,
}

impl BlockWriter {
    /// A writer that puts the first block after the genesis block.
    pub(crate) fn after_genesis(
        genesis: &Block,
        consensus: Consensus,
        nodes: Vec<Arc<dyn Signer>>,
    ) -> Self {
        Self {
            next: BlockNumber::new(1),
            previous_hash: genesis.header_hash(),
            last_config: BlockNumber::GENESIS,
            consensus,
            nodes,
        }
    }

    /// The next block with this data, in the copy of each node.
    ///
    /// # Errors
    ///
    /// When a node does not sign. The chain is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub(crate) async fn write(&mut self, batch: &Batch) -> Result<Vec<Block>, SignError> {
        self.write_with_last_config(batch, self.last_config).await
    }

    /// The next block, which is a config block: its own number is that of the last one.
    ///
    /// # Errors
    ///
    /// When a node does not sign. The chain is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub(crate) async fn write_config(&mut self, envelope: Bytes) -> Result<Vec<Block>, SignError> {
        self.write_with_last_config(&vec![envelope], self.next)
            .await
    }

    /// The number of the block that comes next.
    pub(crate) fn next(&self) -> BlockNumber {
        self.next
    }

    async fn write_with_last_config(
        &mut self,
        batch: &Batch,
        last_config: BlockNumber,
    ) -> Result<Vec<Block>, SignError> {
        let unsigned =
            Block::assemble::<_, &[u8]>(self.next, self.previous_hash.as_ref(), batch, &[]);
        let header = unsigned.header();
        let header = header_der(header.number, header.previous_hash, header.data_hash);
        let value = signed_value(last_config, &self.consenter_metadata());
        let last_config_slot = last_config_slot(last_config);
        let body = unsigned.relay().body;

        let mut copies = Vec::with_capacity(self.nodes.len());
        for signatures in self.signatures(&value, &header).await? {
            let signed = Metadata {
                value: value.clone().into(),
                signatures,
            }
            .encode_to_vec();
            copies.push(with_metadata(
                &body,
                [&signed, &last_config_slot, &[], &[], &[]],
            ));
        }
        self.previous_hash = unsigned.header_hash();
        self.last_config = last_config;
        self.next = self
            .next
            .next()
            .expect("invariant: nobody cuts 2^64 blocks");
        Ok(copies)
    }

    /// The signatures on each node's copy.
    async fn signatures(
        &self,
        value: &[u8],
        header: &[u8],
    ) -> Result<Vec<Vec<MetadataSignature>>, SignError> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for (id, node) in (1..).zip(&self.nodes) {
            all.push(match self.consensus {
                Consensus::Raft => sign_as_creator(&**node, value, header).await?,
                Consensus::Bft => sign_as_consenter(&**node, id, value, header).await?,
            });
        }
        let of_node = |index| match self.consensus {
            Consensus::Raft => all.iter().skip(index).take(1).cloned().collect(),
            // Each node has the signatures of a quorum, and not all the same one.
            Consensus::Bft => all
                .iter()
                .cycle()
                .skip(index)
                .take(quorum(all.len()))
                .cloned()
                .collect(),
        };
        Ok((0..all.len()).map(of_node).collect())
    }

    fn consenter_metadata(&self) -> Vec<u8> {
        let nodes = self.nodes.len() as u64;
        match self.consensus {
            Consensus::Raft => {
                let metadata = etcdraft::BlockMetadata {
                    consenter_ids: (1..=nodes).collect(),
                    next_consenter_id: nodes + 1,
                    // An entry a node and the one of the first leader come before the first block.
                    raft_index: self.next.get() + nodes + 1,
                };
                Metadata {
                    value: metadata.encode_to_vec().into(),
                    signatures: Vec::new(),
                }
                .encode_to_vec()
            }
            Consensus::Bft => {
                // SmartBFT's view metadata: field 2 is the sequence of the decision, field 3 how
                // many decisions the view has made.
                let mut metadata = Vec::new();
                wire::put_uint(&mut metadata, 2, self.next.get());
                wire::put_uint(&mut metadata, 3, self.next.get() - 1);
                metadata
            }
        }
    }
}

/// What the signatures of a block cover beside its header.
pub(crate) fn signed_value(last_config: BlockNumber, consenter_metadata: &[u8]) -> Vec<u8> {
    OrdererBlockMetadata {
        last_config: Some(LastConfig {
            index: last_config.get(),
        }),
        consenter_metadata: consenter_metadata.to_vec().into(),
    }
    .encode_to_vec()
}

/// A block of these fields and this metadata.
pub(crate) fn with_metadata(body: &[u8], slots: [&[u8]; SLOT_COUNT]) -> Block {
    let mut metadata = Vec::with_capacity(slots.iter().map(|slot| slot.len() + 6).sum());
    for slot in slots {
        wire::put_bytes(&mut metadata, 1, slot);
    }
    let mut raw = Vec::with_capacity(body.len() + metadata.len() + 6);
    raw.extend_from_slice(body);
    wire::put_bytes(&mut raw, METADATA, &metadata);
    Block::parse(raw.into())
        .expect("invariant: header and data of a block with metadata are a block")
}

fn last_config_slot(last_config: BlockNumber) -> Vec<u8> {
    let value = LastConfig {
        index: last_config.get(),
    }
    .encode_to_vec();
    Metadata {
        value: value.into(),
        signatures: Vec::new(),
    }
    .encode_to_vec()
}

async fn sign_as_creator(
    node: &dyn Signer,
    value: &[u8],
    header: &[u8],
) -> Result<MetadataSignature, SignError> {
    let signature_header = SignatureHeader {
        creator: node.identity(),
        nonce: Nonce::random().as_bytes().to_vec().into(),
    }
    .encode_to_vec();
    let signature = node
        .sign(&[value, &signature_header, header].concat())
        .await?;
    Ok(MetadataSignature {
        signature_header: signature_header.into(),
        signature,
        ..MetadataSignature::default()
    })
}

async fn sign_as_consenter(
    node: &dyn Signer,
    identifier: u32,
    value: &[u8],
    header: &[u8],
) -> Result<MetadataSignature, SignError> {
    let identifier_header = IdentifierHeader {
        identifier,
        nonce: Nonce::random().as_bytes().to_vec().into(),
    }
    .encode_to_vec();
    let signature = node
        .sign(&[value, &identifier_header, header].concat())
        .await?;
    Ok(MetadataSignature {
        identifier_header: identifier_header.into(),
        signature,
        ..MetadataSignature::default()
    })
}
