// SPDX-License-Identifier: Apache-2.0
//! What goes over gossipsub's streams and ours, written by hand.

use block_api::{Block, ChannelId, HeaderHash};
use sha2::{Digest, Sha256};

pub(crate) const MESH: &str = "/meshsub/1.1.0";
pub(crate) const BLOCKS: &str = "/blockcast/blocks/1";
pub(crate) const BODIES: &str = "/blockcast/bodies/1";
pub(crate) const PEERS: &str = "/blockcast/peers/1";
pub(crate) const STATUS: &str = "/blockcast/status/1";

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field of bytes.
pub(crate) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

/// An RPC with its length before it.
pub(crate) fn rpc(parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [varint(body.len() as u64), body].concat()
}

pub(crate) fn subscribe(topic: &str) -> Vec<u8> {
    field(1, &[vec![8, 1], field(2, topic.as_bytes())].concat())
}

pub(crate) fn publish(topic: &str, data: &[u8]) -> Vec<u8> {
    field(2, &[field(2, data), field(4, topic.as_bytes())].concat())
}

pub(crate) fn graft(topic: &str) -> Vec<u8> {
    field(3, &field(3, &field(1, topic.as_bytes())))
}

/// Asks for the message of this id.
pub(crate) fn iwant(id: &[u8]) -> Vec<u8> {
    field(3, &field(2, &field(1, id)))
}

/// The id of a message.
pub(crate) fn id_of(topic: &str, message: &[u8]) -> Vec<u8> {
    let hash = Sha256::new().chain_update(topic).chain_update(message);
    hash.finalize().to_vec()
}

/// The name of a channel's topic.
pub(crate) fn topic(channel: &ChannelId, genesis: &HeaderHash) -> String {
    let hash = Sha256::new()
        .chain_update(b"blockcast/topic/1")
        .chain_update(channel.as_str())
        .chain_update(genesis)
        .finalize();
    hex::encode(hash)
}

/// A message with this block in it, of this form: 1 is whole, 2 announced.
pub(crate) fn message(form: u8, block: &[u8]) -> Vec<u8> {
    [&[1, form, 0, 0, 0, 0, 0, 0], block].concat()
}

pub(crate) fn whole(block: &Block) -> Vec<u8> {
    message(1, &block.relay().to_bytes())
}

pub(crate) fn announced(block: &Block) -> Vec<u8> {
    let header = block.without_data().with_signatures_slot_only();
    message(2, &header.relay().to_bytes())
}

/// A frame of our streams.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), payload].concat()
}

/// A field with a number.
pub(crate) fn number(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

/// That this node has the chain up to a height.
pub(crate) fn status(topic: &str, height: u64) -> Vec<u8> {
    let topic = hex::decode(topic).unwrap();
    frame(4, &[vec![1], field(1, &topic), number(3, height)].concat())
}

/// A request for a range of the topic.
pub(crate) fn request(topic: &str, first: u64, last: u64) -> Vec<u8> {
    let topic = hex::decode(topic).unwrap();
    let parts = [
        vec![1],
        field(1, &topic),
        number(2, 2),
        number(3, first),
        number(4, 1),
        number(5, last),
        number(7, 1 << 30),
    ];
    frame(1, &parts.concat())
}

/// A request for all blocks of the topic.
pub(crate) fn request_for_all(topic: &str) -> Vec<u8> {
    let topic = hex::decode(topic).unwrap();
    frame(1, &[vec![1], field(1, &topic), number(7, 1 << 20)].concat())
}

/// A request for the body of a block.
pub(crate) fn request_for_body(topic: &str, block: &Block) -> Vec<u8> {
    let parts = [
        vec![1],
        field(1, &hex::decode(topic).unwrap()),
        number(2, block.number().get()),
        field(3, block.header_hash().as_ref()),
        number(4, 1 << 20),
        number(6, 1),
    ];
    frame(10, &parts.concat())
}
