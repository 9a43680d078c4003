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
    config::NetworkConfig,
    cutter::Message,
    network::{Network, NetworkError},
    reconfigure::{Configuration, ReconfigureError},
    recorded::RecordedChain,
    writer::BlockWriter,
};

/// The seed of what fills transactions: their content is noise, and the same in each run.
const FILLER_SEED: u64 = 0x0062_6c6f_636b;

/// Makes a chain of signed blocks on a network of its own.
///
/// Its blocks are those that a dev orderer on the same network cuts; nothing is served, waits, or
/// is checked on the way.
#[derive(Debug)]
pub struct ChainMaker {
    network: Network,
    configuration: Configuration,
    transactions: TransactionMaker,
    writer: BlockWriter,
}

/// Makes transactions of a wanted size, signed by a client, with noise in them.
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
        let writer = network.writer();
        let transactions = TransactionMaker::new(&network, now);
        let configuration = network.configuration();
        Ok(Self {
            network,
            configuration,
            transactions,
            writer,
        })
    }

    /// The network, with the genesis block that the chain begins with.
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
        let mut batch = Vec::with_capacity(transaction_bytes.len());
        for bytes in transaction_bytes {
            batch.push(self.transactions.make(*bytes).await?.envelope);
        }
        let copies = self.writer.write(&batch).await?;
        Ok(first_copy(copies))
    }

    /// The next block, which changes the configuration: `change` edits the tree of groups. It is the
    /// copy of the first node. Nothing but the tree is checked, and it names no update.
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
        let changed = self.configuration.changed(change);
        changed.batch()?;
        let envelope = changed.envelope(self.transactions.now).await?;
        let copies = self.writer.write_config(envelope).await?;
        self.configuration = changed;
        Ok(first_copy(copies))
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
        self.writer = self.network.writer();
        self.configuration = self.network.configuration();
        let mut chain = Vec::with_capacity(blocks.saturating_add(1));
        chain.push(self.network.genesis().clone());
        for _ in 0..blocks {
            chain.push(self.block(&[transaction_bytes]).await?);
        }
        Ok(RecordedChain::made(self.network.channel().clone(), chain))
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

fn first_copy(copies: Vec<Block>) -> Block {
    copies
        .into_iter()
        .next()
        .expect("invariant: an ordering service has a node")
}
