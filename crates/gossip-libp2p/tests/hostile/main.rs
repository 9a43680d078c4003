// SPDX-License-Identifier: Apache-2.0
//! Two honest nodes, and a client that is none of ours and speaks the protocols by hand, to do what
//! does the most harm.
#![cfg(test)]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails where it goes wrong"
)]

mod honest;
mod raw;
mod rpc;
mod streams;
mod topics;
