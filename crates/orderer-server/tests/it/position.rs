// SPDX-License-Identifier: Apache-2.0
//! Where a stream starts and stops, also on chains that begin late or are empty (semantics §6.3).

use std::sync::Arc;

use block_api::testing::OpenReaders;
use protos::common::Status;

use crate::support::{
    HandClock,
    ledger::Ledger,
    recorded,
    seek::{MAX, Seek, at, newest, next_commit, nowhere, oldest},
    server_of,
    talk::{Got, Talk, blocks, refused},
};
use orderer_server::{OrdererServer, ServedChannel};

const FIRST: u64 = 40;

fn server_on(ledger: Arc<Ledger>) -> OrdererServer {
    server_of(
        ServedChannel::new(ledger, Arc::new(OpenReaders)),
        HandClock::new(),
    )
}

/// Asserts that nothing comes until the ledger grows.
async fn waits(talk: &mut Talk, ledger: &Ledger, height: u64, name: &str) {
    tokio::select! {
        biased;
        got = talk.next() => panic!("{name}: {got:?} instead of waiting"),
        () = ledger.waited_for(height) => {}
    }
}

/// Covers: FLG-05
#[tokio::test]
async fn a_chain_that_begins_late_and_has_no_block_yet() {
    let refusals = [
        ("oldest", Seek::new(oldest(), at(MAX))),
        ("the block below", Seek::new(at(FIRST - 1), at(MAX))),
        (
            "the block after the next",
            Seek::new(at(FIRST + 1), at(MAX)),
        ),
    ];
    for (name, seek) in refusals {
        let server = server_on(Ledger::starting_at(FIRST, Vec::new()));
        let mut talk = Talk::with(&server).await;
        talk.send(&seek.envelope().await).await;
        assert_eq!(talk.answer().await, refused([], Status::NotFound), "{name}");
    }
    for (name, start) in [
        ("newest", newest()),
        ("next_commit", next_commit()),
        ("the next block", at(FIRST)),
    ] {
        let ledger = Ledger::starting_at(FIRST, Vec::new());
        let server = server_on(ledger.clone());
        let mut talk = Talk::with(&server).await;
        talk.send(&Seek::new(start, at(MAX)).envelope().await).await;
        waits(&mut talk, &ledger, FIRST + 1, name).await;
        ledger.append(recorded(FIRST));
        assert_eq!(talk.next().await, Got::Block(FIRST), "{name}");
    }
}

/// Covers: FLG-03, FLG-05, DLV-08
#[tokio::test]
async fn a_chain_that_begins_late() {
    let server = server_on(Ledger::starting_at(
        FIRST,
        (FIRST..FIRST + 3).map(recorded).collect(),
    ));
    let rows = [
        (
            "oldest",
            Seek::new(oldest(), newest()),
            refused([], Status::NotFound),
        ),
        (
            "newest..newest",
            Seek::new(newest(), newest()),
            blocks([FIRST + 2]),
        ),
        (
            "the first one on",
            Seek::new(at(FIRST), newest()),
            blocks(FIRST..FIRST + 3),
        ),
        (
            "below the first",
            Seek::new(at(FIRST - 1), newest()),
            refused([], Status::NotFound),
        ),
        (
            "an impossible start is no stop before the start",
            Seek::new(at(9), at(3)),
            refused([], Status::NotFound),
        ),
    ];
    for (name, seek, expected) in rows {
        let mut talk = Talk::with(&server).await;
        talk.send(&seek.envelope().await).await;
        assert_eq!(talk.answer().await, expected, "{name}");
    }
}

#[tokio::test]
async fn an_empty_chain_waits_for_the_genesis_block() {
    for (name, start) in [
        ("oldest", oldest()),
        ("newest", newest()),
        ("0", at(0)),
        ("next_commit", next_commit()),
    ] {
        let ledger = Ledger::starting_at(0, Vec::new());
        let server = server_on(ledger.clone());
        let mut talk = Talk::with(&server).await;
        talk.send(&Seek::new(start, oldest()).envelope().await)
            .await;
        waits(&mut talk, &ledger, 1, name).await;
        ledger.append(recorded(0));
        assert_eq!(talk.answer().await, blocks([0]), "{name}");
    }
}

/// Stops that never come leave the stream open (H19), as Fabric does.
#[tokio::test]
async fn a_stop_before_the_first_block_never_ends_the_stream() {
    let rows = [
        ("stop = next_commit", at(1), next_commit()),
        ("stop is nowhere", at(1), nowhere()),
        ("stop = newest, start at the height", at(3), newest()),
    ];
    for (name, start, stop) in rows {
        let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
        let server = server_on(ledger.clone());
        let mut talk = Talk::with(&server).await;
        let first = if name.contains("height") { 3 } else { 1 };
        talk.send(&Seek::new(start, stop).envelope().await).await;
        for number in first..3 {
            assert_eq!(talk.next().await, Got::Block(number), "{name}");
        }
        for number in 3..5 {
            waits(&mut talk, &ledger, number + 1, name).await;
            ledger.append(recorded(number));
            assert_eq!(talk.next().await, Got::Block(number), "{name}");
        }
    }
    // From block 0 on, such a stop is block 0.
    let server = server_on(Ledger::recorded());
    for stop in [next_commit(), nowhere()] {
        let mut talk = Talk::with(&server).await;
        talk.send(&Seek::new(at(0), stop).envelope().await).await;
        assert_eq!(talk.answer().await, blocks([0]));
    }
}

/// Covers: DLV-11
#[tokio::test]
async fn newest_is_what_is_newest_when_the_request_arrives() {
    let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
    let server = server_on(ledger.clone());
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), newest()).envelope().await)
        .await;
    assert_eq!(talk.next().await, Got::Block(0));
    ledger.append(recorded(3));
    assert_eq!(talk.answer().await, blocks(1..3));
}

/// Covers: DLV-12
#[tokio::test]
async fn newest_to_newest_is_one_block_though_more_arrive() {
    let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
    let server = server_on(ledger.clone());
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(newest(), newest()).envelope().await)
        .await;
    assert_eq!(talk.next().await, Got::Block(2));
    ledger.append(recorded(3));
    assert_eq!(talk.answer().await, blocks([]));
}

#[tokio::test]
async fn a_stop_past_the_tip_is_waited_for() {
    let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
    let server = server_on(ledger.clone());
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(2), at(3)).envelope().await).await;
    assert_eq!(talk.next().await, Got::Block(2));
    waits(&mut talk, &ledger, 4, "stop past the tip").await;
    ledger.append(recorded(3));
    assert_eq!(talk.answer().await, blocks([3]));
}
