// SPDX-License-Identifier: Apache-2.0
//! The right to read is asked again before each block.

use std::{sync::Arc, time::Duration};

use block_api::testing::NobodyReads;
use orderer_server::{OrdererServer, ServedChannel};
use protos::common::Status;

use crate::support::{
    HandClock, HandReaders,
    ledger::Ledger,
    now, recorded,
    seek::{MAX, Seek, at},
    server_of,
    talk::{Got, Talk, refused},
};

struct Scene {
    ledger: Arc<Ledger>,
    readers: Arc<HandReaders>,
    clock: Arc<HandClock>,
    server: OrdererServer,
}

impl Scene {
    fn new() -> Self {
        let ledger = Ledger::starting_at(0, (0..3).map(recorded).collect());
        let readers = Arc::new(HandReaders::default());
        let clock = HandClock::new();
        let server = server_of(
            ServedChannel::new(ledger.clone(), readers.clone()),
            clock.clone(),
        );
        Self {
            ledger,
            readers,
            clock,
            server,
        }
    }

    /// A stream that has got its three blocks and waits for the next one.
    async fn at_the_tip(&self) -> Talk {
        let mut talk = Talk::with(&self.server).await;
        talk.send(&Seek::new(at(0), at(MAX)).envelope().await).await;
        for number in 0..3 {
            assert_eq!(talk.next().await, Got::Block(number));
        }
        talk
    }
}

/// Covers: DLV-07
#[tokio::test]
async fn who_may_not_read_gets_nothing() {
    let channel = ServedChannel::new(Ledger::recorded(), Arc::new(NobodyReads));
    let server = server_of(channel, HandClock::new());
    let mut talk = Talk::with(&server).await;
    talk.send(&Seek::new(at(0), at(2)).envelope().await).await;
    assert_eq!(talk.answer().await, refused([], Status::Forbidden));
    assert_eq!(talk.next().await, Got::End);
    let counts = server.stats().counts();
    assert_eq!(
        (
            counts.requests_received,
            counts.requests_failed,
            counts.requests_succeeded
        ),
        (1, 1, 0)
    );
    assert_eq!(
        (counts.blocks_sent, counts.block_streams, counts.probes),
        (0, 0, 0)
    );
}

/// Covers: ACL-01
#[tokio::test]
async fn the_policy_runs_once_until_it_may_have_changed() {
    let scene = Scene::new();
    let mut talk = scene.at_the_tip().await;
    assert_eq!(scene.readers.asked(), 1, "a positive verdict is kept");
    scene.readers.deny(true);
    scene.ledger.append(recorded(3));
    assert_eq!(
        talk.next().await,
        Got::Block(3),
        "nothing said that the verdict changed"
    );
    assert_eq!(scene.readers.asked(), 1);
}

/// Covers: ACL-01, DLV-24
#[tokio::test]
async fn a_right_that_is_taken_away_withholds_the_next_block() {
    let scene = Scene::new();
    let mut talk = scene.at_the_tip().await;
    scene.readers.deny(true);
    scene.readers.advance();
    scene.ledger.append(recorded(3));
    assert_eq!(talk.answer().await, refused([], Status::Forbidden));
    assert_eq!(talk.next().await, Got::End);
    assert_eq!(scene.readers.asked(), 2);
}

/// Covers: ACL-01
#[tokio::test]
async fn a_right_that_is_confirmed_stays() {
    let scene = Scene::new();
    let mut talk = scene.at_the_tip().await;
    scene.readers.advance();
    for number in 3..5 {
        scene.ledger.append(recorded(number));
        assert_eq!(talk.next().await, Got::Block(number));
    }
    assert_eq!(
        scene.readers.asked(),
        2,
        "asked once more, and not for each block"
    );
}

/// Covers: ACL-01, DLV-24
#[tokio::test]
async fn a_certificate_that_expires_withholds_the_next_block() {
    let scene = Scene::new();
    let mut talk = scene.at_the_tip().await;
    scene
        .clock
        .set(now() + Duration::from_secs(20 * 365 * 24 * 3600));
    scene.ledger.append(recorded(3));
    assert_eq!(talk.answer().await, refused([], Status::Forbidden));
    assert_eq!(
        scene.readers.asked(),
        1,
        "the policy had nothing to do with it"
    );
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    let scene = Scene::new();
    let late = 20 * 365 * 24 * 3600;
    scene.clock.set(now() + Duration::from_secs(late));
    let mut talk = Talk::with(&scene.server).await;
    talk.send(&Seek::new(at(0), at(2)).off(late as i64).envelope().await)
        .await;
    assert_eq!(talk.answer().await, refused([], Status::Forbidden));
    assert_eq!(scene.readers.asked(), 0);
}

/// An identity that is no certificate never expires (semantics §3.10, step 9).
#[tokio::test]
async fn an_identity_that_is_no_certificate_is_for_the_policy_to_judge() {
    let scene = Scene::new();
    for creator in [&b""[..], b"no identity", b"\x0a\x03Org\x12\x04cert"] {
        let mut talk = Talk::with(&scene.server).await;
        talk.send(&Seek::new(at(0), at(0)).creator(creator).envelope().await)
            .await;
        assert_eq!(talk.next().await, Got::Block(0), "{creator:?}");
    }
}
