// SPDX-License-Identifier: Apache-2.0
//! What the buffer admits, and in which order it gives.

use std::{num::NonZeroUsize, sync::Arc};

use block_api::{
    Height,
    testing::{TestChain, within},
};
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

/// Covers: BUF-01, BUF-02, BUF-03
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

/// Whoever fills the buffer leaves the others what is promised to them.
#[test]
fn no_producer_fills_the_room_of_the_others() {
    let blocks = chain(40, 1000);
    for (greedy, origins) in [
        (Origin::Orderer, [Origin::Topic, Origin::CatchUp]),
        (Origin::CatchUp, [Origin::Topic, Origin::Orderer]),
        (Origin::Topic, [Origin::Orderer, Origin::CatchUp]),
    ] {
        let wide = Config {
            window: 100,
            ..config(12_000, 11_000)
        };
        let (buffer, _) = after_genesis(&blocks, &wide);
        // The lowest ones, so that nobody makes room for those who come later.
        let held = blocks[2..]
            .iter()
            .take_while(|block| buffer.try_push((*block).clone(), greedy) == Push::Queued)
            .count();
        assert!(held >= 7, "{greedy:?} held {held}");
        for (block, origin) in blocks[30..].iter().zip(origins) {
            assert_eq!(
                buffer.try_push(block.clone(), origin),
                Push::Queued,
                "{origin:?} beside {greedy:?}"
            );
        }
    }
}

#[test]
fn the_highest_make_room_for_lower_ones_and_come_again() {
    let blocks = chain(10, 1000);
    let (buffer, tip_now) = after_genesis(&blocks, &config(6_000, 5_000));
    for index in [9, 8, 7] {
        let pushed = buffer.try_push(blocks[index].clone(), Origin::CatchUp);
        assert_eq!(pushed, Push::Queued);
    }
    // The topic drives nobody out but with what is due, and nobody what the stream brought.
    let topic = |index: usize| buffer.try_push(blocks[index].clone(), Origin::Topic);
    assert_eq!(topic(5), Push::Queued);
    assert_eq!(topic(6), Push::Full);
    assert_eq!(topic(4), Push::Queued, "in place of 5");
    let orderer = |index: usize| buffer.try_push(blocks[index].clone(), Origin::Orderer);
    assert_eq!(orderer(2), Push::Queued);
    assert_eq!(orderer(3), Push::Queued);
    let hole = |first: u64, last: u64| BlockNumber::new(first)..=BlockNumber::new(last);
    let holes = || buffer.holes(BlockNumber::new(9));
    assert_eq!(holes(), [hole(1, 1), hole(5, 6), hole(9, 9)]);
    assert_eq!(buffer.evicted(), 2);
    assert_eq!(topic(1), Push::Queued, "it is due");
    assert_eq!(
        holes(),
        [hole(5, 6), hole(8, 9)],
        "the highest one made room for it"
    );
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1, 2, 3, 4]);
    buffer.stored(&batch.blocks, &tip(&blocks[..5]));
    assert_eq!(buffer.bytes(), blocks[7].block().raw().len(), "7 waits");
}

/// What the stream went past does not come again by itself.
#[test]
fn what_the_stream_went_past_makes_no_room() {
    let blocks = chain(10, 1000);
    let (buffer, _) = after_genesis(&blocks, &config(3_000, 2_900));
    let (number, hash) = (blocks[9].number(), blocks[9].header_hash());
    assert_eq!(
        buffer.try_push(blocks[9].clone(), Origin::Topic),
        Push::Queued
    );
    assert_eq!(
        buffer.try_push(blocks[9].clone(), Origin::Orderer),
        Push::Known
    );
    for index in (1..8).rev() {
        buffer.try_push(blocks[index].clone(), Origin::CatchUp);
    }
    assert!(buffer.knows(number, &hash));
    assert!(buffer.evicted() > 0);
}

/// A channel whose store is stuck holds what there is; the others have their reserve, and what is
/// due, whatever its size.
#[test]
fn a_stuck_channel_leaves_the_others_their_reserve() {
    let blocks = chain(20, 1000);
    let config = Config {
        channel_reserve_bytes: NonZeroUsize::new(2_500).unwrap(),
        ..config(20_000, 5_000)
    };
    let budget = Budget::new(12_000);
    let next = BlockNumber::new(1);
    let stuck = Buffer::new(&config, &budget, next);
    let other = Buffer::new(&config, &budget, next);
    let held = blocks[2..]
        .iter()
        .take_while(|block| stuck.try_push((*block).clone(), Origin::Orderer) == Push::Queued)
        .count();
    let length = blocks[2].block().raw().len();
    assert_eq!(held, 9_500 / length, "all but the reserve of the other one");
    for index in [2, 3] {
        let pushed = other.try_push(blocks[index].clone(), Origin::Orderer);
        assert_eq!(pushed, Push::Queued, "its reserve");
    }
    let orderer = |index: usize| other.try_push(blocks[index].clone(), Origin::Orderer);
    assert_eq!(orderer(4), Push::Full);
    assert_eq!(orderer(1), Push::Queued, "it is due");
    assert!(budget.in_use() > 12_000, "by the block that is due");
    drop(stuck);
    assert_eq!(orderer(4), Push::Queued, "there is room again");
    drop(other);
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn room_that_one_channel_gives_back_is_for_those_who_wait_in_others() {
    let blocks = chain(20, 1000);
    let config = Config {
        channel_reserve_bytes: NonZeroUsize::MIN,
        ..config(12_000, 5_000)
    };
    let budget = Budget::new(4_000);
    let [one, two] = [0, 1].map(|_| Buffer::new(&config, &budget, BlockNumber::new(1)));
    for index in [1, 2, 3] {
        one.try_push(blocks[index].clone(), Origin::Orderer);
    }
    let waiting = two.push(blocks[2].clone(), &Giver::Stream);
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    let batch = one.take(&tip(&blocks[..1]));
    one.stored(&batch.blocks, &tip(&blocks[..4]));
    assert!(within("room", waiting).await);
}

/// Covers: BUF-04
#[test]
fn of_copies_that_come_at_one_time_one_is_kept() {
    let blocks = chain(2, 10);
    let (buffer, tip_now) = after_genesis(&blocks, &config(10_000, 9_000));
    let origins = [
        Origin::Orderer,
        Origin::Topic,
        Origin::CatchUp,
        Origin::Pull,
    ];
    let queued: usize = std::thread::scope(|scope| {
        let pushes = origins.map(|origin| {
            let (buffer, block) = (&buffer, blocks[1].clone());
            scope.spawn(move || usize::from(buffer.try_push(block, origin) == Push::Queued))
        });
        pushes.map(|push| push.join().unwrap()).iter().sum()
    });
    assert_eq!(queued, 1);
    let batch = buffer.take(&tip_now);
    assert_eq!(numbers(&batch), [1]);
    // Nor is one taken while the first one is being stored.
    assert_eq!(
        buffer.try_push(blocks[1].clone(), Origin::Topic),
        Push::Known
    );
    assert!(buffer.stored(&batch.blocks, &tip(&blocks)).is_empty());
    assert_eq!(buffer.bytes(), 0);
}

/// Another block of a number that is being stored is handed back, to be kept as evidence.
#[test]
fn a_rival_that_comes_while_a_block_is_stored_is_not_lost() {
    let mut chain = TestChain::new("ch");
    let genesis = TestChain::verified(&chain.config());
    let (mut one, mut two) = (chain.clone(), chain);
    let (one, two) = (one.data(1), two.data(2));
    let (one, two) = (TestChain::verified(&one), TestChain::verified(&two));
    let (buffer, tip_now) = after_genesis(&[genesis.clone()], &config(10_000, 9_000));
    buffer.try_push(one.clone(), Origin::Orderer);
    let batch = buffer.take(&tip_now);
    assert_eq!(buffer.try_push(two.clone(), Origin::Topic), Push::Queued);
    let late = buffer.stored(&batch.blocks, &tip(&[genesis, one]));
    let late: Vec<_> = late.iter().map(|late| late.block.header_hash()).collect();
    assert_eq!(late, [two.header_hash()]);
    assert_eq!(buffer.bytes(), 0);
}

#[test]
fn what_a_node_gave_is_dropped_at_once() {
    let blocks = chain(6, 10);
    let (buffer, _) = after_genesis(&blocks, &config(10_000, 9_000));
    for (index, giver) in [(2, "liar"), (3, "other"), (4, "liar")] {
        let giver = Giver::Peer(NodeId::new(giver));
        let pushed = buffer.push(blocks[index].clone(), &giver);
        assert_eq!(futures::FutureExt::now_or_never(pushed), Some(true));
    }
    buffer.drop_given_by(&NodeId::new("liar"));
    let hole = |first: u64, last: u64| BlockNumber::new(first)..=BlockNumber::new(last);
    assert_eq!(buffer.holes(BlockNumber::new(4)), [hole(1, 2), hole(4, 4)]);
}

/// A push, a taking of a batch or its storing, in one of two channels.
fn steps() -> impl Strategy<Value = Vec<(bool, usize, usize, u8)>> {
    proptest::collection::vec((any::<bool>(), 1usize..12, 0usize..4, 0u8..8), 1..120)
}

proptest! {
    /// Covers: BUF-05, STA-06
    #[test]
    fn what_is_held_is_bounded_and_counted_and_nobody_starves(steps in steps()) {
        let sizes = [700, 30, 2_500, 900, 100, 5_000, 700, 700, 10, 1_200, 300, 800];
        let mut made = TestChain::new("ch");
        let blocks: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| if index == 0 { made.config() } else { made.data(*size) })
            .map(|block| TestChain::verified(&block))
            .collect();
        let largest = blocks.iter().map(|block| block.block().raw().len()).max().unwrap();
        let (limit, total) = (4_000, 6_000);
        let config = Config {
            channel_reserve_bytes: NonZeroUsize::new(1_000).unwrap(),
            ..config(limit, 1_500)
        };
        let budget = Budget::new(total);
        let channels = [0, 1].map(|_| Buffer::new(&config, &budget, BlockNumber::new(1)));
        let mut tips = [tip(&blocks[..1]); 2];
        let mut batches = [Batch::default(), Batch::default()];
        let origins = [Origin::Orderer, Origin::Topic, Origin::Pull, Origin::CatchUp];
        let store = |which: usize, tips: &mut [ChainInfo; 2], batches: &mut [Batch; 2]| {
            let batch = std::mem::take(&mut batches[which]);
            for stored in &batch.blocks {
                assert_eq!(stored.block.number(), tips[which].height.next_block());
                tips[which] = tips[which].grown_by(&stored.block);
            }
            channels[which].stored(&batch.blocks, &tips[which]);
        };
        for (which, index, origin, step) in steps {
            let which = usize::from(which);
            let buffer = &channels[which];
            match step {
                0 if batches[which].blocks.is_empty() => batches[which] = buffer.take(&tips[which]),
                1 => store(which, &mut tips, &mut batches),
                _ => {
                    let due = blocks[index].number() == buffer.next();
                    let pushed = buffer.try_push(blocks[index].clone(), origins[origin]);
                    prop_assert!(!due || pushed != Push::Full, "what is due is always admitted");
                }
            }
            prop_assert!(buffer.bytes() <= limit + largest);
            prop_assert!(budget.in_use() <= total + 2 * largest);
        }
        // Whatever the one has left over, the other one comes to its end.
        for which in [1, 0] {
            store(which, &mut tips, &mut batches);
            while let Some(due) = blocks.get(tips[which].height.get() as usize) {
                channels[which].try_push(due.clone(), Origin::Orderer);
                batches[which] = channels[which].take(&tips[which]);
                prop_assert!(!batches[which].blocks.is_empty());
                store(which, &mut tips, &mut batches);
            }
            prop_assert_eq!(tips[which].height, Height::new(12));
            prop_assert_eq!(channels[which].bytes(), 0);
        }
        prop_assert_eq!(budget.in_use(), 2_000);
        drop(channels);
        prop_assert_eq!(budget.in_use(), 0);
    }
}
