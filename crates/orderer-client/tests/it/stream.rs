// SPDX-License-Identifier: Apache-2.0
//! What comes on a stream, and how it ends.

use std::{num::NonZeroUsize, time::Duration};

use block_api::{
    Block, BlockNumber, BlockSource as _, Content, DeliverStatus, Delivery, Phase, SourceError,
    Start, Stop, StreamRequest, WhenMissing,
};
use bytes::Bytes;
use orderer_client::{Config, ErrorResponse, OrdererClient};
use prost::Message as _;
use protos::{
    common::{ChannelHeader, Payload, SignatureHeader, Status},
    orderer::{SeekInfo, seek_position::Type},
};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::support::{
    CHANNEL, block, blocks_from, channel, client_of, client_with, endpoint,
    net::{MemoryNet, Served},
    next, now, plain, range,
    raw::{GOAWAY, HEADERS, RST_STREAM, RawServer},
    recorded,
    script::{Script, Step},
    within,
};

/// A client and a scripted orderer in one process, and the net between them.
struct Scene {
    client: OrdererClient,
    endpoint: block_api::Endpoint,
    net: std::sync::Arc<MemoryNet>,
}

impl Scene {
    fn new(config: Config) -> Self {
        let endpoint = endpoint("orderer:7050");
        let net = MemoryNet::new();
        let config = Config {
            endpoints: vec![plain(&endpoint)],
            ..config
        };
        Self {
            client: client_with(config).with_connector(net.clone()),
            endpoint,
            net,
        }
    }

    async fn open(&self, script: &Script, request: &StreamRequest) -> block_api::BlockStream {
        self.net.serve(&self.endpoint, script.clone());
        within("the connection", self.client.open(&self.endpoint, request))
            .await
            .unwrap()
    }
}

fn made_block(bytes: usize) -> Bytes {
    let entry = vec![7; bytes];
    Block::assemble(BlockNumber::new(1), &[1; 32], &[entry], &[b"slot"])
        .raw()
        .clone()
}

/// What was asked, as the orderer saw it.
async fn asked(
    request: &StreamRequest,
    error_response: ErrorResponse,
) -> (ChannelHeader, SignatureHeader, SeekInfo) {
    let scene = Scene::new(Config {
        error_response,
        ..Config::default()
    });
    let script = Script::new([Step::Status(Status::Success)]);
    let stream = scene.open(&script, request).await;
    // The request is on its way although nothing was asked of the stream yet.
    let envelope = within("the request", script.first_request()).await;
    drop(stream);
    assert_eq!(script.requests(), 1, "sent once");
    assert_eq!(envelope.signature, "Tester");
    let payload = Payload::decode(envelope.payload).unwrap();
    let header = payload.header.unwrap();
    (
        ChannelHeader::decode(header.channel_header).unwrap(),
        SignatureHeader::decode(header.signature_header).unwrap(),
        SeekInfo::decode(payload.data).unwrap(),
    )
}

fn number(position: Option<protos::orderer::SeekPosition>) -> u64 {
    match position.unwrap().r#type {
        Some(Type::Specified(specified)) => specified.number,
        other => panic!("{other:?}"),
    }
}

/// Covers: SVC-02, CFT-04, CFT-11, REQ-01, REQ-05
#[tokio::test]
async fn a_request_for_blocks_is_as_fabric_makes_it() {
    const BLOCK: i32 = 0;
    let (channel_header, signature_header, seek) =
        asked(&blocks_from(7), ErrorResponse::Strict).await;
    assert_eq!(channel_header.r#type, 5);
    assert_eq!(channel_header.channel_id, CHANNEL);
    assert_eq!(channel_header.timestamp, Some(now().into()));
    assert!(channel_header.tls_cert_hash.is_empty() && channel_header.tx_id.is_empty());
    assert_eq!((channel_header.version, channel_header.epoch), (0, 0));
    assert_eq!(
        (signature_header.creator, signature_header.nonce.len()),
        (Bytes::from_static(b"Tester"), 24)
    );
    assert_eq!((number(seek.start), number(seek.stop)), (7, u64::MAX));
    assert_eq!(
        (seek.behavior, seek.error_response, seek.content_type),
        (0, 0, BLOCK)
    );
}

/// Covers: REQ-06
#[tokio::test]
async fn a_request_for_headers_is_as_fabric_makes_it() {
    const HEADER_WITH_SIG: i32 = 1;
    let request = StreamRequest::headers_from(channel(), Start::At(BlockNumber::new(7)));
    let (_, _, seek) = asked(&request, ErrorResponse::Strict).await;
    assert_eq!((number(seek.start), number(seek.stop)), (7, u64::MAX));
    assert_eq!(
        (seek.behavior, seek.error_response, seek.content_type),
        (0, 0, HEADER_WITH_SIG)
    );
}

#[tokio::test]
async fn a_best_effort_request_differs_in_that_alone() {
    let (strict_header, _, strict) = asked(&range(3, 5), ErrorResponse::Strict).await;
    let (header, signature_header, seek) = asked(&range(3, 5), ErrorResponse::BestEffort).await;
    assert_eq!(header, strict_header);
    assert_eq!(signature_header.nonce.len(), 24);
    assert_eq!(
        seek,
        SeekInfo {
            error_response: 1,
            ..strict
        }
    );
    assert_eq!(
        (number(seek.start), number(seek.stop), seek.behavior),
        (3, 5, 1)
    );
}

#[tokio::test]
async fn blocks_come_byte_for_byte_and_a_status_is_the_last() {
    let scene = Scene::new(Config::default());
    let blocks = [recorded(0), recorded(7), recorded(20)];
    let mut steps: Vec<_> = blocks.iter().cloned().map(Step::Block).collect();
    // What follows a status is not for this request.
    steps.extend([Step::Status(Status::NotFound), Step::Block(recorded(1))]);
    let mut stream = scene.open(&Script::new(steps), &blocks_from(0)).await;
    for expected in blocks {
        assert_eq!(block(&mut stream).await, expected);
    }
    assert!(matches!(
        next(&mut stream).await,
        Ok(Delivery::Status(DeliverStatus::NotFound))
    ));
    assert!(within("the end", stream.next()).await.is_none());
    scene.net.all_closed().await;
}

#[tokio::test]
async fn every_status_is_told() {
    for code in [0, 200, 400, 403, 404, 413, 500, 501, 503] {
        let scene = Scene::new(Config::default());
        let status = Status::try_from(code).unwrap();
        let mut stream = scene
            .open(&Script::new([Step::Status(status)]), &blocks_from(0))
            .await;
        let Ok(Delivery::Status(status)) = next(&mut stream).await else {
            panic!("no status")
        };
        assert_eq!(status.code(), code);
    }
    let scene = Scene::new(Config::default());
    let mut stream = scene
        .open(&Script::new([Step::Raw(b"\x08\xe7\x07")]), &blocks_from(0))
        .await;
    assert!(matches!(
        next(&mut stream).await,
        Ok(Delivery::Status(DeliverStatus::Other(999)))
    ));
}

/// Covers: NEW-04
#[tokio::test]
async fn what_is_no_message_of_deliver_is_an_error_and_the_last() {
    type Row = (&'static str, Step, fn(&SourceError) -> bool, &'static str);
    let rows: [Row; 5] = [
        (
            "nothing set",
            Step::Raw(b""),
            |error| matches!(error, SourceError::Malformed { .. }),
            "unknown type",
        ),
        (
            "unknown member",
            Step::Raw(b"\x1a\x00"),
            |error| matches!(error, SourceError::Malformed { .. }),
            "unknown type",
        ),
        (
            "garbage",
            Step::Raw(b"\xff\xff\xff"),
            |error| matches!(error, SourceError::Malformed { .. }),
            "malformed deliver response",
        ),
        (
            "a block without header",
            Step::Block(Bytes::from_static(b"\x12\x00")),
            |error| matches!(error, SourceError::MalformedBlock { .. }),
            "no header",
        ),
        (
            "a block that is none",
            Step::Block(Bytes::from_static(b"\xff\xff")),
            |error| matches!(error, SourceError::MalformedBlock { .. }),
            "does not parse",
        ),
    ];
    for content in [Content::Blocks, Content::Headers] {
        for (name, step, kind, words) in rows.clone() {
            let scene = Scene::new(Config::default());
            let request = StreamRequest {
                content,
                ..blocks_from(0)
            };
            let mut stream = scene
                .open(&Script::new([step, Step::Block(recorded(0))]), &request)
                .await;
            let error = next(&mut stream).await.expect_err(name);
            assert!(kind(&error) && error.is_retryable(), "{name}: {error:?}");
            assert!(error.to_string().contains(words), "{name}: {error}");
            assert!(within("the end", stream.next()).await.is_none(), "{name}");
        }
    }
}

#[tokio::test]
async fn an_orderer_that_hangs_up_without_a_status_ends_the_stream() {
    let scene = Scene::new(Config::default());
    let mut stream = scene
        .open(&Script::new([Step::Block(recorded(1))]), &blocks_from(1))
        .await;
    block(&mut stream).await;
    assert!(within("the end", stream.next()).await.is_none());
    let scene = Scene::new(Config::default());
    let mut stream = scene.open(&Script::new([]), &blocks_from(1)).await;
    assert!(within("the end", stream.next()).await.is_none());
}

/// Covers: REQ-03
#[tokio::test]
async fn a_call_that_fails_says_with_which_status() {
    let failing = [
        vec![Step::Fail(Code::Unimplemented, "unknown service")],
        vec![
            Step::Block(recorded(1)),
            Step::Fail(Code::Unimplemented, "unknown service"),
        ],
    ];
    for steps in failing {
        let scene = Scene::new(Config::default());
        let blocks = steps.len() - 1;
        let mut stream = scene.open(&Script::new(steps), &blocks_from(1)).await;
        for _ in 0..blocks {
            block(&mut stream).await;
        }
        let error = next(&mut stream).await.unwrap_err();
        assert!(matches!(error, SourceError::Broken { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("Unimplemented") && text.contains("unknown service"),
            "{text}"
        );
        assert!(within("the end", stream.next()).await.is_none());
        scene.net.all_closed().await;
    }
}

/// Covers: REQ-04
#[tokio::test]
async fn a_killed_orderer_breaks_the_stream() {
    let served = Served::plain(Script::new([Step::Block(recorded(1)), Step::Hang])).await;
    let endpoint = served.endpoint.clone();
    let mut stream = client_of(&[&endpoint])
        .open(&endpoint, &blocks_from(1))
        .await
        .unwrap();
    block(&mut stream).await;
    served.kill().await;
    let error = next(&mut stream).await.unwrap_err();
    assert!(
        matches!(error, SourceError::Broken { .. }) && error.is_retryable(),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(endpoint.as_str()) && text.contains("was lost"),
        "{text}"
    );
}

/// An orderer that takes the call and does not take the request.
///
/// Covers: CFT-19, REQ-04
#[tokio::test]
async fn a_request_that_cannot_be_sent_ends_the_stream_and_the_connection() {
    const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];
    const FIRST_STREAM: u8 = 1;
    let scene = Scene::new(Config::default());
    let far = scene.net.pipe(&scene.endpoint);
    let request = blocks_from(1);
    let orderer = async {
        let mut server = RawServer::accept(far).await;
        while server.receive().await.unwrap().kind != HEADERS {}
        server
            .send_on(FIRST_STREAM, RST_STREAM, 0, &INTERNAL_ERROR)
            .await;
        server
    };
    let (opened, mut server) = tokio::join!(scene.client.open(&scene.endpoint, &request), orderer);
    // Whether the attempt failed or its stream does, the loop hears of it and tries another.
    let error = match opened {
        Ok(mut stream) => next(&mut stream).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        matches!(error, SourceError::Broken { .. }) && error.is_retryable(),
        "{error:?}"
    );
    within("the end of the connection", async {
        while server.receive().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn a_goaway_is_told_with_its_reason() {
    const ENHANCE_YOUR_CALM: u8 = 11;
    let scene = Scene::new(Config::default());
    let far = scene.net.pipe(&scene.endpoint);
    let request = blocks_from(1);
    let (opened, mut server) = tokio::join!(
        scene.client.open(&scene.endpoint, &request),
        RawServer::accept(far)
    );
    let mut stream = opened.unwrap();
    let mut goaway = vec![0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
    goaway.extend_from_slice(b"too_many_pings");
    server.send(GOAWAY, 0, &goaway).await;
    drop(server);
    let text = next(&mut stream).await.unwrap_err().to_string();
    assert!(text.contains("too_many_pings"), "{text}");
}

#[tokio::test]
async fn big_blocks_just_work() {
    let served = Served::plain(Script::new([
        Step::Block(made_block(5_000_000)),
        Step::Block(made_block(20_000_000)),
        Step::Status(Status::Success),
    ]))
    .await;
    let endpoint = served.endpoint.clone();
    let mut stream = client_of(&[&endpoint])
        .open(&endpoint, &blocks_from(1))
        .await
        .unwrap();
    for bytes in [5_000_000, 20_000_000] {
        assert_eq!(block(&mut stream).await, made_block(bytes));
    }
    assert!(matches!(
        next(&mut stream).await,
        Ok(Delivery::Status(DeliverStatus::Success))
    ));
    served.stop().await;
}

#[tokio::test]
async fn a_block_above_the_limit_is_an_error_that_names_the_limit() {
    let max_message_bytes = NonZeroUsize::new(1_000_000).unwrap();
    let scene = Scene::new(Config {
        max_message_bytes,
        ..Config::default()
    });
    let script = Script::new([Step::Block(recorded(1)), Step::Block(made_block(1_000_000))]);
    let mut stream = scene.open(&script, &blocks_from(1)).await;
    block(&mut stream).await;
    let error = next(&mut stream).await.unwrap_err();
    assert!(matches!(error, SourceError::Broken { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("1000000 bytes") && text.contains("max_message_bytes"),
        "{text}"
    );
    assert!(within("the end", stream.next()).await.is_none());
}

#[tokio::test]
async fn a_dropped_stream_is_cancelled_and_leaves_no_task() {
    for steps in [vec![Step::Hang], vec![Step::Block(recorded(1)), Step::Hang]] {
        let scene = Scene::new(Config::default());
        let script = Script::new(steps);
        let stream = scene.open(&script, &blocks_from(1)).await;
        within("the request", script.first_request()).await;
        drop(stream);
        within("the cancellation", script.all_closed()).await;
        scene.net.all_closed().await;
        let metrics = tokio::runtime::Handle::current().metrics();
        within("the end of all tasks", async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_task() {
    let scene = Scene::new(Config::default());
    let silent = scene.net.pipe(&scene.endpoint);
    let request = blocks_from(1);
    let attempt = scene.client.open(&scene.endpoint, &request);
    assert!(timeout(Duration::from_millis(10), attempt).await.is_err());
    drop(silent);
    let metrics = tokio::runtime::Handle::current().metrics();
    within("the end of all tasks", async {
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Who does not take blocks holds up the orderer, and on the way there waits what the window lets,
/// and little more: the block that is being put together, and what the server has made ready.
#[tokio::test]
async fn a_slow_consumer_holds_up_the_orderer() {
    let in_window = Config::default().stream_window_bytes as usize / 1_000_000;
    let scene = Scene::new(Config::default());
    let big = made_block(1_000_000);
    let script = Script::new(vec![Step::Block(big.clone()); 100]);
    let mut stream = scene.open(&script, &blocks_from(1)).await;
    block(&mut stream).await;
    // There is one thread and no network: when everyone has had many turns, everyone is stuck.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let sent = script.sent();
    assert!(sent <= in_window + 4, "{sent} blocks of 1 MB");
    for _ in 1..100 {
        assert_eq!(block(&mut stream).await.len(), big.len());
    }
}

/// Covers: NEW-10
#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_runs_out_of_its_idle_limit() {
    let idle_timeout = Some(Duration::from_secs(600));
    let scene = Scene::new(Config {
        idle_timeout,
        ..Config::default()
    });
    let mut stream = scene
        .open(
            &Script::new([Step::Block(recorded(1)), Step::Hang]),
            &blocks_from(1),
        )
        .await;
    block(&mut stream).await;
    let before = Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(600));
    assert!(
        matches!(
            error,
            SourceError::TimedOut {
                phase: Phase::Idle,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(stream.next().await.is_none(), "an expiry is the last item");
    scene.net.all_closed().await;
}

/// Covers: NEW-10
#[tokio::test(start_paused = true)]
async fn a_stream_that_never_speaks_runs_out_of_a_limit() {
    let idle = Some(Duration::from_secs(600));
    let oldest = StreamRequest::blocks_from(channel(), Start::Oldest);
    let newest = StreamRequest {
        start: Start::Newest,
        stop: Stop::Newest,
        ..blocks_from(0)
    };
    let rows = [
        (
            "a range, by the initial limit",
            range(1, 5),
            None,
            Duration::from_secs(30),
        ),
        (
            "the oldest block is there",
            oldest,
            None,
            Duration::from_secs(30),
        ),
        ("so is the newest", newest, None, Duration::from_secs(30)),
        (
            "a puller waits, by the idle limit",
            blocks_from(1),
            idle,
            Duration::from_secs(600),
        ),
    ];
    for (name, request, idle_timeout, expected) in rows {
        let scene = Scene::new(Config {
            idle_timeout,
            ..Config::default()
        });
        let mut stream = scene.open(&Script::new([Step::Hang]), &request).await;
        let before = Instant::now();
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(before.elapsed(), expected, "{name}");
        let initial = matches!(error, SourceError::TimedOut { phase: Phase::Initial, after, .. } if after == expected);
        assert!(initial && error.is_retryable(), "{name}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_that_stalls_runs_out_of_the_initial_limit_without_an_idle_one() {
    let scene = Scene::new(Config::default());
    let mut stream = scene
        .open(
            &Script::new([Step::Block(recorded(1)), Step::Hang]),
            &range(1, 5),
        )
        .await;
    block(&mut stream).await;
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, SourceError::TimedOut { phase: Phase::Idle, after, .. } if after == Duration::from_secs(30)),
        "{error:?}"
    );
}

/// A channel may rest; that nothing comes is no error.
#[tokio::test(start_paused = true)]
async fn a_puller_waits_for_as_long_as_it_takes() {
    let scene = Scene::new(Config::default());
    for steps in [vec![Step::Hang], vec![Step::Block(recorded(1)), Step::Hang]] {
        let mut stream = scene
            .open(&Script::new(steps.clone()), &blocks_from(1))
            .await;
        for _ in 1..steps.len() {
            block(&mut stream).await;
        }
        let waited = timeout(Duration::from_secs(24 * 3600), stream.next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}

/// A limit is on the orderer, not on who takes the blocks.
#[tokio::test(start_paused = true)]
async fn a_slow_consumer_does_not_exceed_the_idle_limit() {
    let idle_timeout = Some(Duration::from_secs(1));
    let scene = Scene::new(Config {
        idle_timeout,
        ..Config::default()
    });
    let script = Script::new([
        Step::Block(recorded(1)),
        Step::Block(recorded(2)),
        Step::Hang,
    ]);
    let mut stream = scene.open(&script, &blocks_from(1)).await;
    for number in 1..=2 {
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(block(&mut stream).await, recorded(number));
    }
}

#[tokio::test]
async fn requests_of_every_kind_are_sent_as_they_are() {
    let request = StreamRequest {
        channel: channel(),
        start: Start::Newest,
        stop: Stop::Newest,
        content: Content::Blocks,
        when_missing: WhenMissing::Fail,
    };
    let (_, _, seek) = asked(&request, ErrorResponse::Strict).await;
    assert!(matches!(seek.start.unwrap().r#type, Some(Type::Newest(_))));
    assert!(matches!(seek.stop.unwrap().r#type, Some(Type::Newest(_))));
    assert_eq!(seek.behavior, 1);
}
