// SPDX-License-Identifier: Apache-2.0
//! The request loop, its counters, and what ends it.

use std::sync::Arc;

use block_api::{
    Block,
    testing::{OpenReaders, TestChain},
};
use orderer_server::{DeliverConfig, OrdererServer, Peer, ServedChannel};
use protos::common::Status;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::{
    HEIGHT, HandClock, channel_id,
    ledger::Ledger,
    recorded,
    seek::{MAX, Seek, at, newest, oldest},
    server_of,
    talk::{Got, Talk, blocks, refused},
};

fn scene() -> (Arc<Ledger>, OrdererServer) {
    let ledger = Ledger::recorded();
    let server = server_of(
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
        HandClock::new(),
    );
    (ledger, server)
}

/// Covers: DLV-03, DLV-09
#[tokio::test]
async fn streams_requests_blocks_and_bytes_are_counted() {
    let (ledger, server) = scene();
    let stats = server.stats();
    let mut talk = Talk::with(&server).await;
    assert_eq!(
        (stats.counts().streams_opened, stats.counts().streams_closed),
        (1, 0)
    );
    talk.send(&Seek::new(at(0), at(2)).envelope().await).await;
    assert_eq!(talk.answer().await, blocks(0..=2));
    let sent: usize = (0..=2).map(|number| ledger.block(number).len()).sum();
    let counts = stats.counts();
    assert_eq!((counts.blocks_sent, counts.bytes_sent), (3, sent as u64));
    assert_eq!(
        (counts.requests_received, counts.requests_succeeded),
        (1, 1)
    );
    // A request for no channel that is served is not counted as one.
    talk.send(&Seek::new(at(0), at(2)).channel("other").envelope().await)
        .await;
    assert_eq!(talk.answer().await, refused([], Status::NotFound));
    assert_eq!(stats.counts().requests_received, 1);
    drop(talk);
    assert_eq!(
        (stats.counts().streams_opened, stats.counts().streams_closed),
        (1, 1)
    );
}

#[tokio::test]
async fn block_streams_are_told_from_probes() {
    let (_, server) = scene();
    let rows = [
        ("a puller", Seek::new(at(0), at(MAX)), (1, 0), (1, 0)),
        (
            "a client that waits",
            Seek::new(oldest(), at(MAX)),
            (1, 0),
            (1, 0),
        ),
        (
            "headers",
            Seek::new(at(0), at(MAX)).headers(),
            (0, 1),
            (0, 1),
        ),
        (
            "does not wait",
            Seek::new(at(0), at(MAX)).fail(),
            (0, 1),
            (0, 1),
        ),
        ("newest only", Seek::new(newest(), newest()), (0, 1), (0, 0)),
    ];
    for (name, seek, expected, still_open) in rows {
        let before = server.stats().counts();
        let mut talk = Talk::with(&server).await;
        talk.send(&seek.envelope().await).await;
        talk.next().await;
        let open = server.stats().counts();
        let counted = (
            open.block_streams - before.block_streams,
            open.probes - before.probes,
        );
        assert_eq!(counted, expected, "{name}");
        assert_eq!(
            (open.open_block_streams, open.open_probes),
            still_open,
            "{name}"
        );
        drop(talk);
        let after = server.stats().counts();
        assert_eq!(
            (after.open_block_streams, after.open_probes),
            (0, 0),
            "{name}"
        );
    }
}

#[tokio::test]
async fn whole_blocks_are_sent_byte_for_byte() {
    let (ledger, server) = scene();
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(oldest(), newest()).envelope().await)
        .await;
    for number in 0..HEIGHT {
        assert_eq!(talk.block().await, ledger.block(number), "block {number}");
    }
}

/// Covers: DLV-13, DLV-14
#[tokio::test]
async fn headers_come_without_data_and_leave_the_kept_block_as_it_is() {
    let (ledger, server) = scene();
    let before = ledger.block(12);
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(12), at(12)).headers().envelope().await)
        .await;
    let sent = Block::parse(talk.block().await).unwrap();
    let kept = Block::parse(before.clone()).unwrap();
    assert!(!sent.has_data());
    assert_eq!(sent.header_hash(), kept.header_hash());
    assert!(sent.slots().eq(kept.slots()), "the metadata is all there");
    assert_eq!(ledger.block(12), before);
    assert!(
        sent.raw().len() < 2000 && before.len() > 100_000,
        "{} of {}",
        sent.raw().len(),
        before.len()
    );
}

/// Covers: DLV-14
#[tokio::test]
async fn config_blocks_come_whole_in_a_stream_of_headers() {
    let mut chain = TestChain::new("ch-raft");
    let made = [
        chain.config(),
        chain.data(10),
        chain.config(),
        chain.data(10),
    ];
    let ledger = Ledger::starting_at(0, made.iter().map(|block| block.raw().clone()).collect());
    let server = server_of(
        ServedChannel::new(ledger, Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(oldest(), newest()).headers().envelope().await)
        .await;
    assert_eq!(talk.block().await, *made[0].raw());
    assert_eq!(talk.next().await, Got::Header(1));
    assert_eq!(talk.block().await, *made[2].raw());
    assert_eq!(talk.next().await, Got::Header(3));
}

/// Covers: DLV-06, DLV-21
#[tokio::test]
async fn a_half_close_is_not_noticed_while_blocks_are_sent() {
    let (_, server) = scene();
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(5)).envelope().await).await;
    assert_eq!(talk.next().await, Got::Block(0));
    talk.half_close();
    assert_eq!(talk.answer().await, blocks(1..=5));
    assert_eq!(talk.next().await, Got::End);
}

/// Covers: DLV-27
#[tokio::test]
async fn a_store_that_fails_makes_the_stream_unavailable() {
    let (ledger, server) = scene();
    ledger.break_reads();
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(2)).envelope().await).await;
    assert_eq!(talk.answer().await, refused([], Status::ServiceUnavailable));
    assert_eq!(talk.next().await, Got::End);
}

/// Covers: DLV-27
#[tokio::test]
async fn a_store_that_closes_ends_a_waiting_stream() {
    let (ledger, server) = scene();
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(HEIGHT), at(MAX)).envelope().await)
        .await;
    tokio::select! {
        biased;
        got = talk.next() => panic!("{got:?}"),
        () = ledger.waited_for(HEIGHT + 1) => {}
    }
    ledger.close();
    assert_eq!(talk.answer().await, refused([], Status::ServiceUnavailable));
}

#[tokio::test]
async fn a_stored_block_that_does_not_parse_is_no_header() {
    let ledger = Ledger::starting_at(0, vec![b"\xff\xff no block".as_slice().into()]);
    let server = server_of(
        ServedChannel::new(ledger, Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(0)).headers().envelope().await)
        .await;
    assert_eq!(talk.answer().await, refused([], Status::ServiceUnavailable));
}

/// Covers: DLV-05
#[tokio::test]
async fn channels_come_and_go() {
    // Blocks so big that gRPC sends each by itself, before it asks for the next.
    let ledger = Ledger::starting_at(0, vec![recorded(20); 4]);
    let server = server_of(
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let mut waiting = Talk::with(&server).await;
    waiting
        .send(&Seek::new(at(4), at(MAX)).envelope().await)
        .await;
    let mut reading = Talk::with(&server).await;
    reading
        .send(&Seek::new(at(0), at(MAX)).best_effort().envelope().await)
        .await;
    assert_eq!(reading.next().await, Got::Block(20));
    tokio::select! {
        biased;
        got = waiting.next() => panic!("{got:?}"),
        () = ledger.waited_for(5) => {}
    }
    assert!(server.remove_channel(&channel_id()));
    assert!(!server.remove_channel(&channel_id()));
    assert_eq!(
        waiting.answer().await,
        refused([], Status::ServiceUnavailable)
    );
    assert_eq!(
        reading.answer().await,
        refused([], Status::ServiceUnavailable)
    );
    let request = Seek::new(at(0), at(0)).envelope().await;
    let mut talk = Talk::with(&server).await;
    talk.send(&request).await;
    assert_eq!(talk.answer().await, refused([], Status::NotFound));
    server.add_channel(
        channel_id(),
        ServedChannel::new(ledger, Arc::new(OpenReaders)),
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&request).await;
    assert_eq!(talk.answer().await, blocks([20]));
}

/// Covers: DLV-21
#[tokio::test]
async fn a_server_that_stops_ends_every_call() {
    let (ledger, server) = scene();
    let stop = CancellationToken::new();
    let peer = Peer {
        stop: stop.clone(),
        ..Peer::default()
    };
    let mut idle = Talk::by(&server, peer.clone()).await;
    let mut waiting = Talk::by(&server, peer).await;
    waiting
        .send(&Seek::new(at(HEIGHT), at(MAX)).envelope().await)
        .await;
    tokio::select! {
        biased;
        got = waiting.next() => panic!("{got:?}"),
        () = ledger.waited_for(HEIGHT + 1) => {}
    }
    stop.cancel();
    assert_eq!(idle.next().await, Got::Error(Code::Unavailable));
    assert_eq!(waiting.next().await, Got::Error(Code::Unavailable));
    let counts = server.stats().counts();
    assert_eq!((counts.requests_failed, counts.open_block_streams), (1, 0));
}

#[tokio::test]
async fn reads_are_bounded_in_blocks_and_bytes_and_by_the_stop() {
    let ledger = Ledger::recorded();
    let config = DeliverConfig {
        batch_bytes: 40_000.try_into().unwrap(),
        batch_blocks: 4.try_into().unwrap(),
        ..DeliverConfig::default()
    };
    let server = OrdererServer::builder(HandClock::new())
        .config(config)
        .build();
    server.add_channel(
        channel_id(),
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(21)).envelope().await).await;
    assert_eq!(
        talk.answer().await,
        blocks(0..=21),
        "blocks above the byte limit, too"
    );
    let reads = ledger.reads();
    assert!(
        reads
            .iter()
            .all(|limits| limits.bytes.get() == 40_000 && limits.blocks.get() <= 4)
    );
    assert!(reads.len() > 8, "{} reads", reads.len());
    assert_eq!(
        reads.last().unwrap().blocks.get(),
        1,
        "no block past the stop is read"
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(5), at(5)).envelope().await).await;
    assert_eq!(talk.answer().await, blocks([5]));
    assert_eq!(ledger.reads().last().unwrap().blocks.get(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_leaves_nothing_behind() {
    let ledger = Ledger::starting_at(0, vec![recorded(0)]);
    let server = server_of(
        ServedChannel::new(ledger.clone(), Arc::new(OpenReaders)),
        HandClock::new(),
    );
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(1), at(MAX)).envelope().await).await;
    tokio::select! {
        biased;
        got = talk.next() => panic!("{got:?}"),
        () = ledger.waited_for(2) => {}
    }
    drop(talk);
    let counts = server.stats().counts();
    assert_eq!((counts.streams_opened, counts.streams_closed), (1, 1));
    assert_eq!((counts.open_block_streams, counts.requests_failed), (0, 1));
}
