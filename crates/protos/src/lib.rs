// SPDX-License-Identifier: Apache-2.0
//! Hyperledger Fabric wire types for block delivery.
#![doc = include_str!("../README.md")]

#[cfg(feature = "grpc")]
mod codec;
pub mod deliver;
pub mod described;
#[cfg(feature = "grpc")]
pub mod grpc;

#[rustfmt::skip]
mod generated {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::restriction,
        clippy::pedantic,
        clippy::nursery,
        reason = "generated"
    )]

    #[cfg(feature = "grpc")]
    pub mod atomic_broadcast;
    pub mod common;
    mod described;
    pub mod etcdraft;
    pub mod msp;
    pub mod orderer;
    pub mod peer;
    pub mod smartbft;
}

pub use described::decode_as_go;
pub use generated::{common, etcdraft, msp, orderer, peer, smartbft};
