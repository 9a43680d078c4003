// SPDX-License-Identifier: Apache-2.0
//! Who gets room, who makes it, and that none is lost.

use super::*;

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

/// A producer's own bound does not hold for what is due, so nobody is driven out for its sake.
#[test]
fn a_due_block_that_is_longer_than_its_producer_may_have_drives_nobody_out() {
    let blocks = chain(6, 1000);
    let length = blocks[1].block().raw().len();
    let config = |bytes| Config {
        catch_up_buffer_bytes: NonZeroUsize::new(length / 2).unwrap(),
        ..config(bytes, 2 * length)
    };
    for (bytes, evicted) in [(4 * length, 0), (3 * length - 1, 1)] {
        let (buffer, _) = after_genesis(&blocks, &config(bytes));
        for index in [4, 5] {
            let pushed = buffer.try_push(blocks[index].clone(), Origin::Topic);
            assert_eq!(pushed, Push::Queued);
        }
        let due = buffer.try_push(blocks[1].clone(), Origin::Orderer);
        assert_eq!((due, buffer.evicted()), (Push::Queued, evicted));
    }
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
    let (buffer, tip_now) = after_genesis(std::slice::from_ref(&genesis), &config(10_000, 9_000));
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
