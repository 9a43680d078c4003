// SPDX-License-Identifier: Apache-2.0
//! How often the bytes of a block are copied on their way from the socket into the file.
//!
//! What is copied needs room, so that the room that is asked for tells of the copies. All threads of
//! this process are counted; whoever serves the blocks is another process.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

mod node;
mod served;

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::{node::catch_up, served::Served};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The copies of a block: what TLS has decrypted, what HTTP/2 has read of that, and its message. What
/// is written into the file is the message itself.
const COPIES: usize = 3;

/// HTTP/2 makes room for frames before it knows how long they are, and anew where one comes in parts:
/// for so much of what comes, at most, beyond its copy.
const UNUSED: f64 = 1.0 / 8.0;

/// What is made to verify a block, to pass it on and to store it, however big it is.
const BESIDES: usize = 12 * 1024;

/// What a catch-up took.
struct Taken {
    /// The bytes that were asked for.
    asked: usize,
    /// Those of them by which what was there before grew.
    grown: usize,
    /// The bytes of the blocks.
    came: usize,
}

impl Taken {
    /// Pulls a chain of so many blocks.
    async fn by_chain_of(blocks: usize, transaction_bytes: usize) -> Self {
        let served = Served::start(blocks, transaction_bytes).await;
        let region = Region::new(ALLOCATOR);
        catch_up(&served).await;
        let change = region.change();
        let came = served.bytes;
        served.stop().await;
        Self {
            asked: change.bytes_allocated,
            grown: change.bytes_reallocated.try_into().unwrap(),
            came,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_copied_where_it_must_be_and_nowhere_else() {
    for (transaction_bytes, blocks) in [(100_000, 100), (10_000, 500)] {
        // What a longer chain takes more is the share of its blocks, without what is made once.
        let short = Taken::by_chain_of(blocks / 4, transaction_bytes).await;
        let long = Taken::by_chain_of(blocks / 4 + blocks, transaction_bytes).await;
        let came = (long.came - short.came) / blocks;
        let asked = (long.asked - short.asked) / blocks;
        let most = COPIES * came + (came as f64 * UNUSED) as usize + BESIDES;
        assert!(
            asked <= most,
            "{asked} bytes were asked for to store a block of {came} bytes, and at most {most} should be"
        );
        // The room for a message grows from its head to its length. If the block were copied out of
        // it, the room would serve the next message, too, so that none was asked for.
        let grown = (long.grown - short.grown) / blocks;
        assert!(
            grown >= came,
            "room grew by {grown} bytes for each block of {came} bytes: what was received is not what is stored"
        );
    }
}
