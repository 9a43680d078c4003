// SPDX-License-Identifier: Apache-2.0
//! How long things are on the wire, by our encoders and a block that real orderers signed.

use anyhow::{Context as _, Result};
use block_api::{BlockNumber, ChannelStatus};
use gossip_libp2p::sizes;

use super::defaults;
use crate::fixtures;

/// The block of the raft network that lends header and signatures.
const LENDER: usize = 5;

/// What gossipsub puts around a message: the name of the topic has 64 bytes, and each field a head.
const ENVELOPE: u64 = 75;

/// An IDONTWANT with one id of 32 bytes, and an IHAVE with it and the name of the topic.
const IDONTWANT: u64 = 40;
const IHAVE: f64 = 110.0;

/// To how many nodes outside the mesh an IHAVE goes with each heartbeat: to six, or a quarter. They are
/// gossipsub's defaults, and each message is in three of them.
const LAZY: f64 = 6.0;
const LAZY_SHARE: f64 = 0.25;
const LAZY_TIMES: f64 = 3.0;

/// What both sides say to open a stream: the version of multistream-select, and the protocol.
const STREAM: u64 = 20 + 24;

/// How many bytes each thing has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// The data of a block.
    pub data: u32,
    /// A block as an orderer sends it.
    pub block: u64,
    /// A block on the topic.
    pub whole: u64,
    /// An announcement on the topic.
    pub announcement: u64,
    /// Up to which length a block goes on the topic whole.
    pub inline_limit: u64,
    /// A status with its proof.
    pub status: u64,
    /// The question for a body.
    pub ask: u64,
    /// What opening a stream costs each side.
    pub stream: u64,
    /// The word that no second copy is wanted.
    pub spare: u64,
}

impl Wire {
    /// A block with so many bytes of data, signed by one orderer as raft blocks are.
    ///
    /// # Errors
    ///
    /// When the recorded block cannot be read.
    pub fn of(data: u32) -> Result<Self> {
        let chain = fixtures::chain("raft")?;
        let lender = chain.get(LENDER).context("the recorded chain is shorter")?;
        let proof = lender.without_data();
        let around = lender.raw().len() - (lender.relay().len() - proof.relay().len());
        let announcement = sizes::announcement(lender) as u64 + ENVELOPE;
        let status = ChannelStatus {
            first: BlockNumber::GENESIS,
            height: lender.number().height(),
            tip: Some(proof.with_signatures_slot_only()),
            pulling: false,
        };
        Ok(Self {
            data,
            block: u64::from(data) + around as u64,
            whole: u64::from(data) + announcement,
            announcement,
            inline_limit: defaults().inline_limit.get() as u64,
            status: sizes::status(status) as u64,
            ask: sizes::ask(lender) as u64,
            stream: STREAM,
            spare: IDONTWANT,
        })
    }

    /// What a node sends of one message to so many connected nodes outside its mesh, to say that it
    /// has it; it gets as much from them.
    pub fn lazy(&self, outside: f64) -> f64 {
        let peers = LAZY.max((LAZY_SHARE * outside).floor()).min(outside);
        peers * LAZY_TIMES * IHAVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surrounds_the_data_does_not_depend_on_it() {
        let (small, large) = (Wire::of(1000).unwrap(), Wire::of(2000).unwrap());
        assert_eq!(large.block - small.block, 1000);
        assert_eq!(large.whole - small.whole, 1000);
        assert_eq!(large.announcement, small.announcement);
        assert!((500..3000).contains(&small.announcement), "{small:?}");
        assert!((500..3000).contains(&small.status), "{small:?}");
    }
}
