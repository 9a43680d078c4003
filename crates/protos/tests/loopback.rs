// SPDX-License-Identifier: Apache-2.0
//! Client and server stubs, over HTTP/2 in memory: what goes in comes out, byte for byte.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{io, pin::Pin, time::Duration};

use blockcast_protos::{
    common::{Block, BlockData, BlockHeader, Envelope, Status},
    deliver::{DeliverMessage, RawDeliverResponse},
    grpc::{AtomicBroadcast, AtomicBroadcastClient, AtomicBroadcastServer, MAX_MESSAGE_BYTES},
    orderer::BroadcastResponse,
};
use bytes::{BufMut, Bytes, BytesMut};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Code, Request, Response, Streaming,
    transport::{Channel, Endpoint, Server},
};

const DEADLINE: Duration = Duration::from_secs(30);
const PIPE_BYTES: usize = 64 * 1024;
const FIVE_MB: usize = 5 * 1024 * 1024;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;
type Answer<T> = Result<Response<Answers<T>>, tonic::Status>;

/// Answers a request for blocks with the request itself as a block, then with these responses; and
/// each submitted envelope with its length.
#[derive(Clone)]
struct Scripted(Vec<RawDeliverResponse>);

#[tonic::async_trait]
impl AtomicBroadcast for Scripted {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<RawDeliverResponse>;

    async fn broadcast(&self, request: Request<Streaming<Envelope>>) -> Answer<BroadcastResponse> {
        let answers = request.into_inner().map(|envelope| {
            envelope.map(|envelope| BroadcastResponse {
                status: Status::Success.into(),
                info: format!("{} bytes", envelope.encoded_len()),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn deliver(&self, request: Request<Streaming<Envelope>>) -> Answer<RawDeliverResponse> {
        let first = request.into_inner().message().await?;
        let first = first.ok_or_else(|| tonic::Status::invalid_argument("no request"))?;
        let echo = RawDeliverResponse::block(first.encode_to_vec().into());
        let answers = std::iter::once(echo).chain(self.0.clone()).map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }
}

fn scripted(responses: Vec<RawDeliverResponse>) -> AtomicBroadcastServer<Scripted> {
    AtomicBroadcastServer::new(Scripted(responses))
}

/// Serves one connection through a pipe while `talk` runs with a client at its other end.
async fn with_client<T>(
    server: AtomicBroadcastServer<Scripted>,
    talk: impl AsyncFnOnce(AtomicBroadcastClient<Channel>) -> T,
) -> T {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let incoming = tokio_stream::once(Ok::<_, io::Error>(far)).chain(tokio_stream::pending());
    let serve = Server::builder()
        .add_service(server)
        .serve_with_incoming(incoming);
    let mut near = Some(near);
    let endpoint = Endpoint::from_static("http://loopback");
    let connect = endpoint.connect_with_connector(tower::service_fn(move |_| {
        let near = near.take();
        async move {
            near.map(TokioIo::new)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
        }
    }));
    let run = async {
        tokio::select! {
            served = serve => panic!("the server ended: {served:?}"),
            done = async { talk(AtomicBroadcastClient::new(connect.await.unwrap())).await } => done,
        }
    };
    tokio::time::timeout(DEADLINE, run).await.unwrap()
}

fn request() -> Envelope {
    Envelope {
        payload: Bytes::from_static(b"payload"),
        signature: Bytes::from_static(b"signature"),
    }
}

async fn deliver(client: &mut AtomicBroadcastClient<Channel>) -> Streaming<RawDeliverResponse> {
    let requests = tokio_stream::once(request());
    let mut responses = client.deliver(requests).await.unwrap().into_inner();
    let echo = responses.message().await.unwrap().unwrap();
    let wanted = DeliverMessage::Block(request().encode_to_vec().into());
    assert_eq!(echo.parse(), Ok(wanted), "the request arrives as it was");
    responses
}

/// A block that prost would not give back as it is: fields out of order, a number with a needless
/// byte, and fields that nobody knows, in the block and in its header.
fn odd_block() -> Bytes {
    let mut header = BytesMut::new();
    header.put_slice(&[0x7a, 3, b'n', b'e', b'w']);
    header.put_slice(&[0x08, 0x87, 0x00]);
    let mut block = BytesMut::new();
    block.put_slice(&[0x12, 3, 0x0a, 1, b't']);
    block.put_slice(&[0xa0, 0x06, 0x01]);
    block.put_u8(0x0a);
    block.put_u8(u8::try_from(header.len()).unwrap());
    block.put_slice(&header);
    let block = block.freeze();
    let decoded = Block::decode(block.clone()).unwrap();
    assert_eq!(decoded.header.as_ref().unwrap().number, 7);
    assert_ne!(decoded.encode_to_vec(), block);
    block
}

fn big_block() -> Bytes {
    let block = Block {
        header: Some(BlockHeader::default()),
        data: Some(BlockData {
            data: vec![Bytes::from(vec![7; FIVE_MB])],
        }),
        metadata: None,
    };
    block.encode_to_vec().into()
}

#[tokio::test]
async fn responses_arrive_byte_for_byte() {
    // Unknown fields around the block, and the block in the middle.
    let mut unusual = BytesMut::from(&[0x98, 0x06, 0x2a][..]);
    RawDeliverResponse::block(odd_block()).encode(&mut unusual);
    unusual.put_slice(&[0xa2, 0x06, 2, b'h', b'i']);
    let sent = vec![
        RawDeliverResponse::block(odd_block()),
        RawDeliverResponse::from_bytes(unusual.freeze()),
        RawDeliverResponse::block(Bytes::new()),
        RawDeliverResponse::from_bytes(Bytes::new()),
        RawDeliverResponse::from_bytes(Bytes::from_static(b"\xff no message at all")),
        RawDeliverResponse::status(Status::Success),
    ];
    with_client(scripted(sent.clone()), async |mut client| {
        let mut responses = deliver(&mut client).await;
        for sent in sent {
            let came = responses.message().await.unwrap().unwrap();
            assert_eq!(came.clone().into_bytes(), sent.clone().into_bytes());
            assert_eq!(
                came.parse(),
                RawDeliverResponse::from_bytes(sent.into_bytes()).parse()
            );
        }
        assert!(responses.message().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_block_above_tonics_limit_arrives_when_the_limit_is_raised() {
    let script = vec![
        RawDeliverResponse::block(big_block()),
        RawDeliverResponse::status(Status::Success),
    ];
    with_client(scripted(script), async |client| {
        let mut client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut responses = deliver(&mut client).await;
        let block = responses.message().await.unwrap().unwrap();
        assert_eq!(block.parse(), Ok(DeliverMessage::Block(big_block())));
        let status = responses.message().await.unwrap().unwrap();
        assert_eq!(status.parse(), Ok(DeliverMessage::Status(200)));
    })
    .await;
}

#[tokio::test]
async fn a_block_above_tonics_limit_fails_when_the_limit_is_not_raised() {
    let script = vec![RawDeliverResponse::block(big_block())];
    with_client(scripted(script), async |mut client| {
        let mut responses = deliver(&mut client).await;
        let refused = responses.message().await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
    })
    .await;
}

#[tokio::test]
async fn a_limit_on_what_the_server_sends_is_kept() {
    let script = vec![RawDeliverResponse::block(big_block())];
    let server = scripted(script).max_encoding_message_size(FIVE_MB);
    with_client(server, async |client| {
        let mut client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let requests = tokio_stream::once(request());
        let responses = client.deliver(requests).await.unwrap().into_inner();
        // tonic gives up what it holds in its buffer together with the message that is too big.
        let all: Result<Vec<_>, _> = responses.collect().await;
        assert_eq!(all.unwrap_err().code(), Code::OutOfRange);
    })
    .await;
}

#[tokio::test]
async fn submitted_envelopes_are_answered() {
    let envelope = Envelope {
        payload: Bytes::from(vec![1; FIVE_MB]),
        signature: Bytes::new(),
    };
    let wanted = format!("{} bytes", envelope.encoded_len());
    let server = scripted(Vec::new()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    with_client(server, async |mut client| {
        let submitted = tokio_stream::iter([envelope, request()]);
        let mut answers = client.broadcast(submitted).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.status(), Status::Success);
        assert_eq!(answer.info, wanted);
        assert!(answers.message().await.unwrap().is_some());
        assert!(answers.message().await.unwrap().is_none());
    })
    .await;
}

/// A client needs no transport: here it calls the server as a service.
#[tokio::test]
async fn the_client_runs_over_any_grpc_service() {
    let server = scripted(vec![RawDeliverResponse::status(Status::Forbidden)]);
    let mut client = AtomicBroadcastClient::new(server);
    let requests = tokio_stream::once(request());
    let mut responses = client.deliver(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().is_some());
    let status = responses.message().await.unwrap().unwrap();
    assert_eq!(status.parse(), Ok(DeliverMessage::Status(403)));
}
