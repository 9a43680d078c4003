// SPDX-License-Identifier: Apache-2.0
//! Pings: often enough to find a dead orderer, and never so often that a live one takes offence.

use std::time::Duration;

use block_api::SourceError;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;

use crate::support::raw::{self, ACK, PING};

#[tokio::test(start_paused = true)]
async fn pings_are_at_least_a_minute_apart() {
    let (mut stream, mut server) = raw::opened().await;
    let mut pings = Vec::new();
    let answering = async {
        while pings.len() < 10 {
            let frame = server.receive().await.expect("the client is there");
            if frame.kind == PING && frame.flags & ACK == 0 {
                pings.push(Instant::now());
                server.send(PING, ACK, &frame.payload).await;
            }
        }
    };
    tokio::select! {
        ended = stream.next() => panic!("{ended:?}"),
        () = answering => {}
    }
    for pair in pings.windows(2) {
        let gap = pair[1] - pair[0];
        assert!(
            (Duration::from_secs(60)..Duration::from_secs(70)).contains(&gap),
            "{gap:?}"
        );
    }
}

/// An orderer behind a dead link is found by the first ping that it does not answer.
#[tokio::test(start_paused = true)]
async fn a_ping_without_an_answer_breaks_the_stream() {
    let (mut stream, server) = raw::opened().await;
    let before = Instant::now();
    let ended = timeout(Duration::from_secs(1000), stream.next())
        .await
        .expect("it is noticed");
    assert!(
        matches!(ended, Some(Err(SourceError::Broken { .. }))),
        "{ended:?}"
    );
    let after = before.elapsed();
    assert!(
        (Duration::from_secs(80)..Duration::from_secs(90)).contains(&after),
        "{after:?}"
    );
    drop(server);
}
