// SPDX-License-Identifier: Apache-2.0
//! Streams of one channel share what they read, within bounds, and nothing that is not to be had.

use std::sync::Arc;

use block_api::testing::{OpenReaders, TestChain};
use orderer_server::{
    DeliverConfig, OrdererServer, Peer, ServeConfig, ServedChannel, serve_connection,
};
use protos::common::Status;
use tokio::{io::duplex, task::JoinSet};

use crate::support::{
    HandClock, channel_id,
    ledger::Ledger,
    seek::{MAX, Seek, at},
    talk::{Got, Talk, blocks},
    wire::Wire,
    within,
};

/// The height of the chains.
const HEIGHT: u64 = 66;

/// The bytes of data in a block: so many that each message is encoded for itself, and none ahead of
/// what a test takes.
const BYTES: usize = 40_000;

/// A chain of so many blocks.
fn chain(blocks: u64, bytes: usize) -> (TestChain, Arc<Ledger>) {
    let mut chain = TestChain::new("ch-raft");
    let raw = (0..blocks).map(|_| chain.data(bytes).raw().clone());
    let ledger = Ledger::starting_at(0, raw.collect());
    (chain, ledger)
}

/// A server that reads so many blocks ahead, and so many bytes for all streams.
fn scene(ledger: &Arc<Ledger>, batch_blocks: usize, ahead_bytes: usize) -> OrdererServer {
    let config = DeliverConfig {
        batch_blocks: batch_blocks.try_into().unwrap(),
        ahead_bytes: ahead_bytes.try_into().unwrap(),
        ..DeliverConfig::default()
    };
    let server = OrdererServer::builder(HandClock::new())
        .config(config)
        .build();
    serve(&server, ledger);
    server
}

fn serve(server: &OrdererServer, ledger: &Arc<Ledger>) {
    server.add_channel(
        channel_id(),
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
    );
}

/// A stream from this block on that goes on for ever, with its first block.
async fn open(server: &OrdererServer, from: u64) -> Talk {
    let mut talk = Talk::with(server).await;
    talk.send(&Seek::new(at(from), at(MAX)).envelope().await)
        .await;
    assert_eq!(talk.next().await, Got::Block(from));
    talk
}

async fn expect(talk: &mut Talk, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(talk.next().await, Got::Block(number));
    }
}

#[tokio::test]
async fn what_one_stream_has_read_is_not_read_again_for_another() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let server = scene(&ledger, 8, 128 << 20);
    let _other = open(&server, 0).await;
    let mut first = open(&server, 0).await;
    expect(&mut first, 1..HEIGHT).await;
    let read = ledger.reads().len();
    for from in [0, 5, HEIGHT - 1] {
        let mut later = Talk::with(&server).await;
        later
            .send(&Seek::new(at(from), at(HEIGHT - 1)).envelope().await)
            .await;
        assert_eq!(later.answer().await, blocks(from..HEIGHT), "from {from}");
    }
    assert_eq!(ledger.reads().len(), read);
}

#[tokio::test]
async fn a_new_block_is_read_once_for_all_who_wait_for_it() {
    let (mut chain, ledger) = chain(3, BYTES);
    let server = scene(&ledger, 8, 128 << 20);
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(open(&server, 2).await);
    }
    let read = ledger.reads().len();
    for number in 3..6 {
        ledger.append(chain.data(BYTES).raw().clone());
        for talk in &mut waiting {
            assert_eq!(talk.next().await, Got::Block(number));
        }
    }
    assert_eq!(ledger.reads().len(), read + 3);
}

#[tokio::test]
async fn a_stream_that_is_alone_leaves_nothing_behind() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let server = scene(&ledger, 8, 128 << 20);
    let both = [open(&server, 0).await, open(&server, 0).await];
    let read = ledger.reads().len();
    drop(both);
    let _one = open(&server, 0).await;
    let _other = open(&server, 0).await;
    assert_eq!(ledger.reads().len(), read + 2);
}

#[tokio::test]
async fn a_block_that_was_dropped_meanwhile_is_not_served_from_memory() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let server = scene(&ledger, 2, 128 << 20);
    let _other = open(&server, 0).await;
    let mut first = open(&server, 0).await;
    expect(&mut first, 1..10).await;
    let mut late = open(&server, 0).await;
    expect(&mut late, 1..2).await;
    ledger.prune(8);
    assert_eq!(late.next().await, Got::Status(Status::NotFound));
    let mut kept = open(&server, 8).await;
    expect(&mut kept, 9..12).await;
}

#[tokio::test]
async fn a_channel_that_is_added_anew_serves_the_blocks_of_its_own_reader() {
    let (_, damaged) = chain(4, BYTES);
    let (_, repaired) = chain(4, BYTES + 1);
    let server = scene(&damaged, 4, 128 << 20);
    let _other = open(&server, 0).await;
    let _first = open(&server, 0).await;
    serve(&server, &repaired);
    let _new = open(&server, 0).await;
    for _ in 0..3 {
        let mut talk = Talk::with(&server).await;
        talk.send(&Seek::new(at(0), at(MAX)).envelope().await).await;
        for number in 0..4 {
            assert_eq!(talk.block().await, repaired.block(number));
        }
    }
}

#[tokio::test]
async fn streams_that_take_their_time_do_not_make_others_hold_more() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let one_batch = DeliverConfig::default().batch_bytes.get();
    let server = scene(&ledger, 8, one_batch);
    // It holds what may be read ahead, and takes no more of it.
    let slow = open(&server, 0).await;
    let before = ledger.reads().len();
    let mut quick = open(&server, 0).await;
    expect(&mut quick, 1..20).await;
    let reads = ledger.reads().split_off(before);
    assert_eq!(reads.len(), 20);
    assert!(reads.iter().all(|limits| limits.blocks.get() == 1));
    drop(slow);
    let before = ledger.reads().len();
    expect(&mut quick, 20..36).await;
    assert_eq!(ledger.reads().len(), before + 2, "two batches");
    // Who waits at the tip holds nothing.
    expect(&mut quick, 36..HEIGHT).await;
    let mut next = open(&server, 0).await;
    expect(&mut next, 1..8).await;
    assert_eq!(ledger.reads().last().unwrap().blocks.get(), 8);
}

#[tokio::test]
async fn a_connection_that_takes_nothing_leaves_room_for_others() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let batch = DeliverConfig::default().batch_bytes.get();
    let config = DeliverConfig {
        ahead_bytes: (16 * batch).try_into().unwrap(),
        // Each stream reads for itself.
        recent_bytes: 1.try_into().unwrap(),
        ..DeliverConfig::default()
    };
    let server = OrdererServer::builder(HandClock::new())
        .config(config)
        .build();
    serve(&server, &ledger);
    let (near, far) = duplex(64 * 1024);
    let mut serving = JoinSet::new();
    let service = Arc::new(server.clone());
    let limits = ServeConfig {
        max_send_buffer_bytes: 1.try_into().unwrap(),
        ..ServeConfig::default()
    };
    serving.spawn(async move { serve_connection(service, far, Peer::default(), &limits).await });
    let wire = Wire::over(near).await;
    let mut stuck = Vec::new();
    for _ in 0..16 {
        let request = Seek::new(at(0), at(MAX)).envelope().await;
        stuck.push(within("a stream", wire.deliver(request)).await.unwrap());
    }
    // There is one thread and no network: when everyone has had many turns, everyone is stuck.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let before = ledger.reads().len();
    assert!(before >= 16, "{before} reads");
    let _other = open(&server, 0).await;
    let reads = ledger.reads().split_off(before);
    assert_eq!(reads[0].blocks, DeliverConfig::default().batch_blocks);
}

#[tokio::test]
async fn a_batch_larger_than_what_may_be_read_ahead_is_cut_to_it() {
    let (_, ledger) = chain(HEIGHT, BYTES);
    let server = scene(&ledger, 8, 2 * BYTES);
    let _alone = open(&server, 0).await;
    let reads = ledger.reads();
    assert_eq!(
        (reads[0].blocks.get(), reads[0].bytes.get()),
        (8, 2 * BYTES)
    );
}
