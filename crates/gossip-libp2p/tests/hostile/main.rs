// SPDX-License-Identifier: Apache-2.0
//! Two honest nodes, and a client that is none of ours and speaks the protocols by hand, to do what
//! does the most harm.
#![cfg(test)]

mod about;
mod answers;
mod honest;
mod memory;
#[path = "../support/raw.rs"]
#[expect(dead_code, reason = "another test binary needs the rest of it")]
mod raw;
mod streams;
mod topics;
mod unproven;

use raw::rpc;
