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

use crate::{config::Consensus, cutter::Batch, tree::quorum};

/// `Block.metadata`.
const METADATA: u32 = 3;

/// Continues a chain: each block in as many copies as there are nodes, equal in header and data.
#[derive(Debug, Clone)]
pub(crate) struct BlockWriter {
    next: BlockNumber,
    previous_hash: HeaderHash,
    last_config: BlockNumber,
    membership: Membership,
}

/// The nodes that sign blocks, and how they do.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) consensus: Consensus,
    pub(crate) nodes: Vec<SigningNode>,
    /// The id of the next node that comes.
    pub(crate) next_id: u32,
}

/// A node, as far as it signs.
#[derive(Debug, Clone)]
pub(crate) struct SigningNode {
    pub(crate) id: u32,
    pub(crate) signer: Arc<dyn Signer>,
}

/// A block that is not signed yet.
struct Unsigned {
    block: Block,
    last_config: BlockNumber,
    /// What the signatures cover beside the header.
    value: Vec<u8>,
}

impl BlockWriter {
    /// A writer that puts the first block after the genesis block.
    pub(crate) fn after_genesis(genesis: &Block, membership: Membership) -> Self {
        Self {
            next: BlockNumber::new(1),
            previous_hash: genesis.header_hash(),
            last_config: BlockNumber::GENESIS,
            membership,
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
        let unsigned = self.unsigned(batch);
        let copies = self.copies(&unsigned).await?;
        self.advance(&unsigned);
        Ok(copies)
    }

    /// The next block, which is a config block: its own number is that of the last one. The nodes
    /// that there were sign it, and those of `membership` the blocks after it.
    ///
    /// # Errors
    ///
    /// When a node does not sign. The chain is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub(crate) async fn write_config(
        &mut self,
        envelope: Bytes,
        membership: Membership,
    ) -> Result<Vec<Block>, SignError> {
        let unsigned = self.unsigned_config(envelope, &membership);
        let copies = self.copies(&unsigned).await?;
        self.advance(&unsigned);
        self.membership = membership;
        Ok(copies)
    }

    /// The next block with this data, if exactly these nodes signed it. The chain is as before.
    pub(crate) async fn signed_by(
        &self,
        nodes: &[SigningNode],
        batch: &Batch,
    ) -> Result<Block, SignError> {
        let unsigned = self.unsigned(batch);
        Ok(unsigned.with(self.sign(nodes, &unsigned).await?))
    }

    /// The next block as a config block, if exactly these nodes signed it. The chain is as before.
    pub(crate) async fn config_signed_by(
        &self,
        nodes: &[SigningNode],
        envelope: Bytes,
        membership: &Membership,
    ) -> Result<Block, SignError> {
        let unsigned = self.unsigned_config(envelope, membership);
        Ok(unsigned.with(self.sign(nodes, &unsigned).await?))
    }

    /// The number of the block that comes next.
    pub(crate) fn next(&self) -> BlockNumber {
        self.next
    }

    fn unsigned(&self, batch: &Batch) -> Unsigned {
        let metadata = self.membership.consenter_metadata(self.next);
        self.assemble(batch, self.last_config, &metadata)
    }

    fn unsigned_config(&self, envelope: Bytes, membership: &Membership) -> Unsigned {
        // A config block says already who the nodes are, unless they agree otherwise from then on:
        // what the old kind of consensus keeps is of no use to the new one.
        let metadata = if membership.consensus == self.membership.consensus {
            membership.consenter_metadata(self.next)
        } else {
            Vec::new()
        };
        self.assemble(&vec![envelope], self.next, &metadata)
    }

    fn assemble(
        &self,
        batch: &Batch,
        last_config: BlockNumber,
        consenter_metadata: &[u8],
    ) -> Unsigned {
        Unsigned {
            block: Block::assemble::<_, &[u8]>(self.next, self.previous_hash.as_ref(), batch, &[]),
            last_config,
            value: signed_value(last_config, consenter_metadata),
        }
    }

    fn advance(&mut self, written: &Unsigned) {
        self.previous_hash = written.block.header_hash();
        self.last_config = written.last_config;
        self.next = self
            .next
            .next()
            .expect("invariant: nobody cuts 2^64 blocks");
    }

    /// The copy of each node, with the signatures that it has.
    async fn copies(&self, unsigned: &Unsigned) -> Result<Vec<Block>, SignError> {
        let all = self.sign(&self.membership.nodes, unsigned).await?;
        let of_node = |index| match self.membership.consensus {
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
        Ok((0..all.len())
            .map(|index| unsigned.with(of_node(index)))
            .collect())
    }

    /// The signature of each of these nodes.
    async fn sign(
        &self,
        nodes: &[SigningNode],
        unsigned: &Unsigned,
    ) -> Result<Vec<MetadataSignature>, SignError> {
        let header = unsigned.block.header();
        let header = header_der(header.number, header.previous_hash, header.data_hash);
        let mut signatures = Vec::with_capacity(nodes.len());
        for SigningNode { id, signer } in nodes {
            signatures.push(match self.membership.consensus {
                Consensus::Raft => sign_as_creator(&**signer, &unsigned.value, &header).await?,
                Consensus::Bft => {
                    sign_as_consenter(&**signer, *id, &unsigned.value, &header).await?
                }
            });
        }
        Ok(signatures)
    }
}

impl Unsigned {
    /// The block with these signatures.
    fn with(&self, signatures: Vec<MetadataSignature>) -> Block {
        let signed = Metadata {
            value: self.value.clone().into(),
            signatures,
        }
        .encode_to_vec();
        let last_config = last_config_slot(self.last_config);
        with_metadata(
            &self.block.relay().body,
            [&signed, &last_config, &[], &[], &[]],
        )
    }
}

impl Membership {
    /// What the consensus keeps of its own in the block with this number.
    fn consenter_metadata(&self, number: BlockNumber) -> Vec<u8> {
        match self.consensus {
            Consensus::Raft => {
                let metadata = etcdraft::BlockMetadata {
                    consenter_ids: self.nodes.iter().map(|node| node.id.into()).collect(),
                    next_consenter_id: self.next_id.into(),
                    // An entry a node that ever came and the one of the first leader come before the
                    // entries of the blocks.
                    raft_index: number.get() + u64::from(self.next_id),
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
                wire::put_uint(&mut metadata, 2, number.get());
                wire::put_uint(&mut metadata, 3, number.get() - 1);
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
