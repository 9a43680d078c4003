// SPDX-License-Identifier: Apache-2.0
//! Chains made to order, with marks in place of signatures.

use crate::{
    Block, BlockNumber, ChannelId, HeaderHash, Standing, VerifiedBlock,
    testing::TestVerifier,
    wire::{put_bytes, put_uint},
};

/// Makes the blocks of a chain, one after the other. What [`TestVerifier`] takes for the orderers'
/// signatures is a mark over the header hash, the number of the last config block, and that of the
/// config block whose orderers signed.
#[derive(Debug, Clone)]
pub struct TestChain {
    channel: ChannelId,
    next: BlockNumber,
    previous: Option<HeaderHash>,
    last_config: BlockNumber,
    signed_under: BlockNumber,
}

impl TestChain {
    /// An empty chain of this channel; the first block is a config block.
    ///
    /// # Panics
    ///
    /// When the name is no channel id.
    pub fn new(channel: &str) -> Self {
        Self {
            channel: channel.parse().expect("a test names its channel well"),
            next: BlockNumber::GENESIS,
            previous: None,
            last_config: BlockNumber::GENESIS,
            signed_under: BlockNumber::GENESIS,
        }
    }

    /// A chain of this channel whose first `count` blocks are returned, the data of each but the
    /// first having this size in bytes.
    pub fn of_blocks(channel: &str, count: usize, bytes: usize) -> (Self, Vec<Block>) {
        let mut chain = Self::new(channel);
        let blocks = (0..count)
            .map(|index| {
                if index == 0 {
                    chain.config()
                } else {
                    chain.data(bytes)
                }
            })
            .collect();
        (chain, blocks)
    }

    /// The channel.
    pub fn channel(&self) -> ChannelId {
        self.channel.clone()
    }

    /// The next block, with one entry of this size. It is in the form of a transaction, unless it is
    /// too short for one.
    pub fn data(&mut self, bytes: usize) -> Block {
        let fill = (self.next.get() as u8).wrapping_mul(31);
        let entry = transaction(fill, bytes).unwrap_or_else(|| vec![fill; bytes]);
        self.entries(&[entry])
    }

    /// The next block, with these entries.
    pub fn entries(&mut self, entries: &[Vec<u8>]) -> Block {
        let previous = self
            .previous
            .as_ref()
            .map(HeaderHash::as_ref)
            .unwrap_or_default();
        let unsigned = Block::assemble::<_, &[u8]>(self.next, previous, entries, &[]);
        let mark = TestVerifier::mark(&unsigned, self.last_config, self.signed_under);
        let block = Block::assemble(
            self.next,
            previous,
            entries,
            &[mark.as_slice(), &[], &[], &[], &[]],
        );
        self.next = self.next.next().expect("a test makes no 2^64 blocks");
        self.previous = Some(block.header_hash());
        // A config block is signed by those who were in force before it.
        self.signed_under = self.last_config;
        block
    }

    /// The next block, a config block.
    pub fn config(&mut self) -> Block {
        self.config_with(0)
    }

    /// The next block, a config block whose configuration has so many bytes more.
    pub fn config_with(&mut self, bytes: usize) -> Block {
        self.last_config = self.next;
        let mut channel_header = Vec::new();
        put_uint(&mut channel_header, 1, 1);
        put_bytes(&mut channel_header, 4, self.channel.as_str().as_bytes());
        let mut header = Vec::new();
        put_bytes(&mut header, 1, &channel_header);
        let mut payload = Vec::new();
        put_bytes(&mut payload, 1, &header);
        let mut config = format!("config {}", self.next).into_bytes();
        config.resize(config.len() + bytes, b' ');
        put_bytes(&mut payload, 2, &config);
        let mut envelope = Vec::new();
        put_bytes(&mut envelope, 1, &payload);
        self.entries(&[envelope])
    }

    /// The same header with a mark that [`TestVerifier`] rejects.
    pub fn forged(block: &Block) -> Block {
        let header = block.header();
        let entries: Vec<&[u8]> = block.data().collect();
        Block::assemble(
            header.number,
            header.previous_hash,
            &entries,
            &[b"forged", &[] as &[u8], &[], &[], &[]],
        )
    }

    /// The same block as the orderers of an older configuration sign it, who do not own up to the
    /// newer one.
    pub fn signed_by_others(block: &Block, config: BlockNumber) -> Block {
        let header = block.header();
        let entries: Vec<&[u8]> = block.data().collect();
        let mark = TestVerifier::mark(block, config, config);
        Block::assemble(
            header.number,
            header.previous_hash,
            &entries,
            &[mark.as_slice(), &[], &[], &[], &[]],
        )
    }

    /// Has a block of such a chain judged.
    ///
    /// # Panics
    ///
    /// When the [`TestVerifier`] rejects it.
    pub fn verified(block: &Block) -> VerifiedBlock {
        VerifiedBlock::new(block.clone(), &TestVerifier::default(), Standing::Linked)
            .expect("a made block verifies")
    }
}

/// An envelope of this size, with a payload and a signature and nothing in them.
fn transaction(fill: u8, bytes: usize) -> Option<Vec<u8>> {
    // The length of a payload takes one byte more at some sizes; the signature makes up for it.
    let of = |signature: usize| {
        let most = bytes.checked_sub(2 + signature)?;
        let payload = (2..7).find_map(|around| {
            let payload = most.checked_sub(around).filter(|length| *length > 0)?;
            let mut field = Vec::with_capacity(bytes);
            put_bytes(&mut field, 1, &vec![fill; payload]);
            (field.len() == most).then_some(field)
        });
        let mut entry = payload?;
        put_bytes(&mut entry, 2, &vec![fill; signature]);
        Some(entry)
    };
    of(1).or_else(|| of(2))
}
