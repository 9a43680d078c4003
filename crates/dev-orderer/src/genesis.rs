// SPDX-License-Identifier: Apache-2.0
//! The first block of a channel: its configuration in one transaction (semantics §6.6).

use std::time::SystemTime;

use block_api::{Block, BlockNumber, ChannelId};
use prost::Message as _;
use protos::common;
use signer::envelope::{Nonce, transaction_id};

use crate::writer;

/// The genesis block of a channel with a configuration.
pub(crate) fn genesis_block(channel: &ChannelId, config: common::Config, now: SystemTime) -> Block {
    let config = common::ConfigEnvelope {
        config: Some(config),
        last_update: None,
    };
    let nonce = Nonce::random();
    let channel_header = common::ChannelHeader {
        r#type: common::HeaderType::Config.into(),
        version: 1,
        timestamp: Some(now.into()),
        channel_id: channel.as_str().to_owned(),
        // The id of a transaction is over nonce and creator, and a genesis block has no creator.
        tx_id: transaction_id(nonce.as_bytes(), &[]),
        ..common::ChannelHeader::default()
    };
    let signature_header = common::SignatureHeader {
        nonce: nonce.as_bytes().to_vec().into(),
        ..common::SignatureHeader::default()
    };
    let payload = common::Payload {
        header: Some(common::Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: config.encode_to_vec().into(),
    };
    let envelope = common::Envelope {
        payload: payload.encode_to_vec().into(),
        ..common::Envelope::default()
    };
    let metadata = common::Metadata {
        value: writer::signed_value(BlockNumber::GENESIS, &[]).into(),
        signatures: Vec::new(),
    };
    let slots = [
        metadata.encode_to_vec(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    ];
    Block::assemble(
        BlockNumber::GENESIS,
        &[],
        &[envelope.encode_to_vec()],
        &slots,
    )
}

#[cfg(test)]
mod tests;
