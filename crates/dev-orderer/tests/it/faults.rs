// SPDX-License-Identifier: Apache-2.0
//! Each scripted fault, as a client meets it.

use std::time::Duration;

use block_api::{
    BlockNumber, BlockSource as _, Content, DeliverStatus, Delivery, SourceError, Standing,
    StreamRequest, VerifiedBlock, testing::within,
};
use blockcast_dev_orderer::{DevOrderer, Fault, Mutation, Pace, Script, TlsMode, When};
use channel_config::ChannelVerifier;
use orderer_client::OrdererClient;

use crate::support::{
    channel, client, config, from, next, next_block, next_error, next_status, open,
};

/// A node with blocks 0 to 5 that plays a script.
async fn orderer(script: &Script) -> (DevOrderer, OrdererClient) {
    let orderer = DevOrderer::start(config(1, TlsMode::Server, vec![script.clone()]))
        .await
        .unwrap();
    orderer.generate(5, 1000, Pace::AllAtOnce).await.unwrap();
    let client = client(&orderer);
    (orderer, client)
}

async fn blocks(stream: &mut block_api::BlockStream, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        assert_eq!(next_block(stream).await.number().get(), number);
    }
}

fn number(n: u64) -> BlockNumber {
    BlockNumber::new(n)
}

#[tokio::test]
async fn without_a_fault_a_scripted_node_serves_as_any_other() {
    let (orderer, client) = orderer(&Script::new()).await;
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, 0..=5).await;
    orderer
        .generate(1, 3_000_000, Pace::AllAtOnce)
        .await
        .unwrap();
    assert!(next_block(&mut stream).await.raw().len() > 3_000_000);
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn withheld_blocks_come_when_the_script_ends_and_headers_come_at_once() {
    let script = Script::new().with(When::Always, Fault::Withhold { after: number(2) });
    let (orderer, client) = orderer(&script).await;
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, 0..=2).await;
    let headers = StreamRequest {
        content: Content::Headers,
        ..from(&channel(), 1)
    };
    let mut headers = open(&client, 0, &headers).await;
    for n in 1..=5 {
        let header = next_block(&mut headers).await;
        assert_eq!((header.number().get(), header.has_data()), (n, false));
    }
    script.clear();
    blocks(&mut stream, 3..=5).await;
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_hanging_stream_gives_nothing_and_ends_with_the_server() {
    let (orderer, client) = orderer(&Script::new().with(When::Nth(0), Fault::Hang)).await;
    let mut hanging = open(&client, 0, &from(&channel(), 0)).await;
    // The second stream is served, while the first one still gets nothing.
    blocks(&mut open(&client, 0, &from(&channel(), 0)).await, 0..=5).await;
    assert!(futures::poll!(futures::StreamExt::next(&mut hanging)).is_pending());
    within("the stop", orderer.stop()).await;
    next_error(&mut hanging).await;
}

#[tokio::test]
async fn a_cut_takes_the_connection_after_so_many_blocks() {
    let (orderer, client) =
        orderer(&Script::new().with(When::Nth(0), Fault::Cut { after: 3 })).await;
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, 0..=2).await;
    let error = next_error(&mut stream).await;
    assert!(matches!(error, SourceError::Broken { .. }), "{error}");
    blocks(&mut open(&client, 0, &from(&channel(), 3)).await, 3..=5).await;
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn any_status_comes_in_mid_stream_or_at_once() {
    for (code, status) in [
        (200, DeliverStatus::Success),
        (400, DeliverStatus::BadRequest),
        (403, DeliverStatus::Forbidden),
        (404, DeliverStatus::NotFound),
        (500, DeliverStatus::from_code(500)),
        (503, DeliverStatus::Unavailable),
        (299, DeliverStatus::from_code(299)),
        (0, DeliverStatus::from_code(0)),
    ] {
        let script = Script::new()
            .with(
                When::Nth(0),
                Fault::Status {
                    after: 2,
                    status: code,
                },
            )
            .with(When::Nth(1), Fault::Refuse { status: code });
        let (orderer, client) = orderer(&script).await;
        let mut stream = open(&client, 0, &from(&channel(), 0)).await;
        blocks(&mut stream, 0..=1).await;
        assert_eq!(next_status(&mut stream).await, status);
        let mut refused = open(&client, 0, &from(&channel(), 0)).await;
        assert_eq!(next_status(&mut refused).await, status);
        within("the stop", orderer.stop()).await;
    }
}

#[tokio::test]
async fn a_message_without_block_and_status_breaks_the_clients_stream() {
    let (orderer, client) =
        orderer(&Script::new().with(When::Always, Fault::Unset { after: 1 })).await;
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, [0]).await;
    next_error(&mut stream).await;
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_delay_holds_every_message_back() {
    let by = Duration::from_millis(30);
    let (orderer, client) = orderer(&Script::new().with(When::Always, Fault::Delay { by })).await;
    let begin = tokio::time::Instant::now();
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, 0..=2).await;
    assert!(begin.elapsed() >= by * 3, "{:?}", begin.elapsed());
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn refused_connections_and_handshakes_are_followed_by_good_ones() {
    let script = Script::new()
        .with(When::Nth(0), Fault::RefuseConnection)
        .with(When::Nth(1), Fault::RefuseTls);
    let (orderer, client) = orderer(&script).await;
    for _ in 0..2 {
        let opened = within(
            "the refusal",
            client.open(orderer.endpoint(), &from(&channel(), 0)),
        )
        .await;
        assert!(opened.is_err());
    }
    blocks(&mut open(&client, 0, &from(&channel(), 0)).await, 0..=5).await;
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn every_corrupt_block_is_rejected_and_the_others_are_not() {
    use Mutation::*;
    for mutation in [
        FlipData,
        FlipDataHash,
        FlipPreviousHash,
        FlipSignature,
        Number(number(9)),
        HighS,
        NoSignatures,
        Slots(0),
        JoinedEnvelopes,
        NoData,
    ] {
        let script = Script::new().with(
            When::Always,
            Fault::Corrupt {
                block: number(2),
                mutation,
            },
        );
        let (orderer, client) = orderer(&script).await;
        let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
        let mut stream = open(&client, 0, &from(&channel(), 1)).await;
        for n in 1..=3 {
            let verified =
                VerifiedBlock::new(next_block(&mut stream).await, &verifier, Standing::Linked);
            assert_eq!(
                verified.is_err(),
                n == 2,
                "{mutation:?}, block {n}: {verified:?}"
            );
        }
        within("the stop", orderer.stop()).await;
    }
}

#[tokio::test]
async fn a_truncated_block_breaks_the_stream_or_the_block() {
    let script = Script::new().with(
        When::Always,
        Fault::Corrupt {
            block: number(1),
            mutation: Mutation::Truncated,
        },
    );
    let (orderer, client) = orderer(&script).await;
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    blocks(&mut stream, [0]).await;
    match next(&mut stream).await {
        Some(Err(_)) => {}
        Some(Ok(Delivery::Block(block))) => {
            let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
            VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap_err();
        }
        other => panic!("{other:?}"),
    }
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn each_node_plays_its_own_script() {
    let bad = Script::new().with(When::Always, Fault::Refuse { status: 503 });
    let orderer = DevOrderer::start(config(2, TlsMode::Server, vec![bad]))
        .await
        .unwrap();
    let client = client(&orderer);
    assert_eq!(
        next_status(&mut open(&client, 0, &from(&channel(), 0)).await).await,
        DeliverStatus::Unavailable
    );
    blocks(&mut open(&client, 1, &from(&channel(), 0)).await, [0]).await;
    within("the stop", orderer.stop()).await;
}
