// SPDX-License-Identifier: Apache-2.0
//! How often the bytes of a block are copied on their way from the socket into the file.
//!
//! What is copied needs room, so that the room that is asked for tells of the copies. All threads of
//! this process are counted; whoever serves the blocks is another process. How much room TLS asks for
//! depends on how fast the records come, so that what is ours is held to a bound without it, and what
//! comes with it to one that allows for just that.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

mod node;
mod served;

use std::alloc::System;

use orderer_client::Tls;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::{node::catch_up, served::Served};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The copies of a block: what HTTP/2 has read, and its message. What is written into the file is the
/// message itself.
const COPIES: usize = 2;

/// What TLS adds: a copy of what it has decrypted.
const COPIES_OF_TLS: usize = 1;

/// The room for a record that is not all there yet, which TLS makes anew for every record that comes
/// slowly: from 4 KB to at most 32 KB in three steps, and back in one. How many records come slowly is
/// up to the machine, so that so much may be asked for with each step, and nothing without.
const STEP_OF_TLS: usize = (32 - 4) * 1024 / 4;

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
    /// How often what was there before grew or shrank.
    steps: usize,
    /// The bytes of the blocks.
    came: usize,
}

impl Taken {
    /// Pulls a chain of so many blocks.
    async fn by_chain_of(tls: &Tls, blocks: usize, transaction_bytes: usize) -> Self {
        let served = Served::start(tls.clone(), blocks, transaction_bytes).await;
        let region = Region::new(ALLOCATOR);
        catch_up(&served).await;
        let change = region.change();
        let came = served.bytes;
        served.stop().await;
        Self {
            asked: change.bytes_allocated,
            grown: change.bytes_reallocated.try_into().unwrap(),
            steps: change.reallocations,
            came,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_copied_where_it_must_be_and_nowhere_else() {
    for (tls, transaction_bytes, blocks, copies, step) in [
        (Tls::Plain, 100_000, 100, COPIES, 0),
        (Tls::Plain, 10_000, 500, COPIES, 0),
        (
            Tls::Server,
            100_000,
            100,
            COPIES + COPIES_OF_TLS,
            STEP_OF_TLS,
        ),
    ] {
        // What a longer chain takes more is the share of its blocks, without what is made once.
        let short = Taken::by_chain_of(&tls, blocks / 4, transaction_bytes).await;
        let long = Taken::by_chain_of(&tls, blocks / 4 + blocks, transaction_bytes).await;
        let came = (long.came - short.came) / blocks;
        let asked = (long.asked - short.asked) / blocks;
        // Those of the shorter chain may have been smaller, and are not taken off.
        let steps = step * long.steps / blocks;
        let most = copies * came + (came as f64 * UNUSED) as usize + BESIDES + steps;
        assert!(
            asked <= most,
            "{asked} bytes were asked for to store a block of {came} bytes, and at most {most} should be"
        );
        // The room for a message grows from its head to its length. If the block were copied out of
        // it, that room would serve the next message, too, and the copy would be asked for afresh.
        let grown = (long.grown - short.grown) / blocks;
        let (afresh, most) = (asked.saturating_sub(grown), most - COPIES * came);
        assert!(
            afresh <= most,
            "{afresh} bytes were asked for afresh for each block of {came} bytes, and at most {most} should be: what was received is not what is stored"
        );
    }
}
