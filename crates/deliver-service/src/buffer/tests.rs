// SPDX-License-Identifier: Apache-2.0
//! What the buffer admits, and in which order it gives.

mod room;

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use block_api::{
    Height,
    testing::{TestChain, within},
};
use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;

fn config(bytes: usize, topic_bytes: usize) -> Config {
    let count = |n| NonZeroUsize::new(n).unwrap();
    Config {
        buffer_bytes: count(bytes),
        topic_buffer_bytes: count(topic_bytes),
        window: 10,
        candidates_per_height: count(2),
        batch_blocks: count(4),
        ..Config::default()
    }
}

fn chain(count: usize, bytes: usize) -> Vec<VerifiedBlock> {
    TestChain::of_blocks("ch", count, bytes)
        .1
        .iter()
        .map(TestChain::verified)
        .collect()
}

/// The tip after these blocks.
fn tip(blocks: &[VerifiedBlock]) -> ChainInfo {
    blocks
        .iter()
        .fold(ChainInfo::EMPTY, |tip, block| tip.grown_by(block))
}

fn peer() -> Giver {
    Giver::Peer(NodeId::new("peer"))
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch
        .blocks
        .iter()
        .map(|buffered| buffered.block.number().get())
        .collect()
}

fn buffer(config: &Config, next: u64) -> Buffer {
    let budget = Budget::new(config.total_buffer_bytes.get());
    Buffer::new(config, &budget, BlockNumber::new(next))
}

fn after_genesis(blocks: &[VerifiedBlock], config: &Config) -> (Buffer, ChainInfo) {
    (buffer(config, 1), tip(&blocks[..1]))
}

/// Covers: BUF-01, BUF-02, BUF-03, STA-07
#[test]
fn gives_what_is_due_in_order_whatever_the_order_of_coming() {
    let blocks = chain(9, 10);
    let (buffer, tip_now) = after_genesis(&blocks, &config(10_000, 9_000));
    for index in [3, 2, 8, 6, 4] {
        assert_eq!(
            buffer.try_push(blocks[index].clone(), Origin::Topic),
            Push::Queued
        );
    }
    assert!(
        buffer.take(&tip_now).blocks.is_empty(),
        "block 1 is missing"
    );
    let hole = |first: u64, last: u64| BlockNumber::new(first)..=BlockNumber::new(last);
    let upto = |last| buffer.holes(BlockNumber::new(last));
    assert_eq!(upto(9), [hole(1, 1), hole(5, 5), hole(7, 7), hole(9, 9)]);
    assert_eq!(upto(4), [hole(1, 1)]);
    buffer.try_push(blocks[1].clone(), Origin::Orderer);
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1, 2, 3, 4], "four make a batch");
    assert_eq!(upto(6), [hole(5, 5)], "what is being stored is no hole");
    let before = buffer.bytes();
    buffer.stored(&batch.blocks, &tip(&blocks[..5]));
    assert!(buffer.bytes() < before);
    assert_eq!(buffer.next(), BlockNumber::new(5));
    assert_eq!(
        buffer.try_push(blocks[3].clone(), Origin::CatchUp),
        Push::Known,
        "it is stored"
    );
    assert_eq!(
        buffer.try_push(blocks[6].clone(), Origin::CatchUp),
        Push::Known,
        "it waits"
    );
    assert!(buffer.knows(BlockNumber::new(6), &blocks[6].header_hash()));
    assert!(!buffer.knows(BlockNumber::new(7), &blocks[7].header_hash()));
}

#[test]
fn room_runs_out_for_the_topic_first_and_never_for_the_block_that_is_due() {
    let blocks = chain(9, 1000);
    let (buffer, _) = after_genesis(&blocks, &config(5_000, 2_500));
    assert_eq!(
        buffer.try_push(blocks[3].clone(), Origin::Topic),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[4].clone(), Origin::Pull),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[5].clone(), Origin::Topic),
        Push::Full,
        "the topic has used its part up"
    );
    assert_eq!(
        buffer.try_push(blocks[5].clone(), Origin::Orderer),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[6].clone(), Origin::CatchUp),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[7].clone(), Origin::Orderer),
        Push::Full,
        "all is used up"
    );
    assert_eq!(
        buffer.try_push(blocks[1].clone(), Origin::Topic),
        Push::Queued,
        "the next block is always admitted"
    );
}

/// Covers: STA-07
#[test]
fn what_is_too_far_ahead_is_not_kept() {
    let blocks = chain(14, 10);
    let (buffer, _) = after_genesis(&blocks, &config(100_000, 90_000));
    assert_eq!(
        buffer.try_push(blocks[10].clone(), Origin::Topic),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[11].clone(), Origin::Topic),
        Push::TooFar
    );
    assert!(buffer.in_window(BlockNumber::new(10)) && !buffer.in_window(BlockNumber::new(11)));
    assert_eq!(
        buffer.try_push(blocks[11].clone(), Origin::CatchUp),
        Push::Queued,
        "a range was asked for"
    );
}

#[test]
fn of_several_blocks_at_one_height_the_one_that_links_is_given() {
    let blocks = chain(4, 10);
    let (buffer, tip_now) = after_genesis(&blocks, &config(10_000, 9_000));
    let mut other = TestChain::new("other");
    let _ = other.data(5);
    let stranger = TestChain::verified(&other.data(5));
    assert_eq!(
        buffer.try_push(stranger.clone(), Origin::Topic),
        Push::Queued
    );
    let alone = buffer.take(&tip_now);
    assert_eq!((alone.blocks.len(), alone.unlinked.len()), (0, 1));
    assert_eq!(buffer.bytes(), 0, "what does not link holds no room");

    assert_eq!(buffer.try_push(stranger, Origin::Topic), Push::Queued);
    assert_eq!(
        buffer.try_push(blocks[1].clone(), Origin::Topic),
        Push::Queued
    );
    let mut third = TestChain::new("third");
    let _ = third.data(5);
    assert_eq!(
        buffer.try_push(TestChain::verified(&third.data(6)), Origin::Topic),
        Push::Full,
        "two are enough"
    );
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1]);
    assert_eq!(batch.blocks[0].block.header_hash(), blocks[1].header_hash());
    assert_eq!(batch.unlinked.len(), 1);
}

#[test]
fn a_batch_ends_behind_a_config_block() {
    let mut chain = TestChain::new("ch");
    let blocks = [
        chain.config(),
        chain.data(1),
        chain.config(),
        chain.data(1),
        chain.data(1),
    ];
    let blocks = blocks.each_ref().map(TestChain::verified);
    let (buffer, tip_now) = after_genesis(&blocks, &config(10_000, 9_000));
    for block in &blocks[1..] {
        buffer.try_push(block.clone(), Origin::CatchUp);
    }
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1, 2]);
    buffer.stored(&batch.blocks, &tip(&blocks[..3]));
    let batch = buffer.take(&tip(&blocks[..3]));
    assert_eq!(numbers(&batch), [3, 4]);
    buffer.refused(&batch.blocks);
    assert_eq!(buffer.bytes(), 0);
    assert_eq!(buffer.next(), BlockNumber::new(3), "they may come again");
    assert!(!buffer.knows(BlockNumber::new(3), &blocks[3].header_hash()));
}

#[test]
fn a_copy_that_a_newer_configuration_judged_takes_the_place() {
    let mut chain = TestChain::new("ch");
    let made = [chain.config(), chain.config(), chain.data(9)];
    let blocks = made.each_ref().map(TestChain::verified);
    let old = TestChain::signed_by_others(&made[2], BlockNumber::GENESIS);
    let old = TestChain::verified(&old);
    let (buffer, _) = after_genesis(&blocks, &config(10_000, 9_000));
    let (number, hash) = (old.number(), old.header_hash());
    assert_eq!(buffer.waiting(number, &hash), None);
    let judged_by = || buffer.waiting(number, &hash).unwrap().judged_by;
    assert_eq!(buffer.try_push(old.clone(), Origin::Topic), Push::Queued);
    assert_eq!(judged_by(), BlockNumber::GENESIS);
    let bytes = buffer.bytes();
    let newer = blocks[2].clone();
    assert_eq!(buffer.try_push(newer, Origin::Orderer), Push::Queued);
    assert_eq!(judged_by(), BlockNumber::new(1));
    assert_eq!(buffer.bytes(), bytes, "there is one of them");
    assert_eq!(buffer.try_push(old, Origin::Topic), Push::Known);
    assert_eq!(judged_by(), BlockNumber::new(1));
    buffer.try_push(blocks[1].clone(), Origin::Orderer);
    for upto in [2, 3] {
        let batch = buffer.take(&tip(&blocks[..upto - 1]));
        buffer.stored(&batch.blocks, &tip(&blocks[..upto]));
    }
    assert_eq!(buffer.bytes(), 0);
}

/// Those whom a configuration removed can sign another header on top of it.
#[test]
fn of_blocks_that_link_the_one_that_the_newest_configuration_judged_is_given() {
    let mut chain = TestChain::new("ch");
    let blocks = [chain.config(), chain.config()]
        .each_ref()
        .map(TestChain::verified);
    let (mut real, mut other) = (chain.clone(), chain);
    let real = TestChain::verified(&real.data(1));
    let other = TestChain::signed_by_others(&other.data(2), BlockNumber::GENESIS);
    let other = TestChain::verified(&other);
    let tip_now = tip(&blocks);
    for order in [[&other, &real], [&real, &other]] {
        let buffer = buffer(&config(10_000, 9_000), 2);
        for block in order {
            assert_eq!(buffer.try_push(block.clone(), Origin::Topic), Push::Queued);
        }
        let batch = buffer.take(&tip_now);
        assert_eq!(batch.blocks.len(), 1);
        assert_eq!(batch.blocks[0].block.header_hash(), real.header_hash());
        assert_eq!((batch.rivals.len(), batch.unlinked.len()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_slows_the_orderer_down_until_there_is_room() {
    let blocks = chain(5, 1000);
    let (buffer, tip_now) = after_genesis(&blocks, &config(3_500, 1_000));
    let buffer = Arc::new(buffer);
    for index in [1, 2] {
        let pushed = buffer.push(blocks[index].clone(), &Giver::Stream);
        assert!(within("room", pushed).await);
    }
    let waiting = buffer.push(blocks[3].clone(), &Giver::Stream);
    tokio::pin!(waiting);
    assert!(
        futures::poll!(waiting.as_mut()).is_pending(),
        "there is no room"
    );
    let batch = buffer.take(&tip_now);
    assert!(
        futures::poll!(waiting.as_mut()).is_pending(),
        "what is being stored is still held"
    );
    buffer.stored(&batch.blocks, &tip(&blocks[..3]));
    assert!(within("room", waiting).await);
}

/// Covers: NEW-09
#[tokio::test(start_paused = true)]
async fn closing_ends_every_wait() {
    let blocks = chain(5, 1000);
    let (buffer, _) = after_genesis(&blocks, &config(2_000, 1_000));
    let giver = peer();
    let pushed = buffer.push(blocks[2].clone(), &giver);
    assert!(within("room", pushed).await);
    let waiting = buffer.push(blocks[3].clone(), &Giver::Stream);
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    buffer.close();
    assert!(!within("the end of the wait", waiting).await);
    assert_eq!(
        buffer.try_push(blocks[1].clone(), Origin::Orderer),
        Push::Closed
    );
}

/// What is due waits for what is being judged, as long as it is less than one append may have.
#[test]
fn a_batch_gathers_while_more_is_coming() {
    let blocks = chain(7, 10);
    let mut config = config(10_000, 9_000);
    let push = |buffer: &Buffer, index: usize| {
        let pushed = buffer.try_push(blocks[index].clone(), Origin::Orderer);
        assert_eq!(pushed, Push::Queued);
    };
    let (buffer, tip_now) = after_genesis(&blocks, &config);
    buffer.comes();
    push(&buffer, 2);
    assert!(!buffer.gathers(), "nothing is due");
    push(&buffer, 1);
    assert!(buffer.gathers());
    buffer.came();
    assert!(!buffer.gathers(), "nothing more is coming");
    buffer.comes();
    push(&buffer, 3);
    assert!(buffer.gathers());
    push(&buffer, 4);
    assert!(!buffer.gathers(), "an append has four blocks");
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1, 2, 3, 4]);
    assert!(!buffer.gathers());
    config.batch_bytes = NonZeroUsize::new(blocks[1].block().raw().len() + 1).unwrap();
    let buffer = after_genesis(&blocks, &config).0;
    buffer.comes();
    push(&buffer, 1);
    assert!(buffer.gathers());
    push(&buffer, 2);
    assert!(!buffer.gathers(), "it has as many bytes as an append");
}

/// A producer without room is not waited for: it waits for the writer.
#[tokio::test(start_paused = true)]
async fn a_batch_gathers_no_more_once_a_producer_waits_for_room() {
    let blocks = chain(4, 500);
    let (buffer, tip_now) = after_genesis(&blocks, &config(1_500, 100));
    buffer.comes();
    assert!(buffer.push(blocks[1].clone(), &Giver::Stream).await);
    within("the writer", buffer.ready()).await;
    assert!(buffer.gathers());
    let mut waits = Box::pin(buffer.push(blocks[2].clone(), &Giver::Stream));
    if waits.as_mut().now_or_never().is_none() {
        within("the writer", buffer.ready()).await;
        assert!(!buffer.gathers());
    } else {
        panic!("there was room");
    }
    let batch = buffer.take(&tip_now);
    buffer.stored(&batch.blocks, &tip_now.grown_by(&blocks[1]));
    assert!(within("the room", waits).await);
    assert!(buffer.gathers(), "there is room again");
}

/// The stream and ranges have a bound of their own, which the block that is due exceeds.
#[test]
fn what_catches_up_has_a_bound_of_its_own() {
    let blocks = chain(5, 100);
    let each = blocks[1].block().raw().len();
    let config = Config {
        catch_up_buffer_bytes: NonZeroUsize::new(2 * each).unwrap(),
        ..config(100_000, 9_000)
    };
    let buffer = after_genesis(&blocks, &config).0;
    let push = |index: usize, origin| buffer.try_push(blocks[index].clone(), origin);
    assert_eq!(push(3, Origin::Orderer), Push::Queued);
    assert_eq!(push(4, Origin::Orderer), Push::Queued);
    assert_eq!(
        push(2, Origin::Orderer),
        Push::Full,
        "the stream stays in order"
    );
    assert_eq!(push(1, Origin::Orderer), Push::Queued, "it is due");
    assert_eq!(push(2, Origin::Topic), Push::Queued, "others have theirs");
}

/// The stream went past a block while the writer had it in hand: it does not bring it again.
#[test]
fn a_refused_block_that_the_stream_went_past_meanwhile_is_told_of() {
    let blocks = chain(3, 10);
    let (buffer, tip_now) = after_genesis(&blocks, &config(10_000, 9_000));
    let (number, hash) = (blocks[1].number(), blocks[1].header_hash());
    for passes in [false, true] {
        assert!(!buffer.passed(number, &hash), "it is not here");
        assert_eq!(
            buffer.try_push(blocks[1].clone(), Origin::Topic),
            Push::Queued
        );
        let batch = buffer.take(&tip_now);
        if passes {
            assert!(buffer.passed(number, &hash));
        }
        assert_eq!(buffer.refused(&batch.blocks), passes);
    }
}

/// A producer dies with the lock in hand while the writer waits: whoever comes next has the writer
/// find that out, and who only looks is told something.
#[tokio::test(start_paused = true)]
async fn the_writer_hears_of_a_producer_that_died_with_the_lock_in_hand() {
    let blocks = chain(2, 10);
    let buffer = after_genesis(&blocks, &config(10_000, 9_000)).0;
    let dies = |what: &dyn Fn()| catch_unwind(AssertUnwindSafe(what)).is_err();
    for looks in [true, false] {
        buffer.poison();
        assert!(
            buffer.ready().now_or_never().is_none(),
            "nobody told it yet"
        );
        assert_eq!(
            dies(&|| match looks {
                true => assert_eq!(buffer.bytes(), 0),
                false => drop(buffer.next()),
            }),
            !looks
        );
        within("the writer", buffer.ready()).await;
        assert!(dies(&|| drop(buffer.take(&ChainInfo::EMPTY))));
        buffer.restart(BlockNumber::new(1));
        // It looks once more than it must.
        within("the writer", buffer.ready()).await;
    }
    let pushed = buffer.try_push(blocks[1].clone(), Origin::Topic);
    assert_eq!(pushed, Push::Queued);
    // Whoever closes it need not ask how the writer ended.
    buffer.poison();
    buffer.close();
    buffer.restart(BlockNumber::new(1));
    let pushed = buffer.try_push(blocks[1].clone(), Origin::Topic);
    assert_eq!(pushed, Push::Closed);
}
