// SPDX-License-Identifier: Apache-2.0
//! Makes chains without an ordering service: as fast as they can be signed.

use std::{fmt, sync::Arc, time::SystemTime};

use block_api::{Block, ChannelId, Endpoint, SignError, Signer};
use bytes::Bytes;
use prost::Message as _;
use protos::common::{ConfigGroup, HeaderType};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use signer::envelope::{EnvelopeHeader, Nonce, transaction_envelope};

use crate::{
    change::Change,
    config::NetworkConfig,
    cutter::{Batch, Message},
    network::{Network, NetworkError},
    reconfigure::{Configuration, ReconfigureError},
    recorded::RecordedChain,
    terms::OrdererNode,
    writer::{BlockWriter, SigningNode},
};

/// The seed of what fills transactions: their content is noise, and the same in each run.
const FILLER_SEED: u64 = 0x0062_6c6f_636b;

/// Makes a chain of signed blocks on a network of its own.
///
/// Its blocks are those that a dev orderer on the same network cuts; nothing is served, waits, or
/// is checked on the way. A clone goes on by itself: the chain forks there.
#[derive(Debug, Clone)]
pub struct ChainMaker {
    /// As it was in the beginning.
    first: Network,
    network: Network,
    configuration: Configuration,
    transactions: TransactionMaker,
    writer: BlockWriter,
}

/// Makes transactions of a wanted size, signed by a client, with noise in them.
#[derive(Clone)]
pub(crate) struct TransactionMaker {
    channel: ChannelId,
    client: Arc<dyn Signer>,
    now: SystemTime,
    filler: Bytes,
}

impl ChainMaker {
    /// A maker on a new network whose ordering service has these endpoints.
    ///
    /// # Errors
    ///
    /// As [`Network::generate`].
    pub fn new(
        config: NetworkConfig,
        endpoints: &[Endpoint],
        now: SystemTime,
    ) -> Result<Self, NetworkError> {
        let network = Network::generate(config, endpoints, now)?;
        Ok(Self {
            first: network.clone(),
            configuration: network.first_configuration(),
            transactions: TransactionMaker::new(&network, now),
            writer: network.writer(),
            network,
        })
    }

    /// The network, with the genesis block that the chain begins with, and otherwise as it is after
    /// the newest block. A clone of it, or of a node, is good for
    /// [`block_signed_by`](Self::block_signed_by) after the node has left.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The next block, of one transaction for each size: so many bytes of data in each. It is the
    /// copy of the first node.
    ///
    /// # Errors
    ///
    /// When a signer does not sign. The chain is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub async fn block(&mut self, transaction_bytes: &[usize]) -> Result<Block, SignError> {
        Ok(first_copy(self.copies(transaction_bytes).await?))
    }

    /// The next block as [`block`](Self::block) makes it, in the copy of each node: they differ in
    /// their signatures.
    ///
    /// # Errors
    ///
    /// As [`block`](Self::block).
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub async fn copies(&mut self, transaction_bytes: &[usize]) -> Result<Vec<Block>, SignError> {
        let batch = self.batch(transaction_bytes).await?;
        self.writer.write(&batch).await
    }

    /// The next block as exactly these nodes would sign it, whether they may or not: those of this
    /// network, or as they were before they left or got other certificates. It does not join the
    /// chain, which is as before.
    ///
    /// # Errors
    ///
    /// When a signer does not sign.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn block_signed_by(
        &mut self,
        nodes: &[OrdererNode],
        transaction_bytes: &[usize],
    ) -> Result<Block, SignError> {
        let batch = self.batch(transaction_bytes).await?;
        self.writer.signed_by(&signing(nodes), &batch).await
    }

    /// The next block, which changes the configuration: `change` edits the tree of groups. It is the
    /// copy of the first node. Nothing but the tree is checked, and it names no update. Who signs
    /// the blocks after it stays as it is; [`change`](Self::change) is for that.
    ///
    /// # Errors
    ///
    /// When the configuration is none that a channel can have, or a signer does not sign. The chain
    /// is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub async fn config_block(
        &mut self,
        change: impl FnOnce(&mut ConfigGroup),
    ) -> Result<Block, ReconfigureError> {
        let configuration = self.configuration.edited(change);
        configuration.batch()?;
        self.write_config(configuration, self.network.clone()).await
    }

    /// The next block, which makes changes to the configuration, and to who signs the blocks after
    /// it. It is the copy of the first node, and names no update. Nodes that come or move have the
    /// host of the newest node, and the next ports.
    ///
    /// What [`config_block`](Self::config_block) edited stays, unless the changes concern it.
    ///
    /// # Errors
    ///
    /// When a change cannot be made to the channel as it is, no channel can have the configuration,
    /// or a signer does not sign. The chain is as before.
    ///
    /// # Cancel safety
    ///
    /// Safe: the chain is as before.
    pub async fn change(&mut self, changes: &[Change]) -> Result<Block, ReconfigureError> {
        let (configuration, network) = self.changed(changes)?;
        self.write_config(configuration, network).await
    }

    /// The next block as [`change`](Self::change) makes it, if exactly these nodes signed it, whether
    /// they may or not. It does not join the chain, which is as before.
    ///
    /// # Errors
    ///
    /// As [`change`](Self::change).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn change_signed_by(
        &self,
        nodes: &[OrdererNode],
        changes: &[Change],
    ) -> Result<Block, ReconfigureError> {
        let (configuration, network) = self.changed(changes)?;
        let envelope = self.envelope(&configuration).await?;
        let membership = network.terms().membership();
        let block = self
            .writer
            .config_signed_by(&signing(nodes), envelope, &membership)
            .await?;
        Ok(block)
    }

    /// A chain of the genesis block and the next `blocks` blocks, each of one transaction with
    /// `transaction_bytes` bytes of data.
    ///
    /// # Errors
    ///
    /// When a signer does not sign.
    ///
    /// # Cancel safety
    ///
    /// Not safe: blocks that were made are lost, and the maker's next block does not link to the
    /// genesis block.
    pub async fn chain(
        &mut self,
        blocks: usize,
        transaction_bytes: usize,
    ) -> Result<RecordedChain, SignError> {
        self.network = self.first.clone();
        self.writer = self.network.writer();
        self.configuration = self.network.first_configuration();
        self.transactions.client = self.network.client().signer();
        let mut chain = Vec::with_capacity(blocks.saturating_add(1));
        chain.push(self.network.genesis().clone());
        for _ in 0..blocks {
            chain.push(self.block(&[transaction_bytes]).await?);
        }
        Ok(RecordedChain::made(self.network.channel().clone(), chain))
    }

    async fn batch(&mut self, transaction_bytes: &[usize]) -> Result<Batch, SignError> {
        let mut batch = Vec::with_capacity(transaction_bytes.len());
        for bytes in transaction_bytes {
            batch.push(self.transactions.make(*bytes).await?.envelope);
        }
        Ok(batch)
    }

    /// What is so after changes.
    fn changed(&self, changes: &[Change]) -> Result<(Configuration, Network), ReconfigureError> {
        let wanted = changes.iter().map(Change::endpoints).sum();
        let endpoints = self.network.terms().next_endpoints(wanted)?;
        let network = self
            .network
            .changed(changes, endpoints, self.transactions.now)?;
        let configuration = self
            .configuration
            .changed(self.network.terms(), network.terms());
        // It must be one that a channel can have.
        configuration.batch()?;
        Ok((configuration, network))
    }

    async fn envelope(&self, configuration: &Configuration) -> Result<Bytes, SignError> {
        configuration
            .envelope(&*self.network.config_signer(), self.transactions.now)
            .await
    }

    async fn write_config(
        &mut self,
        configuration: Configuration,
        network: Network,
    ) -> Result<Block, ReconfigureError> {
        let envelope = self.envelope(&configuration).await?;
        let membership = network.terms().membership();
        let copies = self.writer.write_config(envelope, membership).await?;
        self.transactions.client = network.client().signer();
        self.network = network;
        self.configuration = configuration;
        Ok(first_copy(copies))
    }
}

impl TransactionMaker {
    pub(crate) fn new(network: &Network, now: SystemTime) -> Self {
        Self {
            channel: network.channel().clone(),
            client: network.client().signer(),
            now,
            filler: Bytes::new(),
        }
    }

    pub(crate) async fn make(&mut self, bytes: usize) -> Result<Message, SignError> {
        let data = self.filler(bytes);
        let header = EnvelopeHeader::new(HeaderType::Message, self.channel.clone(), self.now);
        let envelope = transaction_envelope(&*self.client, header, data, Nonce::random()).await?;
        let size = envelope.payload.len() + envelope.signature.len();
        Ok(Message {
            envelope: envelope.encode_to_vec().into(),
            size,
        })
    }

    /// So many bytes of noise. Transactions share it: what tells them apart is nonce and signature.
    fn filler(&mut self, bytes: usize) -> Bytes {
        if self.filler.len() < bytes {
            let mut noise = vec![0; bytes];
            StdRng::seed_from_u64(FILLER_SEED).fill_bytes(&mut noise);
            self.filler = noise.into();
        }
        self.filler.slice(..bytes)
    }
}

impl fmt::Debug for TransactionMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionMaker")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

fn signing(nodes: &[OrdererNode]) -> Vec<SigningNode> {
    nodes.iter().map(OrdererNode::signing).collect()
}

fn first_copy(copies: Vec<Block>) -> Block {
    copies
        .into_iter()
        .next()
        .expect("invariant: an ordering service has a node")
}
