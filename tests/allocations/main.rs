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

/// The bytes that are asked for while a chain of so many blocks is pulled, and those of its blocks.
async fn asked_for(blocks: usize, transaction_bytes: usize) -> [usize; 2] {
    let served = Served::start(blocks, transaction_bytes).await;
    let region = Region::new(ALLOCATOR);
    catch_up(&served).await;
    let asked = region.change().bytes_allocated;
    let came = served.bytes;
    served.stop().await;
    [asked, came]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_copied_where_it_must_be_and_nowhere_else() {
    for (transaction_bytes, blocks) in [(100_000, 100), (10_000, 500)] {
        // What a longer chain takes more is the share of its blocks, without what is made once.
        let short = asked_for(blocks / 4, transaction_bytes).await;
        let long = asked_for(blocks / 4 + blocks, transaction_bytes).await;
        let [asked, came] = [0, 1].map(|which| (long[which] - short[which]) / blocks);
        let most = COPIES * came + (came as f64 * UNUSED) as usize + BESIDES;
        // With less, something else is counted.
        assert!(
            (COPIES * came..=most).contains(&asked),
            "{asked} bytes were asked for to store a block of {came} bytes, and at most {most} should be"
        );
    }
}
