// SPDX-License-Identifier: Apache-2.0
//! The stubs of `orderer.AtomicBroadcast`, for client and server, without a transport.
//!
//! Both sides carry Deliver's responses as [`RawDeliverResponse`](crate::deliver::RawDeliverResponse).
//! The client runs over any [`GrpcService`](tonic::client::GrpcService).
//! tonic decodes messages up to 4 MiB unless told otherwise, which is too little for blocks: see
//! [`MAX_MESSAGE_BYTES`].

pub use crate::{
    codec::RawDeliverCodec,
    generated::atomic_broadcast::{
        atomic_broadcast_client::AtomicBroadcastClient,
        atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer},
    },
};

/// The size of a message, in bytes, up to which Fabric's nodes send and receive: 100 MiB.
pub const MAX_MESSAGE_BYTES: usize = 100 * 1024 * 1024;
